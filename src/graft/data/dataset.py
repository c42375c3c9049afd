"""Labelled images as values: where their bytes are, their labels, and the splits they belong to."""

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

# The number of classes that the repr of a dataset names.
MOST_SHOWN = 4
TRAIN, VAL, TEST = "train", "val", "test"
# The name of the only split of a source that defines no splits.
WHOLE = "all"


class Source(Protocol):
    """A store of images, one implementation per storage format. Rows are numbered from zero in a fixed order."""

    def __len__(self) -> int: ...

    def name(self, row: int) -> str:
        """Return the name of the image: its path in the file system, or a file and a row."""
        ...

    def key(self, row: int) -> str:
        """Return the name of the image in lists: a path relative to the data, which survives moving the data."""
        ...

    def read(self, row: int) -> bytes | np.ndarray:
        """Return the encoded image, or its pixels as uint8 (H, W) or (H, W, C). Raises OSError."""
        ...

    def stamp(self, row: int) -> str:
        """Return a short text that changes with the image; to be cheap, it uses sizes and times, not content."""
        ...


@dataclass(frozen=True)
class Item:
    """One image: its name in messages, and its label or None."""

    name: str
    label: str | None


@dataclass(frozen=True, repr=False)
class Images:
    """Rows of a source, in order, each with a label: int64 (N,), an index into the classes, -1 for none.

    Where images have several labels, the label is an index into the `label_sets` of their dataset.

    Images with the same number in `groups`, int64 (N,), come from one patient, video or burst, which no split may
    divide; None puts each image in a group of its own. `weights`, float32 (N,), are the weights of the images in
    training; None weighs all the same. The last two fields are set once the images have been looked over. `digests`,
    uint64 (N, 2), are digests of their content, zero for an image that could not be decoded. Images with the same
    number in `copies`, int64 (N,), are copies of each other.
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
        """Return the name of an image in messages, written as `graft.names` specifies."""
        return plain(self.source.name(int(self.rows[index])))

    def key(self, index: int) -> str:
        """Return the name of an image in lists, written the same way."""
        return plain(self.source.key(int(self.rows[index])))

    def read(self, index: int) -> bytes | np.ndarray:
        return self.source.read(int(self.rows[index]))

    def stamps(self) -> Iterator[str]:
        return (self.source.stamp(int(row)) for row in self.rows)

    def take(self, indices: np.ndarray) -> "Images":
        """Return the images at `indices`, in that order."""
        columns = (self.groups, self.weights, self.digests, self.copies)
        taken = (None if column is None else column[indices] for column in columns)
        return Images(self.source, self.rows[indices], self.labels[indices], *taken)


def are_equal(weights: np.ndarray | None) -> bool:
    """Return whether images with these weights, (N,), all count the same, as they do without any."""
    return weights is None or not len(weights) or bool((weights == weights[0]).all())


class Several:
    """Several sources, concatenated."""

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
    """Concatenate the images of several parts."""
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
    """Concatenate one column of several parts; None unless all have it."""
    known = [column for column in columns if column is not None]
    return np.concatenate(known) if known and len(known) == len(columns) else None


def group_numbers(parts: Iterable[Images]) -> np.ndarray:
    """Return the group of each image of several parts, int64 (N,); an ungrouped image gets a group of its own."""
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

    `notes` are sentences to read before training. `left_out` maps the name of everything in the data but in no split
    to the reason. `open_dataset` writes all names as `graft.names` specifies.

    Where images may have several labels, `label_sets` holds the distinct sets of labels, each as indices into the
    classes, and the labels of images are indices into these sets. It is None where each image has one label.

    `group_names` are the names of the groups in the data, by group number. A group with an empty name, or with a number
    beyond the end, has no name outside this dataset.
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
        """Open the images at `path`, a folder per class or anything else that `graft train` takes, without decoding.

        `group` and `split_file` are those of `graft.DataOptions`. With `multi_label`, an image may have several labels,
        or none. Raises DataError for data that cannot be read.
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
        """Open the images listed in a table (CSV, TSV, JSON, spreadsheet, Parquet), one per row.

        `table` specifies what the table itself leaves open. With `multi_label`, an image may have several labels: in
        one cell, in columns of 0 and 1, or in one row per label. Raises DataError for anything but a table of images.
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
        groups: Any = None,
    ) -> "Dataset":
        """Make a dataset from images and their labels, each a text or a whole number.

        `images` is a list, an array (N, H, W) or (N, H, W, 3), or a tensor (N, 3, H, W). Each item of a list is a path,
        an address, the bytes of a file, an open file (which is read at once), a PIL image, an array (H, W), (H, W, 3)
        or (H, W, 4), or a tensor (3, H, W), of uint8 or of floats from 0 to 1. Images are not copied. A generator is
        consumed once, and a note says so. `name` is the name of the data in runs and reports.

        Where labels are whole numbers from 0 on, `classes` may name what they count, as the `classes` of a dataset of
        torch do. The classes of the dataset are in the order of their names all the same, as those of a folder are.

        With `multi_label`, the labels of an image are a list, which may be empty, or a row of a 0/1 matrix (N, C) whose
        columns `classes` names. `weights` (N,), of 0 or more, are the weights of the images in training. Images with
        the same text or number in `groups` (N,) come from one patient, video or burst, which no split or fold divides;
        None and NaN leave an image on its own. Raises DataError naming the first invalid image, label or weight.
        """
        from graft.data.handed_over import from_arrays

        return from_arrays(
            images, labels, name=name, multi_label=multi_label, classes=classes, weights=weights, groups=groups
        )

    @classmethod
    def from_frame(
        cls, frame: Any, path: str = "path", label: str | Sequence[str] = "label", **options: Any
    ) -> "Dataset":
        """Make a dataset from the rows of a data frame, from pandas or any library that looks columns up by name.

        `path` names the column of images (paths, or any kind that `from_arrays` takes) and `label` that of labels. The
        options `split`, `group` and `weight` name further columns. `root` is the folder that relative paths start from,
        by default the working directory, and `name` is the name of the data. Rows without a path, a file or a label
        are left out and listed by name. With `multi_label=True`, a label cell holds a list, or a text that names
        several labels, or `label` lists columns of 0 and 1. Raises DataError for a column that does not exist.
        """
        from graft.data.handed_over import from_frame

        return from_frame(frame, path, label, **options)

    @classmethod
    def from_torch(cls, dataset: Any, *, name: str | None = None) -> "Dataset":
        """Make a dataset from a torch or torchvision map-style dataset of (image, label) pairs.

        Its `classes`, if any, become the class names. All of it is read at once and kept in memory, with its transforms
        applied: leave out those that normalise or augment. Raises DataError for anything else.
        """
        from graft.data.handed_over import from_torch

        return from_torch(dataset, name=name)

    def without(self, findings: Iterable[Any], also: Iterable[str] = ()) -> "Dataset":
        """Return the dataset without the images that the findings of an audit of this dataset name.

        Unreadable images and surplus copies are dropped, as `graft audit --fix-list` does; `also` lists other kinds of
        finding to drop, for example `blurry` or `likely_wrong_label`. Notes say what was dropped, and which kinds were
        found and kept. Raises InputError for a kind that cannot be dropped.
        """
        from graft.data.cleaning import without_faults

        return without_faults(self, findings, also)

    def show(self, images: int = 12, split: str | None = None, seed: int = 0) -> Any:
        """Show images of each class in turn with their labels, drawn by `seed`, in a notebook; see `graft.html.Shown`.

        `split` names one of `splits`; by default, all are drawn from. Raises InputError for an unknown split.
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
        """Return the name of a number in `Images.labels`: a class, or the classes of a label set joined as in a|b."""
        if self.label_sets is None:
            return self.classes[label]
        return "|".join(self.classes[index] for index in self.label_sets[label])

    def group_name(self, group: int) -> str:
        """Return the name in the data of a number in `Images.groups`, or the number where it has none."""
        return (self.group_names[group] if group < len(self.group_names) else "") or str(group)

    def label_matrix(self, labels: np.ndarray) -> np.ndarray:
        """Return the classes that `labels`, int (N,), stand for, as a float32 matrix (N, C) of 0 and 1."""
        sets = [(index,) for index in range(len(self.classes))] if self.label_sets is None else self.label_sets
        table = np.zeros((len(sets) + 1, len(self.classes)), np.float32)
        for number, of_set in enumerate(sets):
            table[number, list(of_set)] = 1
        # The last row is the one that -1 indexes.
        return table[labels]

    def __len__(self) -> int:
        return sum(len(images) for images in self.splits.values())


