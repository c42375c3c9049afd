"""Scores of a classifier: accuracy with its interval, every class, the ranking, and how good its probabilities are.

The functions work on plain arrays.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graft.evaluation.intervals import (
    Interval,
    accuracy_interval,
    bootstrap_interval,
    effective_count,
    f1_interval,
    interval_in_words,
    mean_interval,
    sums_by_kind,
    wilson_interval,
)
from graft.evaluation.ranking import areas, roc_area_interval, top_accuracy
from graft.evaluation.reliability import (
    Brier,
    Reliability,
    brier_of_classes,
    expected_calibration_error,
    reliability,
)

# With this many classes or fewer, the label is always among five answers.
NO_TOP5_UP_TO = 5
# With more probabilities than this, neither areas nor the parts of the Brier score are computed, as they sort all
# images for every class.
MOST_TO_SORT = 50_000_000


@dataclass(frozen=True)
class ClassScore:
    """The scores of one class: its support `n`, recall, precision and F1; None for a ratio over zero images.

    `specificity` is the share of the images of other classes that are not predicted as this one. `roc_area` and
    `average_precision` rank the class's probability against all other classes. All but `average_precision` have a 95 %
    interval.
    """

    name: str
    n: int
    recall: float | None
    precision: float | None
    f1: float | None = None
    recall_ci95: Interval | None = None
    precision_ci95: Interval | None = None
    f1_ci95: Interval | None = None
    roc_area: float | None = None
    average_precision: float | None = None
    specificity: float | None = None
    specificity_ci95: Interval | None = None
    roc_area_ci95: Interval | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "n": self.n,
            "recall": self.recall,
            "specificity": self.specificity,
            "specificity_ci95": self.specificity_ci95 and list(self.specificity_ci95),
            "precision": self.precision,
            "f1": self.f1,
            "recall_ci95": self.recall_ci95 and list(self.recall_ci95),
            "precision_ci95": self.precision_ci95 and list(self.precision_ci95),
            "f1_ci95": self.f1_ci95 and list(self.f1_ci95),
            "roc_area": self.roc_area,
            "roc_area_ci95": self.roc_area_ci95 and list(self.roc_area_ci95),
            "average_precision": self.average_precision,
        }


@dataclass(frozen=True)
class Means:
    """Recall, precision and F1 averaged over the classes that have images; without predictions, precision is 0."""

    recall: float
    precision: float
    f1: float

    def to_dict(self) -> dict[str, float]:
        return {"recall": self.recall, "precision": self.precision, "f1": self.f1}


@dataclass(frozen=True)
class Scores:
    """How well `n` labelled images were classified.

    `top1_ci95` is Wilson's interval; for images in groups, it is that of as many independent ones as they are worth.
    `majority` is the baseline: the accuracy of always answering the majority class. `confusion` counts images, int
    (classes, classes), with a row for each label and a column for each prediction. `top5` is None with five classes or
    fewer. `macro` counts every class the same and `weighted` every image; the recall of `macro` is the balanced
    accuracy. `roc_area` and `average_precision` are means over the classes. `groups` is the number of groups and
    `worth` the number of independent images that the images are worth; both are None without groups.
    """

    n: int
    top1: float
    top1_ci95: Interval
    log_loss: float
    majority: float
    calibration_error: float
    classes: tuple[ClassScore, ...]
    confusion: np.ndarray
    top5: float | None
    macro: Means
    weighted: Means
    balanced_accuracy_ci95: Interval
    macro_f1_ci95: Interval
    roc_area: float | None
    average_precision: float | None
    brier: Brier | None
    reliability: Reliability
    groups: int | None = None
    worth: float | None = None

    @property
    def interval(self) -> str:
        """The interval of `top1` in words, with the number of groups."""
        return interval_in_words(self.top1_ci95, self.n, self.groups)

    @property
    def balanced_accuracy(self) -> float:
        return self.macro.recall

    def __repr__(self) -> str:
        low, high = self.top1_ci95
        return f"Scores(top1={self.top1:.3f} ({low:.3f} to {high:.3f}), n={self.n}, classes={len(self.classes)})"

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as `--json` prints them, with the confusion matrix as lists."""
        return {
            "top1": self.top1,
            "top1_ci95": list(self.top1_ci95),
            "n": self.n,
            "groups": self.groups,
            "top5": self.top5,
            "balanced_accuracy": self.balanced_accuracy,
            "balanced_accuracy_ci95": list(self.balanced_accuracy_ci95),
            "macro": self.macro.to_dict(),
            "macro_f1_ci95": list(self.macro_f1_ci95),
            "weighted": self.weighted.to_dict(),
            "roc_area": self.roc_area,
            "average_precision": self.average_precision,
            "log_loss": self.log_loss,
            "brier": self.brier and self.brier.to_dict(),
            "calibration_error": self.calibration_error,
            "reliability": self.reliability.to_dict(),
            "classes": [row.to_dict() for row in self.classes],
            "confusion": self.confusion.tolist(),
        }


