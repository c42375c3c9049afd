"""Which look-alike images stay in one split, without merging most of a class into a single image.

Drawings on plain ground, such as typed letters or icons, are alike by nature. Chained from pair to pair, their likeness
joins a whole class: no split could divide it, and nothing could be measured on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graft.data.grouping import linked

# The largest share of a class that mere look-alikes may join into one group, and the fewest images that make a chain.
LARGEST_SHARE, FEWEST = 0.5, 3


@dataclass(frozen=True)
class KeptTogether:
    """Pairs of rows to keep in one split, int64 (P, 2): `copies` and `look_alikes`.

    Labels, int64: in `parted`, some look-alikes are not kept together, since they would take too much of the class; in
    `copied`, all images are near copies of each other; in `held`, more than half are kept together as near copies.
    """

    copies: np.ndarray
    look_alikes: np.ndarray
    parted: np.ndarray
    copied: np.ndarray
    held: np.ndarray

    @property
    def either(self) -> np.ndarray:
        return np.concatenate([self.copies, self.look_alikes])


def kept_together(labels: np.ndarray, same: np.ndarray, copies: np.ndarray, look_alikes: np.ndarray) -> KeptTogether:
    """Return the pairs that leave a class divisible.

    `same`, int64 (N,), is equal for files of equal content, which always stay together. Look-alikes are dropped where
    they and copies chain more than half of a class together; near copies, where they chain all of it.
    """
    near = same[copies[:, 0]] != same[copies[:, 1]]
    alike, parted = _without(labels, same, look_alikes, copies, LARGEST_SHARE)
    left, copied = _without(labels, same, copies[near], alike, 1.0)
    _, held = _without(labels, same, left, alike, LARGEST_SHARE)
    return KeptTogether(np.concatenate([copies[~near], left]), alike, parted, copied, held)


def _without(
    labels: np.ndarray, same: np.ndarray, pairs: np.ndarray, others: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Drop the pairs that, with `others`, link more than `share` of a label's images or all; also return the labels."""
    if not len(pairs):
        return pairs, np.zeros(0, np.int64)
    component, known = linked(same, np.concatenate([pairs, others])), labels >= 0
    cells, number, sizes = np.unique(
        np.stack([component, labels], 1)[known], axis=0, return_inverse=True, return_counts=True
    )
    contents = np.unique(np.stack([number.ravel(), same[known]], 1), axis=0)[:, 0]
    of_label = np.bincount(labels[known])[cells[:, 1]]
    large = (sizes > share * of_label) | (sizes == of_label)
    large &= np.bincount(contents, minlength=len(cells)) >= FEWEST
    large &= np.isin(cells[:, 0], component[pairs[:, 0]])
    return pairs[~np.isin(component[pairs[:, 0]], cells[large, 0])], np.unique(cells[large, 1])
