"""Notes on the columns of a data frame that nobody named, but that may say what no split may divide, or a split."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.data.readers.column_cells import Columns
from graft.data.readers.finding_files import FileFinder
from graft.data.readers.grid import Grid
from graft.data.readers.more_roles import groups, seeming_groups, splits
from graft.data.table_options import TableOptions
from graft.errors import DataError

if TYPE_CHECKING:
    import pyarrow

Cells = Callable[[str], Any]


def notes_on_unused(
    name: str, names: Sequence[Any], cells_of: Cells, used: Collection[str], roles: pyarrow.Table
) -> tuple[str, ...]:
    """Return the notes that a table of these columns would get on those it leaves unused.

    `cells_of` returns a column by its name, `used` are the columns that have a role, and `roles` the text of these.
    """
    grid = Grid(Path(name), tuple(map(str, names)), lambda columns: [column(number) for number in columns])

    @cache
    def column(number: int) -> pyarrow.ChunkedArray:
        # Cells that are not text, such as images, say nothing here.
        own = names[number]
        readable = isinstance(own, str) and own not in used and list(names).count(own) == 1
        return _as_arrow(cells_of(own)) if readable else _as_arrow([None] * len(roles))

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


def _as_arrow(cells: Any) -> pyarrow.ChunkedArray:
    """Return cells as an arrow column: as text if they are of several kinds, and all missing if some are neither text
    nor numbers.
    """
    import pyarrow

    # Arrow takes a column of pandas as a whole, which is much faster than cell by cell.
    with suppress(pyarrow.ArrowException, TypeError, ValueError):
        found = pyarrow.array(cells, from_pandas=True)
        return found if isinstance(found, pyarrow.ChunkedArray) else pyarrow.chunked_array([found])
    cells = list(cells)
    simple = all(cell is None or isinstance(cell, str | int | float) for cell in cells)
    texts = [str(cell) if simple and cell is not None and cell == cell else None for cell in cells]
    return pyarrow.chunked_array([pyarrow.array(texts, pyarrow.large_string())])
