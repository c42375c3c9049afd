"""The race: plausible levels are trained briefly from cached activations, on the same folds, until a few are left.

Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943): every round trains the remaining levels for a larger
share of their full training and drops the worse half. The level that leads at the end has been trained for as large a
share as any other, or else is trained for it then. Levels are compared with the head image by image, so images that are
hard for both favour neither; the head is solved to its optimum, which costs next to nothing. A few held-out images are
weak evidence, so the measured gain is combined with the gain expected before the race.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

# Shares of the full training, one per round. Later rounds tell more: a level that trains many layers is at first worse
# than the head that it started with, wherever it ends.
SHARES = (0.1, 0.4)
# The images are dealt into RACE_FOLDS folds, of which one is held out per trial. A level has one trial in each round,
# but LAST_ROUND_FOLDS in the last.
RACE_FOLDS, LAST_ROUND_FOLDS = 4, 2
# Levels that are expected to end this far below the best one, in accuracy, do not enter the race.
HOPELESS = 0.03
# The cost that the race may reach, as a share of the multiply-adds of training every level to the end. The time share
# is less than half of that, because trials run from cached activations.
ALLOWANCE = 0.4
# Levels whose accuracy differs by no more than this count as equal, and the cheaper one is taken.
TIE = 0.003


@dataclass(frozen=True)
class Contestant:
    """A level that enters the race.

    `expected` is the gain over the head expected before the race and `deviation` its standard deviation, in accuracy.
    `cost` is that of the full training, in any unit.
    """

    level: str
    expected: float
    deviation: float
    cost: float


@dataclass(frozen=True)
class Trial:
    """One brief training run without a fold: which images of that fold it classifies correctly, bool (n,)."""

    right: np.ndarray
    seconds: float


# (level, held-out fold, share): fits a level on the other folds for that share of its full training. The head is solved
# to its optimum whatever the share.
FitLevel = Callable[[str, int, float], Trial]


@dataclass(frozen=True)
class Standing:
    """The result of a level in the race.

    `gain` is its accuracy minus the head's on the same `n` held-out images, and `error` the standard error of that
    difference; both are None for a level without a trial. `expected` combines the measured gain with the one expected
    before the race, and `deviation` is its standard deviation. `share` is that of the full training in its last trials,
    `seconds` the time that these took, and `whole_seconds` the estimate for the full training.
    """

    level: str
    share: float
    n: int
    accuracy: float | None
    gain: float | None
    error: float | None
    expected: float
    deviation: float
    seconds: float
    whole_seconds: float | None

    def __repr__(self) -> str:
        measured = "" if self.gain is None else f", gain={self.gain:+.3f} on {self.n} images"
        return f"Standing(level={self.level!r}{measured}, expected={self.expected:+.3f} ± {1.96 * self.deviation:.3f})"


def race(
    contestants: Sequence[Contestant], fit: FitLevel, out_of_time: Callable[[], bool] = lambda: False
) -> tuple[Standing, ...]:
    """Race `contestants`, which are the head and then the other levels by rising cost.

    A trial that would exceed `ALLOWANCE` does not run.
    """
    head, *others = contestants
    likely = max(each.expected for each in contestants) - HOPELESS
    budget = ALLOWANCE * sum(each.cost for each in contestants)
    solved = [fit(head.level, fold, 1.0) for fold in range(RACE_FOLDS)]
    standings = {head.level: _of_head(head, solved)} | {each.level: _standing(each, 0.0, [], solved) for each in others}

    def try_out(each: Contestant, share: float) -> bool:
        """Give a level its trials of this round; False if the budget has no room for one."""
        nonlocal budget
        trials: list[Trial] = []
        for fold in range(LAST_ROUND_FOLDS if share == SHARES[-1] else 1):
            if budget < share * each.cost or out_of_time():
                break
            budget -= share * each.cost
            trials.append(fit(each.level, fold, share))
        if trials:
            standings[each.level] = _standing(each, share, trials, solved)
        return bool(trials)

    left = [each for each in others if each.expected >= likely]
    for share in SHARES:
        for each in left:
            try_out(each, share)
        ranked = sorted(left, key=lambda each: -standings[each.level].expected)[: -(-len(left) // 2)]
        left = [each for each in left if each in ranked and not _beaten(each, standings[each.level])]
    while standings[(leader := max(contestants, key=lambda each: standings[each.level].expected)).level].share < share:
        if not try_out(leader, share):
            break
    return tuple(standings[each.level] for each in contestants)


def _beaten(each: Contestant, now: Standing) -> bool:
    """Whether a level drops out: it was expected to lose to the head, and after a trial it trails beyond uncertainty.

    A level that was expected to gain never drops out for a trial alone, because short trials underrate it.
    """
    return each.expected < 0 and now.expected < -now.deviation


def winner(standings: Sequence[Standing]) -> Standing:
    """The level with the highest expected gain, if the gain exceeds its uncertainty; otherwise the head.

    Among equally good levels the cheapest wins. An untried level wins only if the highest gain is an untried level's.
    """
    head, *others = standings
    highest = max(standings, key=lambda each: each.expected)
    if highest.expected <= highest.deviation:
        return head
    as_good = (each for each in others if each.expected >= highest.expected - TIE)
    return next(each for each in as_good if each.share or not highest.share)


def paired_gain(right: np.ndarray, of_other: np.ndarray) -> tuple[float, float]:
    """The difference in accuracy between two classifiers on the same images, bool (n,) each, and its standard error.

    Only the images that exactly one of the two classifies correctly carry information (McNemar 1947). One is added to
    their number, so that the error is not zero when both agree on a few images.
    """
    count = len(right)
    better, worse = int((right & ~of_other).sum()), int((~right & of_other).sum())
    gain = (better - worse) / count
    return gain, float(np.sqrt(better + worse + 1 - count * gain**2)) / count


def _of_head(head: Contestant, solved: list[Trial]) -> Standing:
    right, seconds = np.concatenate([trial.right for trial in solved]), sum(trial.seconds for trial in solved)
    return Standing(head.level, 1.0, len(right), float(right.mean()), 0.0, 0.0, 0.0, 0.0, seconds, solved[0].seconds)


def _standing(each: Contestant, share: float, trials: list[Trial], solved: list[Trial]) -> Standing:
    if not trials:
        return Standing(each.level, 0.0, 0, None, None, None, each.expected, each.deviation, 0.0, None)
    right = np.concatenate([trial.right for trial in trials])
    of_head = np.concatenate([trial.right for trial in solved[: len(trials)]])
    gain, error = paired_gain(right, of_head)
    # The product of two normal distributions of the same gain: the measured one and the prior.
    measured, before = 1 / error**2, 1 / each.deviation**2
    expected = (measured * gain + before * each.expected) / (measured + before)
    seconds = sum(trial.seconds for trial in trials)
    return Standing(
        level=each.level,
        share=share,
        n=len(right),
        accuracy=float(right.mean()),
        gain=gain,
        error=error,
        expected=expected,
        deviation=(measured + before) ** -0.5,
        seconds=seconds,
        whole_seconds=seconds / len(trials) / share,
    )