def score(
    probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], groups: np.ndarray | None = None
) -> Scores:
    """Score `probabilities` (N, classes), whose rows sum to one, against `labels` int (N,); N is one or more.

    Images of one group, int (N,), like those of one patient, are not independent: all intervals take them together.
    Raises ValueError for other shapes.
    """
    count, number = len(labels), len(classes)
    if not count or probabilities.shape != (count, number):
        raise ValueError(f"expected ({count}, {number}) probabilities with N above zero, got {probabilities.shape}")
    probabilities = probabilities.astype(np.float64)
    answers = probabilities.argmax(1)
    confusion = np.zeros((number, number), dtype=np.int64)
    np.add.at(confusion, (labels, answers), 1)
    right = answers == labels
    of_label = probabilities[np.arange(count), labels]
    if groups is not None and len(np.unique(groups)) == count:
        groups = None
    sortable = count * number <= MOST_TO_SORT
    ranks = [
        areas(column, labels == index) if sortable else (None, None) for index, column in enumerate(probabilities.T)
    ]
    rows = tuple(_class_score(name, confusion, index, *ranks[index]) for index, name in enumerate(classes))
    if groups is not None:
        rows = tuple(_over_groups(rows, labels, answers, groups, sortable))
    rows = tuple(
        row
        if row.roc_area is None
        else replace(row, roc_area_ci95=roc_area_interval(row.roc_area, column, labels == index, groups))
        for index, (row, column) in enumerate(zip(rows, probabilities.T, strict=True))
    )
    balanced, macro_f1 = _intervals_of_means(labels, answers, rows, groups)
    return Scores(
        n=count,
        top1=float(right.mean()),
        top1_ci95=accuracy_interval(right, groups),
        log_loss=float(-np.log(np.clip(of_label, 1e-12, 1.0)).mean()),
        majority=float(confusion.sum(1).max() / count),
        calibration_error=expected_calibration_error(probabilities, labels),
        classes=rows,
        confusion=confusion,
        top5=top_accuracy(5, probabilities, labels) if number > NO_TOP5_UP_TO else None,
        macro=_means(rows, np.array([float(row.n > 0) for row in rows])),
        weighted=_means(rows, np.array([float(row.n) for row in rows])),
        balanced_accuracy_ci95=balanced,
        macro_f1_ci95=macro_f1,
        roc_area=_mean([row.roc_area for row in rows]),
        average_precision=_mean([row.average_precision for row in rows]),
        brier=brier_of_classes(probabilities, labels) if sortable else None,
        reliability=reliability(probabilities.max(1), right),
        groups=None if groups is None else len(np.unique(groups)),
        worth=None if groups is None else effective_count(right, groups),
    )


def _class_score(
    name: str, confusion: np.ndarray, index: int, roc_area: float | None, average_precision: float | None
) -> ClassScore:
    both = int(confusion[index, index])
    of_class, called = int(confusion[index].sum()), int(confusion[:, index].sum())
    either, others = of_class + called - both, int(confusion.sum()) - of_class
    return ClassScore(
        name,
        n=of_class,
        recall=_ratio(both, of_class),
        precision=_ratio(both, called),
        f1=_ratio(2 * both, of_class + called),
        recall_ci95=wilson_interval(both, of_class) if of_class else None,
        precision_ci95=wilson_interval(both, called) if called else None,
        f1_ci95=f1_interval(both, either) if either else None,
        roc_area=roc_area,
        average_precision=average_precision,
        specificity=_ratio(others - (called - both), others),
        specificity_ci95=wilson_interval(others - (called - both), others) if others else None,
    )


