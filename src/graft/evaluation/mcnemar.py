"""Two classifiers on the same images: McNemar's test, exact, and the interval of the difference."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.evaluation.intervals import HARDLY_GROUPED, Interval
from graft.evaluation.paired import grouped_difference, paired_difference


@dataclass(frozen=True)
class Difference:
    """The accuracy of the first classifier minus that of the second on `n` images, with its 95 % interval.

    `first` and `second` count the images that only this one classified correctly. `p_value` is that of McNemar's exact
    test; None for images in `groups`, so many, which are not independent. Then the interval is that of groups.
    """

    n: int
    difference: float
    ci95: Interval
    first: int
    second: int
    p_value: float | None
    groups: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "difference": self.difference,
            "ci95": list(self.ci95),
            "only_first_right": self.first,
            "only_second_right": self.second,
            "p_value": self.p_value,
            **({} if self.groups is None else {"groups": self.groups}),
        }


def mcnemar(first: int, second: int) -> float:
    """The chance, if both classifiers were as good, of at least so unequal numbers of images that only one has right.

    Those are binomial with a rate of one half. McNemar 1947, Psychometrika 12(2), in its exact form.
    """
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(first, second), first + second, 0.5))) if first + second else 1.0


def compare_answers(right: np.ndarray, other: np.ndarray, groups: np.ndarray | None = None) -> Difference:
    """How the answers `right` compare with `other`, both bool (N,), on the same N images, one or more.

    Where nearly every image is a group of its own, as with a few copies, groups make no difference.
    """
    first, second = int((right & ~other).sum()), int((~right & other).sum())
    count, difference = len(right), (first - second) / len(right)
    number = count if groups is None else len(np.unique(groups))
    if groups is not None and number <= HARDLY_GROUPED * count:
        of_groups = grouped_difference(right, other, groups)
        assert of_groups.ci95 is not None
        return Difference(count, difference, of_groups.ci95, first, second, None, number)
    # Newcombe's interval for paired rates: unlike a bootstrap it does not say that a difference of 0 is certain.
    found = paired_difference(right, other, np.arange(count), np.zeros(count, dtype=np.int64))
    assert found.ci95 is not None
    return Difference(count, difference, found.ci95, first, second, mcnemar(first, second))
