"""Spreadsheets (`.xlsx`): the sheet that holds the table, read with the package openpyxl."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graft.errors import DataError

ENDING = ".xlsx"


def read_sheet(path: Path, fits: Callable[[list[list[str]]], bool] = bool) -> list[list[str]]:
    """Return the non-empty rows of the first sheet that `fits`, or else of the first that has any.

    Rows are strings, equally many in each; integers have no decimal point.

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
        sheets = ([[_as_text(cell) for cell in row] for row in sheet.iter_rows(values_only=True)] for sheet in book)
        rows: list[list[str]] = []
        for sheet in sheets:
            kept = _of_one_width([row for row in sheet if any(row)])
            if kept and fits(kept):
                rows = kept
                break
            rows = rows or kept
        book.close()
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, SyntaxError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"expected a spreadsheet in {path} ({reason}): save it again, or as CSV") from None
    return rows


def _of_one_width(rows: list[list[str]]) -> list[list[str]]:
    width = max(map(len, rows), default=0)
    return [[*row, *[""] * (width - len(row))] for row in rows]


def _as_text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).lower() if isinstance(cell, bool) else str(cell)
