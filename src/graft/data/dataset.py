"""Labelled images as values: where their bytes are, which labels they have, which splits they belong to."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from graft.errors import DataError
from graft.names import plain
from graft.words import counted

if TYPE_CHECKING:
    from graft.data.table_options import TableOptions

# Classes that a dataset names where it is printed.
MOST_SHOWN = 4
TRAIN, VAL, TEST = "train", "val", "test"
# The name of the only split of a source that names none.
WHOLE = "all"


class Source(Protocol):
    """Where images are kept; one per storage format. Rows are numbered from zero in a fixed order."""

    def __len__(self) -> int: ...

    def name(self, row: int) -> str:
        """What the image is called: a path as the file system has it, or a file and a row."""
        ...

    def key(self, row: int) -> str:
        """What a list of images calls it: a path relative to the data, so that it stays when the data moves."""
        ...

    def read(self, row: int) -> bytes | np.ndarray:
        """The encoded image, or its pixels as uint8 (H, W) or (H, W, C). Raises OSError."""
        ...

    def stamp(self, row: int) -> str:
        """A short text that changes when the image does; it is cheap, so made of sizes and times, not of content."""
        ...


@dataclass(frozen=True)
class Item:
    """One image: its name in messages, and its class or None."""

    name: str
    label: str | None


@dataclass(frozen=True, repr=False)
class Images:
    """Some rows of a source, in order, with a label for each: int64 (N,), an index into the classes, -1 for none.

    Where images have several labels, it is an index into the `label_sets` of their dataset.

    Images with the same number in `groups`, int64 (N,), belong to one patient, video or burst, which no split may
    divide; with None, each image is on its own. `weights`, float32 (N,), say how much each image counts in training;
    with None, all count the same. Once the images have been looked over, `digests`, uint64 (N, 2), are those of their
    content, zero for an image that could not be decoded, and images with the same number in `copies`, int64 (N,), show
    the same.
    """

    source: Source
    rows: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None
    weights: np.ndarray | None = None
    digests: np.ndarray | None = None
    copies: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"Images({len(self):,} of {type(self.source).__name__})"

    def name(self, index: int) -> str:
        """What messages call an image, written as `graft.names` says."""
        return plain(self.source.name(int(self.rows[index])))

    def key(self, index: int) -> str:
        """What lists of images call it, written likewise."""
        return plain(self.source.key(int(self.rows[index])))

    def read(self, index: int) -> bytes | np.ndarray:
        return self.source.read(int(self.rows[index]))

    def stamps(self) -> Iterator[str]:
        return (self.source.stamp(int(row)) for row in self.rows)

    def take(self, indices: np.ndarray) -> "Images":
        """The images at `indices`, in that order."""
        columns = (self.groups, self.weights, self.digests, self.copies)
        taken = (None if column is None else column[indices] for column in columns)
        return Images(self.source, self.rows[indices], self.labels[indices], *taken)


class Several:
    """Several sources as one, one after the other."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = sources
        self.starts = np.cumsum([0, *map(len, sources)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def at(self, row: int) -> tuple[Source, int]:
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.sources[number], row - int(self.starts[number])

    def name(self, row: int) -> str:
        source, own = self.at(row)
        return source.name(own)

    def key(self, row: int) -> str:
        source, own = self.at(row)
        return source.key(own)

    def read(self, row: int) -> bytes | np.ndarray:
        source, own = self.at(row)
        return source.read(own)

    def stamp(self, row: int) -> str:
        source, own = self.at(row)
        return source.stamp(own)


def together(parts: Iterable[Images]) -> Images:
    """All images of several parts as one, in order."""
    parts = list(parts)
    sources = list({id(part.source): part.source for part in parts}.values())
    whole = sources[0] if len(sources) == 1 else Several(sources)
    start = dict(zip(map(id, sources), np.cumsum([0, *map(len, sources)]).tolist(), strict=False))
    return Images(
        whole,
        np.concatenate([part.rows + start[id(part.source)] for part in parts]),
        np.concatenate([part.labels for part in parts]),
        group_numbers(parts) if any(part.groups is not None for part in parts) else None,
        np.concatenate([np.ones(len(part), np.float32) if part.weights is None else part.weights for part in parts])
        if any(part.weights is not None for part in parts)
        else None,
        _of_all([part.digests for part in parts]),
        _of_all([part.copies for part in parts]),
    )


def _of_all(columns: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """One column of several parts, if all have it."""
    known = [column for column in columns if column is not None]
    return np.concatenate(known) if known and len(known) == len(columns) else None


def group_numbers(parts: Iterable[Images]) -> np.ndarray:
    """The group of each image of several parts, int64 (N,); an image without one gets a group of its own."""
    parts = list(parts)
    following = max((int(part.groups.max()) + 1 for part in parts if part.groups is not None and len(part)), default=0)
    found = []
    for part in parts:
        found.append(np.arange(following, following + len(part)) if part.groups is None else part.groups)
        following += len(part) if part.groups is None else 0
    return np.concatenate(found)


@dataclass(frozen=True, repr=False)
class Dataset:
    """Classes by name and images by split.

    `notes` are sentences to read before training. `left_out` maps the names of what is in the data but in no split to
    the reason. From `open_dataset` on, all names are written as `graft.names` says.

    Where images have several labels each, `label_sets` are the different sets of them, each as indices into the
    classes, and the labels of images are indices into the sets; it is None where images have one label each.

    `group_names` are what the data call the groups of images, by number; one without a name, or beyond them, is known
    here alone.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Images]
    notes: tuple[str, ...] = field(default=())
    left_out: Mapping[str, str] = field(default_factory=dict)
    label_sets: tuple[tuple[int, ...], ...] | None = None
    group_names: tuple[str, ...] = ()

    @classmethod
    def from_folder(
        cls,
        path: str | Path,
        *,
        group: str | None = None,
        split_file: str | Path | None = None,
        multi_label: bool = False,
    ) -> "Dataset":
        """The images at `path`, a folder per class or anything else that `graft train` takes; nothing is decoded.

        `group` and `split_file` are those of `graft.DataOptions`. With `multi_label`, an image may have several labels,
        or none. Raises DataError for what cannot be read.
        """
        from graft.data.opening import open_dataset
        from graft.data.table_options import TableOptions

        return open_dataset(path, group, split_file, TableOptions(multi_label=multi_label))

    @classmethod
    def from_table(
        cls,
        path: str | Path,
        table: "TableOptions | None" = None,
        *,
        group: str | None = None,
        split_file: str | Path | None = None,
        multi_label: bool = False,
    ) -> "Dataset":
        """The images that a table names (CSV, TSV, JSON, spreadsheets, Parquet), a row for each.

        `table` says what its columns do not say themselves. With `multi_label`, an image may have several labels: in
        a cell, in columns of 0 and 1, or in a row for each. Raises DataError for what is no table of images.
        """
        from graft.data.opening import open_dataset
        from graft.data.table_options import TableOptions

        table = TableOptions() if table is None else table
        return open_dataset(path, group, split_file, replace(table, multi_label=multi_label or table.multi_label))

    @classmethod
    def from_arrays(
        cls,
        images: Any,
        labels: Any,
        *,
        name: str = "images",
        multi_label: bool = False,
        classes: Sequence[str] | None = None,
        weights: Any = None,
    ) -> "Dataset":
        """Images and a label, text or whole number, for each.

        `images` is a list or an array (N, H, W), (N, H, W, 3), or a tensor (N, 3, H, W); in a list each is a path, an
        address, the bytes of a file, an open file (which is read at once), an image of PIL, an array (H, W),
        (H, W, 3) or (H, W, 4), or a tensor (3, H, W), of uint8 or of floats from 0 to 1. They are not copied. A
        generator is gone through once, as a note says. `name` is what runs and pages call the data.

        With `multi_label`, the labels of an image are a list of them, which may be empty, or a row of a matrix (N, C)
        of 0 and 1, whose columns `classes` names. `weights` (N,), of 0 or more, say how much each image counts in
        training. Raises DataError that names the first image, label or weight that cannot be one.
        """
        from graft.data.handed_over import from_arrays

        return from_arrays(images, labels, name=name, multi_label=multi_label, classes=classes, weights=weights)

    @classmethod
    def from_frame(
        cls, frame: Any, path: str = "path", label: str | Sequence[str] = "label", **options: Any
    ) -> "Dataset":
        """The rows of a data frame, of pandas or any other whose columns are found by name.

        `path` and `label` are its columns of images (paths, or any kind that `from_arrays` takes) and of labels. The
        options `split`, `group` and `weight` name further columns, `root` is the folder that paths start from, by
        default the working folder, and `name` what the data are called. Rows without a path, a file or a label are left
        out by name. With `multi_label=True`, a cell of labels holds a list of them or a text that names several, or
        `label` lists columns of 0 and 1. Raises DataError for a column that is not there.
        """
        from graft.data.handed_over import from_frame

        return from_frame(frame, path, label, **options)

    @classmethod
    def from_torch(cls, dataset: Any, *, name: str | None = None) -> "Dataset":
        """A dataset of torch or torchvision that gives (image, label) by number; its `classes`, if any, are the names.

        All of it is read at once and kept in memory, as its transforms give it: leave out those that normalise or
        augment. Raises DataError for anything else.
        """
        from graft.data.handed_over import from_torch

        return from_torch(dataset, name=name)

    def without(self, findings: Iterable[Any], also: Iterable[str] = ()) -> "Dataset":
        """The images without those that the findings of an audit of this dataset name.

        Dropped are what cannot be read and surplus copies, as `graft audit --fix-list` does; `also` are other kinds,
        such as `blurry` or `likely_wrong_label`. A note says what was dropped, and which kinds were found and kept.
        Raises InputError for a kind that cannot be dropped.
        """
        from graft.data.cleaning import without_faults

        return without_faults(self, findings, also)

    def show(self, images: int = 12, split: str | None = None, seed: int = 0) -> Any:
        """Some images of each class in turn with their labels, drawn by `seed`, for a notebook; see `graft.html.Shown`.

        `split` names one of `splits`; without it, all are drawn from. Raises InputError for one that there is not.
        """
        from graft.data.showing import show

        return show(self, images, split, seed)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self.classes[:MOST_SHOWN]))
        more = f" and {len(self.classes) - MOST_SHOWN:,} more" if len(self.classes) > MOST_SHOWN else ""
        sizes = ", ".join(f"{name} {len(images):,}" for name, images in self.splits.items())
        several = ", several labels each" if self.label_sets is not None else ""
        return (
            f"Dataset({self.name!r}, {counted(len(self), 'image')} ({sizes}){several}, "
            f"{counted(len(self.classes), 'class', 'classes')}: {shown}{more})"
        )

    def _repr_html_(self) -> str:
        html: str = self.show(6).html
        return html

    def item(self, split: str, index: int) -> Item:
        label = int(self.splits[split].labels[index])
        return Item(self.splits[split].name(index), self.label_name(label) if label >= 0 else None)

    def label_name(self, label: int) -> str:
        """What label number `label`, as in `Images.labels`, is called: a class, or the classes of a set, as in a|b."""
        if self.label_sets is None:
            return self.classes[label]
        return "|".join(self.classes[index] for index in self.label_sets[label])

    def label_matrix(self, labels: np.ndarray) -> np.ndarray:
        """Which classes the `labels`, int (N,), stand for, float32 (N, C) of 0 and 1."""
        sets = [(index,) for index in range(len(self.classes))] if self.label_sets is None else self.label_sets
        table = np.zeros((len(sets) + 1, len(self.classes)), np.float32)
        for number, of_set in enumerate(sets):
            table[number, list(of_set)] = 1
        # The last row is what -1 indexes.
        return table[labels]

    def __len__(self) -> int:
        return sum(len(images) for images in self.splits.values())


def class_order(names: set[str]) -> tuple[str, ...]:
    """Names of classes in the order that every source gives them: as numbers if all are whole numbers, else as text."""
    numbers = all(name.isascii() and name.isdigit() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if numbers else 0, name)))


def counts(
    images: Images, classes: tuple[str, ...], label_sets: tuple[tuple[int, ...], ...] | None = None
) -> dict[str, int]:
    """The number of images of each class, by name, in the order of the classes."""
    sizes = np.bincount(images.labels[images.labels >= 0], minlength=len(label_sets or classes))
    if label_sets is not None:
        of_set, sizes = sizes, np.zeros(len(classes), np.int64)
        for number, of_classes in enumerate(label_sets):
            sizes[list(of_classes)] += of_set[number]
    return dict(zip(classes, sizes.tolist(), strict=True))


def used_classes(dataset: Dataset, parts: Iterable[Images]) -> set[int]:
    """The classes that images of some parts have, as indices."""
    labels = {int(label) for images in parts for label in np.unique(images.labels) if label >= 0}
    return labels if dataset.label_sets is None else {each for label in labels for each in dataset.label_sets[label]}


def relabel(dataset: Dataset, classes: tuple[str, ...]) -> Dataset:
    """The same images with labels that index `classes`, matched by name.

    Raises DataError when a class that has images is not among them.
    """
    known = {name: index for index, name in enumerate(classes)}
    used = used_classes(dataset, dataset.splits.values())
    strangers = [dataset.classes[label] for label in sorted(used) if dataset.classes[label] not in known]
    if strangers:
        raise DataError(
            f"expected images of the {counted(len(classes), 'class', 'classes')} {_some(classes)}, got "
            f"{_some(strangers)} as well in {dataset.name}: rename the class, leave it out, or train on it"
        )
    if dataset.label_sets is not None:
        sets = tuple(
            tuple(sorted(known[dataset.classes[index]] for index in of_set if dataset.classes[index] in known))
            for of_set in dataset.label_sets
        )
        return replace(dataset, classes=classes, label_sets=sets)
    # The last entry is what -1 indexes: an image without a label stays without.
    table = np.array([*(known.get(name, -1) for name in dataset.classes), -1], dtype=np.int64)
    splits = {name: replace(images, labels=table[images.labels]) for name, images in dataset.splits.items()}
    return replace(dataset, classes=classes, splits=splits)


def _some(names: tuple[str, ...] | list[str], most: int = 6) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown}, … ({len(names)} in all)"
