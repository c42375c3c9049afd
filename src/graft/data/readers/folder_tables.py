"""Tables in a folder of images: `labels.csv` beside `images/`, `train.csv` and `test.csv`, `train/_classes.csv`.

A table counts if its rows lead to images of the folder. Folders that mean the same classes as the table are read as a
folder per class. Where the folders have nothing to do with the labels, the table is taken, and a note says so; where
they are parts of each other, such as a species and its breeds, the user is asked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.data.dataset import TRAIN, WHOLE, Dataset
from graft.data.readers.columns import first_three, join_tables
from graft.data.readers.finding_files import FileFinder
from graft.data.readers.folder import read_folder
from graft.data.readers.grid import ENDINGS, LIST_ENDINGS
from graft.data.readers.split_names import SPLIT_FOLDERS, split_in_name
from graft.data.readers.table import arrange_table, is_table, starting_from, understood_table
from graft.data.table_options import FOLDER, TableOptions
from graft.errors import DataError, InputError

if TYPE_CHECKING:
    import pyarrow

_ENDINGS = {*ENDINGS, *LIST_ENDINGS}
# Tables that are forms for what is to be handed in, or made by programs that were asked about the images.
_ANSWERS = r"(?i)submi|predict|results?\b|split\.csv$|audit"


@dataclass(frozen=True)
class _Found:
    """A table with its paths from the folder on, and which rows have a file, bool (N,)."""

    file: Path
    split: str
    table: pyarrow.Table
    there: np.ndarray
    notes: tuple[str, ...]


def read_folder_tables(root: Path, group: str | None, options: TableOptions) -> Dataset | None:
    """A Dataset from the tables in a folder, or in its folders of splits; None where its folders tell the classes.

    Raises DataError for tables of which several or none could be meant, where no folder tells the classes either, and
    where tables and folders tell different ones.
    """
    if options.label_from == FOLDER:
        return None
    notes: list[str] = []
    errors: list[InputError] = []
    for places in ([(root, WHOLE)], _split_folders(root)):
        found = []
        for folder, split in places:
            for file in _tables(folder, notes):
                try:
                    each = _read(file, root, folder, split, group, options)
                except InputError as error:
                    notes.append(f"{file.name} was not used: {error}")
                    errors.append(error)
                    continue
                if each is not None:
                    found.append(each)
        if found:
            return _decide(root, found, notes, options)
    return _by_folders(root, group, errors[0], notes) if errors else None


def _by_folders(root: Path, group: str | None, error: InputError, notes: list[str]) -> Dataset:
    """What the folders tell where the tables tell nothing. Raises `error` where they tell no classes either."""
    try:
        dataset = read_folder(root, group is None)
    except DataError:
        if len(_class_folders(root)) < 2:
            raise error from None
        raise
    if len(dataset.classes) < 2:
        raise error
    return replace(dataset, notes=(*dataset.notes, *notes))


def _tables(folder: Path, notes: list[str]) -> Iterator[Path]:
    # By their endings first: there may be a million images beside.
    with os.scandir(folder) as entries:
        names = sorted(
            entry.name for entry in entries if Path(entry.name).suffix.lower() in _ENDINGS and entry.is_file()
        )
    for file in (folder / name for name in names if not name.startswith(".")):
        if re.search(_ANSWERS, file.name) and file.suffix.lower() in ENDINGS:
            notes.append(f"{file.name} was not used, since its name says that it is made from the images")
        elif file.suffix.lower() != ".parquet" and is_table(file):
            yield file


def _split_folders(root: Path) -> list[tuple[Path, str]]:
    with os.scandir(root) as entries:
        names = sorted(entry.name for entry in entries if entry.name.lower() in SPLIT_FOLDERS and entry.is_dir())
    return [(root / name, SPLIT_FOLDERS[name.lower()]) for name in names]


def _class_folders(root: Path) -> set[str]:
    """The names of folders that may be classes: in the folder or below its splits."""
    above = [root, *(folder for folder, _ in _split_folders(root))]
    folders = (child for folder in above for child in folder.iterdir() if child.is_dir())
    return {
        child.name
        for child in folders
        if not child.name.startswith(".") and child.name.lower() not in SPLIT_FOLDERS and any(child.iterdir())
    }


def _read(file: Path, root: Path, folder: Path, split: str, group: str | None, options: TableOptions) -> _Found | None:
    """A table whose rows lead to images, None if none does. Raises DataError for one without labels."""
    finder = FileFinder(folder, options, file.stem)
    understood = understood_table(file, finder, options, group)
    located = finder.locate(understood.table["path"].combine_chunks())
    if not located.there.any():
        if located.reasons:
            # Not just a table about something else.
            arrange_table(file.stem, finder, understood.table)
        return None
    table = understood.table
    table = table.set_column(table.column_names.index("path"), "path", located.paths)
    if finder.root == folder:
        table = starting_from(table, folder.relative_to(root))
    else:
        # The folder of images that the user named.
        table = starting_from(table, Path(os.path.relpath(finder.root, root)))
    split = split_in_name(file.stem) if split == WHOLE else split
    return _Found(file, split, table, located.there, (*understood.notes, *located.notes))


def _decide(root: Path, found: list[_Found], notes: list[str], options: TableOptions) -> Dataset | None:
    by_split = [each for each in found if each.split != WHOLE]
    chosen = by_split if len({each.split for each in by_split}) == len(by_split) > 0 else found
    if TRAIN not in {each.split for each in chosen} and len(chosen) < len(found):
        chosen = found
    whole = [each for each in chosen if each.split == WHOLE]
    if len(whole) > 1 or len({each.split for each in chosen}) < len(chosen):
        names = " and ".join(each.file.name for each in chosen)
        raise DataError(
            f"expected one table of the images in {root.name}, or one for each split, got {names}: give the one that "
            f"is meant as DATA, as in {chosen[0].file}"
        )
    notes += [f"{each.file.name} was not used beside {chosen[0].file.name}" for each in found if each not in chosen]
    folders = _against_folders(root, chosen)
    if folders == _SAME and not by_split and all("split" not in each.table.column_names for each in chosen):
        return None
    if folders == _NESTED:
        parents = first_three(sorted(_class_folders(root)))
        raise DataError(
            f"expected one meaning of {root.name}, got labels in {chosen[0].file.name} and in folders ({parents}): "
            f"give {chosen[0].file} as DATA for the first, or --label-from folder for the second"
        )
    if folders == _OTHER:
        notes.append(
            f"labels are those of {chosen[0].file.name}, not the folders of the images: --label-from folder takes these"
        )
    notes = [note for each in chosen for note in each.notes] + notes
    table = join_tables([each.table for each in chosen], [each.split for each in chosen])
    dataset = arrange_table(chosen[0].file.stem if len(chosen) == 1 else root.name, root, table, notes)
    return replace(dataset, name=root.name)


# How the folders of the images compare with the labels in tables: they tell nothing, the same, parts, something else.
_NOTHING, _SAME, _NESTED, _OTHER = range(4)


def _against_folders(root: Path, found: list[_Found]) -> int:
    import pyarrow
    import pyarrow.compute

    paths = pyarrow.concat_arrays([each.table["path"].combine_chunks().filter(each.there) for each in found])
    labels = pyarrow.concat_arrays([each.table["label"].combine_chunks().filter(each.there) for each in found])
    folders = pyarrow.compute.replace_substring_regex(paths, "(?s)[^/]*$", "")
    parents = pyarrow.compute.replace_substring_regex(folders, r"(?s)^(.*/)?([^/]+)/$", r"\2").dictionary_encode()
    names = [os.fsdecode(each.as_py()) for each in parents.dictionary]
    telling = {name for name in names if name and split_in_name(name) == WHOLE}
    if len(telling) < 2:
        return _NOTHING
    one = parents.indices.to_numpy().astype(np.int64)
    other = labels.dictionary_encode().indices.to_numpy().astype(np.int64)
    pairs, kinds, words = len(np.unique(one * (other.max() + 1) + other)), one.max() + 1, other.max() + 1
    if pairs == kinds == words:
        return _SAME
    # Parts: each label is in one folder, or each folder has one label.
    return _NESTED if pairs in (kinds, words) and words > 1 else _OTHER
