"""Several labels per image: parse a cell into the set of its classes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from unicodedata import normalize

import numpy as np

from graft.data.dataset import Dataset, class_order
from graft.data.readers.several_labels import SEVERAL_ROWS, listed, separator_of
from graft.errors import DataError
from graft.words import counted


def with_label_sets(dataset: Dataset) -> Dataset:
    """Parse the classes of a dataset, as read, into sets of labels: JSON or Python lists, or texts with a separator.

    Notes say how texts were split, how many images have no label, and if no image has more than one. Raises DataError
    if no image has a label.
    """
    found = [_parts(normalize("NFC", word)) for word in dataset.classes]
    separator = separator_of([text for _, of_texts in found for text in of_texts])
    words = []
    for listed_ones, of_texts in found:
        split = [part for text in of_texts for part in (text.split(separator) if separator else [text])]
        words.append(dict.fromkeys(name for name in (part.strip() for part in (*listed_ones, *split)) if name))
    names = [name for each in words for name in each]
    if not names:
        raise DataError(f"expected images with a label in {dataset.name}, got none: write labels, or leave them out")
    # A class list that came with the data keeps its order.
    ordered = dataset.classes != class_order(set(dataset.classes)) and all(len(each) == 1 for each in words)
    classes = tuple(dict.fromkeys(names)) if ordered else class_order(set(names))
    place = {name: number for number, name in enumerate(classes)}
    sets = [tuple(sorted(place[name] for name in each)) for each in words]
    distinct = tuple(dict.fromkeys(sets))
    number = {of_set: index for index, of_set in enumerate(distinct)}
    # The last entry is the one that -1 indexes: an image whose labels are unknown stays that way.
    table = np.array([*(number[of_set] for of_set in sets), -1], np.int64)
    splits = {name: replace(images, labels=table[images.labels]) for name, images in dataset.splits.items()}
    notes = [*dataset.notes]
    if separator:
        notes.append(f"labels are split at {separator!r} where a cell has several")
    if () in number:
        without = sum(int((images.labels == number[()]).sum()) for images in splits.values())
        notes.append(f"{counted(without, 'image has', 'images have')} no label: an example of none of the classes")
    if max(map(len, distinct)) == 1:
        notes.append("no image has more than one label: train such data without --multi-label")
    return replace(dataset, classes=classes, splits=splits, notes=tuple(notes), label_sets=distinct)


def _parts(word: str) -> tuple[list[str], list[str]]:
    """Return the labels that a cell lists, and the texts that may each hold several labels."""
    if word.startswith(SEVERAL_ROWS):
        parts = [_parts(each) for each in json.loads(word.removeprefix(SEVERAL_ROWS))]
        return [name for names, _ in parts for name in names], [text for _, texts in parts for text in texts]
    names = listed(word)
    return ([], [word]) if names is None else (names, [])


def as_cell(labels: Iterable[object]) -> str:
    """Write the labels of an image as a table cell."""
    return json.dumps([str(label) for label in labels], ensure_ascii=False)
