"""Splits that are given apart from each other: `train.csv --val val.csv --test test.csv`, folders, archives, anything.

Of tables the rows are joined, so that a patient in two of them is one group; of anything else the images are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.data.dataset import TRAIN, WHOLE, Dataset, Images, class_order, group_numbers
from graft.data.readers.columns import join_tables
from graft.data.readers.finding_files import FileFinder
from graft.data.readers.grid import ENDINGS, LIST_ENDINGS, open_grid
from graft.data.readers.split_names import SPLIT_FOLDERS
from graft.data.readers.table import arrange_table, starting_from, understood_table
from graft.data.table_options import TableOptions
from graft.errors import DataError, InputError
from graft.given import expanded

if TYPE_CHECKING:
    import pyarrow

    from graft.data.readers.roles import Understood

# Of files with these endings no row is an image by itself.
_TABLES = {*ENDINGS, *LIST_ENDINGS} - {".parquet", ".mat"}


def check_apart(path: str | Path, apart: Mapping[str, str | Path]) -> None:
    """Raise InputError where the images of two splits are the same file or folder."""
    seen = {expanded(path).resolve(): "DATA"}
    for split, given in apart.items():
        before = seen.setdefault(expanded(given).resolve(), f"--{split}")
        if before != f"--{split}":
            raise InputError(
                f"expected other images for --{split} than for {before}, got {str(given)!r} for both: give those of "
                f"{split}, or leave --{split} out"
            )


def read_tables_apart(
    data: str | Path, apart: Mapping[str, str | Path], group: str | None, options: TableOptions
) -> Dataset | None:
    """A Dataset of the rows of several tables, None if one of them is no table or cannot be read alone.

    Raises DataError for a table that has splits of its own where it is to be one.
    """
    # The paths in a table that is a link start from the link.
    files = [expanded(each).absolute() for each in (data, *apart.values())]
    if any(file.suffix.lower() not in _TABLES or not file.is_file() for file in files):
        return None
    finders = [FileFinder(file.parent, options, file.stem) for file in files]
    try:
        first = understood_table(files[0], finders[0], options, group)
        read = [first]
        for file, finder in zip(files[1:], finders[1:], strict=True):
            read.append(understood_table(file, finder, _as_in(first, file, options), group))
    except DataError:
        # It may hold pixels; what is wrong is said of it alone.
        return None
    tables, notes = [each.table for each in read], _notes(files, read)
    check_splits(files[0].name, _splits_in(tables[0]), dict(zip(apart, (each.name for each in files[1:]), strict=True)))
    for number, split in enumerate(apart, 1):
        check_one_split(files[number].name, _splits_in(tables[number]), split)
        if "split" in tables[number].column_names:
            tables[number] = tables[number].drop_columns("split")
    for number, finder in enumerate(finders):
        located = finder.locate(tables[number]["path"].combine_chunks())
        notes += located.notes
        column = tables[number].column_names.index("path")
        found = tables[number].set_column(column, "path", located.paths)
        tables[number] = starting_from(found, Path(os.path.relpath(finder.root, finders[0].root)))
    root = FileFinder(finders[0].root)
    return arrange_table(files[0].stem, root, join_tables(tables, [TRAIN, *apart]), list(dict.fromkeys(notes)))


def _as_in(first: Understood, file: Path, options: TableOptions) -> TableOptions:
    """The options for another table, by which columns called as those of the first mean the same."""
    grid = open_grid(file)
    called = {repr(name.strip()) if grid.named else f"column {name}": name.strip() for name in grid.names}
    path, label = (options.column(role) or called.get(first.used.get(role, "")) for role in ("path", "label"))
    return replace(options, path_column=path, label_column=label)


def _notes(files: list[Path], read: list[Understood]) -> list[str]:
    """The notes of all tables, and one where their labels are from columns that are called otherwise."""
    notes = [note for each in read for note in each.notes]
    labels = [each.used.get("label", "") for each in read]
    if len(set(map(str.casefold, labels))) > 1:
        shown = ", ".join(f"{column} of {file.name}" for file, column in zip(files, labels, strict=True))
        notes.insert(0, f"labels are those in {shown}, which are called differently: check that they mean the same")
    return notes


def _splits_in(table: pyarrow.Table) -> list[str]:
    if "split" not in table.column_names:
        return [WHOLE]
    words = sorted({*table["split"].unique().to_pylist()} - {""})
    return list(dict.fromkeys(SPLIT_FOLDERS.get(word.lower(), word) for word in words))


def check_splits(name: str, own: Iterable[str], apart: Mapping[str, str]) -> None:
    """Raise DataError where data have a split of their own for which others are given; both are named."""
    for split in own:
        if split in apart:
            raise DataError(
                f"expected images of {split} in {name} or in {apart[split]}, got some in both: leave --{split} out for "
                f"those of {name}, or for those of {apart[split]} give the images of {TRAIN} alone as DATA, of a table "
                "with --split-column none"
            )


def check_one_split(name: str, own: Iterable[str], split: str) -> None:
    """Raise DataError where data that are to be one split have several."""
    several = list(own)
    if len(several) > 1:
        raise DataError(
            f"expected the images of one split for --{split}, got {name}, which has {' and '.join(several)} itself: "
            "give the table or the folder of one, or take all rows of a table with --split-column none"
        )


def join_apart(whole: Dataset, apart: Mapping[str, Dataset]) -> Dataset:
    """`whole` with the images of each of `apart` as the split of that name, classes matched by name.

    Groups by columns are told apart, as their names are not known any more. Raises DataError for splits that either has
    and should not.
    """
    if not apart:
        return whole
    check_splits(whole.name, whole.splits, {split: part.name for split, part in apart.items()})
    parts = {TRAIN if split == WHOLE else split: (whole, images) for split, images in whole.splits.items()}
    notes, left_out = [*whole.notes], {**whole.left_out}
    for split, part in apart.items():
        check_one_split(part.name, part.splits, split)
        parts[split] = (part, next(iter(part.splits.values())))
        notes += [note for note in part.notes if note not in notes]
        left_out |= part.left_out
    grouped = [images for _, images in parts.values() if images.groups is not None]
    if len(grouped) > 1:
        notes.append(
            "groups are those within each of the data that are given apart; tables of CSV are compared in this as well"
        )
    names = class_order({name for each, _ in parts.values() for name in each.classes})
    if whole.classes != class_order(set(whole.classes)):
        names = (*whole.classes, *(name for name in names if name not in whole.classes))
    images_of = {split: _labelled(each, images, names) for split, (each, images) in parts.items()}
    if grouped:
        start = 0
        for split, images in images_of.items():
            numbers = group_numbers([images]) + start
            start = int(numbers.max(initial=start)) + 1
            images_of[split] = replace(images, groups=numbers)
    return replace(whole, classes=names, splits=images_of, notes=tuple(notes), left_out=left_out)


def _labelled(dataset: Dataset, images: Images, names: tuple[str, ...]) -> Images:
    """Images with labels that index `names`."""
    position = {name: number for number, name in enumerate(names)}
    # The last entry is what -1 indexes.
    table = np.array([*(position[name] for name in dataset.classes), -1], np.int64)
    return replace(images, labels=table[images.labels])