def _over_groups(
    rows: tuple[ClassScore, ...], labels: np.ndarray, answers: np.ndarray, groups: np.ndarray, with_specificity: bool
) -> Iterator[ClassScore]:
    """Yield the scores of the classes with intervals over groups.

    That of specificity sorts the images of all other classes, which takes too long with many of both.
    """
    # Sorted once: with a thousand classes, a mask for each would take longer than scoring.
    of_class, called = (_places(found, len(rows)) for found in (labels, answers))
    for number, (row, own, same) in enumerate(zip(rows, of_class, called, strict=True)):
        others = np.flatnonzero(labels != number) if with_specificity else np.empty(0, np.int64)
        either = np.union1d(own, same)
        right = labels[either] == answers[either]
        worth = effective_count(right, groups[either]) if len(either) else 0.0
        yield replace(
            row,
            recall_ci95=accuracy_interval(labels[own] == answers[own], groups[own]) if len(own) else None,
            precision_ci95=accuracy_interval(labels[same] == answers[same], groups[same]) if len(same) else None,
            f1_ci95=f1_interval(float(right.mean()) * worth, worth) if len(either) else None,
            specificity_ci95=accuracy_interval(answers[others] != number, groups[others]) if len(others) else None,
        )


def _places(classes: np.ndarray, number: int) -> list[np.ndarray]:
    """Return where each of so many classes is among int (N,)."""
    return np.split(np.argsort(classes, kind="stable"), np.cumsum(np.bincount(classes, minlength=number))[:-1])


def _means(rows: tuple[ClassScore, ...], weights: np.ndarray) -> Means:
    def mean(values: list[float | None]) -> float:
        return float(np.average([value or 0.0 for value in values], weights=weights))

    return Means(
        mean([row.recall for row in rows]), mean([row.precision for row in rows]), mean([row.f1 for row in rows])
    )


def _intervals_of_means(
    labels: np.ndarray, answers: np.ndarray, rows: tuple[ClassScore, ...], groups: np.ndarray | None
) -> tuple[Interval, Interval]:
    """Return the intervals of balanced accuracy and macro F1.

    Recalls of independent images are independent, so their intervals are joined; everything else is resampled. A
    bootstrap cannot know errors that were not seen: if all answers are correct, macro F1 takes the interval of recall,
    and for images in groups both take that of accuracy.
    """
    balanced, macro_f1 = bootstrap_interval(_resampled_means(labels, answers, len(rows)), len(labels), groups)
    if groups is None:
        of_class = np.bincount(labels, minlength=len(rows))
        both = np.bincount(labels[labels == answers], minlength=len(rows))
        balanced = mean_interval(both[of_class > 0].tolist(), of_class[of_class > 0].tolist())
        return balanced, balanced if macro_f1[0] == macro_f1[1] else macro_f1
    of_all = accuracy_interval(labels == answers, groups)
    either = [of_all if low == high else (low, high) for low, high in (balanced, macro_f1)]
    return either[0], either[1]


def _resampled_means(labels: np.ndarray, answers: np.ndarray, number: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a bootstrap statistic: balanced accuracy and macro F1 of images weighted by how often they were drawn."""
    right = labels == answers

    def statistic(drawn: np.ndarray) -> np.ndarray:
        both = sums_by_kind(drawn[:, right], labels[right], number)
        of_class, called = sums_by_kind(drawn, labels, number), sums_by_kind(drawn, answers, number)
        present = of_class > 0
        recall, f1 = both / np.where(present, of_class, 1), 2 * both / np.where(present, of_class + called, 1)
        return np.stack([np.mean(each, 1, where=present) for each in (recall, f1)], 1)

    return statistic


def _mean(values: list[float | None]) -> float | None:
    """Return the mean over the classes that have a value; of two classes, both have the same area under the curve."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _ratio(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
