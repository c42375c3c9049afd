"""Datasets on the Hugging Face Hub, `hf:owner/dataset[@revision][:config]`, read through the package `datasets`.

They are fetched into that package's cache without a token, and none of their code is run. Images are read from its
Arrow files as stored, and decoded like those of any other source.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.data.dataset import WHOLE, Dataset, Several
from graft.data.readers.column_names import SPELLINGS, find_columns, given_column, named
from graft.data.readers.columns import arrange_rows, as_text, join_tables, names_of_labels
from graft.data.readers.folder import read_file
from graft.data.readers.several_labels import labels_of_columns
from graft.data.table_options import TableOptions
from graft.errors import DataError, FetchError
from graft.on_disk import file_stamp

if TYPE_CHECKING:
    import pyarrow

PREFIX = "hf:"
_NAME = re.compile(r"^hf:(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[^:@]+))?(:(?P<config>[^:@]+))?$")


class Cells:
    """Images in a column of one split: structs of bytes and a path, which is used if there are no bytes."""

    def __init__(self, label: str, column: pyarrow.ChunkedArray, stamp: str) -> None:
        self.label = label
        self.column = column
        self._stamp = stamp

    def __len__(self) -> int:
        return len(self.column)

    def name(self, row: int) -> str:
        return f"{self.label}[{row}]"

    key = name

    def read(self, row: int) -> bytes:
        cell = self.column[row].as_py() or {}
        if cell.get("bytes") is not None:
            return bytes(cell["bytes"])
        if cell.get("path"):
            return read_file(Path(cell["path"]))
        raise OSError("expected an embedded image, got an empty cell")

    def stamp(self, row: int) -> str:
        return f"{self._stamp}:{row}"


def read_hub_dataset(address: str, group: str | None = None, options: TableOptions | None = None) -> Dataset:
    """Read `hf:owner/dataset` with all its splits as a Dataset; `group` names the column of groups, `group` by default.

    Raises DataError for a malformed address or a dataset without labelled images, FetchError if it cannot be fetched.
    """
    match = _NAME.match(address)
    if match is None:
        raise DataError(
            f"expected hf:owner/dataset, hf:owner/dataset@revision or hf:owner/dataset:config, got {address!r}: "
            "correct it"
        )
    datasets = _package(address)
    try:
        splits = datasets.load_dataset(match["name"], match["config"], revision=match["revision"], token=False)
    except Exception as error:  # the network, the Hub and the files raise errors of their own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FetchError(
            f"expected to fetch {address}, got {type(error).__name__} ({reason}): check the name and the "
            "connection, or fetch it once where there is one"
        ) from None
    return replace(arrange_splits(address, splits, group, options), name=match["name"].partition("/")[2])


def is_saved_dataset(path: Path) -> bool:
    """Whether the package `datasets` saved a folder with `save_to_disk`."""
    return (path / "dataset_dict.json").is_file() or all(
        (path / name).is_file() for name in ("state.json", "dataset_info.json")
    )


def read_saved_dataset(path: Path, group: str | None = None, options: TableOptions | None = None) -> Dataset:
    """Read a Dataset that `save_to_disk` wrote. Raises DataError if it is damaged or has no images or labels."""
    datasets = _package(str(path))
    try:
        found = datasets.load_from_disk(str(path))
    except Exception as error:  # the package and its files raise errors of their own
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"expected a dataset that save_to_disk wrote in {path} ({reason}): save it again") from None
    splits = found if isinstance(found, datasets.DatasetDict) else {str(found.split or WHOLE): found}
    return arrange_splits(path.name, splits, group, options)


def _package(address: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"expected the package 'datasets' to read {address}, which is not installed: "
            "pip install 'graft-vision[datasets]'"
        ) from None
    return datasets


def arrange_splits(address: str, splits: Any, group: str | None = None, options: TableOptions | None = None) -> Dataset:
    """Build a Dataset from a `datasets.DatasetDict`. Raises DataError if it has no images or no labels."""
    import pyarrow

    sources, tables, declared = [], [], None
    notes: dict[str, None] = {}
    several = options is not None and options.multi_label
    for split, rows in splits.items():
        rows = rows.flatten_indices() if rows._indices is not None else rows
        image = _image_column(rows, address)
        found = find_columns(rows.column_names, group, options)
        label = rows.column_names[found["label"]] if "label" in found else _class_column(rows, address)
        if options is None or options.label_column is None:
            notes |= dict.fromkeys(_labels_not_taken(rows, label, address))
        feature = rows.features[label]
        # The names of a list feature are those of its items.
        declared = declared or getattr(getattr(feature, "feature", feature), "names", None)
        arrow = rows.data.table
        columns = {
            role: as_text(arrow[rows.column_names[place]], f"the column of the {role} of {address}")
            for role, place in found.items()
            if role not in ("path", "label", "split")
        }
        if options is not None and options.label_columns:
            names = [rows.column_names[given_column("label", n, rows.column_names)] for n in options.label_columns]
            texts = [as_text(arrow[name], f"the column {name!r} of {address}") for name in names]
            columns["label"] = labels_of_columns(names, texts, address)
        else:
            columns["label"] = names_of_labels(arrow[label], declared, f"{address} ({split})", several)
        stamp = "|".join(file_stamp(Path(file["filename"])) for file in rows.cache_files) or rows._fingerprint
        sources.append(Cells(f"{address}/{split}", arrow[image], stamp))
        tables.append(pyarrow.table(columns))
    source = sources[0] if len(sources) == 1 else Several(sources)
    table = join_tables(tables, list(splits))
    classes = tuple(declared) if declared and not several else None
    return arrange_rows(address, source, table, classes=classes, notes=[*notes])


def _image_column(rows: Any, address: str) -> str:
    import datasets

    columns = [name for name, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    if not columns:
        raise DataError(
            f"expected a column of images in {address}, got {', '.join(rows.column_names)}: give a dataset of images"
        )
    return "image" if "image" in columns else str(columns[0])


def _class_columns(rows: Any) -> list[str]:
    import datasets

    return [str(name) for name, feature in rows.features.items() if isinstance(feature, datasets.ClassLabel)]


def _class_column(rows: Any, address: str) -> str:
    columns = _class_columns(rows)
    if len(columns) > 1:
        raise DataError(
            f"expected one column of labels in {address}, got {', '.join(columns)}: say which with --label-column"
        )
    if not columns:
        raise DataError(
            f"expected a column 'label' in {address}, got {', '.join(rows.column_names)}: name the one of labels with "
            "--label-column, or give a dataset with a label for each image"
        )
    return columns[0]


def _labels_not_taken(rows: Any, taken: str, address: str) -> list[str]:
    """A note if another column could give the labels: one of classes, or one with a name for labels."""
    likely = [
        *_class_columns(rows),
        *(rows.column_names[place] for place in named(rows.column_names, SPELLINGS["label"])),
    ]
    others = [name for name in dict.fromkeys(likely) if name != taken]
    if not others:
        return []
    return [
        f"{address}: label from {taken}, not from {' or '.join(others)}: if it should be, name it with --label-column"
    ]
