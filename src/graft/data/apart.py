"""Splits stored apart from each other: `train.csv --val val.csv --test test.csv`, folders, archives, any format.

Text tables are joined by rows, anything else by images. Either way, a patient in two of them is one group, and classes
and labels are matched by name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.data.dataset import TEST, TRAIN, VAL, WHOLE, Dataset, Images, class_order, group_numbers
from graft.data.readers.columns import join_tables
from graft.data.readers.finding_files import FileFinder, splits_of_rows
from graft.data.readers.grid import ENDINGS, LIST_ENDINGS, open_grid
from graft.data.readers.split_names import SPLIT_FOLDERS
from graft.data.readers.table import arrange_table, read_table, starting_from, understood_table
from graft.data.table_options import TableOptions
from graft.errors import DataError, InputError
from graft.given import expanded
from graft.packed_tables import ending_of

if TYPE_CHECKING:
    import pyarrow

    from graft.data.readers.roles import Understood

# In files with these endings, no row is itself an image.
_TABLES = {*ENDINGS, *LIST_ENDINGS} - {".parquet", ".mat"}


def check_apart(path: str | Path, apart: Mapping[str, str | Path]) -> None:
    """Raise InputError if two splits are the same file or folder."""
    seen = {expanded(path).resolve(): "DATA"}
    for split, given in apart.items():
        before = seen.setdefault(expanded(given).resolve(), f"--{split}")
        if before != f"--{split}":
            raise InputError(
                f"expected different images for --{split} and for {before}, got {str(given)!r} for both: give those "
                f"of {split}, or leave --{split} out"
            )


def read_tables_apart(
    data: str | Path, apart: Mapping[str, str | Path], group: str | None, options: TableOptions
) -> Dataset | None:
    """Return a Dataset of the rows of several tables, or None if one is not a table or cannot be read by itself.

    Raises DataError if a table given as one split has several of its own.
    """
    # Paths in a symlinked table are relative to the link, not to its target.
    files = [expanded(each).absolute() for each in (data, *apart.values())]
    if any(ending_of(file) not in _TABLES or not file.is_file() for file in files):
        return None
    finders = [
        FileFinder(file.parent, options, file.stem, split=split)
        for file, split in zip(files, (WHOLE, *apart), strict=True)
    ]
    try:
        first = understood_table(files[0], finders[0], options, group)
        read = [first]
        for file, finder in zip(files[1:], finders[1:], strict=True):
            read.append(understood_table(file, finder, _as_in(first, file, options), group))
    except DataError:
        # It may hold pixels. If it is faulty, reading it by itself reports the fault.
        return None
    tables, notes, splits = [each.table for each in read], _notes(files, read), [TRAIN, *apart]
    check_splits(files[0].name, _splits_in(tables[0]), dict(zip(apart, (each.name for each in files[1:]), strict=True)))
    for number, split in enumerate(apart, 1):
        check_one_split(files[number].name, _splits_in(tables[number]), split)
        if "split" in tables[number].column_names:
            tables[number] = tables[number].drop_columns("split")
    of_rows: list[str] = []
    for number, finder in enumerate(finders):
        # What the name of a file says counts more than what it is given as: its images are in folders named alike.
        split = finder.split if finder.split != WHOLE or "split" in tables[number].column_names else splits[number]
        own = splits_of_rows(tables[number], split)
        of_rows += own
        located = finder.locate(tables[number]["path"].combine_chunks(), splits=own)
        finder.refuse_masks(located, files[number].name)
        notes += located.notes
        column = tables[number].column_names.index("path")
        found = tables[number].set_column(column, "path", located.paths)
        tables[number] = starting_from(found, Path(os.path.relpath(finder.root, finders[0].root)))
    if ungrouped := [split for split, each in zip(splits, tables, strict=True) if "group" not in each.column_names]:
        notes += [note_on_ungrouped(ungrouped)] * (len(ungrouped) < len(splits))
    root = FileFinder(finders[0].root)
    dataset = arrange_table(files[0].stem, root, join_tables(tables, splits), list(dict.fromkeys(notes)), of_rows)
    for file, split, own in zip(files, splits, [_splits_in(tables[0]), *([WHOLE] for _ in apart)], strict=True):
        if own == [WHOLE] and split not in dataset.splits:
            # Nothing is left of this split: reading its table alone reports why, rather than letting other images
            # stand in for it.
            read_table(file, group, options)
    return dataset


def _as_in(first: Understood, file: Path, options: TableOptions) -> TableOptions:
    """Return the options for another table, so that columns named as in the first table have the same roles."""
    grid = open_grid(file)
    called = {repr(name.strip()) if grid.named else f"column {name}": name.strip() for name in grid.names}
    path, label = (options.column(role) or called.get(first.used.get(role, "")) for role in ("path", "label"))
    return replace(options, path_column=path, label_column=options.label_columns or label)


def _notes(files: list[Path], read: list[Understood]) -> list[str]:
    """Return the notes of all tables, preceded by one if their label columns have different names."""
    notes = [note for each in read for note in each.notes]
    labels = [each.used.get("label", "") for each in read]
    if len(set(map(str.casefold, labels))) > 1:
        shown = ", ".join(f"{column} of {file.name}" for file, column in zip(files, labels, strict=True))
        notes.insert(0, f"labels are those in {shown}, which have different names: check that they mean the same")
    return notes


def _splits_in(table: pyarrow.Table) -> list[str]:
    if "split" not in table.column_names:
        return [WHOLE]
    words = sorted({*table["split"].unique().to_pylist()} - {""})
    return list(dict.fromkeys(SPLIT_FOLDERS.get(word.lower(), word) for word in words))


def check_splits(name: str, own: Iterable[str], apart: Mapping[str, str]) -> None:
    """Raise DataError, naming both, if the data already contain a split that is also given apart."""
    for split in own:
        if split in apart:
            raise DataError(
                f"expected images of {split} in {name} or in {apart[split]}, got some in both: to use those of "
                f"{name}, leave --{split} out; to use those of {apart[split]}, give only the images of {TRAIN} as "
                "DATA (for a table, with --split-column none)"
            )


def check_one_split(name: str, own: Iterable[str], split: str) -> None:
    """Raise DataError if data given as one split have several."""
    several = list(own)
    if len(several) > 1:
        raise DataError(
            f"expected the images of one split for --{split}, got {name}, which has {' and '.join(several)} itself: "
            "give the table or the folder of one, or take all rows of a table with --split-column none"
        )


def join_apart(whole: Dataset, apart: Mapping[str, Dataset]) -> Dataset:
    """Return `whole` with each dataset in `apart` as the split of that name; classes, labels and groups match by name.

    Raises DataError for conflicting or additional splits on either side.
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
    # The order of splits in every list of images.
    parts = {split: parts[split] for split in sorted(parts, key=_place)}
    names = class_order({name for each, _ in parts.values() for name in each.classes})
    if whole.classes != class_order(set(whole.classes)):
        names = (*whole.classes, *(name for name in names if name not in whole.classes))
    label_sets, labels = _labels(parts, names)
    group_names, groups = _groups(parts)
    if ungrouped := [split for split, (_, images) in parts.items() if groups and images.groups is None]:
        notes.append(note_on_ungrouped(ungrouped))
    images_of = {
        split: replace(images, labels=labels[split], groups=groups.get(split)) for split, (_, images) in parts.items()
    }
    return replace(
        whole,
        classes=names,
        splits=images_of,
        notes=tuple(notes),
        left_out=left_out,
        label_sets=label_sets,
        group_names=group_names,
    )


