"""Scores of a classifier that gives an image several labels: the ranking of images by each, and answers at thresholds.

The functions work on plain arrays. Average precision needs no threshold and F1 needs one; neither needs the
probabilities of an image to sum to one, which they do not.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.evaluation.intervals import Interval, accuracy_interval, interval_in_words
from graft.evaluation.label_interval import mean_average_precision_interval
from graft.evaluation.ranking import average_precision

# A threshold is chosen on at least the first number of images with the label; with fewer, it is the second.
FEWEST_TO_CHOOSE_BY, USUAL_THRESHOLD = 3, 0.5


@dataclass(frozen=True)
class LabelScore:
    """The scores of one label: its support `n`, and recall, precision and F1 of answers from `threshold` on.

    Ratios over zero images are None. `average_precision` is None for a label that none or all of the images have;
    `baseline` is what a random order gets on average, the share of images that have the label.
    """

    name: str
    n: int
    threshold: float
    baseline: float
    average_precision: float | None
    recall: float | None
    precision: float | None
    f1: float | None
    recall_ci95: Interval | None = None
    precision_ci95: Interval | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "n": self.n,
            "threshold": self.threshold,
            "average_precision": self.average_precision,
            "baseline": self.baseline,
            "recall": self.recall,
            "recall_ci95": self.recall_ci95 and list(self.recall_ci95),
            "precision": self.precision,
            "precision_ci95": self.precision_ci95 and list(self.precision_ci95),
            "f1": self.f1,
        }


@dataclass(frozen=True)
class LabelScores:
    """How well `n` images were given their labels.

    `mean_average_precision` is over the labels that some of the images have and others do not, and `baseline` is that
    of a random order; its interval is by whole groups. With few images to a label the figure is too high, and the
    interval reaches further down than up (see `mean_average_precision_interval`). `micro_f1` counts every label of
    every image, and `macro_f1` is the mean over the labels that any image has. `exact` is the share of images with all
    labels correct, and `majority` the share of images with the most frequent set of labels.
    """

    n: int
    mean_average_precision: float | None
    mean_average_precision_ci95: Interval | None
    baseline: float | None
    micro_f1: float
    macro_f1: float
    exact: float
    majority: float
    classes: tuple[LabelScore, ...]
    groups: int | None = None

    @property
    def interval(self) -> str:
        """The interval of `mean_average_precision` in words, with the number of groups; empty if there is none."""
        ends = self.mean_average_precision_ci95
        return "" if ends is None else interval_in_words(ends, self.n, self.groups)

    def __repr__(self) -> str:
        figure = None if self.mean_average_precision is None else round(self.mean_average_precision, 3)
        return f"LabelScores(mean_average_precision={figure}, n={self.n}, classes={len(self.classes)})"

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as `--json` prints them."""
        interval = self.mean_average_precision_ci95
        return {
            "mean_average_precision": self.mean_average_precision,
            "mean_average_precision_ci95": interval and list(interval),
            "micro_f1": self.micro_f1,
            "macro_f1": self.macro_f1,
            "exact": self.exact,
            "n": self.n,
            "groups": self.groups,
            "classes": [row.to_dict() for row in self.classes],
        }


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return the probability of each label on its own, float64 (N, C), from logits (N, C)."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64))))


def mean_average_precision(figures: np.ndarray, matrix: np.ndarray) -> float | None:
    """Return the mean average precision of `figures` (N, C), like logits, for `matrix` (N, C) of 0 and 1.

    Labels that none or all of the images have do not count; None if there are no others.
    """
    found = [average_precision(figures[:, column], matrix[:, column] > 0) for column in _varied(matrix)]
    return float(np.mean([value or 0.0 for value in found])) if found else None


def best_thresholds(probabilities: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return the threshold of each label, float64 (C,), from which on its F1 is highest on these images.

    It lies halfway to the next lower probability; of equally good ones the highest is taken. It is 0.5 for a label that
    fewer than three of the images have, or that all have.
    """
    thresholds = np.full(matrix.shape[1], USUAL_THRESHOLD)
    for label in _varied(matrix):
        positive = matrix[:, label] > 0
        if positive.sum() < FEWEST_TO_CHOOSE_BY:
            continue
        order = np.argsort(-probabilities[:, label], kind="stable")
        ranked = probabilities[order, label]
        hits = np.cumsum(positive[order])
        ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
        best = ends[int(np.argmax(2 * hits[ends] / (ends + 1 + hits[-1])))]
        lower = ranked[best + 1] if best + 1 < len(ranked) else 0.0
        thresholds[label] = (ranked[best] + lower) / 2
    return thresholds


def score_labels(
    probabilities: np.ndarray,
    matrix: np.ndarray,
    classes: tuple[str, ...],
    thresholds: np.ndarray,
    groups: np.ndarray | None = None,
) -> LabelScores:
    """Score `probabilities` (N, C) of labels against `matrix` (N, C) of 0 and 1; N is one or more.

    A label is answered from its threshold, `thresholds` (C,), on. Images of one group, int (N,), count together
    for the interval. Raises ValueError for other shapes.
    """
    count, number = len(matrix), len(classes)
    if not count or probabilities.shape != (count, number) or matrix.shape != (count, number):
        raise ValueError(f"expected ({count}, {number}) probabilities and labels, got {probabilities.shape}")
    actual, answered = matrix > 0, probabilities >= thresholds
    rows = tuple(
        _score_of(name, probabilities[:, index], actual[:, index], answered[:, index], float(thresholds[index]), groups)
        for index, name in enumerate(classes)
    )
    varied = _varied(matrix)
    interval = None
    if len(varied):
        interval = mean_average_precision_interval(probabilities[:, varied], actual[:, varied], groups)
    both = int((actual & answered).sum())
    _, sizes = np.unique(actual, axis=0, return_counts=True)
    return LabelScores(
        n=count,
        mean_average_precision=mean_average_precision(probabilities, matrix),
        mean_average_precision_ci95=interval,
        baseline=float(actual[:, varied].mean(0).mean()) if len(varied) else None,
        micro_f1=2 * both / max(1, int(actual.sum() + answered.sum())),
        macro_f1=float(np.mean([row.f1 or 0.0 for row in rows if row.n] or [0.0])),
        exact=float((actual == answered).all(1).mean()),
        majority=float(sizes.max() / count),
        classes=rows,
        groups=None if groups is None else len(np.unique(groups)),
    )


def _varied(matrix: np.ndarray) -> np.ndarray:
    """Return the labels that some images have and others do not, int (c,)."""
    share = (matrix > 0).sum(0) / max(len(matrix), 1)
    return np.flatnonzero((share > 0) & (share < 1))


def _score_of(
    name: str,
    figures: np.ndarray,
    actual: np.ndarray,
    answered: np.ndarray,
    threshold: float,
    groups: np.ndarray | None,
) -> LabelScore:
    def interval(right: np.ndarray, among: np.ndarray) -> Interval:
        return accuracy_interval(right[among], None if groups is None else groups[among])

    both, of_label, called = int((actual & answered).sum()), int(actual.sum()), int(answered.sum())
    return LabelScore(
        name,
        of_label,
        threshold,
        float(actual.mean()),
        average_precision(figures, actual) if 0 < of_label < len(actual) else None,
        both / of_label if of_label else None,
        both / called if called else None,
        2 * both / (of_label + called) if of_label + called else None,
        interval(answered, actual) if of_label else None,
        interval(actual, answered) if called else None,
    )
