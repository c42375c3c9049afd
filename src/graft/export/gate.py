"""The gate: an exported file is kept only if it answers like its run on the user's own images.

In float32 and bfloat16, labels and probabilities are compared. In eight bits, which shift probabilities by more than is
tolerable, accuracies are compared instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graft.errors import GraftError
from graft.evaluation.paired import Estimate, paired_difference
from graft.words import counted

# The most a probability may differ; a label may differ only where the two likeliest are closer than this.
TOLERANCE = 1e-3
TOLERANCES = {"fp32": TOLERANCE, "bf16": 0.1}
# The most that accuracy may drop in eight bits.
MOST_LOST = 0.01
# Relative to the largest logit, where that is above one: float32 sums in another order differ by this much.
TOLERANCE_OF_LOGITS = 1e-5


@dataclass(frozen=True)
class Agreement:
    """How an exported file and its run compare on `n` images.

    The number of equal labels, the largest difference of any probability, and the median seconds per image of either.
    """

    n: int
    same_labels: int
    largest_difference: float
    seconds_exported: float
    seconds_run: float
    # In eight bits: the accuracy of the run, and how much the file gains over it, with its interval.
    accuracy: float | None = None
    gained: Estimate | None = None
    # What the largest difference refers to.
    of: str = "probabilities"

    def to_dict(self) -> dict[str, Any]:
        accuracy = (
            {}
            if self.gained is None or self.accuracy is None
            else {
                "accuracy": {
                    "run": self.accuracy,
                    "exported": self.accuracy + self.gained.value,
                    "difference": self.gained.value,
                    "difference_ci95": None if self.gained.ci95 is None else list(self.gained.ci95),
                }
            }
        )
        return {
            **accuracy,
            "n": self.n,
            "same_labels": self.same_labels,
            "largest_difference": self.largest_difference,
            **({} if self.of == "probabilities" else {"of": self.of}),
            "seconds_per_image": {"exported": self.seconds_exported, "run": self.seconds_run},
        }

    def __str__(self) -> str:
        right = ""
        if self.gained is not None and self.accuracy is not None:
            low, high = self.gained.ci95 or (self.gained.value, self.gained.value)
            right = (
                f"accuracy {self.accuracy + self.gained.value:.3f} where the run has {self.accuracy:.3f} "
                f"({100 * self.gained.value:+.1f} points, 95 % confidence interval {100 * low:+.1f} to "
                f"{100 * high:+.1f}), "
            )
        return (
            f"{right}{self.same_labels:,} of {counted(self.n, 'label')} as the run gives them, {self.of} within "
            f"{self.largest_difference:.1e}"
        )


def check_agreement(
    expected: np.ndarray,
    found: np.ndarray,
    classes: Sequence[str],
    found_classes: Sequence[str],
    seconds: tuple[float, float],
    tolerance: float = TOLERANCE,
    thresholds: Sequence[float] | None = None,
) -> Agreement:
    """Compare probabilities (n, classes) of the run with those of the file, each in the order of its own classes.

    With `thresholds`, each class is a label that is given from its threshold. `seconds` are per image, for the file and
    for the run. Raises GraftError where they do not agree to within `tolerance`.
    """
    _check_form(expected, found, classes, found_classes)
    differences = np.abs(expected - found).max(1)
    if thresholds is None:
        ordered = np.sort(expected, 1)
        margin = ordered[:, -1] - ordered[:, -2] if expected.shape[1] > 1 else np.ones(len(expected))
        same = expected.argmax(1) == found.argmax(1)
    else:
        margin = np.abs(expected - thresholds).min(1)
        same = ((expected >= thresholds) == (found >= thresholds)).all(1)
    wrong = (differences > tolerance) | (~same & (margin > tolerance))
    agreement = Agreement(len(expected), int(same.sum()), float(differences.max(initial=0.0)), *seconds)
    if wrong.any():
        raise GraftError(
            f"expected an export that answers as the run does to within {tolerance:g}, got {agreement}: nothing was "
            f"kept; choose another {'--format, or report this' if tolerance == TOLERANCE else '--precision'}"
        )
    return agreement


def check_logits(
    expected: np.ndarray,
    found: np.ndarray,
    classes: Sequence[str],
    found_classes: Sequence[str],
    seconds: tuple[float, float],
) -> Agreement:
    """Compare logits (n, classes) of the run, before temperature scaling, with those of the written network.

    Raises GraftError where they differ by more than rounding.
    """
    _check_form(expected, found, classes, found_classes)
    difference = float(np.abs(expected - found).max(initial=0.0))
    same = int((expected.argmax(1) == found.argmax(1)).sum())
    agreement = Agreement(len(expected), same, difference, *seconds, of="logits")
    if difference > TOLERANCE_OF_LOGITS * max(1.0, float(np.abs(expected).max(initial=0.0))):
        raise GraftError(
            f"expected a network that gives the run's logits to within {TOLERANCE_OF_LOGITS:g}, got {agreement}: "
            "nothing was kept; choose another --format, or report this"
        )
    return agreement


def check_accuracy(
    expected: np.ndarray,
    found: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    found_classes: Sequence[str],
    seconds: tuple[float, float],
) -> Agreement:
    """Compare how many images the run and the file classify as `labels` (n,) say.

    An image without a label, -1, counts as right if the file agrees with the run. Raises GraftError where the accuracy
    of the file is lower by more than a percentage point.
    """
    _check_form(expected, found, classes, found_classes)
    of_run, of_file = expected.argmax(1), found.argmax(1)
    truth = np.where(labels >= 0, labels, of_run)
    images = np.arange(len(truth))
    gained = paired_difference(of_file == truth, of_run == truth, images, np.zeros(len(truth), np.int64))
    largest = float(np.abs(expected - found).max(initial=0.0))
    agreement = replace(
        Agreement(len(truth), int((of_run == of_file).sum()), largest, *seconds),
        accuracy=float((of_run == truth).mean()),
        gained=gained,
    )
    if (of_run == truth).sum() - (of_file == truth).sum() > MOST_LOST * len(truth):
        raise GraftError(
            f"expected an export that loses at most {100 * MOST_LOST:g} point of accuracy, got {agreement}: nothing "
            "was kept; choose another --precision"
        )
    return agreement


def _check_form(expected: np.ndarray, found: np.ndarray, classes: Sequence[str], found_classes: Sequence[str]) -> None:
    if tuple(classes) != tuple(found_classes):
        raise GraftError(
            f"expected an export with the run's classes, got {', '.join(map(repr, found_classes[:4]))} in place of "
            f"{', '.join(map(repr, classes[:4]))}: nothing was kept; report this"
        )
    if found.shape != expected.shape or not np.isfinite(found).all():
        raise GraftError(
            f"expected finite numbers of shape {expected.shape} of the export, got {found.shape}: nothing was "
            "kept; choose another --format"
        )
