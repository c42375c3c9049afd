"""Parts of the images on which a classifier does worse than on the rest, corrected for how many were looked at."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.evaluation.intervals import Interval, chance_of_so_few, wilson_interval

# Smaller parts tell nothing, and looking at them makes what is found in others less certain.
FEWEST_IN_SLICE = 10
# A part is flagged up to this chance, for all parts together, that chance alone flags one.
LEVEL = 0.05


@dataclass(frozen=True)
class Slice:
    """The accuracy `top1` on `n` images, those where `attribute` is `value`, beside that on the `rest`.

    `p_value` is the chance of so many errors here if errors fell anywhere, by Fisher's exact test and Holm's correction
    for all slices looked at; a slice is `flagged` where it is small.
    """

    attribute: str
    value: str
    n: int
    top1: float
    top1_ci95: Interval
    rest: float
    p_value: float
    flagged: bool

    def to_dict(self) -> dict[str, Any]:
        return {
            "attribute": self.attribute,
            "value": self.value,
            "n": self.n,
            "top1": self.top1,
            "top1_ci95": list(self.top1_ci95),
            "rest": self.rest,
            "p_value": self.p_value,
            "flagged": self.flagged,
        }


def quarters(attribute: str, words: tuple[str, str], values: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """The lowest and the highest quarter of the images by a figure, (N,), named by two words; none if all are alike."""
    low, high = np.quantile(values, (0.25, 0.75))
    parts = {words[0]: values <= low, words[1]: values >= high}
    return {(attribute, word): part for word, part in parts.items() if not part.all()}


def parts_by(attribute: str, values: Sequence[str]) -> dict[tuple[str, str], np.ndarray]:
    """The images with each value, (N,), of an attribute."""
    column = np.array(values, dtype=object)
    return {(attribute, value): column == value for value in sorted(set(values))}


def compare_slices(right: np.ndarray, parts: Mapping[tuple[str, str], np.ndarray]) -> tuple[Slice, ...]:
    """How answers that are `right`, bool (N,), are spread over parts of the images, bool (N,); the worst come first.

    Parts of fewer than `FEWEST_IN_SLICE` images, or that leave so few, are not looked at.
    """
    looked_at = {
        name: part for name, part in parts.items() if FEWEST_IN_SLICE <= part.sum() <= len(right) - FEWEST_IN_SLICE
    }
    chances = [
        chance_of_so_few(int(right[part].sum()), len(right), int(right.sum()), int(part.sum()))
        for part in looked_at.values()
    ]
    slices = []
    for ((attribute, value), part), chance in zip(looked_at.items(), holm(chances), strict=True):
        count, hits = int(part.sum()), int(right[part].sum())
        rest = float(right[~part].mean())
        slices.append(
            Slice(
                attribute,
                value,
                count,
                hits / count,
                wilson_interval(hits, count),
                rest,
                chance,
                chance <= LEVEL,
            )
        )
    return tuple(sorted(slices, key=lambda each: (each.p_value, each.top1)))


def holm(chances: Iterable[float]) -> list[float]:
    """p-values corrected for their number. Holm 1979, Scandinavian Journal of Statistics 6(2), 65-70."""
    values = np.array(list(chances), dtype=np.float64)
    order = np.argsort(values, kind="stable")
    raised = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1.0)
    corrected = np.empty_like(raised)
    corrected[order] = raised
    return [float(value) for value in corrected]
