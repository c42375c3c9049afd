"""The head of `transfer.head` for features that memory cannot hold: the same problem and optimum, solved in passes.

The features stay in storage, usually mapped from the cache, and are read block by block: once for their mean and
covariance, which give the scale and the principal axes, and once for each step of L-BFGS. The axes are folded into the
weights, so no coordinates are kept. The first steps use a part of the features that memory holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from graft.progress import NOBODY, Reporter
from graft.transfer.head import (
    DOUBLE_UP_TO,
    Examples,
    HeadFit,
    check_finite,
    choose_penalty,
    log_softmax,
    loss_weights,
    minimise,
    rows_to_choose_on,
    scale_of,
    solve,
)

# The size of a block of features in float32, without what is computed from it.
BLOCK_BYTES = 64 * 2**20
# The size of the part used for the first steps, in numbers.
PART = 2**26
# Block-sized arrays in use at a time: as stored, in float32, less the mean, and divided by the scale.
WORKING_BLOCKS = 4


@dataclass(frozen=True)
class StoredRows:
    """Activations (n, …) of several splits, one after the other, as rows of features that are read on demand."""

    parts: tuple[Tensor, ...]

    @property
    def shape(self) -> tuple[int, int]:
        return sum(map(len, self.parts)), int(np.prod(self.parts[0].shape[1:]))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return the features of some rows, float32 (n, D)."""
        found = np.empty((len(rows), self.shape[1]), np.float32)
        start = 0
        for part in self.parts:
            inside = np.flatnonzero((rows >= start) & (rows < start + len(part)))
            found[inside] = part[rows[inside] - start].flatten(1).float().numpy()
            start += len(part)
        return found

    def read(self) -> np.ndarray:
        """Return the features of all rows, float32 (N, D)."""
        return np.concatenate([part.flatten(1).float().numpy() for part in self.parts])

    def logits(self, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """Return the logits of all rows, (N, classes), under a head of this weight (classes, D) and bias (classes,)."""
        return np.concatenate(
            [block @ weight.T + bias for _, block in self.blocks()] or [np.empty((0, len(bias)), np.float32)]
        )

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield all rows in order, a block at a time: which they are, and their features, float32 (n, D)."""
        size, start = max(1, BLOCK_BYTES // (4 * self.shape[1])), 0
        for part in self.parts:
            for first in range(0, len(part), size):
                block = part[first : first + size]
                yield slice(start + first, start + first + len(block)), block.flatten(1).float().numpy()
            start += len(part)


def bytes_in_memory(count: int, width: int) -> int:
    """Return the peak memory of `fit_head` for features (count, width), in bytes: about six times the features.

    These are the features as given, as float32, centred, scaled, and on their axes, where some are in float64.
    """
    return 6 * 4 * count * width


def bytes_streamed(count: int, width: int, classes: int) -> int:
    """Return the peak bytes of `fit_streamed_head`: blocks, a block's logits, the part, the covariance, and columns."""
    rows = max(1, BLOCK_BYTES // (4 * width))
    part = 3 * 4 * min(PART, count * width)
    return WORKING_BLOCKS * BLOCK_BYTES + 5 * 8 * rows * classes + part + 5 * 8 * width**2 + 3 * 8 * count


def fit_streamed_head(
    features: StoredRows,
    labels: np.ndarray,
    classes: int,
    seed: int = 0,
    groups: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    blocks: Sequence[int] | None = None,
    reporter: Reporter = NOBODY,
) -> HeadFit:
    """Fit the head that `fit_head` finds for the same features (N, D) in one view, to the tolerance that both solve to.

    `reporter` hears of each pass as the step `head`. Raises GraftError for features that are not finite.
    """
    count = len(labels)
    counting = loss_weights(weights, count)
    centre, covariance = _moments(features, reporter)
    scale = scale_of(np.diag(covariance).copy(), blocks)
    spread, axes = np.linalg.eigh(covariance / (scale * np.broadcast_to(scale, len(centre))[:, None]))
    kept = spread > max(spread[-1], 1e-30) * 1e-10
    spread, axes = spread[kept], axes[:, kept]

    def examples(rows: np.ndarray) -> Examples:
        x = ((features[rows] - centre) / scale).astype(np.float32) @ axes.astype(np.float32)
        return Examples(x, labels[rows], counting[rows], classes)

    rows, fold = rows_to_choose_on(labels, count, seed, groups)
    chosen, logits, judged = choose_penalty(examples(rows), np.arange(len(rows)), fold)
    rows = rows[judged]
    penalties = np.full(classes, 1 / (chosen * count))
    part = np.sort(np.random.default_rng(seed).permutation(count)[: max(1, PART // len(centre))])
    # Scaled so that the penalty weighs as much here as for all images.
    start, _ = solve(examples(part), chosen * count / len(part), tolerance=1e-4)
    passes = 0
    # As in `fit_head`: for few images, the rounded loss is too rough to find the optimum.
    kind = np.float64 if count * len(centre) <= DOUBLE_UP_TO else np.float32

    def loss_and_gradient(solution: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal passes
        passes += 1
        of_features = (axes @ solution[:-1] / scale[:, None]).astype(kind)
        loss, gradient, errors = 0.0, np.zeros((len(centre), classes)), np.zeros(classes)
        for which, block in features.blocks():
            x = block - centre.astype(kind)
            log_probabilities = log_softmax((x @ of_features) + solution[-1])
            own, row = labels[which], np.arange(len(x))
            loss -= float(counting[which] @ log_probabilities[row, own])
            error = np.exp(log_probabilities, out=log_probabilities)
            error[row, own] -= 1
            error *= counting[which, None] / count
            gradient += x.T @ error.astype(kind)
            errors += error.sum(0)
            reporter.step("head", which.stop, count, f"pass {passes}")
        return loss / count, np.vstack([axes.T @ (gradient / scale[:, None]), errors])

    solution, slope = minimise(loss_and_gradient, spread, penalties, start, 1e-6)
    weight = solution[:-1].T @ axes.T / scale
    bias = solution[-1] - weight @ centre
    with np.errstate(over="ignore"):
        weight, bias = weight.astype(np.float32), bias.astype(np.float32)
    check_finite(np.column_stack([weight, bias]), "weights and biases of the head")
    return HeadFit(weight, bias, chosen, logits, labels[rows], slope, rows)


def _moments(features: StoredRows, reporter: Reporter) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (D,) and the covariance (D, D) of all rows, in one pass. Raises GraftError."""
    count, width = features.shape
    # Centred roughly first, so that the two terms of the covariance do not cancel.
    near = features[np.linspace(0, count - 1, min(count, 1000)).astype(int)].mean(0, dtype=np.float64)
    total, products = np.zeros(width), np.zeros((width, width))
    for which, block in features.blocks():
        check_finite(block, "features to fit a head on")
        x = block - near.astype(np.float32)
        total += x.sum(0, dtype=np.float64)
        products += x.T @ x
        reporter.step("head", which.stop, count, "mean and covariance")
    off = total / count
    return near.astype(np.float32) + off, products / count - np.outer(off, off)
