"""A table of a classifier's answers to labelled images, to sort and filter."""

import csv
from typing import IO, Any

import numpy as np

from graft.workflows.evaluation_values import Answered

COLUMNS = ("path", "label", "answer", "probability", "right", "trained_on", "error")
# A classifier of more classes has no column for each.
MOST_CLASSES = 100
# With several labels per image, each has a column of its own after these.
COLUMNS_OF_SEVERAL = ("path", "label", "answer", "right", "trained_on", "error")


def write_answer_list(answered: Answered, file: IO[str]) -> None:
    """Write one row per image, in order, followed by those that could not be decoded, with the reason.

    `trained_on` says whether the classifier is known to have seen the image in training. With several labels per image,
    a cell joins them as `graft predict` does, and `right` says whether both sets are equal. A column for each label,
    called as the label is, or for each of at most MOST_CLASSES classes, has its probability. `file` is open with
    newline="".
    """
    classes = answered.base.classes or ()
    several = answered.base.thresholds is not None
    # A label may be called as one of the other columns is.
    own = [f"probability of {name}" if not several or name in COLUMNS_OF_SEVERAL else name for name in classes]
    if not several and len(classes) > MOST_CLASSES:
        own = []
    columns = [*(COLUMNS_OF_SEVERAL if several else COLUMNS), *own]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    for row, seen in enumerate(answered.seen.tolist()):
        told = _of_several(answered, row) if several else _of_one(answered, row)
        told |= {"path": answered.images.name(row), "trained_on": str(seen).lower()}
        told["right"] = str(told["label"] == told["answer"]).lower()
        writer.writerow([*(told.get(name, "") for name in columns[: len(columns) - len(own)]), *told.get("own", ())])
    for name, reason in answered.skipped.items():
        writer.writerow([{"path": name, "error": reason}.get(column, "") for column in columns])


def _of_one(answered: Answered, row: int) -> dict[str, Any]:
    classes, probabilities = answered.base.classes or (), answered.probabilities[row]
    best = int(probabilities.argmax())
    label = classes[int(answered.images.labels[row])]
    own = [f"{probability:.6g}" for probability in probabilities.tolist()] if len(classes) <= MOST_CLASSES else []
    return {"label": label, "answer": classes[best], "probability": f"{probabilities[best]:.6g}", "own": own}


def _of_several(answered: Answered, row: int) -> dict[str, Any]:
    classes, probabilities = answered.base.classes or (), answered.probabilities[row]
    given = np.flatnonzero(probabilities >= np.asarray(answered.base.thresholds))
    return {
        "label": _named(np.flatnonzero(answered.matrix[row]), classes),
        "answer": _named(given, classes),
        "own": [f"{probability:.6g}" for probability in probabilities.tolist()],
    }


def _named(labels: np.ndarray, classes: tuple[str, ...]) -> str:
    return "|".join(classes[label] for label in labels.tolist())
