"""Labelled pictures as values: where the bytes are, which label each has, which split it belongs to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from graft.errors import DataError

TRAIN, VAL, TEST = "train", "val", "test"
# A source that names no splits has one, called so.
WHOLE = "all"


class Source(Protocol):
    """Where pictures are kept; one per storage format. Rows are numbered from zero in a fixed order."""

    def __len__(self) -> int: ...

    def name(self, row: int) -> str:
        """What a message calls this picture: a path, or a file and a row."""
        ...

    def read(self, row: int) -> bytes | np.ndarray:
        """The encoded picture, or its pixels as uint8 (H, W) or (H, W, C). Raises OSError."""
        ...

    def stamp(self, row: int) -> str:
        """A short text that changes when the picture does; cheap, so taken from sizes and times, not from content."""
        ...


@dataclass(frozen=True)
class Item:
    """One picture: its name in messages and its class, None where it has none."""

    name: str
    label: str | None


@dataclass(frozen=True)
class Pictures:
    """Some rows of a source, in order, with a label for each: int64 (N,), an index into the classes, -1 for none."""

    source: Source
    rows: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        return self.source.name(int(self.rows[index]))

    def read(self, index: int) -> bytes | np.ndarray:
        return self.source.read(int(self.rows[index]))

    def stamps(self) -> Iterator[str]:
        return (self.source.stamp(int(row)) for row in self.rows)

    def take(self, indices: np.ndarray) -> "Pictures":
        """The pictures at `indices`, in that order."""
        return Pictures(self.source, self.rows[indices], self.labels[indices])


@dataclass(frozen=True)
class Dataset:
    """Classes by name and pictures by split; `notes` are sentences that a user should read before training."""

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Pictures]
    notes: tuple[str, ...] = field(default=())

    def item(self, split: str, index: int) -> Item:
        label = int(self.splits[split].labels[index])
        return Item(self.splits[split].name(index), self.classes[label] if label >= 0 else None)

    def __len__(self) -> int:
        return sum(len(pictures) for pictures in self.splits.values())


def counts(pictures: Pictures, classes: tuple[str, ...]) -> dict[str, int]:
    """Pictures per class, by name, in the order of the classes."""
    labels = pictures.labels[pictures.labels >= 0]
    return dict(zip(classes, np.bincount(labels, minlength=len(classes)).tolist(), strict=True))


def relabel(dataset: Dataset, classes: tuple[str, ...]) -> Dataset:
    """The same pictures with labels counted in `classes`, matched by name.

    Raises DataError when a class that has pictures is not among them.
    """
    known = {name: index for index, name in enumerate(classes)}
    used = {int(label) for pictures in dataset.splits.values() for label in np.unique(pictures.labels) if label >= 0}
    strangers = [dataset.classes[label] for label in sorted(used) if dataset.classes[label] not in known]
    if strangers:
        raise DataError(
            f"expected pictures of the {len(classes)} classes {_some(classes)}; {dataset.name} has {_some(strangers)} "
            "as well: rename the class, leave it out, or train on it"
        )
    # One more at the end, which -1 counts to: a picture without a label stays without.
    table = np.array([*(known.get(name, -1) for name in dataset.classes), -1], dtype=np.int64)
    splits = {name: replace(pictures, labels=table[pictures.labels]) for name, pictures in dataset.splits.items()}
    return Dataset(dataset.name, classes, splits, dataset.notes)


def _some(names: tuple[str, ...] | list[str], most: int = 6) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown}, … ({len(names)} in all)"
