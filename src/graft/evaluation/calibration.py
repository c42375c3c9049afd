"""Calibration by temperature scaling: one number, fitted on unseen images, makes confidence match accuracy.

Guo, Pleiss, Sun and Weinberger 2017, "On Calibration of Modern Neural Networks", arXiv 1706.04599, section 4.2.
"""

import math

import numpy as np

LOWEST, HIGHEST = 0.05, 20.0
# The expected deviation of the log temperature from 0, as found for most networks. A dozen images that are all
# classified correctly would otherwise ask for the lowest temperature, and make every answer certain.
EXPECTED_DEVIATION = 0.5


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return probabilities (N, classes), float64, of logits (N, classes) divided by `temperature`."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(1, keepdims=True)
    exponents = np.exp(scaled)
    return np.asarray(exponents / exponents.sum(1, keepdims=True))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Fit the most likely temperature given logits (N, classes) of unseen images; 1 without images.

    `labels` is int (N,). The temperature minimises the summed log loss plus (log temperature / `EXPECTED_DEVIATION`)² /
    2, which a few dozen images outweigh. Bisection on the slope finds the optimum.
    """
    if not len(labels):
        return 1.0
    logits = logits.astype(np.float64)
    of_label = logits[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        of_loss = float(((softmax(logits, 1 / inverse) * logits).sum(1) - of_label).sum())
        return of_loss + math.log(inverse) / (EXPECTED_DEVIATION**2 * inverse)

    low, high = 1 / HIGHEST, 1 / LOWEST
    if slope(low) >= 0:
        return HIGHEST
    if slope(high) <= 0:
        return LOWEST
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 2 / (low + high)
