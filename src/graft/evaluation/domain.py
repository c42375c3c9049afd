"""Whether an image is like those that a classifier was trained on: how far off the nearest of these are as features.

Sun, Ming, Zhu and Li 2022, "Out-of-Distribution Detection with Deep Nearest Neighbors", arXiv 2204.06507: features at
length one, and the distance to the k-th nearest neighbour. On features of two networks it told photographs from
sketches and textures, and on those of a third CIFAR-10 from MNIST, with an area of 0.97 to 1.00; the Mahalanobis
distance with a shrunk covariance did with 0.76 to 0.97.
"""

from dataclasses import dataclass
from math import ceil
from typing import Protocol

import numpy as np

# The neighbour whose distance counts.
NEIGHBOURS = 5
# Numbers that the bank of features may hold, and images.
MOST_NUMBERS, MOST_IMAGES = 2_000_000, 1000
# The part of images such as those trained on that is still taken for such ones.
KEPT = 0.95


@dataclass(frozen=True, eq=False)
class FittedDomain:
    """`bank`, float16 (m, D), features of images at length one; one further off than `threshold` is unlike them.

    The `threshold` leaves the part `KEPT` of `n` images such as these inside, each compared with those of other groups;
    it is None with too few to know it.
    """

    bank: np.ndarray
    threshold: float | None
    n: int


class Rows(Protocol):
    """An array (n, D), or what gives some of its rows without holding all of them."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray: ...


def fit_domain(features: Rows, groups: np.ndarray | None = None, seed: int = 0) -> FittedDomain | None:
    """The domain of images by their `features` (n, D) and `groups`, int (n,); None with too few of them, or of groups:
    each image needs neighbours in others."""
    count, width = features.shape
    most = min(MOST_IMAGES, max(10 * NEIGHBOURS, MOST_NUMBERS // max(width, 1)))
    kept = np.sort(np.random.default_rng(seed).permutation(count)[:most])
    if len(kept) <= 2 * NEIGHBOURS:
        return None
    chosen = features[kept].astype(np.float32)
    bank = chosen / np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-12)
    group = kept if groups is None else groups[kept]
    near = bank @ bank.T
    own = group[:, None] == group
    known = len(kept) - own.sum(1) >= NEIGHBOURS
    if known.sum() <= 2 * NEIGHBOURS:
        return None
    near[own] = -1.0
    distances = np.sort(1 - np.partition(near[known], -NEIGHBOURS, axis=1)[:, -NEIGHBOURS])
    rank = ceil((len(distances) + 1) * KEPT)
    threshold = min(max(float(distances[rank - 1]), 0.0), 2.0) if rank <= len(distances) else None
    return FittedDomain(bank.astype(np.float16), threshold, len(distances))
