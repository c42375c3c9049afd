"""A table of a classifier's answers to labelled images, to sort and filter."""

import csv
from typing import IO

import numpy as np

from graft.workflows.evaluation_values import Answered

COLUMNS = ("path", "label", "answer", "probability", "right", "trained_on", "error")


def write_answer_list(answered: Answered, file: IO[str]) -> None:
    """Write one row per image, in order, followed by those that could not be decoded, with the reason.

    `trained_on` says whether the classifier is known to have seen the image in training. With several labels per image,
    a cell joins them as `graft predict` does, `right` says whether both sets are equal, and there is no single
    probability. `file` is open with newline="".
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    classes, probabilities = answered.base.classes or (), answered.probabilities
    for row, seen in enumerate(answered.seen.tolist()):
        if answered.base.thresholds is not None:
            given = np.flatnonzero(probabilities[row] >= np.asarray(answered.base.thresholds))
            label, answer, probability = (
                _named(np.flatnonzero(answered.matrix[row]), classes),
                _named(given, classes),
                "",
            )
        else:
            best = int(probabilities[row].argmax())
            label, answer = classes[int(answered.images.labels[row])], classes[best]
            probability = f"{probabilities[row, best]:.6g}"
        right = str(label == answer).lower()
        writer.writerow([answered.images.name(row), label, answer, probability, right, str(seen).lower(), ""])
    for name, reason in answered.skipped.items():
        writer.writerow([name, "", "", "", "", "", reason])


def _named(labels: np.ndarray, classes: tuple[str, ...]) -> str:
    return "|".join(classes[label] for label in labels.tolist())
