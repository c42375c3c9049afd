"""Two classifiers on the same images: McNemar's exact test, and the interval of the difference."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.evaluation.intervals import Interval
from graft.evaluation.paired import paired_difference
from graft.words import HARDLY_GROUPED


@dataclass(frozen=True)
class Difference:
    """The accuracy of the first classifier minus that of the second on `n` images, with its 95 % interval.

    `first` and `second` count the images that only that classifier answered correctly. `p_value` is that of McNemar's
    exact test. For images in groups, `groups` is their number, the interval is over groups, and `p_value` is None
    because the images are not independent.
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
    """Return the chance, if both classifiers were equally good, of counts at least this unequal.

    `first` and `second` are the images that only one of them has right, binomial with a rate of one half. McNemar 1947,
    Psychometrika 12(2), in its exact form.
    """
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(first, second), first + second, 0.5))) if first + second else 1.0


def compare_answers(right: np.ndarray, other: np.ndarray, groups: np.ndarray | None = None) -> Difference:
    """Compare the answers `right` with `other`, both bool (N,), on the same N images, one or more.

    When nearly every image is its own group, as with a few copies, groups make no difference.
    """
    first, second = int((right & ~other).sum()), int((~right & other).sum())
    count, difference = len(right), (first - second) / len(right)
    number = count if groups is None else len(np.unique(groups))
    # Newcombe's interval for paired rates: unlike a bootstrap, it never calls a difference of 0 certain.
    found = paired_difference(right, other, np.arange(count), np.zeros(count, dtype=np.int64), groups)
    assert found.ci95 is not None
    if number <= HARDLY_GROUPED * count:
        return Difference(count, difference, found.ci95, first, second, None, number)
    return Difference(count, difference, found.ci95, first, second, mcnemar(first, second))
