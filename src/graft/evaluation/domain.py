"""Whether an image is like those that a classifier was trained on, by the distance of its nearest neighbours.

Sun, Ming, Zhu and Li 2022, "Out-of-Distribution Detection with Deep Nearest Neighbors", arXiv 2204.06507: features are
scaled to length one, and the distance to the k-th nearest neighbour decides. It distinguished photographs from sketches
and textures on features of two networks, and CIFAR-10 from MNIST on those of a third, with an area of 0.97 to 1.00; the
Mahalanobis distance with a shrunk covariance reached 0.76 to 0.97.
"""

from dataclasses import dataclass
from math import ceil
from typing import Protocol

import numpy as np

# The neighbour whose distance counts.
NEIGHBOURS = 5
# The most numbers, and the most images, in the bank of features.
MOST_NUMBERS, MOST_IMAGES = 2_000_000, 1000
# The share of images like those trained on that is recognised as such.
KEPT = 0.95


@dataclass(frozen=True, eq=False)
class FittedDomain:
    """The features of images, `bank`, float16 (m, D) at length one; images beyond `threshold` are unlike them.

    The `threshold` keeps the share `KEPT` of `n` such images inside, each compared with those of other groups. It is
    None if there are too few to determine it.
    """

    bank: np.ndarray
    threshold: float | None
    n: int


class Rows(Protocol):
    """An array (n, D), or an object that returns some of its rows without holding all of them."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray: ...


def fit_domain(features: Rows, groups: np.ndarray | None = None, seed: int = 0) -> FittedDomain | None:
    """Fit the domain of images to their `features` (n, D) and `groups`, int (n,).

    Return None if there are too few images or groups: each image needs neighbours in other groups.
    """
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
