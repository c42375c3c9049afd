"""A dataset without its faults, as a manifest of the files to keep, which graft opens like any other.

`graft.data.cleaning` decides what is dropped; the data are not touched.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import IO

from graft.data.cleaning import check_kinds, without_faults
from graft.data.dataset import TRAIN, WHOLE, Dataset, Several, Source
from graft.data.readers.folder import Files
from graft.data.split_file import write_split
from graft.errors import InputError
from graft.names import plain

__all__ = ["check_kinds", "file_of", "without_faults", "write_manifest", "write_split_file"]


def write_manifest(dataset: Dataset, file: IO[str]) -> None:
    """Write `path,label` and, where there are any, `split`, `group` and `weight`; paths are absolute.

    `file` is open with newline="". Raises InputError for images that are not files.
    """
    splits = dataset.splits
    columns = {
        "split": set(splits) != {WHOLE},
        "group": any(images.groups is not None for images in splits.values()),
        "weight": any(images.weights is not None for images in splits.values()),
    }
    writer = csv.writer(file)
    writer.writerow(["path", "label", *(name for name, written in columns.items() if written)])
    for name, images in splits.items():
        groups = [""] * len(images) if images.groups is None else images.groups.tolist()
        weights = [1.0] * len(images) if images.weights is None else images.weights.tolist()
        for row, label, group, weight in zip(
            images.rows.tolist(), images.labels.tolist(), groups, weights, strict=True
        ):
            cells = {"split": name, "group": group, "weight": f"{weight:g}"}
            word = dataset.label_name(label) if label >= 0 else ""
            path = plain(file_of(images.source, row))
            writer.writerow([path, word, *(cells[each] for each in cells if columns[each])])


def write_split_file(dataset: Dataset, file: IO[str]) -> None:
    """Write a file for `--split-file` that names only these images; without splits, all of them are `train`."""
    splits = {TRAIN if name == WHOLE else name: images for name, images in dataset.splits.items()}
    write_split(replace(dataset, splits=splits), file)


def file_of(source: Source, row: int) -> str:
    """Return the absolute path or the address of an image. Raises InputError for one inside a larger file."""
    while isinstance(source, Several):
        source, row = source.at(row)
    if not isinstance(source, Files):
        raise InputError(
            f"expected images that are files of their own for --fix-list, got {source.name(row)}, part of a larger "
            "file: write --fix-split FILE instead, and train on the same data with --split-file FILE"
        )
    name = source.name(row)
    return name if "://" in name else str(Path(name).absolute())
