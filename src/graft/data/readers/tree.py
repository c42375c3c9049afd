"""Build a Dataset from a tree of images, wherever it is kept: `ants/1.jpg`, or `train/ants/1.jpg` for split folders.

`folder_meanings` decides what folders stand for. In a class folder, every file counts as an image whatever its
extension, since extensions lie; a file that cannot be decoded is skipped and named later. Files in no class are left
out by name.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.arrow import as_numpy
from graft.data.dataset import TEST, TRAIN, VAL, WHOLE, Dataset, Images, Source, class_order
from graft.data.readers.aside import NO_LABELS
from graft.data.readers.folder_meanings import understand
from graft.data.readers.folder_tree import Folder, are_no_images, grow
from graft.data.readers.layout import Layout
from graft.data.readers.layout_advice import from_names
from graft.errors import DataError
from graft.words import counted

if TYPE_CHECKING:
    import pyarrow

# The end of `1_mask.png`, if it lies beside `1.png`.
_MASK = r"(?i)[ _.-]+(masks?|segmentation)[ _-]?\d*\.[^./]*$"
# The end of `1_thumb.jpg` and of WordPress's `1-150x150.jpg`, and the start of `thumb_1.jpg`, beside `1.jpg`.
_SMALLER = r"(?i)([ _.-]+(thumb(nail)?s?|tn|small|preview)|-\d+x\d+)\.[^./]*$"
_SMALLER_AHEAD = r"(?i)(^|/)(thumb(nail)?s?|tn|small|preview)[ _.-]+([^/]*)\.[^./]*$"
_NAMED_AS_MASKS = "file named as the mask of an image beside it", "files named as masks of images beside them"
_NAMED_AS_SMALLER = (
    "file named as the thumbnail of an image beside it",
    "files named as thumbnails of images beside them",
)
_NAMED_AS_OTHERS = (
    "file in class folders that is not named like an image",
    "files in class folders that are not named like images",
)
_TABLES = (".csv", ".tsv", ".tab", ".jsonl", ".parquet")


class NoClassesError(DataError):
    """No folder gives the class of an image."""


@dataclass(frozen=True)
class Listing:
    """The content of a tree: file paths relative to its root, with `/`, as bytes (large_binary), in any order.

    `folders` are folder paths as tuples of names, needed for folders without files. Hidden files and folders are not
    listed; `left_out` maps what cannot be read to the reason.
    """

    name: str
    files: pyarrow.LargeBinaryArray
    folders: frozenset[tuple[str, ...]]
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)


def arrange(listing: Listing, source: Source, keep_folds: bool = True, used: np.ndarray | None = None) -> Dataset:
    """Build a Dataset from a tree; rows of `source` are those of `listing`. Images are in the order of their paths.

    With `keep_folds`, folders of folds become groups. Files that are `used` elsewhere, bool (N,), are not reported as
    left out. Raises DataError if no class holds a file, and for folders that can be read in two ways.
    """
    import pyarrow.compute

    tree = grow(listing.files, listing.folders)
    layout = understand(tree, listing.name)
    if not layout.places:
        raise NoClassesError(
            f"expected a folder per class with images in it, got {_what_is_there(layout, listing.name)}: "
            f"put the images of each class in a folder named after it{_or_by_names(layout)}"
            f"{_or_the_table(layout, listing)}"
        )
    classes = class_order({place.label for place in layout.places})
    splits = [split for split in (WHOLE, TRAIN, VAL, TEST) if any(place.split == split for place in layout.places)]
    folds = sorted({place.fold for place in layout.places if place.fold is not None})
    # For each folder with files, the index of its split, class and fold, -1 if it has none.
    of_folder = np.full((max(int(tree.folder_of_file.max(initial=-1)) + 1, 1), 3), -1, np.int64)
    position = {name: number for number, name in enumerate(classes)}
    for place in layout.places:
        fold = -1 if place.fold is None else folds.index(place.fold)
        of_folder[_numbers([place.folder])] = splits.index(place.split), position[place.label], fold
    reasons: dict[str, list[Folder]] = {}
    for each in layout.aside:
        of_folder[_numbers([each.folder])] = -1
        reasons.setdefault(each.reason, []).append(each.folder)
    split, label, fold = of_folder[tree.folder_of_file].T
    notes, left_out = [*listing.notes, *layout.notes], dict(listing.left_out)
    used = np.zeros(len(split), bool) if used is None else used
    untold = (split < 0) & ~used
    for reason, folders in reasons.items():
        if used.any():
            images = ~used & ~are_no_images(listing.files)
            folders = [each for each in folders if images[np.isin(tree.folder_of_file, _numbers([each]))].any()]
        if not folders:
            continue
        if len(folders) == 1:
            why = f"was left out, since it {reason}" if reason == NO_LABELS else f"{reason} and was left out"
            told = f"{listing.name}: folder {_path(folders[0])!r} {why}"
        else:
            told = f"{listing.name}: {len(folders):,} folders were left out, since each {reason} ({_some(folders)})"
        notes.append(f"{told}{_to_predict(listing, source, folders) if reason == NO_LABELS else ''}")
        rows = untold & np.isin(tree.folder_of_file, _numbers(folders))
        left_out |= _named(source, rows, f"its folder {reason}")
        untold &= ~rows
    for folder in (None, *layout.splits):
        below = layout.splits if folder is None else [folder]
        strays = untold & (np.isin(tree.folder_of_file, _numbers(below)) != (folder is None))
        if strays.any():
            of_strays = _named(source, strays, "it is in no class folder")
            shown = ", ".join(Path(name).name for name in list(of_strays)[:3])
            notes.append(
                f"{listing.name}{'' if folder is None else f'/{_path(folder)}'}: "
                f"{counted(len(of_strays), 'file')} outside any class folder left out "
                f"({shown}{', …' if len(of_strays) > 3 else ''})"
            )
            left_out |= of_strays
    notes += [
        f"{listing.name if within == WHOLE else within}: class folder {name!r} is empty and was left out"
        for within, name in sorted(layout.empty)
    ]
    smaller = _beside(listing.files, _SMALLER) | _beside(listing.files, _SMALLER_AHEAD, r"\1\4")
    for rows, reason, one, many in (
        (_beside(listing.files, _MASK), "it is named as the mask of an image beside it", *_NAMED_AS_MASKS),
        (smaller, "it is named as the thumbnail of an image beside it", *_NAMED_AS_SMALLER),
        (are_no_images(listing.files), "its name is not that of an image", *_NAMED_AS_OTHERS),
    ):
        if (rows & (split >= 0)).any():
            found = _named(source, rows & (split >= 0), reason)
            shown = ", ".join(Path(name).name for name in list(found)[:3])
            notes.append(
                f"{listing.name}: {counted(len(found), one, many)} left out ({shown}{', …' if len(found) > 3 else ''})"
            )
            left_out |= found
        split = np.where(rows, -1, split)
    order = as_numpy(pyarrow.compute.sort_indices(listing.files)).astype(np.int64)
    images = {}
    for number, name in enumerate(splits):
        rows = order[split[order] == number]
        # An image in no fold forms its own group.
        groups = np.where(fold[rows] < 0, len(folds) + rows, fold[rows]) if folds and keep_folds else None
        images[name] = Images(source, rows, label[rows], groups)
    return Dataset(listing.name, classes, images, tuple(notes), left_out, group_names=tuple(folds))


def _beside(files: pyarrow.LargeBinaryArray, of_another: str, rest: str = "") -> np.ndarray:
    """Which files are named like others in their folder apart from what an expression matches, bool (N,).

    `rest` replaces the match to give the name of the other file.
    """
    import pyarrow.compute

    found = np.zeros(len(files), bool)
    named = as_numpy(pyarrow.compute.match_substring_regex(files, of_another))
    if named.any():
        stems = pyarrow.compute.replace_substring_regex(files, r"(?s)\.[^./]*$", "")
        of_images = pyarrow.compute.replace_substring_regex(files.filter(pyarrow.array(named)), of_another, rest)
        found[named] = as_numpy(pyarrow.compute.is_in(of_images, value_set=stems))
    return found


def _numbers(folders: Iterable[Folder]) -> list[int]:
    """The numbers of folders and everything in them, for those that hold files."""
    return [each.number for folder in folders for each in folder.below() if each.number >= 0]


def _path(folder: Folder) -> str:
    return "/".join(folder.path)


def _to_predict(listing: Listing, source: Source, folders: Sequence[Folder]) -> str:
    """How to have the images of the first of some folders classified, if they lie on disk."""
    root = source.name(0).removesuffix(os.fsdecode(listing.files[0].as_py()))
    folder = next((Path(root, *each.path) for each in folders if each.all_images), None)
    if folder is None or not folder.is_dir():
        return ""
    return f": `graft predict RUN {shlex.quote(str(folder))}` classifies them"


def _some(folders: list[Folder]) -> str:
    return ", ".join(repr(_path(folder)) for folder in folders[:3]) + ", …" * (len(folders) > 3)


def _named(source: Source, rows: np.ndarray, reason: str) -> dict[str, str]:
    return {source.name(int(row)): reason for row in np.flatnonzero(rows)}


def _what_is_there(layout: Layout, name: str) -> str:
    root = layout.tree.root
    if not root.folders and not root.files:
        return f"an empty folder ({name})"
    unlabelled = [each.folder for each in layout.aside if each.reason == NO_LABELS]
    if unlabelled:
        count = sum(folder.all_images for folder in unlabelled)
        return f"{counted(count, 'image')} without labels in {_some(unlabelled)} of {name}"
    found = f"{counted(len(root.folders), 'folder')} without images and {counted(root.files, 'file')}"
    return f"{found} in {name}"


def _or_by_names(layout: Layout) -> str:
    """If files in no class seem to be named after classes, how to read them so."""
    unlabelled = [each.folder for each in layout.aside if each.reason == NO_LABELS]
    called = from_names(layout, unlabelled or [layout.tree.root])
    return called and f"; its files are called {called}"


def _or_the_table(layout: Layout, listing: Listing) -> str:
    """If tables lie beside the images, say that one of them may hold their labels."""
    tables = [name for name in layout.tree.names_in(Folder((), layout.root.number)) if name.lower().endswith(_TABLES)]
    if not tables:
        return ""
    shown = "/".join((*layout.root.path, tables[0]))
    return f", or give the table of their labels, if {shown} is one: DATA/{shown}"
