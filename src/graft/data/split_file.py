"""Which image stands in which split, as a file: written with every run, and given back to split the same way again.

CSV with the columns `path`, `label`, `split` and, where images have groups, `group`. A path is relative to the data.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np

from graft.data.dataset import TEST, TRAIN, VAL, Dataset, together
from graft.data.readers.tree import SPLIT_FOLDERS
from graft.errors import DataError

COLUMNS = ("path", "label", "split", "group")


def write_split(dataset: Dataset, file: IO[str]) -> None:
    """Write which split each image is in. `file` is open with newline="" and errors="surrogateescape"."""
    grouped = any(images.groups is not None for images in dataset.splits.values())
    columns = COLUMNS if grouped else COLUMNS[:-1]
    writer = csv.writer(file)
    writer.writerow(columns)
    for name, images in dataset.splits.items():
        groups = np.full(len(images), "") if images.groups is None else images.groups
        for index, (label, group) in enumerate(zip(images.labels.tolist(), groups.tolist(), strict=True)):
            row = (images.key(index), dataset.classes[label] if label >= 0 else "", name, group)
            writer.writerow(row[: len(columns)])


def split_as(dataset: Dataset, path: Path) -> Dataset:
    """The dataset in the splits that a file says, whatever splits it has of its own; labels stay those of the data.

    An image that the file does not name is left out. Raises DataError for what is no such file, or names images that
    the data has not.
    """
    split_of = dict(_numbered(_read(path)))
    whole = together(dataset.splits.values())
    keys = [key for key, _ in _numbered((whole.key(index), "") for index in range(len(whole)))]
    missing = split_of.keys() - set(keys)
    if missing:
        shown = ", ".join(repr(name) for name, _ in sorted(missing)[:3])
        raise DataError(
            f"expected the images that {path.name} names in {dataset.name}, got no {shown}"
            f"{', …' if len(missing) > 3 else ''} ({len(missing):,} of {len(split_of):,} are missing): give the data "
            "that the file was written for"
        )
    splits = np.array([split_of.get(key, "") for key in keys])
    left_out = {whole.name(row): f"{path.name} does not name it" for row in np.flatnonzero(splits == "").tolist()}
    notes = (f"{len(left_out):,} of {len(whole):,} images are not named by {path.name} and were left out",)
    return replace(
        dataset,
        splits={name: whole.take(np.flatnonzero(splits == name)) for name in (TRAIN, VAL, TEST) if name in splits},
        notes=dataset.notes + (notes if left_out else ()),
        left_out={**dataset.left_out, **left_out},
    )


def _numbered(rows: Iterable[tuple[str, str]]) -> Iterator[tuple[tuple[str, int], str]]:
    """Each path with how often it came before: a manifest may name a file in two splits."""
    seen: Counter[str] = Counter()
    for key, split in rows:
        yield (key, seen[key]), split
        seen[key] += 1


def _read(path: Path) -> Iterator[tuple[str, str]]:
    """Path and split of every row."""
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            reader = csv.DictReader(file)
            missing = [column for column in ("path", "split") if column not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"expected the columns 'path' and 'split' in {path}, got {', '.join(reader.fieldnames or ())}: "
                    "give a split.csv of a run, or write one like it"
                )
            for row in reader:
                split = SPLIT_FOLDERS.get((row["split"] or "").lower())
                if split is None or not row["path"]:
                    raise DataError(
                        f"expected a path and one of train, val and test in every row of {path}, got {row['path']!r} "
                        f"and {row['split']!r} in row {reader.line_num}: mend it"
                    )
                yield row["path"], split
    except (OSError, csv.Error) as error:
        raise DataError(f"expected a split.csv of a run in {path}, got {error}: check the path") from None
