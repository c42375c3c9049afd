"""Tables as written, whatever they mean: the names of their columns, and their cells when asked for.

CSV, TSV, lists of paths and labels (`.txt`, `.lst`), JSON lines, JSON, spreadsheets, MATLAB lists and Parquet.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.annotation_exports import VIA_COLUMNS, exported_records, via_rows
from graft.array_files import matlab_columns
from graft.data.readers.column_names import known_names, plain_name
from graft.data.readers.records import read_cvat, read_records
from graft.data.readers.split_names import splits_of
from graft.delimited import BLANK_AND_QUOTED, has_odd_quotes, line_of, next_filled, next_row, read_csv, reading
from graft.endings import IMAGE_ENDING
from graft.errors import DataError
from graft.packed_tables import PACKED, ending_of, plain_table, western_table
from graft.spreadsheet import Sheet, read_sheets
from graft.words import first_few

if TYPE_CHECKING:
    import pyarrow

# Spreadsheet formats that graft does not read and refuses by name.
_OTHER_SHEETS = (".xls", ".xlsb", ".ods")
ENDINGS = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".parquet", ".json", ".xml", ".xlsx", ".mat", *_OTHER_SHEETS)
# Files with these endings may hold anything; they are tables only if their lines name images.
LIST_ENDINGS = (".txt", ".lst", ".list")
# The last one may also separate labels within a cell, so it counts only where the others separate nothing.
_SEPARATORS = (",", ";", "\t", "|")
# What may come before the first row: comments, and the `sep=` line that spreadsheet programs write.
_NO_ROW = r"#|//|(?i:sep=)"
# At most this many rows form a title above the column names.
_MOST_TITLES = 5
# How much of a list is read to tell whether it names images.
_FIRST_BYTES = 2**16
# Text with a longer first row, and JSON with more columns, are not tables.
_LONGEST_ROW, _MOST_COLUMNS = 2**23, 2**14


@dataclass(frozen=True)
class Grid:
    """The columns of a table: `read` returns those with the given numbers, as large_binary or in their own types.

    For CSV, `read` also takes a pyarrow type.

    If the first row holds no names (`named` is False), columns are named by their number, from 1. `unnamed` is the same
    table with its first row read as an image, where that is possible. In a table of `answers`, each row is all that one
    person said of an image, or that nobody has labelled it. A `western` table is written in Windows-1252. `notes`
    tell what was not read.

    Text has a `separator` of cells and `line_of`, which returns the number of the line where a row begins. If its
    double quotes are not in pairs, `unquoted` is the same table with quotes as part of the cells.
    """

    path: Path
    names: tuple[str, ...]
    read: Callable[..., list[pyarrow.ChunkedArray]]
    named: bool = True
    unnamed: Grid | None = None
    answers: bool = False
    western: bool = False
    notes: tuple[str, ...] = ()
    separator: str = ""
    line_of: Callable[[int], int] | None = None
    unquoted: Grid | None = None

    def column(self, number: int) -> pyarrow.ChunkedArray:
        return self.read([number])[0]


def open_grid(path: Path, beginning: bool = False) -> Grid:
    """Open the table in a file by its ending; `beginning` reads only the start of a list. Raises DataError if none."""
    ending, given = ending_of(path), path
    openers = {".parquet": _parquet, ".json": _json, ".xml": _cvat, ".xlsx": _sheet, ".mat": _matlab}
    openers |= {".jsonl": _json_lines, ".ndjson": _json_lines}
    if not path.is_file():
        # A pipe or a device would never end.
        raise DataError(f"expected a table in a file, got {path.name}, which is not a file: replace or remove it")
    if ending in _OTHER_SHEETS:
        raise DataError(
            f"expected a spreadsheet as .xlsx or a table as .csv, got {path.name}, whose format is not supported: "
            "save it as one of these"
        )
    with reading(path):
        path = plain_table(path)
        western = western_table(path)
        path = western or path
        longest = _FIRST_BYTES if beginning else _LONGEST_ROW
        with path.open("rb") as file:
            if (
                ending not in (".parquet", ".json", ".xml", ".xlsx", ".mat")
                and len(file.readline(longest + 1)) > longest
            ):
                raise DataError(
                    f"expected rows of at most {longest:,} bytes in {path.name}, got a longer one: split it"
                )
        is_list = ending in LIST_ENDINGS or not given.suffix
        grid = _as_exported(_list(path, beginning) if is_list else openers.get(ending, _csv)(path))
    # Show the user the given name; what is read is the unpacked content.
    if path != given:
        grid = _throughout(grid, path=given.with_suffix("") if given.suffix.lower() in PACKED else given)
    return _throughout(grid, western=True) if western is not None else grid


def _as_exported(grid: Grid) -> Grid:
    """The table, or the records in it if an annotation tool wrote it."""
    records = None
    if set(VIA_COLUMNS) <= set(grid.names):
        cells = grid.read([grid.names.index(name) for name in VIA_COLUMNS])
        records = via_rows(*([os.fsdecode(cell.as_py() or b"") for cell in column] for column in cells))
    elif grid.path.suffix.lower() in (".jsonl", ".ndjson") and {"data_row", "projects"} <= set(grid.names):
        records = exported_records(list(_lines(grid.path)))
    return replace(_of_records(grid.path, records), answers=True) if records else grid


def _throughout(grid: Grid, **changes: Any) -> Grid:
    """The table with changes to it and to its other readings."""
    unnamed, unquoted = (each and _throughout(each, **changes) for each in (grid.unnamed, grid.unquoted))
    return replace(grid, unnamed=unnamed, unquoted=unquoted, **changes)


def _csv(path: Path, quoted: bool = True) -> Grid:
    names, separator, before, is_empty = _header(path, quoted)
    read = partial(read_csv, path, width=len(names), separator=separator, quoted=quoted)
    # Programs that write tabs between cells often leave double quotes as they are.
    unquoted = _csv(path, quoted=False) if quoted and separator == "\t" and has_odd_quotes(path) else None
    begins = partial(line_of, path, separator, before)
    unnamed = Grid(
        path,
        _numbers(names),
        partial(read, skipped=(before, 0)),
        named=False,
        separator=separator,
        line_of=begins,
        unquoted=unquoted,
    )
    if is_empty:
        import pyarrow

        nothing = pyarrow.chunked_array([pyarrow.array([], pyarrow.large_binary())])
        return Grid(path, tuple(names), lambda columns: [nothing for _ in columns])
    if _is_data(names):
        return unnamed
    return replace(
        unnamed,
        names=tuple(names),
        read=partial(read, skipped=(before, 1)),
        named=True,
        line_of=lambda row: begins(row + 1),
        unnamed=replace(unnamed, unquoted=None),
    )


def _is_data(first_row: Sequence[str]) -> bool:
    """Whether the first row is about an image: it has a file name, or a number and no known column name."""
    if any(re.search(IMAGE_ENDING, cell.strip()) for cell in first_row):
        return True
    return not known_names(first_row) and any(map(_is_number, first_row))


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", cell) is not None


def _numbers(row: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(number) for number in range(1, len(row) + 1))


def _header(path: Path, quoted: bool) -> tuple[list[str], str, int, bool]:
    """The cells of the first row, their separator, the number of lines before it, and whether it is the only row."""
    found = []
    for separator in _SEPARATORS:
        # Some programs start UTF-8 with a byte order mark. Later rows may name files in any encoding.
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            rows = csv.reader(file, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
            names, before = next_filled(rows)
            while names and re.match(_NO_ROW, names[0]):
                following, start = next_filled(rows)
                called = [names[0].lstrip("#/ "), *names[1:]]
                if len(names) == len(following) and known_names(called) and not known_names(following):
                    # This comment holds the column names.
                    names = called
                    break
                names, before = following, start
            above = [(names, before)]
            while names and len(above) <= _MOST_TITLES and _filled(above[-1][0]) < 2:
                above.append((next_row(rows), rows.line_num - 1))
            if number := _title_rows([row for row, _ in above]):
                names, before = above[number]
            following = above[number + 1][0] if number + 1 < len(above) else next_row(rows)
            if len(following) == len(names) + 1 and not following[-1].strip() and names:
                # The rows end in a separator and the row of names does not.
                names = [*names, ""]
            found.append((names, separator, before, not any(cell.strip() for cell in following)))
    if any("\ufffd" in name for name in found[0][0]) and not _is_data(found[0][0]):
        raise DataError(f"expected a table in UTF-8, got other bytes in the first row of {path}: save it as UTF-8")
    names, separator, before, is_empty = max(
        found, key=lambda each: (len(known_names(each[0])), len(each[0]) > 1 and each[1] != "|", len(each[0]))
    )
    names = [re.sub(BLANK_AND_QUOTED, r"\1", name) for name in names] if quoted else names
    return names, separator, before, is_empty and not _is_data(names)


def _filled(row: Sequence[str]) -> int:
    """The number of non-empty cells in a row."""
    return sum(bool(cell.strip()) for cell in row)


def _title_rows(rows: Sequence[Sequence[str]]) -> int:
    """The number of title rows above the column names: each has one filled cell, and names follow."""
    number = next((number for number, row in enumerate(rows[: _MOST_TITLES + 1]) if _filled(row) > 1), 0)
    # A column may have the same name as the title, and a cell the name of a column.
    wanted = 2 if number and known_names(rows[0]) else 1
    return number if len(known_names(rows[number])) >= wanted and not any(map(_is_number, rows[number])) else 0


def _list(path: Path, beginning: bool = False) -> Grid:
    """A list with one image per line: its path and label, or more, separated by blanks, tabs or commas."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        # The last line may be cut off, and may be of any length.
        some = file.read(_FIRST_BYTES).split("\n") if beginning else file
        if isinstance(some, list) and len(some) > 1 and file.read(1):
            some.pop()
        lines = [line.rstrip("\r\n") for line in some if line.strip()]
    comments = [line.lstrip("# ").split() for line in lines if line.startswith("#")]
    lines = [line for line in lines if not line.startswith("#")]
    if not lines or any(separator in lines[0] for separator in _SEPARATORS[:-1]):
        return _csv(path)
    if all(re.match(r"[^|\s]+\|", line) and line.count("|") == lines[0].count("|") for line in lines):
        return _csv(path)
    rows = [line.split() for line in lines]
    if any(len(row) != len(rows[0]) for row in rows):
        first = {row[0] for row in rows}
        ended = [re.search(IMAGE_ENDING, row[-1]) is not None for row in rows]
        numbered = len(first) == len(rows) and all(map(str.isdecimal, first)) and all(ended)
        if 2 * sum(len(row) == 1 for row in rows) > len(rows):
            # Only paths, some with blanks in them.
            rows = [[line] for line in lines]
        elif numbered or (
            len(first) == len(rows) and not any(re.search(IMAGE_ENDING, cell) for row in rows for cell in row[1:])
        ):
            # What follows the number or the label has blanks in it.
            rows = [line.split(None, 1) for line in lines]
        else:
            # The path may have blanks in it; the label comes last.
            rows = [line.rsplit(None, 1) for line in lines]
    width = max(map(len, rows))
    cells = [[row[number] if number < len(row) else "" for row in rows] for number in range(width)]
    # Comments other than the header may have as many words.
    comments = [each for each in comments if len(each) == width and not any(":" in word for word in each)]
    names = next((tuple(each) for each in reversed(comments) if known_names(each)), None)
    if names is not None:
        return _of_cells(path, names, cells)
    unnamed = replace(_of_cells(path, _numbers(rows[0]), cells), named=False)
    if not known_names(rows[0]):
        return unnamed
    return _of_cells(path, tuple(rows[0]), [column[1:] for column in cells])