def class_order(names: set[str]) -> tuple[str, ...]:
    """Sort class names in the order that all sources use: as numbers if all are whole numbers, otherwise as text."""
    numbers = all(name.isascii() and name.isdigit() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if numbers else 0, name)))


def counts(
    images: Images, classes: tuple[str, ...], label_sets: tuple[tuple[int, ...], ...] | None = None
) -> dict[str, int]:
    """Return the number of images of each class, by name, in the order of the classes."""
    sizes = np.bincount(images.labels[images.labels >= 0], minlength=len(label_sets or classes))
    if label_sets is not None:
        of_set, sizes = sizes, np.zeros(len(classes), np.int64)
        for number, of_classes in enumerate(label_sets):
            sizes[list(of_classes)] += of_set[number]
    return dict(zip(classes, sizes.tolist(), strict=True))


def used_classes(dataset: Dataset, parts: Iterable[Images]) -> set[int]:
    """Return the indices of the classes that occur in `parts`."""
    labels = {int(label) for images in parts for label in np.unique(images.labels) if label >= 0}
    return labels if dataset.label_sets is None else {each for label in labels for each in dataset.label_sets[label]}


def relabel(dataset: Dataset, classes: tuple[str, ...]) -> Dataset:
    """Return the same images with labels that index `classes`, matched by name.

    Raises DataError if a class that has images is not in `classes`.
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
    # The last entry is the one that -1 indexes: an image without a label stays without one.
    table = np.array([*(known.get(name, -1) for name in dataset.classes), -1], dtype=np.int64)
    splits = {name: replace(images, labels=table[images.labels]) for name, images in dataset.splits.items()}
    return replace(dataset, classes=classes, splits=splits)


def _some(names: tuple[str, ...] | list[str], most: int = 6) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown}, … ({len(names)} in all)"
