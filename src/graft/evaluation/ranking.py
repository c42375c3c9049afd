"""Ranking: areas under the receiver operating characteristic and precision-recall curves, and top-k accuracy."""

import numpy as np


def roc_area(figures: np.ndarray, positive: np.ndarray) -> float | None:
    """Return the chance that a positive has a higher figure than a negative, ties counted half; None without both.

    `figures` are (N,), `positive` is bool (N,). Hanley and McNeil 1982, Radiology 143(1), 29-36.
    """
    return areas(figures, positive)[0]


def average_precision(figures: np.ndarray, positive: np.ndarray) -> float | None:
    """Return precision averaged over the steps of recall, without interpolation; None without a positive."""
    return areas(figures, positive)[1]


def areas(figures: np.ndarray, positive: np.ndarray) -> tuple[float | None, float | None]:
    """Return `roc_area` and `average_precision` from one sort."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives:
        return None, None
    order = np.argsort(-figures, kind="stable")
    ranked, hits = figures[order], positive[order]
    # A threshold passes images with equal figures together.
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    true = np.cumsum(hits)[ends].astype(np.float64)
    false = ends + 1 - true
    steps = np.diff(true, prepend=0.0)
    precision = float((steps * true / (true + false)).sum() / positives)
    if not negatives:
        return None, precision
    area = float((np.diff(false, prepend=0.0) * (true - steps / 2)).sum() / (positives * negatives))
    return area, precision


def top_accuracy(most: int, probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return how often the label, int (N,), is among the `most` likeliest of `probabilities` (N, classes).

    Of equally likely classes the first ones count, as in `argmax`.
    """
    of_label = np.take_along_axis(probabilities, labels[:, None], 1)
    before = np.arange(probabilities.shape[1]) < labels[:, None]
    rank = (probabilities > of_label).sum(1) + ((probabilities == of_label) & before).sum(1)
    return float((rank < most).mean())
