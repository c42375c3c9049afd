"""Hugging Face's imagefolder: images with a `metadata.csv` beside them, in DATA or in each folder of a split.

The table, which may also be `metadata.jsonl` or `metadata.parquet`, has the columns `file_name` and `label`. Without a
column of labels, the folders are the classes, as elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from graft.data.dataset import WHOLE, Dataset
from graft.data.readers.column_names import find_columns
from graft.data.readers.columns import first_three, join_tables
from graft.data.readers.folder import Files, list_folder
from graft.data.readers.split_names import SPLIT_FOLDERS
from graft.data.readers.table import arrange_table, column_names, read_columns, starting_from
from graft.words import counted

if TYPE_CHECKING:
    import pyarrow

_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def is_imagefolder(path: Path) -> bool:
    """Whether a folder, or each folder of a split in it, has a table of labels beside its images."""
    tables = [find_columns(column_names(table)) for table, _ in _tables(path)]
    return bool(tables) and all({"path", "label"} <= found.keys() for found in tables)


def read_imagefolder(path: Path, group: str | None = None) -> Dataset:
    """A Dataset from a folder with metadata beside its images; what the metadata does not name is left out."""
    parts = list(_tables(path))
    tables = [starting_from(read_columns(file, group), file.parent.relative_to(path)) for file, _ in parts]
    table = _by_folder(join_tables(tables, [split for _, split in parts]))
    return _with_strangers(arrange_table(path.name, path, table), path, [file for file, _ in parts])


def _tables(path: Path) -> Iterator[tuple[Path, str]]:
    """Each table of metadata with its split."""
    found = next((path / name for name in _NAMES if (path / name).is_file()), None)
    if found:
        yield found, WHOLE
        return
    for folder in sorted(child for child in path.iterdir() if child.name.lower() in SPLIT_FOLDERS and child.is_dir()):
        for name in _NAMES:
            if (folder / name).is_file():
                yield folder / name, SPLIT_FOLDERS[folder.name.lower()]
                break


def _by_folder(table: pyarrow.Table) -> pyarrow.Table:
    """With the outermost folder of each path as its split, if the table has no splits and all of these are some."""
    import pyarrow.compute

    if "split" in table.column_names:
        return table
    first = pyarrow.compute.replace_substring_regex(table["path"], "(?s)/.*$", "").combine_chunks()
    names = {os.fsdecode(name.as_py()).lower() for name in first.unique()}
    return table.append_column("split", first.cast(pyarrow.large_string())) if names <= SPLIT_FOLDERS.keys() else table


def _with_strangers(dataset: Dataset, root: Path, tables: list[Path]) -> Dataset:
    """The dataset with the files that no table names in `left_out`."""
    import pyarrow
    import pyarrow.compute

    source = next(iter(dataset.splits.values())).source
    assert isinstance(source, Files)
    listing = list_folder(root)
    own = pyarrow.array([os.fsencode(table.relative_to(root)) for table in tables], pyarrow.large_binary())
    known = pyarrow.concat_arrays([source.paths, own])
    strange = pyarrow.compute.invert(pyarrow.compute.is_in(listing.files, value_set=known))
    names = [str(root / os.fsdecode(path)) for path in listing.files.filter(strange).to_pylist()]
    notes = [*dataset.notes, *listing.notes]
    if names:
        notes.append(
            f"{counted(len(names), 'file')} in {root.name} left out: the metadata does not name "
            f"{'it' if len(names) == 1 else 'them'} ({first_three(names)})"
        )
    return replace(
        dataset, notes=tuple(notes), left_out={**dataset.left_out, **dict.fromkeys(names, "no table names it")}
    )
