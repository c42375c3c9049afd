"""The race: a few plausible levels are fitted as they would be in the end, and compared on held-out images.

Levels are compared with the head image by image, so images that are hard for both favour neither. The images held out
from every level are few, and weak evidence alone, so the measured gain is combined with the gain expected beforehand.
Heads are cheap enough to be cross-validated, so heads are compared on all the images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

# Levels whose accuracy differs by no more than this count as equal, and the cheaper one wins.
TIE = 0.003
# A measured gain that is this many standard deviations from the expected one says that the expectation is wrong here.
# On images far from the base's own, training gained 25 and 50 points where 3 to 5 were expected; none of the recorded
# runs of docs/accuracy.md came this far.
UNEXPECTED = 3


@dataclass(frozen=True)
class Contestant:
    """A level that enters the race.

    `expected` is the gain over the head expected before the race and `deviation` its standard deviation, in accuracy.
    `cost` is that of the full training, in any unit. `beyond` names an earlier contestant, other than the head, that
    this level's training begins with; the gain is then over that level.
    """

    level: str
    expected: float
    deviation: float
    cost: float
    beyond: str | None = None


@dataclass(frozen=True)
class Trial:
    """A trial of a level: which of the images held out from all levels it classifies correctly, bool (n,).

    An image may be held out several times. The order is that of the head's trial, which may go on after `right` ends.
    For a head, `once`, bool (m,), covers every image once, including those it was fitted on, by cross-validation; it is
    None for any other level. Answers for one image, or for images of one group, are not independent: they share a
    number in `units`, int (n,), and `units_once`, int (m,), which are None if all answers are independent.
    """

    right: np.ndarray
    once: np.ndarray | None
    seconds: float
    units: np.ndarray | None = None
    units_once: np.ndarray | None = None


@dataclass(frozen=True)
class Standing:
    """The result of a level in the race.

    `gain` is its accuracy minus the head's on the same `n_gain` images, and `error` the standard error of that
    difference; both are None for a level that was not tried. `accuracy` is measured on `n` images. `expected` combines
    the measured gain with the one expected before the race, and `deviation` is its standard deviation. For a level that
    goes `beyond` another, `expected` is the other's plus the gain over it. `seconds` is the time that the trial took.
    """

    level: str
    n: int
    accuracy: float | None
    n_gain: int
    gain: float | None
    error: float | None
    expected: float
    deviation: float
    seconds: float
    beyond: str | None = None

    def __repr__(self) -> str:
        measured = "" if self.gain is None else f", gain={self.gain:+.3f} on {self.n_gain} images"
        return f"Standing(level={self.level!r}{measured}, expected={self.expected:+.3f} ± {1.96 * self.deviation:.3f})"


def standings_of(contestants: Sequence[Contestant], trials: Mapping[str, Trial]) -> tuple[Standing, ...]:
    """Return the standings of the contestants; the first must be the head, and must have been tried."""
    head = trials[contestants[0].level]
    found: dict[str, Standing] = {}
    for each in contestants:
        standing = _standing(each, trials.get(each.level), head)
        if each.beyond is not None and each.beyond in trials and each.level in trials:
            # Heads are measured on all images, so the few held-out images only need to tell what this level adds to
            # one.
            below = found[each.beyond]
            own, of_below = trials[each.level], trials[each.beyond].right
            gained, deviation = _combined(each, *paired_gain(own.right, of_below[: len(own.right)], own.units))
            deviation = (below.deviation**2 + deviation**2) ** 0.5
            standing = replace(standing, expected=below.expected + gained, deviation=deviation, beyond=each.beyond)
        found[each.level] = standing
    return tuple(found.values())


def winner(standings: Sequence[Standing]) -> Standing:
    """Return the tried level with the highest expected gain; among equally good ones, the cheapest."""
    tried = [each for each in standings if each.gain is not None]
    highest = max(each.expected for each in tried)
    return next(each for each in tried if each.expected >= highest - TIE)


def paired_gain(right: np.ndarray, of_other: np.ndarray, units: np.ndarray | None = None) -> tuple[float, float]:
    """The difference in accuracy between two classifiers on the same images, bool (n,) each, and its standard error.

    Only the images that exactly one of the two classifies correctly carry information (McNemar 1947). One is added to
    their number, so that the error is not zero when both agree on a few images. Answers with the same number in
    `units`, int (n,), vary together.
    """
    difference = right.astype(np.float64) - of_other
    gain = float(difference.mean())
    rest = difference - gain
    if units is not None:
        rest = np.bincount(np.unique(units, return_inverse=True)[1], rest)
    return gain, float(np.sqrt(np.square(rest).sum() + 1)) / len(right)


def _standing(each: Contestant, trial: Trial | None, head: Trial) -> Standing:
    if trial is None:
        return Standing(each.level, 0, None, 0, None, None, each.expected, each.deviation, 0.0)
    right, of_head, units = trial.right, head.right[: len(trial.right)], trial.units
    if trial.once is not None and head.once is not None and len(trial.once) == len(head.once):
        right, of_head, units = trial.once, head.once, trial.units_once
    if trial is head:
        return Standing(each.level, len(right), float(right.mean()), len(right), 0.0, 0.0, 0.0, 0.0, trial.seconds)
    gain, error = paired_gain(right, of_head, units)
    expected, deviation = _combined(each, gain, error)
    return Standing(
        level=each.level,
        n=len(right),
        accuracy=float(right.mean()),
        n_gain=len(of_head),
        gain=gain,
        error=error,
        expected=expected,
        deviation=deviation,
        seconds=trial.seconds,
    )


def _combined(each: Contestant, gain: float, error: float) -> tuple[float, float]:
    """Return a contestant's gain and its standard deviation, combining the measurement with the prior expectation.

    This is the product of two normal distributions of the same gain. The prior one grows wider by as much as the gain
    is beyond what was `UNEXPECTED`, so that a small gain is drawn to the expectation and a large one is believed.
    """
    beyond = abs(gain - each.expected) - UNEXPECTED * (error**2 + each.deviation**2) ** 0.5
    measured, before = 1 / error**2, 1 / (each.deviation + max(0.0, beyond)) ** 2
    return (measured * gain + before * each.expected) / (measured + before), (measured + before) ** -0.5
