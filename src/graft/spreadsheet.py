"""Spreadsheets (`.xlsx`): the cells of each sheet, read with the package openpyxl."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.errors import DataError

ENDING = ".xlsx"


@dataclass(frozen=True)
class Sheet:
    """The rows of a sheet that are not empty, with equally many strings in each; `active` is the one shown at first."""

    name: str
    rows: list[list[str]]
    active: bool


def read_sheets(path: Path) -> list[Sheet]:
    """Return the visible sheets that have any cells, in order; those that are hidden only if no other has cells.

    Integers have no decimal point.

    Raises DataError for a file that is not a spreadsheet, or where the package is missing.
    """
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise DataError(
            f"expected the package 'openpyxl' to read {path.name}, which is not installed: "
            "pip install 'graft-vision[xlsx]', or save the sheet as CSV"
        ) from None
    try:
        book = load_workbook(path, read_only=True, data_only=True)
        active = book.active.title if book.active is not None else ""
        found: list[Sheet] = []
        for visible in (True, False):
            for sheet in book.worksheets if not found else ():
                if (sheet.sheet_state == "visible") != visible:
                    continue
                # What a sheet says of its size is out of date where a program added rows to it.
                sheet.reset_dimensions()
                rows = (_filled(row) for row in sheet.iter_rows(values_only=True))
                if kept := _of_one_width([row for row in rows if row]):
                    found.append(Sheet(sheet.title, kept, sheet.title == active))
        book.close()
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, SyntaxError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"expected a spreadsheet in {path} ({reason}): save it again, or as CSV") from None
    return found


def _filled(cells: tuple[Any, ...]) -> list[str]:
    """The cells of a row as text, without the empty ones at its end."""
    row = [_as_text(cell) for cell in cells]
    while row and not row[-1]:
        row.pop()
    return row


def _of_one_width(rows: list[list[str]]) -> list[list[str]]:
    width = max(map(len, rows), default=0)
    return [[*row, *[""] * (width - len(row))] for row in rows]


def _as_text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).lower() if isinstance(cell, bool) else str(cell)
