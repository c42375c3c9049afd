"""Lists that each say one thing about numbered images and are joined by the numbers, as in CUB-200.

Each line of `images.txt` has a number and a path, of `image_class_labels.txt` a number and a class, and of
`train_test_split.txt` a number and 0 or 1; `classes.txt` names each class. The name and cells of a list tell what it
means.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graft.data.readers.column_cells import Columns
from graft.data.readers.column_names import ABOUT_SPLITS
from graft.data.readers.finding_files import FileFinder
from graft.data.readers.found_table import Found
from graft.data.readers.grid import LIST_ENDINGS, open_grid
from graft.data.readers.uses import as_splits
from graft.data.table_options import TableOptions
from graft.errors import DataError
from graft.packed_tables import ending_of

if TYPE_CHECKING:
    import pyarrow

_ENDINGS = (".csv", ".tsv", *LIST_ENDINGS)
_LABELS = re.compile(r"(?i)class|label|categor|species|breed|identit")
_NAMES = re.compile(r"(?i)class|label|categor|species|breed|name|synset")
# The share of a list's second cells that must lead to files.
_MOST = 0.9


def join_lists(files: Sequence[Path], finder: FileFinder, options: TableOptions) -> Found | None:
    """Join lists by number into a table of images with labels and perhaps splits; None if there are no such lists.

    Raises DataError if two lists could give the labels.
    """
    import pyarrow
    import pyarrow.compute

    lists = dict(_lists_of_two(files, finder, options))
    base = next((file for file in lists if _names_files(lists[file])), None)
    if base is None:
        return None
    numbers, paths = lists[base].text(0), lists[base].paths(1)
    rows = {file: _same_rows(numbers, lists[file].text(0)) for file in lists if file != base}
    said = {file: lists[file].text(1).take(order) for file, order in rows.items() if order is not None}
    splits = {file: found for file, cells in said.items() if (found := as_splits(file.stem, cells)) is not None}
    splits = {file: found for file, found in splits.items() if re.search(ABOUT_SPLITS, file.stem)}
    labels = [file for file in said if file not in splits and _LABELS.search(file.stem)]
    if len(labels) > 1:
        raise DataError(
            f"expected one list of the labels of {base.name}, got {' and '.join(file.name for file in labels)}: give "
            "a table of paths and labels as DATA, or move one of them elsewhere"
        )
    if not labels:
        return None
    used = [base, labels[0], *list(splits)[:1]]
    columns = {"path": paths, "label": said[labels[0]]}
    if splits:
        columns["split"] = splits[used[2]]
    for file in lists:
        if file not in (*said, base) and _NAMES.search(file.stem):
            known = lists[file].text(0).combine_chunks()
            places = pyarrow.compute.index_in(columns["label"].combine_chunks(), value_set=known)
            if not places.null_count and len(known.unique()) == len(known):
                columns["label"] = pyarrow.chunked_array([lists[file].text(1).combine_chunks().take(places)])
                used.append(file)
                break
    located = finder.locate(paths.combine_chunks())
    table = pyarrow.table({**columns, "path": located.paths})
    shown = ", ".join(file.name for file in used)
    note = (
        f"{shown} were joined by their numbers: path from {base.name}, label from {labels[0].name}"
        + (f", split from {used[2].name}" if splits else "")
        + (f", names from {used[-1].name}" if len(used) > 2 + bool(splits) else "")
    )
    return Found(tuple(dict.fromkeys([*used, *said])), table, located.there, (note, *located.notes))


def _lists_of_two(files: Sequence[Path], finder: FileFinder, options: TableOptions):  # type: ignore[no-untyped-def]
    """Yield each list of two columns whose first cells are all different."""
    for file in files:
        if ending_of(file) not in _ENDINGS:
            continue
        try:
            if len(open_grid(file, beginning=True).names) != 2:
                continue
            grid = open_grid(file)
            columns = Columns(grid, finder, options)
            distinct = len(grid.names) == 2 and len(columns.text(0).unique()) == len(columns.text(0)) > 1
        except DataError:
            continue
        if distinct:
            yield file, columns


def _names_files(columns: Columns) -> bool:
    """Whether the second cells are paths and the first are not."""
    return columns.looks_like_paths(1) and not columns.looks_like_paths(0) and columns.found_share(1) >= _MOST


def _same_rows(numbers: pyarrow.ChunkedArray, others: pyarrow.ChunkedArray) -> pyarrow.Array | None:
    """The position of each number among the others, or None if they are not the same numbers."""
    import pyarrow.compute

    if len(numbers) != len(others):
        return None
    found = pyarrow.compute.index_in(numbers.combine_chunks(), value_set=others.combine_chunks())
    return None if found.null_count else found