def note_on_ungrouped(splits: Sequence[str]) -> str:
    return f"images of {' and '.join(splits)} come without groups: each image is its own group"


def _place(split: str) -> int:
    order = (TRAIN, VAL, TEST)
    return order.index(split) if split in order else len(order)


_Parts = Mapping[str, tuple[Dataset, Images]]


def _labels(parts: _Parts, names: tuple[str, ...]) -> tuple[tuple[tuple[int, ...], ...] | None, dict[str, np.ndarray]]:
    """Return the label sets of all parts, None with one label per image, and the labels by split, int64 (N,)."""
    position = {name: number for number, name in enumerate(names)}
    # If only some parts were read as sets, the classes of the others become sets of one.
    several = any(dataset.label_sets is not None for dataset, _ in parts.values())
    numbers: dict[tuple[int, ...], int] = {} if several else {(number,): number for number in position.values()}
    found = {}
    for split, (dataset, images) in parts.items():
        sets = [(index,) for index in range(len(dataset.classes))] if dataset.label_sets is None else dataset.label_sets
        own = [tuple(sorted(position[dataset.classes[index]] for index in of_set)) for of_set in sets]
        # The last entry is the one that -1 indexes.
        table = np.array([*(numbers.setdefault(of_set, len(numbers)) for of_set in own), -1], np.int64)
        found[split] = table[images.labels]
    return tuple(numbers) if several else None, found


def _groups(parts: _Parts) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Return the group names of all parts and the groups of images by split, int64 (N,); both empty without groups."""
    if all(images.groups is None for _, images in parts.values()):
        return (), {}
    numbers: dict[tuple[int, int] | str, int] = {}
    found, alone = {}, 0
    for split, (dataset, images) in parts.items():
        own = group_numbers([images])
        each, number = np.unique(own, return_inverse=True)
        names = dataset.group_names
        keys: list[tuple[int, int] | str] = []
        for group in each.tolist():
            # An unnamed group belongs to this dataset alone; without groups, each image is a group.
            alone += 1
            called = names[group] if images.groups is not None and group < len(names) else ""
            keys.append(called or ((id(dataset), group) if images.groups is not None else (0, alone)))
        found[split] = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)[number]
    return tuple(key if isinstance(key, str) else "" for key in numbers), found
