"""Manifests: a row per image with its path and label, as CSV, TSV, JSON lines or Parquet.

The columns are `path`, `label` and optionally `split`, `group` and `weight`; `columns.SPELLINGS` has other names for
them. Paths are relative to the folder of the manifest, absolute, or addresses (`https://…`, `s3://…`).
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.data.dataset import Dataset
from graft.data.readers.columns import arrange_rows, as_text, find_columns, first_three, require_columns
from graft.data.readers.folder import Files
from graft.data.readers.remote import SCHEME, Addresses
from graft.errors import DataError
from graft.names import restored
from graft.words import counted

if TYPE_CHECKING:
    import pyarrow

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
_SEPARATORS = (",", ";", "\t")
# Asking the system about one file takes about as long as listing ten, so a folder with fewer rows is not listed.
_WORTH_LISTING = 100


def read_table(path: Path, group: str | None = None) -> Dataset:
    """A Dataset from a manifest. `group` names the column of groups, by default `group`.

    Missing files, and rows without path, label or split, are left out by name. Raises DataError for a table that cannot
    be read or of which no image is left.
    """
    return arrange_table(path.stem, path.parent, read_columns(path, group))


def arrange_table(name: str, root: Path, table: pyarrow.Table) -> Dataset:
    """A Dataset from the columns of a manifest as `read_columns` gives them, paths relative to `root`."""
    import pyarrow.compute

    paths, there = _locate(root, table["path"].combine_chunks())
    addresses = _are_addresses(paths)
    source = Addresses(root, paths) if addresses.any() else Files(root, paths)
    named = pyarrow.compute.greater(pyarrow.compute.binary_length(paths), 0).to_numpy(zero_copy_only=False)
    there |= addresses
    notes: list[str] = []
    left_out: dict[str, str] = {}
    if not named.all():
        unnamed = np.flatnonzero(~named).tolist()
        notes.append(f"{len(unnamed):,} of {counted(len(table), 'row')} of {name} left out: no path")
        left_out |= {f"{name}, row {row}": "it has no path" for row in unnamed}
    missing = np.flatnonzero(named & ~there).tolist()
    if missing:
        if not there.any():
            raise DataError(
                f"expected the images that {name} names below {root}, got none of {len(missing):,}; there is no "
                f"{source.name(missing[0])!r}: move the table to the folder that its paths start from, or correct them"
            )
        files = {source.name(row): "no such file" for row in missing}
        notes.append(
            f"{counted(len(files), 'file')} that {name} names left out: no such file ({first_three(list(files))})"
        )
        left_out |= files
    table = table.set_column(table.column_names.index("path"), "path", paths)
    return arrange_rows(name, source, table, usable=named & there, notes=notes, left_out=left_out)


def read_paths(path: Path) -> Files:
    """The images that a manifest names, one per row, with labels or without; some may not exist.

    Raises DataError for a table that cannot be read, or has no column of paths.
    """
    with _reading(path):
        names = column_names(path)
        found = find_columns(names)
        require_columns(found, path, names, ("path",))
        table = _reader(path)(path, {"path": found["path"]})
    paths, _ = _locate(path.parent, _as_path(table["path"], path).combine_chunks())
    return Addresses(path.parent, paths) if _are_addresses(paths).any() else Files(path.parent, paths)


def _are_addresses(paths: pyarrow.LargeBinaryArray) -> np.ndarray:
    import pyarrow.compute

    return pyarrow.compute.match_substring_regex(paths, SCHEME).to_numpy(zero_copy_only=False)


def read_columns(path: Path, group: str | None = None) -> pyarrow.Table:
    """The columns of a manifest by their roles: `path` as large_binary, the others as `as_text` gives them."""
    import pyarrow

    with _reading(path):
        names = column_names(path)
        found = find_columns(names, group)
        require_columns(found, path, names)
        table = _reader(path)(path, found)
    columns = {}
    for role in table.column_names:
        if role == "path":
            columns[role] = _as_path(table[role], path)
        else:
            columns[role] = as_text(table[role], f"the column of the {role} in {path.name}")
    return pyarrow.table(columns)


def column_names(path: Path) -> list[str]:
    """The names of the columns of a manifest. Raises DataError if it is no table."""
    with _reading(path):
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet

            with pyarrow.OSFile(os.fsencode(path)) as file:
                return list(pyarrow.parquet.read_schema(file).names)
        if path.suffix.lower() == ".jsonl":
            return list(next(_json_lines(path), {}))
        return _csv_header(path)[0]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, csv.Error, UnicodeDecodeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(
            f"expected a table with as many cells in every row as in its first, in UTF-8, got {path} ({reason}): "
            "correct it or save it again"
        ) from None


def starting_from(table: pyarrow.Table, folder: Path) -> pyarrow.Table:
    """The same columns with `folder` put before relative paths."""
    import pyarrow
    import pyarrow.compute

    if folder == Path():
        return table
    paths = table["path"].combine_chunks()
    fixed = pyarrow.compute.match_substring_regex(paths, f"{SCHEME}|^/|^$")
    place = table.column_names.index("path")
    return table.set_column(
        place, "path", pyarrow.compute.if_else(fixed, paths, _below(os.fsencode(folder) + b"/", paths))
    )


def _reader(path: Path) -> Callable[[Path, dict[str, int]], pyarrow.Table]:
    return {".parquet": _read_parquet, ".jsonl": _read_json_lines}.get(path.suffix.lower(), _read_csv)


def _read_csv(path: Path, found: dict[str, int]) -> pyarrow.Table:
    import pyarrow
    import pyarrow.csv

    names, separator, is_empty = _csv_header(path)
    if is_empty:
        return pyarrow.table({role: pyarrow.array([], pyarrow.large_binary()) for role in found})
    numbers = [str(number) for number in range(len(names))]
    with pyarrow.OSFile(os.fsencode(path)) as file:
        table = pyarrow.csv.read_csv(
            file,
            # A block has to hold a whole row, and cells may be long.
            pyarrow.csv.ReadOptions(column_names=numbers, skip_rows_after_names=1, block_size=2**23),
            pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            pyarrow.csv.ConvertOptions(
                include_columns=[numbers[column] for column in set(found.values())],
                column_types=dict.fromkeys(numbers, pyarrow.large_binary()),
            ),
        )
    return pyarrow.table({role: table[numbers[column]] for role, column in found.items()})


def _csv_header(path: Path) -> tuple[list[str], str, bool]:
    """The names in the first row, their separator, and whether no other row follows."""
    found = []
    for separator in _SEPARATORS:
        # Some programs begin UTF-8 with a byte order mark. Rows below may name files in any encoding.
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            names = next(csv.reader(file, delimiter=separator), [])
            found.append((names, separator, not any(line.strip() for line in file)))
    if any("\ufffd" in name for name in found[0][0]):
        raise DataError(f"expected a table in UTF-8, got other bytes in the first row of {path}: save it as UTF-8")
    return max(found, key=lambda each: (len(find_columns(each[0])), len(each[0])))


def _read_json_lines(path: Path, found: dict[str, int]) -> pyarrow.Table:
    import pyarrow

    names = column_names(path)
    columns: dict[str, list[str | None]] = {role: [] for role in found}
    for row in _json_lines(path):
        for role, place in found.items():
            cell = row.get(names[place])
            columns[role].append(cell if cell is None or isinstance(cell, str) else json.dumps(cell))
    return pyarrow.table({role: pyarrow.array(cells, pyarrow.large_string()) for role, cells in columns.items()})


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    # Numbers keep their spelling.
    decoder = json.JSONDecoder(parse_int=str, parse_float=str)
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    row = decoder.decode(line)
                except ValueError as error:
                    row = str(error)
                if not isinstance(row, dict):
                    raise DataError(
                        f"expected a JSON object in every line of {path.name}, got {line.strip()[:60]!r} in line "
                        f"{number}: correct it"
                    )
                yield row


def _read_parquet(path: Path, found: dict[str, int]) -> pyarrow.Table:
    import pyarrow
    import pyarrow.parquet

    with pyarrow.OSFile(os.fsencode(path)) as file:
        opened = pyarrow.parquet.ParquetFile(file)
        names = opened.schema_arrow.names
        table = opened.read(columns=[names[column] for column in set(found.values())])
    return pyarrow.table({role: table[names[column]] for role, column in found.items()})


def _as_path(column: pyarrow.ChunkedArray, path: Path) -> pyarrow.ChunkedArray:
    import pyarrow

    try:
        return column.cast(pyarrow.large_binary()).fill_null(b"")
    except pyarrow.ArrowNotImplementedError:
        raise DataError(
            f"expected paths in {path.name}, got a column of {column.type}: write the paths of the files there"
        ) from None


def _locate(root: Path, paths: pyarrow.LargeBinaryArray) -> tuple[pyarrow.LargeBinaryArray, np.ndarray]:
    """Paths as the files below `root` are spelled, and which of them exist, bool (N,).

    A path without a file is tried again as `graft.names` writes names that are not text, and then without surrounding
    spaces and with slashes in place of backslashes.
    """
    import pyarrow.compute

    there = _exist(root, paths)
    for respelled in (_restored, _tidy):
        missing = np.flatnonzero(~there)
        tried = respelled(paths.take(missing))
        differs = pyarrow.compute.not_equal(tried, paths.take(missing))
        missing, tried = missing[differs.to_numpy(zero_copy_only=False)], tried.filter(differs)
        if len(missing):
            found = _exist(root, tried)
            there[missing] = found
            mask = np.zeros(len(paths), bool)
            mask[missing[found]] = True
            paths = pyarrow.compute.replace_with_mask(paths, mask, tried.filter(found))
    return paths, there


def _restored(paths: pyarrow.LargeBinaryArray) -> pyarrow.LargeBinaryArray:
    import pyarrow
    import pyarrow.compute

    if not pyarrow.compute.any(pyarrow.compute.match_substring(paths, "\\x")).as_py():
        return paths
    names = (os.fsencode(restored(os.fsdecode(path.as_py()))) for path in paths)
    return pyarrow.array(names, pyarrow.large_binary())


def _tidy(paths: pyarrow.LargeBinaryArray) -> pyarrow.LargeBinaryArray:
    import pyarrow.compute

    slashes = pyarrow.compute.replace_substring(paths, "\\", "/")
    return pyarrow.compute.replace_substring_regex(slashes, r"^\s+|\s+$", "")


def _below(folder: bytes, names: pyarrow.LargeBinaryArray) -> pyarrow.LargeBinaryArray:
    import pyarrow
    import pyarrow.compute

    start, nothing = (pyarrow.scalar(text, pyarrow.large_binary()) for text in (folder, b""))
    return pyarrow.compute.binary_join_element_wise(start, names, nothing)


def _exist(root: Path, paths: pyarrow.LargeBinaryArray) -> np.ndarray:
    """Which paths below `root` exist, bool (N,)."""
    import pyarrow
    import pyarrow.compute

    # With os.path: as a Path, each of a million files would take three times as long.
    start = os.fsencode(root)
    folders = pyarrow.compute.replace_substring_regex(paths, "[^/]*$", "").dictionary_encode()
    of_row = folders.indices.to_numpy()
    counts = np.bincount(of_row, minlength=len(folders.dictionary))
    listed, exact = [pyarrow.array([], pyarrow.large_binary())], np.zeros(len(counts), bool)
    for number in np.flatnonzero(counts >= _WORTH_LISTING).tolist():
        folder = folders.dictionary[number].as_py()
        names, exact[number] = _list(os.path.join(start, folder))  # noqa: PTH118
        listed.append(_below(folder, pyarrow.array(names, pyarrow.large_binary())))
    there = np.array(pyarrow.compute.is_in(paths, value_set=pyarrow.concat_arrays(listed)))
    for row in np.flatnonzero(~there & ~exact[of_row]).tolist():
        path = paths[row].as_py()
        there[row] = bool(path) and os.path.exists(os.path.join(start, path))  # noqa: PTH110, PTH118
    return there


def _list(folder: bytes) -> tuple[list[bytes], bool]:
    """The names in a folder, and whether a file that is not among them certainly does not exist.

    It may exist if the folder cannot be listed, or if its disk ignores the case of names.
    """
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return [], True
    except (OSError, ValueError):
        return [], False
    other = next((name.swapcase() for name in names if name.swapcase() != name), None)
    return names, other is None or other in names or not os.path.exists(os.path.join(folder, other))  # noqa: PTH110, PTH118
