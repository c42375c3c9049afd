"""Parts of the images on which a classifier does worse than their classes explain, corrected for the number of parts.

Each image of a part is compared with others of its own class, so a class that is both hard and dark raises no alarm.
`graft evaluate --slices` and the report of a run use these same functions.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graft.evaluation.intervals import Interval, hypergeometric, wilson_interval

# Smaller parts tell nothing, and testing them makes findings in others less certain.
FEWEST_IN_SLICE = 10
# A part is flagged if its chance, corrected for all parts, is at most the first, and the accuracy falls short of the
# expected one by at least the second.
LEVEL, GAP = 0.01, 0.1
# The shares of the images examined at either end of a measure.
ENDS = (0.1, 0.25)
# Of parts that overlap by more than this share, only the worst is flagged.
SHARED = 0.4
# With more wrong answers than this, the normal distribution is accurate enough.
MOST_COUNTED = 2000

# The images that have a value of an attribute, bool (N,).
Parts = dict[tuple[str, str], np.ndarray]


@dataclass(frozen=True)
class Slice:
    """The accuracy `top1` on the `n` images where `attribute` is `value`, beside that on the `rest`.

    `expected` is the accuracy if each image were as hard as others of its class. `p_value` is the chance of at least as
    many errors then, by the exact test with strata by class (Mantel and Haenszel 1959; each class is hypergeometric, as
    in Fisher's test) and Holm's correction for all slices tested. A slice is `flagged` if that chance is small and the
    shortfall large.
    """

    attribute: str
    value: str
    n: int
    top1: float
    top1_ci95: Interval
    rest: float
    expected: float
    p_value: float
    flagged: bool

    @property
    def name(self) -> str:
        """The name of the images of the slice: `the darkest 10%`, `of folder left`."""
        return self.value if self.value.startswith("the ") else f"of {self.attribute} {self.value}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "attribute": self.attribute,
            "value": self.value,
            "n": self.n,
            "top1": self.top1,
            "top1_ci95": list(self.top1_ci95),
            "rest": self.rest,
            "expected": self.expected,
            "p_value": self.p_value,
            "flagged": self.flagged,
        }


def ends_of(attribute: str, words: tuple[str, str], values: np.ndarray) -> Parts:
    """Return the images at either end of a measure, (N,), named by two words like ("darkest", "lightest").

    A measure that hardly differs among the images has no ends.
    """
    found: Parts = {}
    order = np.argsort(values, kind="stable")
    for part in ENDS:
        count = round(part * len(values))
        if count < FEWEST_IN_SLICE or values[order[count]] >= values[order[-1 - count]]:
            continue
        for word, rows in zip(words, (order[:count], order[-count:]), strict=True):
            found[attribute, f"the {word} {part:.0%}"] = np.isin(np.arange(len(values)), rows)
    return found


def parts_by(attribute: str, values: Sequence[str]) -> Parts:
    """Return the images with each value, (N,), of an attribute."""
    column = np.array(values, dtype=object)
    return {(attribute, value): column == value for value in sorted(set(values))}


def compare_slices(
    right: np.ndarray, labels: np.ndarray, parts: Mapping[tuple[str, str], np.ndarray]
) -> tuple[Slice, ...]:
    """Compare answers that are `right`, bool (N,), to `labels`, int (N,), over parts of the images; worst first.

    Parts of fewer than `FEWEST_IN_SLICE` images, or that leave fewer, are skipped.
    """
    _, strata = np.unique(labels, return_inverse=True)
    size = np.bincount(strata)
    wrong = np.bincount(strata, ~right, len(size)).astype(np.int64)
    looked_at = {
        name: part for name, part in parts.items() if FEWEST_IN_SLICE <= part.sum() <= len(right) - FEWEST_IN_SLICE
    }
    found, chances = [], []
    for (attribute, value), part in looked_at.items():
        count, errors = int(part.sum()), int((~right)[part].sum())
        drawn = np.bincount(strata[part], minlength=len(size))
        expected = 1 - float((drawn * wrong / size).sum()) / count
        top1, ci95 = 1 - errors / count, wilson_interval(count - errors, count)
        chances.append(chance_of_so_many(errors, size, wrong, drawn))
        found.append(Slice(attribute, value, count, top1, ci95, float(right[~part].mean()), expected, 1.0, False))
    found = [replace(each, p_value=chance) for each, chance in zip(found, holm(chances), strict=True)]
    flagged: list[np.ndarray] = []
    slices = []
    for each in sorted(found, key=lambda each: (each.p_value, each.top1)):
        part = looked_at[each.attribute, each.value]
        worse = each.p_value <= LEVEL and each.expected - each.top1 >= GAP
        alone = all((part & other).sum() <= SHARED * part.sum() for other in flagged)
        if worse and alone:
            flagged.append(part)
        slices.append(replace(each, flagged=worse and alone))
    return tuple(slices)


def chance_of_so_many(errors: int, size: np.ndarray, wrong: np.ndarray, drawn: np.ndarray) -> float:
    """Return the chance of at least `errors` errors among images of which `drawn` are of each class, int (classes,).

    In each class, `wrong` of `size` images are answered wrongly, and any of them may be drawn.
    """
    from scipy.special import ndtr

    mixed = np.flatnonzero((drawn > 0) & (drawn < size) & (wrong > 0) & (wrong < size))
    certain = int(wrong[drawn == size].sum() + drawn[(wrong == size) & (drawn < size)].sum())
    if wrong[mixed].sum() > MOST_COUNTED:
        rate = wrong[mixed] / size[mixed]
        spread = drawn[mixed] * rate * (1 - rate) * (size[mixed] - drawn[mixed]) / (size[mixed] - 1)
        mean = float((drawn[mixed] * rate).sum())
        return float(ndtr((mean + certain - errors + 0.5) / np.sqrt(spread.sum())))
    total = np.ones(1)
    for at in mixed.tolist():
        total = np.convolve(total, _chances(int(size[at]), int(wrong[at]), int(drawn[at])))
    return min(1.0, float(total[max(errors - certain, 0) :].sum()))


def _chances(count: int, wrong: int, drawn: int) -> np.ndarray:
    """Return the chance of 0, 1, … wrong answers among `drawn` of `count` images, float64 (min(wrong, drawn) + 1,)."""
    each = np.arange(min(wrong, drawn) + 1)
    possible = drawn - each <= count - wrong
    chances = np.zeros(len(each))
    chances[possible] = hypergeometric(each[possible], count, wrong, drawn)
    return chances


def holm(chances: Iterable[float]) -> list[float]:
    """Return p-values corrected for their number. Holm 1979, Scandinavian Journal of Statistics 6(2), 65-70."""
    values = np.array(list(chances), dtype=np.float64)
    order = np.argsort(values, kind="stable")
    raised = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1.0)
    corrected = np.empty_like(raised)
    corrected[order] = raised
    return [float(value) for value in corrected]
