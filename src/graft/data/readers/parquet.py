"""Parquet files with embedded images: a column of structs with `bytes`, or of bytes, and one of labels.

This is the layout of image datasets on the Hugging Face Hub. Class names come from the schema metadata: a JSON list
under `classes`, or the label feature under `huggingface`; failing both, the labels themselves are the names. Numbers
index the list in their own file, so files that list the classes in different orders agree. Files with paths instead of
images are manifests and are read as such.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from graft.data.dataset import WHOLE, Dataset
from graft.data.readers.column_names import find_columns, given_column, is_no_column
from graft.data.readers.columns import (
    arrange_rows,
    as_text,
    join_tables,
    names_of_labels,
    told_missing,
    without_missing,
)
from graft.data.readers.finding_files import FileFinder, splits_of_rows
from graft.data.readers.several_labels import labels_of_columns
from graft.data.readers.split_names import is_part, split_in_name
from graft.data.readers.table import arrange_table, starting_from, understood_table
from graft.data.table_options import TableOptions
from graft.errors import DataError, LeftOpenError
from graft.images.containers import starts_as_image
from graft.on_disk import file_stamp

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

# Row groups stay in memory up to this many bytes, so small datasets are read from disk once.
_KEPT_BYTES = 2**30
# The bytes read at a time, so that the first image costs no more than itself.
_BUFFER = 2**20
# Empty cells that may come before the first image.
_MOST_EMPTY = 100


@dataclass(frozen=True)
class _File:
    """A Parquet file with embedded images in the leaf `column`, for example `image.bytes`."""

    path: Path
    metadata: pyarrow.parquet.FileMetaData
    column: str
    classes: list[str] | None


class Rows:
    """Images in a column of Parquet files, one file after the other.

    A row group is read when one of its images is asked for, and kept as long as all kept groups fit in `kept_bytes`.
    Each group is read once if images are read in order or if all groups fit. In any other order, larger data are slow
    to read, the more so the larger the row groups are.
    """

    def __init__(self, root: Path, files: list[_File], kept_bytes: int = _KEPT_BYTES) -> None:
        self.files = files
        self.labels = [file.path.relative_to(root).as_posix() for file in files]
        self.stamps = [file_stamp(file.path) for file in files]
        self.first_rows = np.cumsum([0, *(file.metadata.num_rows for file in files)])
        self.groups = [(file, group) for file in files for group in range(file.metadata.num_row_groups)]
        self.starts = np.cumsum([0, *(file.metadata.row_group(group).num_rows for file, group in self.groups)])
        self.kept_bytes = kept_bytes
        self._kept: dict[int, pyarrow.ChunkedArray] = {}
        self._reading = Lock()

    def __len__(self) -> int:
        return int(self.first_rows[-1])

    def _place(self, row: int) -> tuple[int, int]:
        file = int(np.searchsorted(self.first_rows, row, side="right")) - 1
        return file, row - int(self.first_rows[file])

    def name(self, row: int) -> str:
        file, own = self._place(row)
        return f"{self.labels[file]}[{own}]"

    key = name

    def stamp(self, row: int) -> str:
        file, own = self._place(row)
        return f"{self.stamps[file]}:{own}"

    def read(self, row: int) -> bytes:
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        value = self._group(number)[row - int(self.starts[number])].as_py()
        if value is None:
            raise OSError("expected an embedded image, got an empty cell")
        return bytes(value)

    def _group(self, number: int) -> pyarrow.ChunkedArray:
        kept = self._kept.get(number)
        if kept is not None:
            return kept
        # One thread reads at a time: the others mostly want the same group, and a kept group is returned above.
        with self._reading:
            if number not in self._kept:
                column = _read_group(*self.groups[number])
                held = column.nbytes + sum(group.nbytes for group in self._kept.values())
                for oldest in list(self._kept):
                    if held <= self.kept_bytes:
                        break
                    held -= self._kept.pop(oldest).nbytes
                self._kept[number] = column
            return self._kept[number]


def read_parquet(path: Path, group: str | None = None, options: TableOptions | None = None) -> Dataset:
    """Read one Parquet file or a folder of them, named by split, as a Dataset: `train.parquet`, `test-00000-of-00002…`.

    A `split` column takes precedence over the file name. `group` names the column of groups, by default `group`, and
    `options` name any column. Raises DataError for a file that is not Parquet, lacks a column, or has labels out of
    range.
    """
    files = _parquet_files(path)
    if not files:
        raise DataError(f"expected Parquet files in {path}, got none: add them or give another folder")
    name, root = (path.stem, path.parent) if path.is_file() else (path.name, path)
    notes = [] if path.is_file() else _missing_parts([file.relative_to(root) for file in files])
    opened = [_open(file, group, options) for file in files]
    embedded = [found[0] for found in opened if found]
    if 0 < len(embedded) < len(files):
        others = ", ".join(file.name for file, found in zip(files, opened, strict=True) if not found)
        raise DataError(
            f"expected embedded images in every file of {path}, got none in {others}: move these files elsewhere"
        )
    if not embedded:
        read_as = [
            understood_table(file, FileFinder(file.parent, options, file.stem), options, group) for file in files
        ]
        manifests = [
            starting_from(each.table, file.parent.relative_to(root)) for file, each in zip(files, read_as, strict=True)
        ]
        # Parts of one table mostly say the same.
        notes = [*dict.fromkeys([*notes, *(note for each in read_as for note in each.notes)])]
        splits = [
            split
            for file, each in zip(files, manifests, strict=True)
            for split in splits_of_rows(each, split_in_name(file.relative_to(root).as_posix()))
        ]
        return arrange_table(name, root, _joined(manifests, files, path), notes, splits)
    first = next((file.classes for file in embedded if file.classes), None)
    classes = tuple(dict.fromkeys(each for file in embedded for each in file.classes or ())) or None
    read, several = [each for each in opened if each], options is not None and options.multi_label
    tables = [_with_names(table, file.classes or first, file.path.name, several, notes) for file, table in read]
    # A list of classes names labels, not sets of labels.
    named = None if several else classes
    return arrange_rows(name, Rows(root, embedded), _joined(tables, files, path), classes=named, notes=notes)


def refuse_arrow(path: Path) -> None:
    """Raise DataError for a file of Arrow, saying how to convert it; do nothing for any other file."""
    if path.suffix.lower() not in (".arrow", ".feather") or not path.is_file():
        return
    with path.open("rb") as file:
        stored = file.read(4) in (b"ARRO", b"FEA1")
    there, name = (json.dumps(each, ensure_ascii=False) for each in (str(path), f"{path.stem}.parquet"))
    read = f"f.read_table({there})" if stored else f"a.ipc.open_stream(a.memory_map({there})).read_all()"
    code = f"import pyarrow as a, pyarrow.feather as f, pyarrow.parquet as p; p.write_table({read}, {name})"
    raise DataError(
        f"expected Parquet, got the Arrow file {path}: convert it, as with `python -c {shlex.quote(code)}`, and give "
        "the new file"
    )


def read_embedded_images(path: Path) -> Rows | None:
    """The images in one Parquet file or a folder of them, with or without labels; None if no column holds images.

    Raises DataError for a file that is not Parquet.
    """
    import pyarrow
    import pyarrow.parquet

    files = _parquet_files(path)
    embedded = []
    for each in files:
        with _read_errors(each), pyarrow.OSFile(os.fsencode(each)) as file:
            opened = pyarrow.parquet.ParquetFile(file, buffer_size=_BUFFER)
            column = _image_column(opened)
            if column is not None:
                embedded.append(_File(each, opened.metadata, column, None))
    return Rows(path if path.is_dir() else path.parent, embedded) if embedded else None


def _parquet_files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*.parquet") if file.is_file()) if path.is_dir() else [path]


def _missing_parts(files: Sequence[Path]) -> list[str]:
    """Notes on missing files, where file names say how many there are: `train-00000-of-00002.parquet`.

    Raises DataError for several sets of images, for example a data set on the Hub with several configurations.
    """
    sets = {
        tuple(part for part in file.parent.parts if split_in_name(part) == WHOLE and not is_part(part))
        for file in files
    }
    if len(sets) > 1:
        shown = " and ".join(repr("/".join(each) or ".") for each in sorted(sets)[:4])
        raise DataError(f"expected Parquet files of one data set, got some in {shown}: give the folder of one")
    numbers: dict[tuple[str, str], set[int]] = {}
    for file in files:
        if (part := re.fullmatch(r"(.*?)(\d+)-of-(\d+)(?:-\w+)?\.parquet", file.as_posix())) is not None:
            numbers.setdefault((part[1], part[3]), set()).add(int(part[2]))
    return [
        f"{missing:,} of {int(count):,} files called {start}…-of-{count} {'is' if missing == 1 else 'are'} not there, "
        "nor are the images in them"
        for (start, count), found in numbers.items()
        if (missing := int(count) - len(found)) > 0
    ]


def _joined(tables: list[pyarrow.Table], files: list[Path], path: Path) -> pyarrow.Table:
    splits = [split_in_name(file.relative_to(path).as_posix() if path.is_dir() else file.name) for file in files]
    alone = [
        file.name
        for file, table, split in zip(files, tables, splits, strict=True)
        if split == WHOLE and "split" not in table.column_names
    ]
    if alone and len(alone) < len(files):
        raise DataError(
            f"expected every file in {path} to be named after its split, got {', '.join(alone)}: rename or move it"
        )
    return join_tables(tables, splits)


def _open(path: Path, group: str | None, options: TableOptions | None) -> tuple[_File, pyarrow.Table] | None:
    """A file and its columns other than the images, or None if no column holds images."""
    import pyarrow
    import pyarrow.parquet

    with _read_errors(path), pyarrow.OSFile(os.fsencode(path)) as file:
        opened = pyarrow.parquet.ParquetFile(file, buffer_size=_BUFFER)
        schema = opened.schema_arrow
        column = _image_column(opened, options)
        if column is None:
            return None
        found = {role: place for role, place in find_columns(schema.names, group, options).items() if role != "path"}
        if "label" not in found:
            raise DataError(
                f"expected a column 'label' in {path.name}, got {', '.join(schema.names)}: rename it, or "
                "name it with --label-column"
            )
        asked = () if options is None else options.label_columns
        several = [schema.names[given_column("label", each, schema.names, path.name)] for each in asked]
        table = opened.read(columns=list({*(schema.names[place] for place in found.values()), *several}))
        rest = {role: schema.names[place] for role, place in found.items()}
        # Not converted to text, since a number may index a list of classes.
        label = rest.pop("label")
        texts = {role: as_text(table[name], f"the column {name!r} of {path.name}") for role, name in rest.items()}
        texts["label"] = table[label]
        classes = _declared_classes(schema, label)
        if several:
            of_classes = [as_text(table[name], f"the column {name!r} of {path.name}") for name in several]
            texts["label"], classes = labels_of_columns(several, of_classes, path.name), None
        return _File(path, opened.metadata, column, classes), pyarrow.table(texts)


def _image_column(opened: pyarrow.parquet.ParquetFile, options: TableOptions | None = None) -> str | None:
    """The leaf column that holds the images, None if none does.

    It is the one that `options` name, or else `image`, the first column of structs with `bytes`, or the only one whose
    cells start as images do. Raises DataError for several of these.
    """
    import pyarrow

    schema: pyarrow.Schema = opened.schema_arrow
    given = None if options is None or options.path_column is None else options.path_column
    if given is not None and not is_no_column(given, schema.names):
        schema = pyarrow.schema([schema.field(given_column("path", given, schema.names))])

    def is_bytes(kind: pyarrow.DataType) -> bool:
        return pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)

    def has_bytes(kind: pyarrow.DataType) -> bool:
        return (
            pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and is_bytes(kind.field("bytes").type)
        )

    for field in sorted(schema, key=lambda field: field.name.strip().lower() != "image"):
        if has_bytes(field.type):
            return f"{field.name}.bytes"
        if field.name.strip().lower() == "image":
            if is_bytes(field.type):
                return str(field.name)
            if pyarrow.types.is_struct(field.type):
                raise DataError(f"expected images as bytes in the column 'image', got {field.type}: embed them")
    found = [field.name for field in schema if is_bytes(field.type) and _starts_as_images(opened, field.name)]
    if len(found) > 1:
        raise LeftOpenError(
            f"expected one column of images, got {' and '.join(map(repr, found[:4]))}",
            f"name one, as in --path-column {found[0]!r}",
        )
    return next(iter(found), None)


def _starts_as_images(opened: pyarrow.parquet.ParquetFile, column: str) -> bool:
    """Whether the first filled cell of a column of bytes starts as an image does."""
    for batch in islice(opened.iter_batches(batch_size=1, columns=[column]), _MOST_EMPTY):
        if (cell := batch.column(0)[0].as_py()) is not None:
            return starts_as_image(cell)
    return False


def _read_group(file: _File, group: int) -> pyarrow.ChunkedArray:
    """The images of one row group, binary (N,). Raises OSError."""
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    try:
        with pyarrow.OSFile(os.fsencode(file.path)) as opened:
            parquet = pyarrow.parquet.ParquetFile(opened, metadata=file.metadata)
            column = parquet.read_row_group(group, columns=[file.column]).column(0)
        return pyarrow.compute.struct_field(column, "bytes") if pyarrow.types.is_struct(column.type) else column
    except (pyarrow.ArrowException, OSError) as error:
        raise OSError(f"{file.path} cannot be read any more ({_first_line(error)})") from None


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"expected a Parquet file, got {path} ({_first_line(error)}): check that it is complete"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _declared_classes(schema: pyarrow.Schema, label: str) -> list[str] | None:
    metadata = schema.metadata or {}
    try:
        if b"classes" in metadata:
            names = json.loads(metadata[b"classes"])
        elif b"huggingface" in metadata:
            feature = json.loads(metadata[b"huggingface"])["info"]["features"][label]
            # The names of a list feature are those of its items.
            names = feature.get("feature", feature)["names"]
        else:
            return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return [str(name) for name in names] if isinstance(names, list) and names else None


def _with_names(
    table: pyarrow.Table, classes: list[str] | None, name: str, several: bool, notes: list[str]
) -> pyarrow.Table:
    """The same columns with labels as names, or as lists of names if `several`; adds to `notes`."""
    import pyarrow

    labels = names_of_labels(table["label"], classes, name, several)
    kind = table["label"].type
    # Where the classes are listed, no other word is one.
    if not classes and (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
        notes += told_missing(labels, f"the labels of {name}")
        labels = without_missing(labels)
    return table.set_column(table.column_names.index("label"), "label", labels)
