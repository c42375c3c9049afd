"""An error budget: from which confidence on answers may be given, so that few enough of those given are wrong.

The threshold is the lowest at which an exact binomial test still rejects that more than the budget is wrong. Thresholds
are tried at the confidence of the k-th surest image, for k that rise from a start on, until a test fails (testing in a
fixed sequence: Angelopoulos, Bates, Candès, Jordan and Lei 2021, "Learn then Test", arXiv 2110.01052, section 3). An
error among the very surest must not end everything, so that there are several starts, at k of n / 2, n / 4, …, which
share the chance of failing between them. Given a threshold, the images above it are independent, and those that are
wrong among them are binomial: that holds for the threshold at the k-th surest image, and for the first at which the
budget is exceeded. Of images in groups, such as those of one patient, which are not independent, one of each group is
drawn: the budget then holds for an image of a new group.
"""

from dataclasses import dataclass
from math import ceil, log, log1p
from typing import Any

import numpy as np

# What a budget holds with, unless another confidence is asked for.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Threshold:
    """Answers with a confidence of `at` or more keep the budget; `at` is None where no threshold is known to.

    Of the `n` images that it was found on, one of each group, `answered` had such a confidence and `wrong` of these
    were wrong. `needed` is the least number of images on which the budget could be shown to hold.
    """

    budget: float
    confidence: float
    at: float | None
    n: int
    answered: int
    wrong: int
    needed: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "budget": self.budget,
            "confidence": self.confidence,
            "threshold": self.at,
            "n": self.n,
            "answered": self.answered,
            "wrong": self.wrong,
            "needed": self.needed,
        }


def images_needed(budget: float, confidence: float = CONFIDENCE) -> int:
    """How many images without an error show that less than `budget` is wrong: (1 - budget)^n <= 1 - confidence."""
    return ceil(log(1 - confidence) / log1p(-budget))


def one_of_each(groups: np.ndarray) -> np.ndarray:
    """A row of each group, int64 (groups,) in order, drawn by chance and always the same, by groups int (N,)."""
    drawn = np.random.default_rng(0).permutation(len(groups))
    _, first = np.unique(groups[drawn], return_index=True)
    return np.sort(drawn[first])


def why_unreachable(count: int, needed: int) -> str:
    """Why `count` images do not show a budget to be kept that takes `needed` without an error."""
    return f"it takes {needed:,} without an error" if count < needed else "too many of the surest answers are wrong"


def find_threshold(
    confidences: np.ndarray,
    right: np.ndarray,
    budget: float,
    confidence: float = CONFIDENCE,
    groups: np.ndarray | None = None,
) -> Threshold:
    """The threshold by images that no weights saw, with `confidences` (N,) in answers that are `right`, bool (N,).

    With the given `confidence`, at most the part `budget`, between 0 and 1, of the answers at or above it is wrong, as
    long as images, or where they are in `groups` int (N,) those, are independent and such as those here.
    """
    from scipy.special import bdtr

    if groups is not None:
        rows = one_of_each(groups)
        confidences, right = confidences[rows], right[rows]
    count, needed = len(right), images_needed(budget, confidence)
    order = np.argsort(-confidences, kind="stable")
    ranked, wrong = confidences[order], np.cumsum(~right[order])
    surest = np.arange(1, count + 1)
    # The chance of so few wrong ones if the part `budget` were wrong.
    chances = bdtr(wrong, surest, budget) if count else np.empty(0)
    # Images of equal confidence are answered together: only the last of them is a threshold.
    last = np.append(ranked[1:] < ranked[:-1], True) if count else np.empty(0, bool)
    starts = _starts(count, budget, confidence)
    answered = 0
    for start in starts:
        passed = chances[start - 1 :] <= (1 - confidence) / len(starts)
        tested = np.flatnonzero(last[start - 1 :])
        failed = np.flatnonzero(~passed[tested])
        reached = tested[: failed[0]] if len(failed) else tested
        if len(reached):
            answered = max(answered, start + int(reached[-1]))
    if not answered:
        return Threshold(budget, confidence, None, count, 0, 0, needed)
    # Where all may be answered there is no threshold, and images less sure than any here are answered too.
    at = float(ranked[answered - 1]) if answered < count else 0.0
    return Threshold(budget, confidence, at, count, answered, int(wrong[answered - 1]), needed)


def risk_coverage(confidences: np.ndarray, right: np.ndarray) -> list[tuple[float, float, float]]:
    """(coverage, risk, threshold) from the surest image to all: answering so many, so many of these are wrong.

    At up to 101 coverages. El-Yaniv and Wiener 2010, JMLR 11, 1605-1641.
    """
    order = np.argsort(-confidences, kind="stable")
    risk = np.cumsum(~right[order]) / np.arange(1, len(right) + 1)
    shown = np.unique(np.linspace(0, len(right) - 1, 101).round().astype(int))
    return [((at + 1) / len(right), float(risk[at]), float(confidences[order[at]])) for at in shown.tolist()]


def _starts(count: int, budget: float, confidence: float) -> list[int]:
    """As many of n / 2, n / 4, … as leave each enough images to pass without an error; one at the least that can."""
    needed = images_needed(budget, confidence)
    if count < needed:
        return []
    starts: list[int] = []
    while True:
        following = [*starts, ceil(count / 2 ** (len(starts) + 1))]
        if following[-1] < images_needed(budget, 1 - (1 - confidence) / len(following)):
            return starts or [needed]
        starts = following
