"""Lists of images without labels, `meta/train.txt` and `meta/test.txt`, that divide labelled images into splits.

Labels come from folders or a table. The reverse is read too: a table whose images lie in no class folder, but whose
labels are classes of the folders beside it, as in Tiny ImageNet's `val_annotations.txt`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.data.dataset import TEST, TRAIN, VAL, WHOLE, Dataset, Images, together
from graft.data.readers.found_table import Found
from graft.data.readers.grid import LIST_ENDINGS
from graft.data.readers.place import Place
from graft.data.readers.searched_places import ABOUT_IMAGES
from graft.data.readers.split_names import SPLIT_FOLDERS, split_in_name
from graft.data.readers.tree import arrange
from graft.data.table_options import NO_COLUMN
from graft.errors import DataError
from graft.words import counted, first_few

if TYPE_CHECKING:
    import pyarrow

# The share of a list's lines that must be labelled images, since some may be missing.
LISTED_SHARE = 0.9
_SPLIT_WORD = re.compile(rf"(?i){'|'.join(sorted(SPLIT_FOLDERS, key=len, reverse=True))}")


def divide(place: Place, dataset: Dataset, lists: Sequence[Found], split: str | None) -> Dataset:
    """Divide a dataset without splits by lists nearly all of whose lines are its images.

    `split` is the path of one of the lists that are meant, or `none`. Raises DataError if several divisions could be
    meant.
    """
    if split == NO_COLUMN or (split is None and not lists):
        return dataset
    whole = together(dataset.splits.values())
    rows = {whole.key(index): index for index in range(len(whole))}
    divisions: dict[str, dict[int, str]] = {}
    of_division: dict[str, list[Found]] = {}
    notes = []
    for each in lists:
        named = _named(each, rows)
        if named is None:
            notes.append(f"{each.name} was not used, since not all of its images have a label")
            continue
        if strangers := _strangers(each, rows):
            notes.append(
                f"{counted(len(strangers), 'image')} that {each.name} names {'is' if len(strangers) == 1 else 'are'} "
                f"not there, or without a label ({first_few(strangers)})"
            )
        family = re.sub(r"[\W_]", "", _SPLIT_WORD.sub("", each.files[0].as_posix()))
        of_division.setdefault(family, []).append(each)
        before = divisions.setdefault(family, {})
        if any(before.get(row, meant) != meant for row, meant in named.items()):
            raise DataError(
                f"expected each image in one of {' and '.join(table.name for table in of_division[family])}, got some "
                "in several: correct them, or use none of them with --split-file none"
            )
        before |= named
    chosen = _chosen(place, divisions, of_division, split)
    if chosen is None:
        return replace(dataset, notes=(*dataset.notes, *notes))
    names, meant = ", ".join(each.name for each in of_division[chosen]), divisions[chosen]
    if WHOLE not in dataset.splits:
        of_row = [name for name, images in dataset.splits.items() for _ in range(len(images))]
        if any(of_row[row] != own for row, own in meant.items()):
            notes.append(f"{names} would divide the images differently and was not used")
        return replace(dataset, notes=(*dataset.notes, *notes))
    rest = TRAIN if TRAIN not in meant.values() else ""
    splits = np.array([meant.get(row, rest) for row in range(len(whole))])
    others = np.flatnonzero(splits == "").tolist()
    notes.append(f"splits are those of {names}" + (f"; images that none of them names are in {TRAIN}" * bool(rest)))
    if others:
        notes.append(
            f"{counted(len(others), 'image')} left out, since no list names {'it' if len(others) == 1 else 'them'}"
        )
    left_out = {whole.name(row): "no list of a split names it" for row in others}
    return replace(
        dataset,
        splits={name: whole.take(np.flatnonzero(splits == name)) for name in (TRAIN, VAL, TEST) if name in splits},
        notes=(*dataset.notes, *notes),
        left_out={**dataset.left_out, **left_out},
    )


def _named(found: Found, rows: Mapping[str, int]) -> dict[int, str] | None:
    """The split that a list gives to each image by row; None if too many lines are not labelled images."""
    keys = [rows.get(name, -1) for name in _names(found)]
    column = found.table["split"].to_pylist() if "split" in found.table.column_names else [found.split] * len(keys)
    if sum(key >= 0 for key in keys) < LISTED_SHARE * len(keys):
        return None
    meant = {key: SPLIT_FOLDERS.get(own.lower(), own) for key, own in zip(keys, column, strict=True) if key >= 0}
    return meant if meant and set(meant.values()) <= {TRAIN, VAL, TEST} else None


def _strangers(found: Found, rows: Mapping[str, int]) -> list[str]:
    """The names in a list that are not labelled images."""
    return [name for name in _names(found) if name not in rows]


def _names(found: Found) -> list[str]:
    return [os.fsdecode(path.as_py()) for path in found.table["path"].combine_chunks()]


def _chosen(
    place: Place, divisions: Mapping[str, dict[int, str]], lists: Mapping[str, Sequence[Found]], split: str | None
) -> str | None:
    files = {name: [file for each in found for file in each.files] for name, found in lists.items()}
    if split is not None:
        for name, own in files.items():
            if any(split in (str(file), file.relative_to(place.root).as_posix()) for file in own):
                return name
        raise DataError(
            f"expected a list of images in {place.listing.name} for --split-file, got {split!r}, whose lines are not "
            "nearly all images with labels: check its path, which starts from the data"
        )
    # The same division in several forms counts once.
    distinct = [
        name for number, name in enumerate(divisions) if divisions[name] not in list(divisions.values())[:number]
    ]
    if len(distinct) > 1:
        first = [files[name][0].relative_to(place.root).as_posix() for name in distinct]
        raise DataError(
            f"expected one division into splits, got {len(distinct)}, which are equally likely ({first_few(first)}): "
            f"name one, as in --split-file {first[0]}, or --split-file none"
        )
    return next(iter(distinct), None)


def names_list(split: str | Path) -> bool:
    """Whether the value given for the split names a list beside the images, or says that none is meant."""
    return str(split) == NO_COLUMN or Path(split).suffix.lower() in LIST_ENDINGS


def label_others(place: Place, folders: Dataset, tables: Sequence[Found], keep_folds: bool = True) -> Dataset | None:
    """Add images that tables label to the dataset of folders beside them; None if tables name its own images too.

    `folders` is what `arrange` makes of the place with `keep_folds`. Raises DataError for labels that are not classes
    of the folders, and if the split is not given.
    """
    if sum(re.search(ABOUT_IMAGES, f"{name}/") is None for name in folders.classes) < 2:
        # One folder, or folders of masks, beside the images of a table are no classes.
        return None
    classes = {name: number for number, name in enumerate(folders.classes)}
    if all(map(str.isdecimal, classes)):
        # `00007` in a folder name is 7 in a table.
        plain = {str(int(name)): number for name, number in classes.items()}
        classes = {**plain, **classes} if len(plain) == len(classes) else classes
    used = np.zeros(len(place.listing.files), bool)
    for images in folders.splits.values():
        used[images.rows] = True
    parts: dict[str, Images] = {}
    of_tables = [each.table["path"].combine_chunks().filter(each.there) for each in tables]
    if any(used[place.rows(paths)].any() for paths in of_tables):
        return None
    for each, paths in zip(tables, of_tables, strict=True):
        rows = place.rows(paths)
        split = each.split if each.split != WHOLE else _split_of(paths)
        strange = sorted(each.labels() - classes.keys())
        if strange or split == WHOLE or split in {*folders.splits, *parts}:
            came = f"{strange[0]!r}" if strange else f"images of {split}" if split != WHOLE else "no split"
            raise DataError(
                f"expected labels of {each.name} that are classes of the folders ({first_few(folders.classes)}) and "
                f"images of another split, got {came}: correct it, or leave it out with --label-from folder, or give "
                f"{each.files[0]} as DATA"
            )
        words = each.table["label"].combine_chunks().filter(each.there)
        labels = np.array([classes.get(word, -1) for word in words.to_pylist()], np.int64)
        parts[split] = Images(place.source, rows[labels >= 0], labels[labels >= 0])
    of_files = [place.rows(_path_column(place, each.files)) for each in tables]
    known = np.concatenate([*(images.rows for images in parts.values()), *of_files])
    told = np.zeros(len(place.listing.files), bool)
    told[known[known >= 0]] = True
    folders = arrange(place.listing, place.source, keep_folds, told)
    order = [name for name in (TRAIN, VAL, TEST) if name in {*folders.splits, *parts}]
    if WHOLE in folders.splits:
        # The tables label a different split from the one in the folders.
        order = [TRAIN, *(name for name in order if name != TRAIN)]
    of_folders = {TRAIN if name == WHOLE else name: images for name, images in folders.splits.items()}
    notes = [f"labels of {split} are those of {each.name}" for split, each in zip(parts, tables, strict=True)]
    return replace(
        folders,
        splits={name: (of_folders | parts)[name] for name in order},
        notes=(*folders.notes, *notes, *(note for each in tables for note in each.notes)),
    )


def _path_column(place: Place, files: Sequence[Path]) -> pyarrow.LargeBinaryArray:
    """The paths of files relative to the place."""
    import pyarrow

    paths = [os.fsencode(file.relative_to(place.root).as_posix()) for file in files]
    return pyarrow.array(paths, pyarrow.large_binary())


def _split_of(paths: pyarrow.LargeBinaryArray) -> str:
    """The split that the images' folders are named after, judging by the first 1,000 images."""
    folders = {os.fsdecode(path.as_py()).rpartition("/")[0] for path in paths[:1000]}
    meant = {split_in_name(folder) for folder in folders}
    return meant.pop() if len(meant) == 1 else WHOLE
