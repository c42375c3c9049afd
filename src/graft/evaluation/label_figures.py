"""The figures of a classifier that gives an image several labels, in place of an accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.evaluation.accuracy import FEWEST_TO_MEASURE, Accuracy
from graft.evaluation.intervals import interval_in_words
from graft.evaluation.label_scores import LabelScores, score_labels
from graft.words import counted, in_percent


@dataclass(frozen=True, repr=False)
class LabelFigures(Accuracy):
    """Mean average precision on `n` images of a split with its 95 % interval, and F1 at the thresholds.

    There is no top-1. `baseline` is the mean average precision of a random order. Figures are None where `n` is too
    small to measure anything; `with_copies` is as in `Accuracy`.
    """

    mean_average_precision: float | None = None
    mean_average_precision_ci95: tuple[float, float] | None = None
    micro_f1: float | None = None
    macro_f1: float | None = None
    baseline: float | None = None

    @classmethod
    def of(cls, scores: LabelScores, with_copies: LabelFigures | None = None) -> LabelFigures:
        figures = (scores.mean_average_precision, scores.mean_average_precision_ci95, scores.micro_f1, scores.macro_f1)
        return cls(None, None, scores.n, with_copies, *figures, scores.baseline, groups=scores.groups)

    def __repr__(self) -> str:
        figure = None if self.mean_average_precision is None else round(self.mean_average_precision, 3)
        return f"LabelFigures(mean_average_precision={figure}, n={self.n})"

    def __str__(self) -> str:
        """For people: `mean average precision 81.2% of 153 images (95 % interval 78.0% to 84.1%), micro F1 0.75`."""
        if self.mean_average_precision is None or self.mean_average_precision_ci95 is None:
            return f"not measured: {counted(self.n, 'image')} without a copy among those trained on"
        interval = interval_in_words(self.mean_average_precision_ci95, self.n, self.groups)
        return (
            f"mean average precision {in_percent(self.mean_average_precision)} of {counted(self.n, 'image')} "
            f"({interval}), micro F1 {self.micro_f1:.3f}, macro F1 {self.macro_f1:.3f}"
        )

    def to_dict(self) -> dict[str, Any]:
        interval = self.mean_average_precision_ci95
        values = {
            "mean_average_precision": self.mean_average_precision,
            "mean_average_precision_ci95": interval and list(interval),
            "micro_f1": self.micro_f1,
            "macro_f1": self.macro_f1,
            "baseline": self.baseline,
            "n": self.n,
            **({} if self.groups is None else {"groups": self.groups}),
        }
        return values if self.with_copies is None else {**values, "with_copies": self.with_copies.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LabelFigures:
        own = {name: value for name, value in values.items() if name != "with_copies"}
        interval, more = values["mean_average_precision_ci95"], values.get("with_copies")
        own["mean_average_precision_ci95"] = interval and tuple(interval)
        return cls(None, None, own.pop("n"), more and cls.from_dict(more), **own)


@dataclass(frozen=True)
class MeasuredLabels:
    """Scores of a split as a whole, and of its images without a copy among those trained on; see `Measured`."""

    whole: LabelScores
    unseen: LabelScores | None
    unseen_count: int

    def accuracy(self) -> LabelFigures:
        if self.unseen is self.whole:
            return LabelFigures.of(self.whole)
        whole = LabelFigures.of(self.whole)
        return (
            LabelFigures(None, None, self.unseen_count, whole)
            if self.unseen is None
            else LabelFigures.of(self.unseen, whole)
        )


def measure_labels(
    probabilities: np.ndarray,
    matrix: np.ndarray,
    classes: tuple[str, ...],
    thresholds: np.ndarray,
    groups: np.ndarray | None,
    unseen: np.ndarray,
) -> MeasuredLabels:
    """Score all images, and those that are `unseen`, bool (n,)."""
    whole = score_labels(probabilities, matrix, classes, thresholds, groups)
    if unseen.all():
        return MeasuredLabels(whole, whole, whole.n)
    count = int(unseen.sum())
    if count < FEWEST_TO_MEASURE:
        return MeasuredLabels(whole, None, count)
    of_unseen = None if groups is None else groups[unseen]
    scores = score_labels(probabilities[unseen], matrix[unseen], classes, thresholds, of_unseen)
    return MeasuredLabels(whole, scores, count)
