"""Parts of the images on which a classifier does worse than their classes explain, corrected for the number of parts.

Each image of a part is compared with others of its own class, so a class that is both hard and dark raises no alarm.
Images of one group, like those of one patient, are often dark together and wrong together, so a part must also do worse
than groups explain. `graft evaluate --slices` and the report of a run use these same functions.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graft.evaluation.intervals import Interval, accuracy_interval, hypergeometric, normal_below
from graft.words import HARDLY_GROUPED

# Smaller parts tell nothing, and testing them makes findings in others less certain.
FEWEST_IN_SLICE = 10
# A part is flagged if its chance, corrected for all parts, is at most the first, and the accuracy falls short of the
# expected one by at least the second.
LEVEL, GAP = 0.01, 0.1
# The attributes whose values are names that the images came with, not words for the ends of a measure.
NAMED = ("folder", "group")
# The shares of the images examined at either end of a measure.
ENDS = (0.1, 0.25)
# Where many images have the same value, an end may have this many times as many images, or as few.
UNEVEN = 1.5
# With fewer images, not even the widest ends are parts.
FEWEST_WITH_ENDS = next(count for count in range(10**6) if round(max(ENDS) * count) >= FEWEST_IN_SLICE)
# Of parts that overlap by more than this share, only the worst is flagged.
SHARED = 0.4
# With more wrong answers than this, the normal distribution is accurate enough.
MOST_COUNTED = 2000

# The rows of the images that have a value of an attribute, int (n,), each once. Masks would take memory quadratic in
# the images where the values are many.
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
        # A folder or a group may be called `the darkest 10%`, too.
        named = self.attribute in NAMED or not self.value.startswith("the ")
        return f"of {self.attribute} {self.value}" if named else self.value

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


def why_no_parts(count: int) -> str:
    """Say in a sentence why no parts of `count` images were compared."""
    if count < FEWEST_WITH_ENDS:
        return (
            f"too few images to compare slices of them: there are {count:,}, and at least {FEWEST_WITH_ENDS}, or a "
            f"folder or group of {FEWEST_IN_SLICE} beside {FEWEST_IN_SLICE} others, are needed"
        )
    return (
        "no slices of the images to compare: they hardly differ in size, brightness or blur, and no folder or group "
        f"has {FEWEST_IN_SLICE} images and leaves as many"
    )


def ends_of(attribute: str, words: tuple[str, str], values: np.ndarray) -> Parts:
    """Return the images at either end of a measure, (N,), named by two words like ("darkest", "lightest").

    A measure that hardly differs among the images has no ends, and no end divides images of equal values.
    """
    found: Parts = {}
    ranked = np.sort(values)
    for part in ENDS:
        count = round(part * len(values))
        if count < FEWEST_IN_SLICE or ranked[count - 1] >= ranked[-count]:
            continue
        for word, of in zip(words, (values, -values), strict=True):
            rows = _lowest(of, count)
            if rows is not None:
                share = part if len(rows) == count else len(rows) / len(values)
                found[attribute, f"the {word} {share:.0%}"] = rows
    return found


def _lowest(values: np.ndarray, count: int) -> np.ndarray | None:
    """Return the rows of about `count` of the lowest values, int (n,), with all that are equal to one or none of them.

    Which of equal ones would be among so many, their order in the folder decides, which often is that of their classes.
    Returns None if that makes far more or fewer.
    """
    bound = np.partition(values, count - 1)[count - 1]
    for rows in (np.flatnonzero(values <= bound), np.flatnonzero(values < bound)):
        if len(rows) >= FEWEST_IN_SLICE and count / UNEVEN <= len(rows) <= count * UNEVEN:
            return rows
    return None


def parts_by(attribute: str, values: Sequence[str] | np.ndarray) -> Parts:
    """Return the images with each value, (N,), of an attribute, but for values of too few or too many to compare."""
    # As objects, texts take no more memory than they have letters.
    column = values if isinstance(values, np.ndarray) else np.array(values, dtype=object)
    named, index, counts = np.unique(column, return_inverse=True, return_counts=True)
    order, ends = np.argsort(index, kind="stable"), np.cumsum(counts)
    compared = np.flatnonzero((counts >= FEWEST_IN_SLICE) & (counts <= len(column) - FEWEST_IN_SLICE))
    return {(attribute, str(named[at])): order[ends[at] - counts[at] : ends[at]] for at in compared.tolist()}


def compare_slices(
    right: np.ndarray, labels: np.ndarray, parts: Parts, groups: np.ndarray | None = None
) -> tuple[Slice, ...]:
    """Compare answers that are `right`, bool (N,), to `labels`, int (N,), over parts of the images; worst first.

    Parts of fewer than `FEWEST_IN_SLICE` images, or that leave fewer, are skipped. Images of the same group, int (N,),
    are not independent; when nearly every image is its own group, groups make no difference.
    """
    _, strata = np.unique(labels, return_inverse=True)
    size = np.bincount(strata)
    wrong = np.bincount(strata, ~right, len(size)).astype(np.int64)
    count_of_group = np.zeros(0, np.int64)
    if groups is not None:
        _, groups = np.unique(groups, return_inverse=True)
        count_of_group = np.bincount(groups)
        if len(count_of_group) > HARDLY_GROUPED * len(right):
            groups = None
    looked_at = {
        name: rows for name, rows in parts.items() if FEWEST_IN_SLICE <= len(rows) <= len(right) - FEWEST_IN_SLICE
    }
    found, chances = [], []
    for (attribute, value), rows in looked_at.items():
        count, errors = len(rows), int((~right)[rows].sum())
        drawn = np.bincount(strata[rows], minlength=len(size))
        expected = 1 - float((drawn * wrong / size).sum()) / count
        chance, of_rows = chance_of_so_many(errors, size, wrong, drawn), None
        if groups is not None and not _is_one_group(groups[rows], count_of_group):
            of_rows = groups[rows]
            chance = max(chance, chance_by_groups(right, strata, rows, groups))
        rest = (int(right.sum()) - count + errors) / (len(right) - count)
        ci95 = accuracy_interval(right[rows], of_rows)
        chances.append(chance)
        found.append(Slice(attribute, value, count, 1 - errors / count, ci95, rest, expected, 1.0, False))
    found = [replace(each, p_value=chance) for each, chance in zip(found, holm(chances), strict=True)]
    flagged: list[np.ndarray] = []
    slices = []
    for each in sorted(found, key=lambda each: (each.p_value, each.top1)):
        rows = looked_at[each.attribute, each.value]
        worse = each.p_value <= LEVEL and each.expected - each.top1 >= GAP
        alone = worse and all(
            len(np.intersect1d(rows, other, assume_unique=True)) <= SHARED * len(rows) for other in flagged
        )
        if alone:
            flagged.append(rows)
        slices.append(replace(each, flagged=alone))
    return tuple(slices)


def _is_one_group(groups: np.ndarray, count_of_group: np.ndarray) -> bool:
    """Return whether `groups`, int (n,), of the images of a part are all images of one group."""
    return bool((groups == groups[0]).all()) and len(groups) == int(count_of_group[groups[0]])


def chance_of_so_many(errors: int, size: np.ndarray, wrong: np.ndarray, drawn: np.ndarray) -> float:
    """Return the chance of at least `errors` errors among images of which `drawn` are of each class, int (classes,).

    In each class, `wrong` of `size` images are answered wrongly, and any of them may be drawn.
    """
    mixed = np.flatnonzero((drawn > 0) & (drawn < size) & (wrong > 0) & (wrong < size))
    certain = int(wrong[drawn == size].sum() + drawn[(wrong == size) & (drawn < size)].sum())
    if wrong[mixed].sum() > MOST_COUNTED:
        rate = wrong[mixed] / size[mixed]
        spread = drawn[mixed] * rate * (1 - rate) * (size[mixed] - drawn[mixed]) / (size[mixed] - 1)
        mean = float((drawn[mixed] * rate).sum())
        return normal_below((mean + certain - errors + 0.5) / math.sqrt(spread.sum()))
    total = np.ones(1)
    for at in mixed.tolist():
        total = np.convolve(total, _chances(int(size[at]), int(wrong[at]), int(drawn[at])))
    return min(1.0, float(total[max(errors - certain, 0) :].sum()))


def chance_by_groups(right: np.ndarray, strata: np.ndarray, rows: np.ndarray, groups: np.ndarray) -> float:
    """Return the chance of a part with `rows`, int (n,), doing at least as badly, where groups differ in difficulty.

    The answers `right`, bool (N,), are to images of classes `strata` and of groups, both int (N,), numbered from zero.
    It is twice the smaller of two chances. One compares images with others of their class and group, which tells most
    where groups have images both in and outside the part. The other is between groups.
    """
    number = int(groups.max()) + 1
    _, both = np.unique(strata * number + groups, return_inverse=True)
    size, wrong = np.bincount(both), np.bincount(both, ~right).astype(np.int64)
    within = chance_of_so_many(int((~right)[rows].sum()), size, wrong, np.bincount(both[rows], minlength=len(size)))
    return min(1.0, 2 * min(within, _chance_between_groups(right, strata, rows, groups)))


def _chance_between_groups(right: np.ndarray, strata: np.ndarray, rows: np.ndarray, groups: np.ndarray) -> float:
    """Return the chance from the share that each group has in the errors beyond those that the classes explain.

    None is expected, so the variance of their sum is that about zero (a score test, as in Liang and Zeger 1986,
    Biometrika 73(1)), and the reference is Student's t for the number of groups. A part that lies in few of the groups
    is found failing too rarely, not too often.
    """
    from scipy.special import stdtr

    size = np.bincount(strata)
    beyond = ~right - (np.bincount(strata, ~right) / size)[strata]
    drawn = (np.bincount(strata[rows], minlength=len(size)) / size)[strata]
    number = int(groups.max()) + 1
    shares = np.bincount(groups[rows], beyond[rows], number) - np.bincount(groups, drawn * beyond, number)
    total, squares = float(shares.sum()), float(np.square(shares).sum())
    # In terms of the variance about their mean, this is the t of one sample, which is infinite if all are alike.
    left = number * squares - total**2
    return float(stdtr(number - 1, -total * math.sqrt((number - 1) / left))) if left > 0 else 1.0


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
