"""Evaluate a multi-label classifier on images with several labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.errors import InputError
from graft.evaluation.label_scores import LabelScores, score_labels
from graft.html import escaped, table
from graft.weights.base import Base
from graft.words import in_percent
from graft.workflows.evaluation_values import Answered, Evaluation


@dataclass(frozen=True, repr=False)
class LabelEvaluation(Evaluation):
    """Scores of a multi-label model on one split: `labels`, and `labels_seen` for images that it was trained on.

    `scores` is None, and promises are not checked; the rest is as in `Evaluation`.
    """

    def __repr__(self) -> str:
        return f"LabelEvaluation({self.model!r}, {self.data!r}, split={self.split!r}, labels={self.labels!r})"

    def _repr_html_(self) -> str:
        if self.labels is None:
            return f"<p>{escaped(self)}</p>"
        rows = [
            (row.name, f"{row.n:,}", *("–" if each is None else in_percent(each) for each in _figures(row)))
            for row in sorted(
                self.labels.classes, key=lambda row: (row.average_precision is None, row.average_precision or 0.0)
            )
        ]
        head = ("label, worst first", "images", "average precision", "precision", "recall")
        return f"<p>{escaped(self)}</p>{table(head, rows)}"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that `graft evaluate --json` prints."""
        nothing = {"mean_average_precision": None, "mean_average_precision_ci95": None, "n": 0}
        seen = self.labels_seen
        optimistic = seen and {
            "mean_average_precision": seen.mean_average_precision,
            "n": seen.n,
            "paths": list(self.trained_on),
        }
        return {
            "run": self.model,
            "data": self.data,
            "split": self.split,
            **(nothing if self.labels is None else self.labels.to_dict()),
            "baseline": {"mean_average_precision": None if self.labels is None else self.labels.baseline},
            **({"trained_on": optimistic} if optimistic else {}),
            "skipped": self.skipped,
            "engine": self.engine,
            "seconds": {"total": self.seconds},
            "notes": list(self.notes),
        }


def _figures(row: Any) -> tuple[float | None, ...]:
    return row.average_precision, row.precision, row.recall


def check_options(**given: object) -> None:
    """Refuse options of `graft evaluate` that apply only to single-label classifiers. Raises InputError."""
    for name, value in given.items():
        if value:
            raise InputError(
                f"expected no --{name.replace('_', '-')} for a classifier of several labels, got it: leave it out, as "
                "it applies only to one label per image"
            )


def labels_of(answered: Answered, chosen: np.ndarray) -> LabelScores | None:
    """Return the scores of the `chosen` images, bool (n,); None if none are chosen."""
    if not chosen.any():
        return None
    images, base = answered.images.take(np.flatnonzero(chosen)), answered.base
    thresholds = np.array(base.thresholds)
    return score_labels(
        answered.probabilities[chosen], answered.matrix[chosen], base.classes or (), thresholds, images.groups
    )


def check_same_kind(base: Base, several: bool, data: str) -> None:
    """Raise InputError unless classifier and images are both multi-label, or both single-label."""
    if (base.thresholds is not None) is several:
        return
    kinds = ("one label for each", "several labels for each")
    raise InputError(
        f"expected images with {kinds[not several]} for {base.name}, got {data} with {kinds[several]}: "
        + ("leave --multi-label out, or train with it" if several else "read them with --multi-label")
    )
