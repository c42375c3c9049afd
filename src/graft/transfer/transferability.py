"""Transferability scores: LogME and the H-score rate how well features suit labels, without training.

They compare features of the same images from several bases or stages; a score on its own says little.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

# LogME converges in a few rounds, but slowly where features separate the classes without error.
LOGME_ROUNDS = 100
LOGME_TOLERANCE = 1e-6
# Replaces zero divisors: the weights of features that explain nothing, the error of features that explain everything.
TINY = 1e-12


@dataclass(frozen=True)
class StageTransferability:
    """Both scores of a stage's features; higher is better."""

    stage: str
    logme: float
    h_score: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def logme(features: np.ndarray, labels: np.ndarray) -> float:
    """Return LogME: the maximum log evidence per image, averaged over classes, of features (N, D) and labels int (N,).

    You, Liu, Wang and Long 2021, "LogME", arXiv 2102.11005, algorithm 1. Each class, as zeros and ones, is modelled as
    a linear function of the features, with weights of precision alpha and noise of precision beta; the two precisions
    maximise the evidence.
    """
    from threadpoolctl import threadpool_limits

    x = features.astype(np.float64)
    targets = _one_hot(labels)
    count, width = x.shape
    with threadpool_limits(1):
        axes, lengths = _left_axes(x)
    along = axes.T @ targets
    # The part of the targets that no weights can explain.
    beyond = (np.square(targets).sum(0) - np.square(along).sum(0)).clip(min=0)
    squares = np.square(lengths)[:, None]
    alpha, beta = np.ones(targets.shape[1]), np.ones(targets.shape[1])
    for _ in range(LOGME_ROUNDS):
        weights, effective, missed = _posterior(alpha, beta, squares, along, beyond)
        before = np.log(alpha / beta)
        alpha = effective.clip(min=TINY) / weights.clip(min=TINY)
        beta = (count - effective) / missed.clip(min=TINY)
        if np.abs(np.log(alpha / beta) - before).max() < LOGME_TOLERANCE:
            break
    return float(_evidence(alpha, beta, squares, along, beyond, count, width).mean() / count)


def h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """Return the H-score: variance between classes relative to the variance of the features, summed over directions.

    Features are (N, D), labels int (N,). Bao et al. 2019, "An Information-Theoretic Approach to Transferability in Task
    Transfer Learning", with the covariance shrunk as in Ibrahim, Ponomareva and Mazumder 2021, "Newer is not always
    better", arXiv 2110.06893: without shrinkage, any features that outnumber the images score C - 1. The amount of
    shrinkage follows Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices".
    """
    from threadpoolctl import threadpool_limits

    x = features.astype(np.float64)
    x -= x.mean(0)
    count, width = x.shape
    with threadpool_limits(1):
        axes, lengths = _left_axes(x)
    variances, x = np.square(lengths) / count, axes * lengths
    level = variances.sum() / width
    if not level:
        return 0.0
    spread = np.square(variances).sum() - width * level**2
    noise = (np.square(np.square(x).sum(1)).sum() / count - np.square(variances).sum()) / count
    shrinkage = min(noise / spread, 1.0) if spread > 0 else 1.0
    targets = _one_hot(labels)
    means = targets.T @ x / targets.sum(0)[:, None]
    between = (targets.mean(0)[:, None] * np.square(means)).sum(0)
    return float((1 - shrinkage) * (between / ((1 - shrinkage) * variances + shrinkage * level)).sum())


def _left_axes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the left singular vectors (N, r) of `x` (N, D) and its singular values (r,), without zero ones."""
    if x.shape[0] < x.shape[1]:
        values, axes = np.linalg.eigh(x @ x.T)
    else:
        values, axes = np.linalg.eigh(x.T @ x)
    kept = values > max(values[-1], TINY) * 1e-12
    lengths, axes = np.sqrt(values[kept]), axes[:, kept]
    return (axes if x.shape[0] < x.shape[1] else x @ axes / lengths), lengths


def _posterior(
    alpha: np.ndarray, beta: np.ndarray, squares: np.ndarray, along: np.ndarray, beyond: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, by class, the squared length of the mean weights, their effective number, and the squared residual."""
    ratio = alpha / beta
    weights = (squares * np.square(along / (squares + ratio))).sum(0)
    missed = np.square(along * ratio / (squares + ratio)).sum(0) + beyond
    return weights, (squares / (squares + ratio)).sum(0), missed


def _evidence(
    alpha: np.ndarray,
    beta: np.ndarray,
    squares: np.ndarray,
    along: np.ndarray,
    beyond: np.ndarray,
    count: int,
    width: int,
) -> np.ndarray:
    """Return the log evidence of each class, (C,), with the determinant computed from the singular values."""
    weights, _, missed = _posterior(alpha, beta, squares, along, beyond)
    determinant = np.log(alpha + beta * squares).sum(0) + (width - len(squares)) * np.log(alpha)
    gaussians = width * np.log(alpha) + count * np.log(beta / (2 * np.pi))
    return np.asarray((gaussians - determinant - beta * missed - alpha * weights) / 2)


def _one_hot(labels: np.ndarray) -> np.ndarray:
    classes, labels = np.unique(labels, return_inverse=True)
    return np.eye(len(classes))[labels]
