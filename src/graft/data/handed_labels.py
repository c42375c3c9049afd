"""Labels passed in as Python values: one for each image, as text or as a place in a list of classes, or several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set, Sized
from contextlib import suppress
from typing import Any

import numpy as np

from graft.data.label_sets import as_cell
from graft.data.readers.several_labels import refuse_twice
from graft.errors import DataError
from graft.given import native
from graft.images.handed_over import is_tensor, named
from graft.words import first_few


def texts_of(labels: Any) -> list[str]:
    """Return the label of each image as text; bytes are decoded as UTF-8.

    Raises DataError for anything but a list of texts or whole numbers.
    """
    if is_tensor(labels):
        labels = labels.detach().cpu().numpy()
    if isinstance(labels, np.ndarray) and labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    unordered = str | bytes | Mapping | Set
    if isinstance(labels, unordered) or not isinstance(labels, Iterable) or getattr(labels, "ndim", 1) != 1:
        shape = getattr(labels, "shape", None)
        raise DataError(
            "expected a label for each image, as a list of strings or whole numbers, got "
            f"{named(labels)}{'' if shape is None else f' of shape {tuple(shape)}'}: give one label for each image"
        )
    labels = list(labels)
    texts = [_label(label, number) for number, label in enumerate(labels)]
    truths = [isinstance(native(label), bool) for label in labels]
    if len(set(truths)) > 1:
        # Python equates True with 1, so it is unknown whether they mean the same class.
        raise DataError(
            f"expected labels of one kind, got {texts[truths.index(True)]} and {texts[truths.index(False)]}: give all "
            "as booleans, as numbers or as strings"
        )
    return texts


def named_by(labels: Any, classes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the name of each label, a whole number that indexes `classes`, and notes on classes without images.

    Raises DataError for other labels, and for classes that are not distinct names.
    """
    if isinstance(classes, str | bytes) or not isinstance(classes, Iterable):
        raise DataError(f"expected the names of the classes as a list, got {named(classes)}: give one")
    names = texts_of(classes)
    refuse_twice(names, "classes")
    if isinstance(labels, Iterable) and not isinstance(labels, str | bytes | Sized):
        labels = list(labels)
    texts = texts_of(labels)
    for number, (text, label) in enumerate(zip(texts, labels, strict=True)):
        if isinstance(label, str | bytes):
            raise DataError(
                f"expected labels that index the classes, got {label!r} for image {number}: leave the classes out, as "
                "such labels are the names themselves"
            )
        if not text.isdigit() or int(text) >= len(names):
            raise DataError(
                f"expected labels from 0 to {len(names) - 1}, which index the classes, got {text} for image {number}: "
                "correct it, or name every class"
            )
    used = {int(text) for text in texts}
    without = [repr(name) for number, name in enumerate(names) if number not in used]
    notes = []
    if without:
        shown = first_few(without, 6)
        notes.append(f"no image is of {shown}, which the list of classes names: only classes that have images are used")
    return [names[int(text)] for text in texts], notes


def cells_of(labels: Any, classes: Sequence[str] | None) -> list[str]:
    """Return each image's labels as a table cell, from lists of labels or a 0/1 matrix (N, C) with columns `classes`.

    Raises DataError for anything else.
    """
    if is_tensor(labels):
        labels = labels.detach().cpu().numpy()
    if hasattr(labels, "to_numpy") and getattr(labels, "ndim", 1) == 2:
        classes = [str(name) for name in labels.columns] if classes is None else classes
        labels = labels.to_numpy()
    if isinstance(labels, np.ndarray) and labels.ndim == 2:
        names = [str(number) for number in range(labels.shape[1])] if classes is None else list(classes)
        if len(names) != labels.shape[1]:
            raise DataError(f"expected a class for each of {labels.shape[1]} columns, got {len(names)}: name each once")
        refuse_twice(names, "columns of labels")
        wrong = ~np.isin(labels, (0, 1))
        if wrong.any():
            row, column = np.argwhere(wrong)[0].tolist()
            raise DataError(
                f"expected 0 or 1 for each class of each image, got {labels[row, column]} for {names[column]!r} of "
                f"image {row}: correct it"
            )
        return [as_cell(names[column] for column in np.flatnonzero(row == 1)) for row in labels]
    if classes is not None:
        raise DataError("expected a matrix of 0 and 1 with classes, got lists of labels: leave the classes out")
    if isinstance(labels, str | bytes | Mapping | Set) or not isinstance(labels, Iterable):
        raise DataError(
            f"expected a list of labels for each image, or a matrix (N, C) of 0 and 1, got {named(labels)}: give one"
        )
    return [_cell(each, number) for number, each in enumerate(labels)]


def _cell(labels: Any, number: int) -> str:
    if is_tensor(labels) or isinstance(labels, np.ndarray):
        labels = labels.tolist()
    if labels is None or (isinstance(labels, float) and labels != labels) or labels == "":
        return as_cell(())
    if isinstance(labels, list | tuple | set | frozenset):
        found = sorted(labels, key=str) if isinstance(labels, set | frozenset) else labels
        return as_cell(_label(label, number) for label in found)
    return _label(labels, number)


def _label(label: Any, number: int) -> str:
    value = label.item() if hasattr(label, "item") and getattr(label, "ndim", 0) == 0 else label
    if isinstance(value, bytes):
        # HDF5 and NumPy arrays store text as bytes.
        with suppress(UnicodeDecodeError):
            value = value.decode()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str | int) and (text := str(value).strip()):
        return text
    if isinstance(value, list | tuple | Set):
        raise DataError(
            f"expected one label for image {number}, got {named(value)} of {len(value)}: give one, or for several "
            "graft.Dataset.from_arrays(images, labels, multi_label=True)"
        )
    raise DataError(
        f"expected a string or a whole number as the label of image {number}, got {label!r}: give it one, or leave "
        "the image out"
    )
