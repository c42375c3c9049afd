"""Text with cells between separators (CSV, TSV): its columns, and which line a row begins in."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.errors import DataError

if TYPE_CHECKING:
    import pyarrow

# A cell whose double quotes do not count, since they are behind a blank.
BLANK_AND_QUOTED = r'^[ \t]+"([^"\n]*)"[ \t]*$'


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn any error in reading a table into a DataError."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, csv.Error, UnicodeDecodeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(
            f"expected a table with as many cells in every row as in its first, in UTF-8, got {path} ({reason}): "
            "correct it or save it again"
        ) from None


def has_odd_quotes(path: Path) -> bool:
    """Whether a line has double quotes that are not in pairs."""
    with path.open("rb") as file:
        return any(line.count(b'"') % 2 for line in file)


def line_of(path: Path, separator: str, before: int, row: int) -> int:
    """The number of the line, from 1, in which a row begins."""
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = csv.reader(islice(file, before, None), delimiter=separator)
        start = 0
        # A cell may exceed the field limit of this reader.
        with suppress(csv.Error):
            for each in rows:
                if each and row == 0:
                    break
                row, start = row - bool(each), rows.line_num
    return before + start + 1


def next_filled(rows: Any) -> tuple[list[str], int]:
    """The cells of the next row of a CSV reader that has any but blanks, or none, and the number of lines before it."""
    before = rows.line_num
    for row in rows:
        if any(cell.strip() for cell in row):
            return row, before
        before = rows.line_num
    return [], before


def next_row(rows: Iterator[list[str]]) -> list[str]:
    """The cells of the next row that is not blank, or none at the end."""
    try:
        return next((row for row in rows if row), [])
    except csv.Error:
        # A cell of pixels may exceed the field limit of this reader.
        return ["pixels"]


def read_csv(
    path: Path,
    columns: Sequence[int],
    width: int,
    separator: str,
    skipped: tuple[int, int],
    kind: pyarrow.DataType | None = None,
    content: bytes | None = None,
    quoted: bool = True,
) -> list[pyarrow.ChunkedArray]:
    """Read columns of the CSV at `path`, or of its part `content`. Raises DataError for cells not of type `kind`."""
    import pyarrow
    import pyarrow.csv

    numbers = [str(number) for number in range(width)]
    with reading(path), _naming_ragged(path, separator, skipped[0], width), pyarrow.OSFile(os.fsencode(path)) as file:
        table = pyarrow.csv.read_csv(
            file if content is None else pyarrow.BufferReader(content),
            # A block must hold a whole row, and cells may be long.
            pyarrow.csv.ReadOptions(
                skip_rows=skipped[0], column_names=numbers, skip_rows_after_names=skipped[1], block_size=2**23
            ),
            pyarrow.csv.ParseOptions(
                delimiter=separator, quote_char='"' if quoted else False, newlines_in_values=quoted
            ),
            pyarrow.csv.ConvertOptions(
                include_columns=[numbers[column] for column in sorted(set(columns))],
                column_types=dict.fromkeys(numbers, kind or pyarrow.large_binary()),
            ),
        )
    found = [table[numbers[column]] for column in columns]
    if not quoted or kind is not None or content is not None:
        return found
    return [_without_quotes(cells, path, separator) for cells in found]


def _without_quotes(cells: pyarrow.ChunkedArray, path: Path, separator: str) -> pyarrow.ChunkedArray:
    """The cells without the double quotes around those that are written with a blank before: `a.png, "cat"`."""
    import pyarrow.compute

    if not pyarrow.compute.any(pyarrow.compute.match_substring_regex(cells, BLANK_AND_QUOTED)).as_py():
        return cells
    # A cell may also hold these quotes itself, within others.
    blank = re.compile(rb"(^|" + re.escape(separator).encode() + rb')[ \t]+"')
    with path.open("rb") as file:
        if not any(blank.search(line) for line in file):
            return cells
    return pyarrow.compute.replace_substring_regex(cells, BLANK_AND_QUOTED, r"\1")


@contextmanager
def _naming_ragged(path: Path, separator: str, before: int, width: int) -> Iterator[None]:
    """Name the row that has more or fewer cells than the first."""
    import pyarrow

    try:
        yield
    except pyarrow.ArrowInvalid as error:
        if re.search(r"Expected \d+ columns, got \d+", str(error)) is None:
            raise
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            rows = csv.reader(islice(file, before, None), delimiter=separator)
            found = next(((rows.line_num, row) for row in rows if row and len(row) != width), None)
        if found is None:
            raise
        line, row = found
        advice = (
            f"put cells that have {separator!r} in them between double quotes"
            if len(row) > width
            else "write those that are missing"
        )
        raise DataError(
            f"expected as many cells in every row of {path.name} as in its first, {width}, got {len(row)} in line "
            f"{before + line} ({separator.join(row)[:80]}): {advice}"
        ) from None
