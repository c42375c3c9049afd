"""Parquet files with embedded pictures: columns `image` (struct of bytes and path, or bytes) and `label`.

The layout that image datasets on Hugging Face have. Class names come from the schema's metadata: a JSON list under
`classes`, or the label feature under `huggingface`; failing both, the labels themselves are the names. Numbers count in
the list of their own file, so files that list the classes in different orders agree.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.data.dataset import WHOLE, Dataset, Pictures
from graft.data.folder import SPLIT_FOLDERS, file_stamp
from graft.errors import DataError

if TYPE_CHECKING:
    import pyarrow


class Rows:
    """Pictures in a column of a Parquet table."""

    def __init__(self, files: list[Path], column: pyarrow.ChunkedArray) -> None:
        self.label = files[0].name if len(files) == 1 else f"{files[0].parent.name}/{files[0].stem.split('-')[0]}"
        self.column = column
        self.file_stamps = "|".join(file_stamp(path) for path in files)

    def __len__(self) -> int:
        return len(self.column)

    def name(self, row: int) -> str:
        return f"{self.label}[{row}]"

    def read(self, row: int) -> bytes:
        value = self.column[row].as_py()
        if value is None:
            raise OSError("expected an embedded picture, got an empty cell")
        return bytes(value)

    def stamp(self, row: int) -> str:
        return f"{self.file_stamps}:{row}"


def read_parquet(path: Path) -> Dataset:
    """A Dataset from one Parquet file or a folder of them, named by split: `train.parquet`, `test-00000-of-00002…`.

    Raises DataError for a file that is no Parquet, lacks a column, or labels out of range.
    """
    files = sorted(file for file in path.rglob("*.parquet") if file.is_file()) if path.is_dir() else [path]
    if not files:
        raise DataError(f"expected Parquet files in {path}, got none: add them or give another folder")
    groups: dict[str, list[Path]] = {}
    for file in files:
        groups.setdefault(_split_of(file), []).append(file)
    if len(groups) > 1 and WHOLE in groups:
        names = ", ".join(file.name for file in groups[WHOLE])
        raise DataError(f"expected every file in {path} to be named after its split, got {names}: rename or move it")
    tables = {file: _read(file) for file in files}
    labels = {file: table.column("label").to_pylist() for file, table in tables.items()}
    lists = {file: _declared_classes(table.schema) for file, table in tables.items()}
    first = next((names for names in lists.values() if names), None)
    classes = tuple(dict.fromkeys(name for names in lists.values() if names for name in names)) or _distinct(labels)
    indices = {file: _indices(labels[file], classes, lists[file] or first, file) for file in files}
    return Dataset(
        path.stem if path.is_file() else path.name,
        classes,
        {
            name: Pictures(
                Rows(parts, _join([_bytes_column(tables[file]) for file in parts])),
                np.arange(sum(len(tables[file]) for file in parts)),
                np.concatenate([indices[file] for file in parts]),
            )
            for name, parts in groups.items()
        },
    )


def _split_of(file: Path) -> str:
    stem = file.stem.lower()
    return next((split for word, split in SPLIT_FOLDERS.items() if stem == word or stem.startswith(f"{word}-")), WHOLE)


def _read(file: Path) -> pyarrow.Table:
    import pyarrow
    import pyarrow.parquet

    try:
        # Opened here: given a path, pyarrow refuses names that are not valid UTF-8.
        with file.open("rb") as opened:
            schema = pyarrow.parquet.read_schema(opened)
            missing = [name for name in ("image", "label") if name not in schema.names]
            if missing:
                raise DataError(
                    f"expected columns 'image' and 'label' in {file.name}, got {', '.join(schema.names)}: "
                    f"rename or add {' and '.join(repr(name) for name in missing)}"
                )
            opened.seek(0)
            return pyarrow.parquet.ParquetFile(opened).read(columns=["image", "label"])
    except (pyarrow.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"expected a Parquet file, got {file} ({reason}): check that it is complete") from None


def _bytes_column(table: pyarrow.Table) -> pyarrow.ChunkedArray:
    import pyarrow
    import pyarrow.compute

    column = table.column("image")
    if pyarrow.types.is_struct(column.type):
        names = [column.type.field(index).name for index in range(column.type.num_fields)]
        column = pyarrow.compute.struct_field(column, "bytes") if "bytes" in names else column
    if pyarrow.types.is_binary(column.type) or pyarrow.types.is_large_binary(column.type):
        return column
    raise DataError(f"expected pictures as bytes in the column 'image', got {column.type}: embed the files' bytes")


def _join(columns: list[pyarrow.ChunkedArray]) -> pyarrow.ChunkedArray:
    """The columns one after the other, whatever width their offsets have."""
    import pyarrow

    if len({column.type for column in columns}) > 1:
        columns = [column.cast(pyarrow.large_binary()) for column in columns]
    return pyarrow.chunked_array([chunk for column in columns for chunk in column.chunks], columns[0].type)


def _declared_classes(schema: pyarrow.Schema) -> list[str] | None:
    metadata = schema.metadata or {}
    try:
        if b"classes" in metadata:
            names = json.loads(metadata[b"classes"])
        elif b"huggingface" in metadata:
            names = json.loads(metadata[b"huggingface"])["info"]["features"]["label"]["names"]
        else:
            return None
    except (ValueError, KeyError, TypeError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def _distinct(labels: dict[Path, list[Any]]) -> tuple[str, ...]:
    values = {value for column in labels.values() for value in column if value is not None}
    numbers = all(isinstance(value, int) for value in values)
    return tuple(str(value) for value in sorted(values, key=None if numbers else str))


def _indices(labels: list[Any], classes: tuple[str, ...], declared: list[str] | None, file: Path) -> np.ndarray:
    """Labels as indices into `classes`: numbers count in the declared list, anything else is matched by name."""
    known = {name: index for index, name in enumerate(classes)}
    indices = np.empty(len(labels), dtype=np.int64)
    for row, value in enumerate(labels):
        if declared and isinstance(value, int):
            index = known[declared[value]] if 0 <= value < len(declared) else None
        else:
            index = known.get(str(value)) if value is not None else None
        if index is None:
            raise DataError(
                f"expected a label among the {len(classes)} classes of {file.name}, got {value!r} in row {row}: "
                "mend the label or the list of classes"
            )
        indices[row] = index
    return indices
