"""Whether a classifier fails on images that look alike, beyond what their classes explain.

`graft.evaluation.slices` compares any parts of the images; here each image is compared with others of its class, so
that a class that is hard and dark makes no alarm.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from graft.evaluation.intervals import Interval, wilson_interval

# A group of fewer images shows nothing; a flag needs a gap of so many points, and may be raised by chance in so few of
# all reports.
FEWEST, GAP, CHANCE = 10, 0.1, 0.01
# Parts of the images that are looked at from either end of a measure.
PARTS = (0.1, 0.25)
# Groups that have more than this part in common are one.
SHARED = 0.4


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


def slices(right: np.ndarray, labels: np.ndarray, groups: Mapping[str, np.ndarray]) -> list[Slice]:
    """The accuracy of each group of rows, the lowest first, by answers that are `right`, bool (N,), to `labels` (N,).

    A group is compared with what it would have if each of its images were as hard as others of its class, so that a
    class that is hard and dark makes no slice. It is flagged where the Mantel-Haenszel test, one-sided with strata by
    class, rejects at `CHANCE` divided by the number of groups (Bonferroni), and `GAP` or more is missing. Of groups
    that share many of their images the one that misses most is flagged alone.
    """
    from scipy.special import ndtr

    _, strata = np.unique(labels, return_inverse=True)
    size = np.bincount(strata)
    good = np.bincount(strata, right, len(size))
    found, chances = [], []
    for name, rows in groups.items():
        if not FEWEST <= len(rows) < len(right):
            continue
        own, drawn = int(right[rows].sum()), np.bincount(strata[rows], minlength=len(size))
        expected = float((drawn * good / size).sum())
        spread = drawn * (good / size) * (1 - good / size) * (size - drawn) / np.maximum(size - 1, 1)
        deviation = float(np.sqrt(spread.sum()))
        chance = float(ndtr((own + 0.5 - expected) / deviation)) if deviation else 1.0
        missing = (expected - own) / len(rows)
        chances.append((chance, bool(chance <= CHANCE / len(groups) and missing >= GAP)))
        found.append(Slice(name, rows, own / len(rows), wilson_interval(own, len(rows)), False))
    flagged: list[int] = []
    for at in sorted(range(len(found)), key=lambda at: chances[at][0]):
        known = (np.isin(found[at].rows, found[other].rows).mean() for other in flagged)
        if chances[at][1] and not any(share > SHARED for share in known):
            flagged.append(at)
    found = [replace(each, flagged=at in flagged) for at, each in enumerate(found)]
    return sorted(found, key=lambda each: (each.top1, each.name))
