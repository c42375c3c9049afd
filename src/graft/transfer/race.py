"""A race of levels: each trained briefly from kept activations, on the same folds, until a few are left.

Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943): every round trains the levels that are left for a
larger share of their whole training and drops the half that looks worse. Whatever leads at the end has been tried as
long as anything, or is tried now. A level is judged image by image against
the head, which costs next to nothing to solve to its optimum, so that what is hard for both counts for neither. What
little a few held-out images can tell is weighed against what was expected before the race.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

# Shares of a whole training, round by round. The later ones tell more: a level that trains much is at first worse than
# the head that it began with, whatever it ends at.
SHARES = (0.1, 0.4)
# Folds that the images are dealt into; one is held out at a time, and more than one in the last round.
FOLDS, LAST_FOLDS = 4, 2
# Levels that are expected to end so far below the best one are not entered, in accuracy.
HOPELESS = 0.03
# What the race may cost, of the multiply-adds of training all levels to the end. From kept activations a trial takes
# less than half of the time of so many in a whole training.
ALLOWANCE = 0.4
# Levels this close are as good: nobody would notice the difference, and the cheaper one is taken.
TIE = 0.003


@dataclass(frozen=True)
class Contestant:
    """A level, the gain over the head that is expected of it with its standard deviation (accuracy), and what its
    training costs, in any unit."""

    level: str
    expected: float
    deviation: float
    cost: float


@dataclass(frozen=True)
class Trial:
    """A level after a share of its training without a fold: which of that fold's images it got right, bool (n,)."""

    right: np.ndarray
    seconds: float


# Trains a level without a fold for a share of its whole training; the head, by whatever share, to its optimum.
FitLevel = Callable[[str, int, float], Trial]


@dataclass(frozen=True)
class Standing:
    """How a level left the race.

    `gain` is its accuracy over the head's on the same `n` held-out images and `error` the standard error of that;
    both are None where it was not tried. `expected` is the gain to go by, with what was expected before weighed in, and
    `deviation` its standard deviation. `seconds` of trials, and of a whole training judging by them.
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


def race(
    contestants: Sequence[Contestant], fit: FitLevel, out_of_time: Callable[[], bool] = lambda: False
) -> tuple[Standing, ...]:
    """Race `contestants`, the head first, then by cost. A trial that `ALLOWANCE` has no room for is not made."""
    head, *others = contestants
    likely = max(each.expected for each in contestants) - HOPELESS
    purse = ALLOWANCE * sum(each.cost for each in contestants)
    solved = [fit(head.level, fold, 1.0) for fold in range(FOLDS)]
    standings = {head.level: _of_head(head, solved)} | {each.level: _standing(each, 0.0, [], solved) for each in others}

    def try_out(each: Contestant, share: float) -> bool:
        """Whether there was room for a trial."""
        nonlocal purse
        trials: list[Trial] = []
        for fold in range(LAST_FOLDS if share == SHARES[-1] else 1):
            if purse < share * each.cost or out_of_time():
                break
            purse -= share * each.cost
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
    """Whether the head was expected to lead before, and does by more than the uncertainty after a trial.

    A trial alone does not tell: where a level was expected to gain, short ones are too hard on it.
    """
    return each.expected < 0 and now.expected < -now.deviation


def winner(standings: Sequence[Standing]) -> Standing:
    """The level with the highest gain to go by, if that exceeds its uncertainty, else the head.

    Of levels that are as good it is the first, since they are ordered by cost; but none untried if the highest was.
    """
    head, *others = standings
    highest = max(standings, key=lambda each: each.expected)
    if highest.expected <= highest.deviation:
        return head
    as_good = (each for each in others if each.expected >= highest.expected - TIE)
    return next(each for each in as_good if each.share or not highest.share)


def paired_gain(right: np.ndarray, of_other: np.ndarray) -> tuple[float, float]:
    """Accuracy over another classifier's on the same images, bool (n,) each, and its standard error.

    Only images that just one of the two gets right tell anything (McNemar 1947). One is added to their number, so
    that the error is not nothing where both agree on a few images.
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
    # Two normal distributions about the same gain, multiplied.
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
