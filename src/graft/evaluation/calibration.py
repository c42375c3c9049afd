"""Calibration by temperature scaling: one number, fitted on unseen images, makes confidence match accuracy.

Guo, Pleiss, Sun and Weinberger 2017, "On Calibration of Modern Neural Networks", arXiv 1706.04599, section 4.2.
"""

import numpy as np

# A temperature at either limit means that the images do not determine it.
LOWEST, HIGHEST = 0.05, 20.0


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities (N, classes), float64, of logits (N, classes) divided by `temperature`."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(1, keepdims=True)
    exponents = np.exp(scaled)
    return np.asarray(exponents / exponents.sum(1, keepdims=True))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Fit the temperature that minimises the log loss of logits (N, classes) on unseen images; 1 without images.

    `labels` is int (N,). The loss is convex in 1 / temperature, so bisection on its slope finds the optimum.
    """
    if not len(labels):
        return 1.0
    logits = logits.astype(np.float64)
    of_label = logits[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        return float(((softmax(logits, 1 / inverse) * logits).sum(1) - of_label).mean())

    low, high = 1 / HIGHEST, 1 / LOWEST
    if slope(low) >= 0:
        return HIGHEST
    if slope(high) <= 0:
        return LOWEST
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 2 / (low + high)
