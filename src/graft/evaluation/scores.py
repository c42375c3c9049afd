"""Scores of a classifier: accuracy with its interval, recall and precision by class, log loss, calibration error.

Takes arrays and returns values.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

# Quantile of the normal distribution for a 95 % interval.
Z95 = 1.959963984540054


@dataclass(frozen=True)
class ClassScore:
    """The scores of one class: its support `n`, recall and precision; None for a ratio over zero images."""

    name: str
    n: int
    recall: float | None
    precision: float | None


@dataclass(frozen=True)
class Scores:
    """How well `n` labelled images were classified.

    `top1_ci95` is Wilson's interval. `majority` is the baseline: the accuracy of always answering the majority class.
    `confusion` counts images, int (classes, classes), with a row for each label and a column for each prediction.
    """

    n: int
    top1: float
    top1_ci95: tuple[float, float]
    log_loss: float
    majority: float
    calibration_error: float
    classes: tuple[ClassScore, ...]
    confusion: np.ndarray

    def __repr__(self) -> str:
        low, high = self.top1_ci95
        return f"Scores(top1={self.top1:.3f} ({low:.3f} to {high:.3f}), n={self.n}, classes={len(self.classes)})"

    def to_dict(self) -> dict[str, Any]:
        """The scores as `--json` prints them, with confusion as lists."""
        return {
            "top1": self.top1,
            "top1_ci95": list(self.top1_ci95),
            "n": self.n,
            "log_loss": self.log_loss,
            "calibration_error": self.calibration_error,
            "classes": [
                {"name": row.name, "n": row.n, "recall": row.recall, "precision": row.precision} for row in self.classes
            ],
            "confusion": self.confusion.tolist(),
        }


def score(probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Scores:
    """Score `probabilities` (N, classes), whose rows sum to one, against `labels` int (N,); N is one or more.

    Raises ValueError for other shapes.
    """
    count = len(labels)
    if not count or probabilities.shape != (count, len(classes)):
        raise ValueError(
            f"expected ({count}, {len(classes)}) probabilities with N above zero, got {probabilities.shape}"
        )
    answers = probabilities.argmax(1)
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(confusion, (labels, answers), 1)
    right = int(np.trace(confusion))
    of_label = probabilities[np.arange(count), labels].astype(np.float64)
    return Scores(
        n=count,
        top1=right / count,
        top1_ci95=wilson_interval(right, count),
        log_loss=float(-np.log(np.clip(of_label, 1e-12, 1.0)).mean()),
        majority=float(confusion.sum(1).max() / count),
        calibration_error=expected_calibration_error(probabilities, labels),
        classes=tuple(
            ClassScore(
                name,
                n=int(confusion[index].sum()),
                recall=_ratio(confusion[index, index], confusion[index].sum()),
                precision=_ratio(confusion[index, index], confusion[:, index].sum()),
            )
            for index, name in enumerate(classes)
        ),
        confusion=confusion,
    )


def wilson_interval(right: float, count: float) -> tuple[float, float]:
    """The 95 % confidence interval of a rate, given `right` of `count`. Wilson 1927, JASA 22(158), equation 4."""
    rate, z2 = right / count, Z95**2
    centre = (rate + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 / (1 + z2 / count) * math.sqrt(rate * (1 - rate) / count + z2 / (4 * count**2))
    # With none or all correct, one bound is exactly 0 or 1; rounding must not move it.
    return (0.0 if right == 0 else centre - half, 1.0 if right == count else centre + half)


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over bins of confidence, weighted by the size of the bins.

    Guo, Pleiss, Sun and Weinberger 2017, arXiv 1706.04599, equation 3.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(right[index == b].mean() - confidence[index == b].mean()) * (index == b).mean() for b in np.unique(index)
    ]
    return float(sum(gaps))


def _ratio(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
