"""The gate: an exported file answers as the run does on the user's own images, or it is not kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.errors import GraftError
from graft.words import counted

# A probability may differ by so much; a label only where the two likeliest are closer than this.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Agreement:
    """How an exported file and its run compare on `n` images: labels that are equal, the largest difference of any
    probability, and the median seconds that one image takes in either."""

    n: int
    same_labels: int
    largest_difference: float
    seconds_exported: float
    seconds_run: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "same_labels": self.same_labels,
            "largest_difference": self.largest_difference,
            "seconds_per_image": {"exported": self.seconds_exported, "run": self.seconds_run},
        }

    def __str__(self) -> str:
        return (
            f"{self.same_labels:,} of {counted(self.n, 'label')} as the run gives them, probabilities within "
            f"{self.largest_difference:.1e}"
        )


def check_agreement(
    expected: np.ndarray,
    found: np.ndarray,
    classes: Sequence[str],
    found_classes: Sequence[str],
    seconds: tuple[float, float],
) -> Agreement:
    """Compare probabilities (n, classes) of the run with those of the file, each in the order of its own classes.

    `seconds` are those per image of the file and of the run. Raises GraftError where they do not agree.
    """
    if tuple(classes) != tuple(found_classes):
        raise GraftError(
            f"expected an export with the run's classes, got {', '.join(map(repr, found_classes[:4]))} in place of "
            f"{', '.join(map(repr, classes[:4]))}: nothing was kept; report this"
        )
    if found.shape != expected.shape or not np.isfinite(found).all():
        raise GraftError(
            f"expected finite probabilities of shape {expected.shape} of the export, got {found.shape}: nothing was "
            "kept; choose another --format"
        )
    differences = np.abs(expected - found).max(1)
    ordered = np.sort(expected, 1)
    margin = ordered[:, -1] - ordered[:, -2] if expected.shape[1] > 1 else np.ones(len(expected))
    same = expected.argmax(1) == found.argmax(1)
    wrong = (differences > TOLERANCE) | (~same & (margin > TOLERANCE))
    agreement = Agreement(len(expected), int(same.sum()), float(differences.max(initial=0.0)), *seconds)
    if wrong.any():
        raise GraftError(
            f"expected an export that answers as the run does, got {agreement}: nothing was kept; choose another "
            "--format, or report this"
        )
    return agreement
