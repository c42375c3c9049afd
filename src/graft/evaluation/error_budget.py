"""Error budgets: the confidence from which on answers may be given so that few enough of them are wrong.

The threshold is the lowest at which an exact binomial test still rejects that more than the budget is wrong. Thresholds
are tried at the confidence of the k-th surest image, for rising k from a start on, until a test fails (testing in a
fixed sequence: Angelopoulos, Bates, Candès, Jordan and Lei 2021, "Learn then Test", arXiv 2110.01052, section 3). An
error among the very surest must not end the search, so there are several starts, at k of n / 2, n / 4, …, which share
the chance of failing. Given a threshold, the images above it are independent, and the number of wrong ones among them
is binomial: that holds for the threshold at the k-th surest image, and for the first at which the budget is exceeded.
Images in groups, like those of one patient, are not independent, so one per group is drawn: the budget then holds for
an image of a new group.
"""

from dataclasses import dataclass
from math import ceil, log, log1p
from typing import Any

import numpy as np

from graft.evaluation.intervals import log_factorials

# The confidence with which a budget holds unless another is asked for.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Threshold:
    """Answers with a confidence of `at` or more keep the budget; `at` is None if no threshold is known to.

    Of the `n` images that it was found on, one of each group, `answered` had such a confidence and `wrong` of those
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
    """Return how many images without an error show less than `budget` wrong: (1 - budget)^n <= 1 - confidence."""
    return ceil(log(1 - confidence) / log1p(-budget))


def one_of_each(groups: np.ndarray) -> np.ndarray:
    """Return one random row per group, int64 (groups,), sorted, for groups int (N,); the draw is always the same."""
    drawn = np.random.default_rng(0).permutation(len(groups))
    _, first = np.unique(groups[drawn], return_index=True)
    return np.sort(drawn[first])


def why_unreachable(count: int, needed: int) -> str:
    """Return why `count` images cannot show that a budget holds, which takes at least `needed` without an error."""
    return f"it takes {needed:,} without an error" if count < needed else "too many of the surest answers are wrong"


def find_threshold(
    confidences: np.ndarray,
    right: np.ndarray,
    budget: float,
    confidence: float = CONFIDENCE,
    groups: np.ndarray | None = None,
) -> Threshold:
    """Find the threshold on images that no weights saw, with `confidences` (N,) in answers that are `right`, bool (N,).

    With the given `confidence`, at most the share `budget`, between 0 and 1, of the answers at or above it is wrong.
    This holds for images like these if they are independent or, with `groups` int (N,), if the groups are.
    """
    if groups is not None:
        rows = one_of_each(groups)
        confidences, right = confidences[rows], right[rows]
    count, needed = len(right), images_needed(budget, confidence)
    order = np.argsort(-confidences, kind="stable")
    ranked, wrong = confidences[order], np.cumsum(~right[order])
    chances = _binomial_tails(wrong, budget)
    # Images of equal confidence are answered together, so only the last of them is a threshold.
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
    # If all may be answered there is no threshold, and images less sure than any here are answered too.
    at = float(ranked[answered - 1]) if answered < count else 0.0
    return Threshold(budget, confidence, at, count, answered, int(wrong[answered - 1]), needed)


def _binomial_tails(wrong: np.ndarray, budget: float) -> np.ndarray:
    """Return for the first image, the first two and so on the chance of at most as many wrong answers as there are.

    `wrong` are their numbers, int (N,), and `budget` is the share that would be wrong. One more image changes a
    binomial chance by one of its terms: if its answer is right, by that of another wrong one instead; if it is wrong,
    by that of so many and a right one.
    """
    of, logs = np.arange(len(wrong)), log_factorials(len(wrong))
    right = np.maximum(of - wrong, 0)
    chance = np.exp(logs[of] - logs[wrong] - logs[right] + wrong * log(budget) + right * log1p(-budget))
    # No more can be wrong than there are.
    chance[wrong > of] = 0.0
    is_wrong = np.diff(wrong, prepend=0) > 0
    return np.asarray(1 + np.cumsum(np.where(is_wrong, 1 - budget, -budget) * chance)).clip(0.0, 1.0)


def risk_coverage(confidences: np.ndarray, right: np.ndarray) -> list[tuple[float, float, float]]:
    """Return (coverage, risk, threshold), from the surest image to all: the share answered, and how much is wrong.

    There are up to 101 coverages. El-Yaniv and Wiener 2010, JMLR 11, 1605-1641.
    """
    order = np.argsort(-confidences, kind="stable")
    risk = np.cumsum(~right[order]) / np.arange(1, len(right) + 1)
    shown = np.unique(np.linspace(0, len(right) - 1, 101).round().astype(int))
    return [((at + 1) / len(right), float(risk[at]), float(confidences[order[at]])) for at in shown.tolist()]


def _starts(count: int, budget: float, confidence: float) -> list[int]:
    """Return as many of n / 2, n / 4, … as leave each enough images to pass without an error, or else the least."""
    needed = images_needed(budget, confidence)
    if count < needed:
        return []
    starts: list[int] = []
    while True:
        following = [*starts, ceil(count / 2 ** (len(starts) + 1))]
        if following[-1] < images_needed(budget, 1 - (1 - confidence) / len(following)):
            return starts or [needed]
        starts = following
