"""Notes on the columns of a data frame that nobody named, but that may say what no split may divide, or a split."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.data.readers.column_cells import Columns
from graft.data.readers.finding_files import FileFinder
from graft.data.readers.grid import Grid
from graft.data.readers.more_roles import groups, seeming_groups, splits
from graft.data.table_options import TableOptions
from graft.errors import DataError

if TYPE_CHECKING:
    import pyarrow

Cells = Callable[[str], Any]
# The kinds of cells that a table could have; numpy's and pandas' numbers count as these.
_SIMPLE = (str, int, float, np.generic, date)


def notes_on_unused(
    name: str, names: Sequence[Any], cells_of: Cells, used: Collection[str], roles: pyarrow.Table
) -> tuple[str, ...]:
    """Return the notes that a table of these columns would get on those it leaves unused.

    `cells_of` returns a column by its name, `used` are the columns that have a role, and `roles` the text of these.
    """
    import pyarrow

    unused = {number for number, own in enumerate(names) if isinstance(own, str) and own not in used}
    unused = {number for number in unused if list(names).count(names[number]) == 1}
    columns_of = {number: _as_arrow(cells_of(names[number]), len(roles)) for number in unused}
    # Cells that are not text, such as images, say nothing here.
    silent = {number for number, found in columns_of.items() if found is None}
    called = ["" if number in silent else str(own) for number, own in enumerate(names)]
    nothing = pyarrow.chunked_array([pyarrow.nulls(len(roles), pyarrow.large_string())])

    def column(number: int) -> pyarrow.ChunkedArray:
        found = columns_of.get(number)
        return nothing if found is None else found

    grid = Grid(Path(name), tuple(called), lambda columns: [column(number) for number in columns])
    taken = {number for number, each in enumerate(names) if each in used}
    columns = Columns(grid, FileFinder(Path()), TableOptions(), taken=taken)
    with suppress(DataError):
        if "split" not in roles.column_names and (found := splits(columns)) is not None:
            shown = columns.shown(found[0])
            columns.notes.append(f"{shown} was not used, though it may say which split images are in: --split {shown}")
        if "group" not in roles.column_names and (found := groups(columns, None)) is not None:
            shown = columns.shown(found[0])
            columns.notes.append(
                f"{shown} was not used, though it may say which images belong together: --group {shown} keeps them in "
                "one split"
            )
        elif not {"group", "split"} & set(roles.column_names):
            columns.notes += seeming_groups(columns, roles["label"], columns.taken)
    # The columns of a frame are named by arguments of these names.
    return tuple(re.sub(r"--(split|group)-column\b", r"--\1", note) for note in columns.notes)


def _as_arrow(cells: Any, count: int) -> pyarrow.ChunkedArray | None:
    """Return `count` cells as an arrow column, as text if they are of several kinds; None for cells of anything else.

    None, too, if all are missing.
    """
    import pyarrow

    if not hasattr(cells, "__len__") or len(cells) != count:
        return None
    if not isinstance(next((cell for cell in cells if cell is not None), None), _SIMPLE):
        return None
    # Arrow takes a column of pandas as a whole, which is much faster than cell by cell.
    with suppress(pyarrow.ArrowException, TypeError, ValueError, OverflowError):
        found = pyarrow.array(cells, from_pandas=True)
        found = found if isinstance(found, pyarrow.ChunkedArray) else pyarrow.chunked_array([found])
        return None if found.null_count == count else found
    if not all(cell is None or isinstance(cell, _SIMPLE) for cell in cells):
        return None
    texts = [_as_text(cell) for cell in cells]
    return pyarrow.chunked_array([pyarrow.array(texts, pyarrow.large_string())]) if any(texts) else None


def _as_text(cell: Any) -> str | None:
    return None if cell is None or cell != cell else str(cell).encode(errors="backslashreplace").decode()
