"""Iterative stratification: split multi-label images into parts in which every label has its share.

Sechidis, Tsoumakas and Vlahavas 2011, "On the Stratification of Multi-label Data", ECML PKDD, algorithm 1.
"""

import numpy as np


def stratified_parts(matrix: np.ndarray, shares: np.ndarray, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Assign each image with labels `matrix` (N, C) of 0 and 1 to a part, int64 (N,).

    Part k should receive `shares[k]` of the images and of each label's images; the shares add up to one. The label with
    the fewest images left is dealt out first. Each image goes to the part that wants most of that label; ties go to the
    part that wants most images, and then to chance. Images of one group, int (N,), stay together.
    """
    random = np.random.default_rng(seed)
    unit = np.arange(len(matrix)) if groups is None else np.unique(groups, return_inverse=True)[1]
    number = int(unit.max(initial=-1)) + 1
    holds = np.zeros((number, matrix.shape[1]))
    np.add.at(holds, unit, matrix.astype(np.float64))
    size = np.bincount(unit, minlength=number).astype(np.float64)
    wanted = np.outer(shares, holds.sum(0))
    room = shares * len(matrix)
    part = np.full(number, -1, np.int64)
    # Large groups first: the remaining images can still make up for them.
    order = random.permutation(number)
    order = order[np.argsort(-size[order], kind="stable")]
    left = holds.sum(0)

    def deal(one: int, wish: np.ndarray) -> None:
        best = np.flatnonzero(wish == wish.max())
        best = best[room[best] == room[best].max()]
        chosen = int(best[0] if len(best) == 1 else random.choice(best))
        part[one] = chosen
        wanted[chosen] -= holds[one]
        room[chosen] -= size[one]

    while (left > 0).any():
        label = int(np.where(left > 0, left, np.inf).argmin())
        for one in order[(part[order] < 0) & (holds[order, label] > 0)].tolist():
            deal(one, wanted[:, label])
            left -= holds[one]
    for one in order[part[order] < 0].tolist():
        deal(one, room)
    return part[unit]


def held_out_part(matrix: np.ndarray, fraction: float, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Return which images to hold out, bool (N,): about `fraction` of all images and of each label's.

    As far as groups allow, a label of two images or more has one on either side, and no label is on the held-out side
    alone.
    """
    out = stratified_parts(matrix, np.array([1 - fraction, fraction]), seed, groups) == 1
    unit = np.arange(len(matrix)) if groups is None else np.unique(groups, return_inverse=True)[1]
    holds = np.zeros((int(unit.max(initial=-1)) + 1, matrix.shape[1]))
    np.add.at(holds, unit, matrix.astype(np.float64))
    size = np.bincount(unit, minlength=len(holds))
    side = np.zeros(len(holds), bool)
    side[unit] = out
    # The training side first: a label that is only held out cannot be learned.
    for to_out in (False, True):
        for label in np.argsort(holds.sum(0), kind="stable").tolist():
            of_label = holds[:, label] > 0
            if not of_label.any() or (side[of_label] == to_out).any():
                continue
            others = holds[side != to_out].sum(0)
            for one in sorted(np.flatnonzero(of_label).tolist(), key=lambda one: int(size[one])):
                if not to_out or (others[holds[one] > 0] > holds[one][holds[one] > 0]).all():
                    side[one] = to_out
                    break
    return side[unit]
