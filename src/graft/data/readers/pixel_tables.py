"""Tables whose cells are the pixels themselves: MNIST's `label,pixel0,…,pixel783`, FER2013's `emotion,pixels,Usage`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from graft.data.dataset import WHOLE
from graft.data.readers.column_cells import Columns, pixels_in
from graft.data.readers.finding_files import FileFinder
from graft.data.readers.grid import Grid, open_grid
from graft.data.readers.more_roles import splits
from graft.data.readers.roles import labels
from graft.data.readers.uses import numbers_in
from graft.data.table_options import TableOptions
from graft.delimited import read_csv
from graft.errors import DataError
from graft.images.numbers import square_images

TABLES = (".csv", ".tsv")


def pixel_arrays(path: Path, options: TableOptions, notes: list[str], alone: bool = True) -> dict[str, np.ndarray]:
    """Read a table's images, (N, H, W) or (N, H, W, 3), and `labels`, by split; empty for any other table.

    Appends to `notes`. Raises DataError for cells that are not pixels and, if `alone`, for a table without labels.
    """
    try:
        grid = open_grid(path)
    except DataError:
        return {}
    columns = pixels_in(grid, options)
    if not columns:
        return {}
    rest = [column for column in range(len(grid.names)) if column not in set(columns)]
    others = Grid(
        path, tuple(grid.names[column] for column in rest), lambda own: grid.read([rest[each] for each in own])
    )
    reader = Columns(others, FileFinder(path.parent), options)
    try:
        words, where = labels(reader, -1)
    except DataError as error:
        if alone:
            raise
        notes.append(f"{path.name} was left out, since it has no labels: {error}")
        return {}
    images, order = square_images(_numbers(grid, columns))
    size = "x".join(map(str, images.shape[1:3]))
    notes.append(f"{path.name}: images of {size} from its pixels{order and f', {order}'}, label from {where}")
    told = np.array(words.to_pylist(), object)
    found = splits(reader)
    split = np.full(len(told), WHOLE) if found is None else np.array(found[1].to_pylist())
    notes += reader.notes
    kept = told != ""
    if not kept.all():
        notes.append(f"{(~kept).sum():,} of {len(kept):,} rows of {path.name} left out: no label")
    return {
        f"{own}_{what}" if own != WHOLE else what: array[kept & (split == own)]
        for own in np.unique(split[kept]).tolist()
        for what, array in (("images", images), ("labels", told.astype(str)))
    }


def _numbers(grid: Grid, columns: Sequence[int]) -> np.ndarray:
    """The numbers in some columns, or between the blanks and commas of one, (N, K). Raises DataError for others."""
    import pyarrow

    read = partial(grid.read, columns)
    if len(columns) == 1:
        cells = [re.sub(rb"[\[\](),\s]+", b" ", cell or b"").strip() for cell in grid.column(columns[0]).to_pylist()]
        if b"" in cells:
            raise _no_number(grid, "an empty cell", cells.index(b""), columns[0])
        width = cells[0].count(b" ") + 1
        read = partial(read_csv, grid.path, range(width), width, " ", (0, 0), content=b"\n".join(cells))
    try:
        found = read(kind=pyarrow.uint8())
    except DataError:
        try:
            found = read(kind=pyarrow.float32())
        except DataError:
            found = [pyarrow.nulls(1)]
    if any(column.null_count for column in found):
        # Looked up only now, since reading all cells as text takes long.
        for number, texts in enumerate(read()):
            wrong = np.flatnonzero(~np.isfinite(numbers_in(texts.cast(pyarrow.large_string(), safe=False))))
            if len(wrong):
                cell = texts[wrong[0]].as_py().decode(errors="replace")
                own = columns[number if len(columns) > 1 else 0]
                raise _no_number(grid, repr(cell[:60]) if cell.strip() else "an empty cell", int(wrong[0]), own)
    return np.stack([column.to_numpy() for column in found], axis=1)


def _no_number(grid: Grid, got: str, row: int, column: int) -> DataError:
    return DataError(
        f"expected a number for every pixel in {grid.path.name}, got {got} in row {row}, counted from 0, of the column "
        f"{grid.names[column].strip()!r}: correct it, or leave the row out"
    )