def _of_cells(path: Path, names: tuple[str, ...], cells: Sequence[Sequence[str | None]]) -> Grid:
    import pyarrow

    @cache
    def encoded(column: int) -> pyarrow.ChunkedArray:
        texts = [None if cell is None else os.fsencode(cell) for cell in cells[column]]
        return pyarrow.chunked_array([pyarrow.array(texts, pyarrow.large_binary())])

    return Grid(path, names, lambda columns: [encoded(column) for column in columns])


def _json_lines(path: Path) -> Grid:
    names = tuple(next(_lines(path), {}))

    def read(columns: Sequence[int]) -> list[pyarrow.ChunkedArray]:
        wanted: dict[str, list[str | None]] = {names[column]: [] for column in columns}
        with reading(path):
            for row in _lines(path):
                for name, cells in wanted.items():
                    cells.append(as_cell(row.get(name)))
        return _of_cells(path, names, [wanted.get(name, []) for name in names]).read(columns)

    return Grid(path, names, read)


def as_cell(value: Any) -> str | None:
    """A JSON value as a cell: text unchanged, anything else as JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    # Numbers keep their original spelling.
    decoder = json.JSONDecoder(parse_int=str, parse_float=str)
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = decoder.decode(line)
            except (ValueError, RecursionError):
                row = line.strip()
            if not isinstance(row, dict):
                raise DataError(
                    f"expected a JSON object in every line of {path.name}, got {line.strip()[:60]!r} in line {number}: "
                    "correct it"
                )
            yield row


def _json(path: Path) -> Grid:
    records, answers = read_records(path)
    return replace(_of_records(path, records), answers=answers)


def _cvat(path: Path) -> Grid:
    return _of_records(path, read_cvat(path))


def _of_records(path: Path, records: Sequence[dict[str, Any]]) -> Grid:
    names = tuple(dict.fromkeys(name for record in records for name in record))
    if len(names) > _MOST_COLUMNS:
        raise DataError(
            f"expected at most {_MOST_COLUMNS:,} columns in {path.name}, got {len(names):,}: write a record per image"
        )
    grid = _of_cells(path, names, [[as_cell(record.get(name)) for record in records] for name in names])
    return replace(grid, named=not all(name.isdigit() or name == "split" for name in names))


def _sheet(path: Path) -> Grid:
    sheets = read_sheets(path)
    fitting = [sheet for sheet in sheets if _may_name_images(sheet.rows)]
    if len(fitting) > 1 and (joined := _joined_sheets(path, fitting)) is not None:
        return joined
    chosen = next((sheet for sheet in fitting if sheet.active), next(iter(fitting or sheets), None))
    if chosen is None:
        return _of_cells(path, (), [])
    grid = _of_rows(path, chosen.rows)
    if len(fitting) < 2:
        return grid
    others = [sheet.name for sheet in fitting if sheet is not chosen]
    note = (
        f"{path.name}: the sheet {chosen.name!r} was read, 1 of {len(sheets)}; {first_few(map(repr, others))} "
        f"{'was' if len(others) == 1 else 'were'} not: save a sheet as CSV to read it, or name each after its split"
    )
    return replace(grid, notes=(note,), unnamed=grid.unnamed and replace(grid.unnamed, notes=(note,)))


def _joined_sheets(path: Path, sheets: Sequence[Sheet]) -> Grid | None:
    """The rows of sheets that are all named after splits, with these splits; None if not, or if columns differ."""
    splits = splits_of(sheet.name for sheet in sheets)
    of_sheets = [_of_rows(path, sheet.rows) for sheet in sheets]
    spelled = [[plain_name(name) for name in grid.names] for grid in of_sheets]
    if len(splits) < len(sheets) or any(names != spelled[0] for names in spelled) or "split" in spelled[0]:
        return None
    numbers = range(len(spelled[0]))
    cells = [[cell for grid in of_sheets for cell in grid.column(number).to_pylist()] for number in numbers]
    own = [
        splits[sheet.name] for sheet, grid in zip(sheets, of_sheets, strict=True) for _ in range(len(grid.column(0)))
    ]
    grid = _of_cells(
        path, (*of_sheets[0].names, "split"), [*([os.fsdecode(each) for each in column] for column in cells), own]
    )
    shown = " and ".join(repr(sheet.name) for sheet in sheets)
    note = f"{path.name}: the sheets {shown} were read, each as the split that it is named after"
    return replace(grid, named=of_sheets[0].named, notes=(note,))


def _of_rows(path: Path, rows: Sequence[Sequence[str]]) -> Grid:
    rows = rows[_title_rows(rows) :]
    cells = [list(column) for column in zip(*rows, strict=True)]
    unnamed = replace(_of_cells(path, _numbers(rows[0]), cells), named=False)
    if _is_data(rows[0]):
        return unnamed
    return replace(_of_cells(path, tuple(rows[0]), [column[1:] for column in cells]), unnamed=unnamed)


def _may_name_images(rows: Sequence[Sequence[str]]) -> bool:
    """Whether rows of a sheet come from a table of images, by its column names or its first cells."""
    rows = rows[_title_rows(rows) :][: _MOST_TITLES + 1]
    return len(known_names(rows[0])) > 1 or any(re.search(IMAGE_ENDING, cell.strip()) for row in rows for cell in row)


def _matlab(path: Path) -> Grid:
    columns = matlab_columns(path)
    return _of_cells(path, tuple(columns), list(columns.values()))


def _parquet(path: Path) -> Grid:
    import pyarrow
    import pyarrow.parquet

    with pyarrow.OSFile(os.fsencode(path)) as file:
        names = tuple(pyarrow.parquet.read_schema(file).names)

    def read(columns: Sequence[int]) -> list[pyarrow.ChunkedArray]:
        with reading(path), pyarrow.OSFile(os.fsencode(path)) as file:
            table = pyarrow.parquet.ParquetFile(file).read(columns=[names[column] for column in sorted(set(columns))])
        return [table[names[column]] for column in columns]

    return Grid(path, names, read)
