"""Heads that judge images they have not seen, one for each fold, fitted on the others, for any number of images.

The features are an array or stay in storage, and are read block by block. All that is in memory at once are the rows
that a head is fitted on and one block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from graft.transfer.head import Examples, onto_principal_axes, scale_of, solve

if TYPE_CHECKING:
    from graft.transfer.streamed_head import StoredRows

# Features (N, D), of which some rows at a time are read.
Rows: TypeAlias = "np.ndarray | StoredRows"
# Numbers in a block: features or logits, whichever are more.
BLOCK = 2**21


@dataclass(frozen=True)
class HeldOutHeads:
    """A head for each fold, which judges the images in it.

    The images are those at `rows`, int (n,), of `features`, each in its `fold`, int (n,). `weight` (folds, D, classes)
    and `bias` (folds, classes), float32, are for features less `centre` (D,).
    """

    features: Rows
    rows: np.ndarray
    fold: np.ndarray
    centre: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    @property
    def classes(self) -> int:
        return self.bias.shape[1]

    def logits(self, some: np.ndarray) -> np.ndarray:
        """Return the logits of some of the images, float32 (m, classes), for `some` int (m,) from 0 to n - 1."""
        x, fold = less(self.features[self.rows[some]], self.centre), self.fold[some]
        found = np.empty((len(some), self.classes), np.float32)
        for number in np.unique(fold):
            own = fold == number
            found[own] = x[own] @ self.weight[number] + self.bias[number]
        return found

    def blocks(self, some: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield all images in order, or only `some`, a block at a time: which they are, int (m,), and their logits."""
        for block in in_blocks(np.arange(len(self.rows)) if some is None else some, *self.weight.shape[1:]):
            yield block, self.logits(block)


def fit_held_out_heads(
    features: Rows,
    rows: np.ndarray,
    labels: np.ndarray,
    classes: int,
    fold: np.ndarray,
    inverse_penalty: float,
    most: int,
) -> HeldOutHeads:
    """Fit a head for each fold of the images at `rows` of `features` (N, D); `rows`, `labels`, `fold` are int (n,).

    Features are centred on the mean of those images and divided by a single scale, as in `fit_head`. If the other folds
    have more than `most` images, a head is fitted on that many, evenly spaced in their order.
    """
    from threadpoolctl import threadpool_limits

    centre, scale = _centre_and_scale(features, rows)

    def centred(some: np.ndarray) -> np.ndarray:
        x = less(features[rows[some]], centre)
        x /= np.float32(scale)
        return x

    number = int(fold.max()) + 1
    weight = np.zeros((number, len(centre), classes), np.float32)
    bias = np.zeros((number, classes), np.float32)
    with threadpool_limits(1):
        # Single precision is enough to find unlikely labels, and twice as fast. The axes only save numbers and
        # iterations, so those of a sample serve all folds.
        sample = evenly_spaced(np.arange(len(rows)), most)
        coordinates, axes = onto_principal_axes(centred(sample))
        for each in np.unique(fold).tolist():
            kept = evenly_spaced(np.flatnonzero(fold != each), most)
            x = coordinates[kept] if len(sample) == len(rows) else centred(kept) @ axes.T
            solution, _ = solve(Examples(x, labels[kept], np.ones(len(kept)), classes), inverse_penalty, tolerance=1e-3)
            weight[each], bias[each] = axes.T @ solution[:-1] / scale, solution[-1]
    return HeldOutHeads(features, rows, fold, centre, weight, bias)


def evenly_spaced(rows: np.ndarray, most: int) -> np.ndarray:
    """Return the rows, or `most` of them, evenly spaced."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def in_blocks(rows: np.ndarray, *widths: int) -> Iterator[np.ndarray]:
    """Yield the rows a block at a time, so few that a matrix with any of these widths has at most `BLOCK` numbers."""
    size = max(1, BLOCK // max(widths))
    return (rows[start : start + size] for start in range(0, len(rows), size))


def less(features: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return features (n, D) less the centre (D,), float32; features in float32 are overwritten."""
    x = features.astype(np.float32, copy=False)
    x -= centre.astype(np.float32)
    return x


def _centre_and_scale(features: Rows, rows: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the mean (D,) of some rows, and the root of the mean square of what differs from it, in one pass."""
    # Less a mean of a few first, so that the two terms of the variance do not cancel.
    near = features[evenly_spaced(rows, 1000)].mean(0, dtype=np.float64)
    total, squares = np.zeros(len(near)), np.zeros(len(near))
    for block in in_blocks(rows, len(near)):
        x = features[block] - near
        total += x.sum(0)
        squares += np.einsum("nd,nd->d", x, x)
    off = total / len(rows)
    return near + off, float(scale_of(np.maximum(squares / len(rows) - off**2, 0))[0])
