"""The rules for a tree of images, wherever it is kept: `ants/1.jpg`, or `train/ants/1.jpg` with a folder per split.

Every file counts as an image whatever its extension, since extensions lie; one that cannot be decoded is skipped and
named later. Files outside any class folder are left out by name.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.data.dataset import TEST, TRAIN, VAL, WHOLE, Dataset, Images, Source, class_order
from graft.errors import DataError
from graft.words import counted

if TYPE_CHECKING:
    import pyarrow

SPLIT_FOLDERS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VAL,
    "valid": VAL,
    "validation": VAL,
    "test": TEST,
    "testing": TEST,
}
# The two outermost folders of a path, empty if there is none.
_FOLDERS = r"(?s)^(?:(?P<outer>[^/]*)/)?(?:(?P<inner>[^/]*)/)?"


def split_in_name(name: str) -> str:
    """The split that a file is named after, by the first word that means one: `train-00000`, `flowers_val2`."""
    words = re.findall("[a-z]+", name.lower())
    return next((SPLIT_FOLDERS[word] for word in words if word in SPLIT_FOLDERS), WHOLE)


@dataclass(frozen=True)
class Listing:
    """What is in a tree: paths of files relative to its root, with `/`, as bytes (large_binary), in any order.

    `folders` are those at depth one and two, including empty ones, as tuples of one or two names. Hidden files and
    folders are not listed.
    """

    name: str
    files: pyarrow.LargeBinaryArray
    folders: frozenset[tuple[str, ...]]
    notes: tuple[str, ...] = ()


def arrange(listing: Listing, source: Source) -> Dataset:
    """A Dataset from a tree; rows of `source` are those of `listing`. Images are in the order of their paths.

    Raises DataError if no class holds a file.
    """
    import pyarrow.compute

    parts = pyarrow.compute.extract_regex(listing.files, pattern=_FOLDERS)
    outer, inner = (_Names.of(parts.field(index)) for index in (0, 1))
    splits, others = _split_folders(listing, outer)
    # The rows of each split, bool (N,), and the column of class names.
    if splits:
        label, within = inner, {split: outer.among([folder]) for folder, split in splits.items()}
    else:
        label, within = outer, {WHOLE: np.ones(len(listing.files), bool)}
    unlabelled = label.among([""])
    notes = [*listing.notes]
    left_out: dict[str, str] = {}
    for folder in others if splits else ():
        notes.append(f"{listing.name}: folder {folder!r} is no split and was left out")
        left_out |= _named(source, outer.among([folder]), f"folder {folder!r} is no split")
    for folder in ("", *splits):
        strays = outer.among([folder]) & unlabelled
        if strays.any():
            of_strays = _named(source, strays, "it is in no class folder")
            shown = ", ".join(Path(name).name for name in list(of_strays)[:3])
            notes.append(
                f"{listing.name}{'/' * bool(folder)}{folder}: "
                f"{counted(len(of_strays), 'file')} outside any class folder left out "
                f"({shown}{', …' if len(of_strays) > 3 else ''})"
            )
            left_out |= of_strays
    within = {split: rows & ~unlabelled for split, rows in within.items()}
    full = {(split, name) for split, rows in within.items() for name in label.used(rows)}
    notes += [
        f"{split if splits else listing.name}: class folder {name!r} is empty and was left out"
        for split, name in sorted(_class_folders(listing, splits) - full)
    ]
    classes = class_order({name for _, name in full})
    if not classes:
        raise DataError(
            f"expected a folder per class with images in it, got {_what_is_there(listing)}: "
            "put the images of each class in a folder named after it"
        )
    position = {name: number for number, name in enumerate(classes)}
    labels = np.array([position.get(name, -1) for name in label.names], dtype=np.int64)[label.numbers]
    order = pyarrow.compute.sort_indices(listing.files).to_numpy().astype(np.int64)
    chosen = {split: order[rows[order]] for split, rows in within.items()}
    images = {split: Images(source, rows, labels[rows]) for split, rows in chosen.items()}
    return Dataset(listing.name, classes, images, tuple(notes), left_out)


def _split_folders(listing: Listing, outer: _Names) -> tuple[dict[str, str], list[str]]:
    """The split that each outermost folder stands for, empty if they stand for classes; and the other folders.

    A class may be called `train` among others; a folder `train` beside another split is a split.
    """
    folders = {parts[0] for parts in listing.folders} | {name for name in outer.names if name}
    splits = {name: SPLIT_FOLDERS[name.lower()] for name in sorted(folders) if name.lower() in SPLIT_FOLDERS}
    others = sorted(folders - set(splits))
    if others and (TRAIN not in splits.values() or len(set(splits.values())) == 1):
        return {}, others
    if len(set(splits.values())) < len(splits):
        raise DataError(
            f"expected one folder per split in {listing.name}, got {', '.join(splits)}: merge those that mean the same"
        )
    return splits, others


def _class_folders(listing: Listing, splits: dict[str, str]) -> set[tuple[str, str]]:
    """The split and name of each folder that stands for a class, empty or not."""
    if splits:
        return {(splits[parts[0]], parts[1]) for parts in listing.folders if len(parts) == 2 and parts[0] in splits}
    return {(WHOLE, parts[0]) for parts in listing.folders if len(parts) == 1}


@dataclass(frozen=True)
class _Names:
    """A column of names: the distinct ones, and the number of each row's name, int32 (N,)."""

    names: list[str]
    numbers: np.ndarray

    @classmethod
    def of(cls, column: pyarrow.LargeBinaryArray) -> _Names:
        encoded = column.dictionary_encode()
        return cls([os.fsdecode(name.as_py()) for name in encoded.dictionary], encoded.indices.to_numpy())

    def among(self, names: list[str]) -> np.ndarray:
        """Which rows have one of the names, bool (N,)."""
        return np.isin(self.numbers, [number for number, name in enumerate(self.names) if name in names])

    def used(self, rows: np.ndarray) -> list[str]:
        """The names in some rows, bool (N,)."""
        return [self.names[number] for number in np.unique(self.numbers[rows])]


def _named(source: Source, rows: np.ndarray, reason: str) -> dict[str, str]:
    return {source.name(int(row)): reason for row in np.flatnonzero(rows)}


def _what_is_there(listing: Listing) -> str:
    outermost = {parts[0] for parts in listing.folders}
    if not outermost and not len(listing.files):
        return f"an empty folder ({listing.name})"
    found = f"{counted(len(outermost), 'folder')} without images and {counted(len(listing.files), 'file')}"
    return f"{found} in {listing.name}"
