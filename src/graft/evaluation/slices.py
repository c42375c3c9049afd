"""Whether a classifier fails on images that have something in common, corrected for how many such groups are tried."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graft.evaluation.intervals import Interval, wilson_interval

# A group of fewer images shows nothing; a flag needs a gap of so many points, and may be raised by chance in so few of
# all reports.
FEWEST, GAP, CHANCE = 10, 0.1, 0.01
# Parts of the images that are looked at from either end of a measure.
PARTS = (0.1, 0.25)


@dataclass(frozen=True)
class Slice:
    """Images that have something in common, as `name` says: how many, their accuracy, and whether that is too low."""

    name: str
    rows: np.ndarray
    top1: float
    ci95: Interval
    flagged: bool

    @property
    def n(self) -> int:
        return len(self.rows)


def ends_of(measures: Mapping[str, tuple[str, str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Rows of the images at either end of each measure, by what such images are called: (low name, high name, values).

    A measure that hardly differs among the images has no ends.
    """
    found: dict[str, np.ndarray] = {}
    for low, high, values in measures.values():
        order = np.argsort(values, kind="stable")
        for part in PARTS:
            count = round(part * len(values))
            if count < FEWEST or values[order[count]] >= values[order[-1 - count]]:
                continue
            found[f"the {low} {part:.0%}"] = order[:count]
            found[f"the {high} {part:.0%}"] = order[-count:]
    return found


def chance_of_so_few(right: int, count: int, successes: int, drawn: int) -> float:
    """The chance of at most `right` successes among `drawn` of `count` of which so many are: hypergeometric."""
    from scipy.special import betaln

    least = max(0, drawn - (count - successes))
    if right < least:
        return 0.0
    each = np.arange(least, min(right, successes) + 1)

    def ways(of: int, chosen: np.ndarray | int) -> np.ndarray:
        return np.asarray(-betaln(of - chosen + 1, np.asarray(chosen) + 1) - np.log(of + 1))

    logarithm = ways(successes, each) + ways(count - successes, drawn - each) - ways(count, drawn)
    return min(1.0, float(np.exp(logarithm).sum()))


def slices(right: np.ndarray, groups: Mapping[str, np.ndarray]) -> list[Slice]:
    """The accuracy of each group of rows, the lowest first, by answers that are `right`, bool (N,).

    A group is flagged where Fisher's exact test, one-sided against all other images, rejects at `CHANCE` divided by the
    number of groups (Bonferroni), and the gap is `GAP` or more.
    """
    count, successes = len(right), int(right.sum())
    found = []
    for name, rows in groups.items():
        if not FEWEST <= len(rows) < count:
            continue
        own = int(right[rows].sum())
        chance = chance_of_so_few(own, count, successes, len(rows))
        rest = (successes - own) / (count - len(rows))
        flagged = chance <= CHANCE / len(groups) and rest - own / len(rows) >= GAP
        found.append(Slice(name, rows, own / len(rows), wilson_interval(own, len(rows)), flagged))
    return sorted(found, key=lambda each: (each.top1, each.name))
