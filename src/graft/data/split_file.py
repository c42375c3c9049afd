"""The file that assigns images to splits: every run writes one, and reading it back repeats the split.

CSV with the columns `path` (relative to the data, as `graft.names` writes it), `label` and `split`, `group` if images
have groups (the name in the data, or a number for one without), and `digest` (of the content) if they were looked over.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np

from graft.data.content import digest_text
from graft.data.dataset import TEST, TRAIN, VAL, Dataset, together
from graft.data.readers.column_names import SPELLINGS, SYNONYMS, named
from graft.data.readers.split_names import SPLIT_FOLDERS
from graft.errors import DataError
from graft.names import plain
from graft.words import counted

COLUMNS = ("path", "label", "split", "group", "digest")


def write_split(dataset: Dataset, file: IO[str]) -> None:
    """Write the split of each image to `file`, opened with newline=""."""
    parts = dataset.splits.values()
    known = {
        "group": any(images.groups is not None for images in parts),
        "digest": any(images.digests is not None for images in parts),
    }
    columns = [column for column in COLUMNS if known.get(column, True)]
    writer = csv.DictWriter(file, columns, extrasaction="ignore")
    writer.writeheader()
    for name, images in dataset.splits.items():
        for index, label in enumerate(images.labels.tolist()):
            writer.writerow(
                {
                    "path": images.key(index),
                    "label": dataset.label_name(label) if label >= 0 else "",
                    "split": name,
                    "group": "" if images.groups is None else dataset.group_name(int(images.groups[index])),
                    "digest": "" if images.digests is None else digest_text(images.digests[index]),
                }
            )


def read_digests(path: Path, split: str) -> frozenset[bytes] | None:
    """Return the content digests of the images that a file assigns to `split`; None if it has no digests.

    Raises DataError for any other kind of file.
    """
    rows = _rows(path)
    digests = [row["digest"] for row in rows if row["split"] == split and row.get("digest")]
    try:
        return frozenset(map(bytes.fromhex, digests)) or None
    except ValueError:
        raise DataError(
            f"expected digests of images in {path}, as a run wrote them, got something else: the file is cut short or "
            "edited, restore it"
        ) from None


def read_labels(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Return key and label ("" for none) of every image, by split, in order. Raises DataError for any other file."""
    found: dict[str, list[tuple[str, str]]] = {}
    for row in _rows(path):
        found.setdefault(row["split"], []).append((row["path"], row.get("label") or ""))
    return found


def split_as(dataset: Dataset, path: Path) -> Dataset:
    """Split the dataset as a file says, in place of its own splits; labels stay those of the data.

    Images that the file does not name are left out. Raises DataError for any other kind of file, and for one that names
    images missing from the data.
    """
    split_of = dict(_numbered(_read(path)))
    whole = together(dataset.splits.values())
    keys = [key for key, _ in _numbered((whole.key(index), "") for index in range(len(whole)))]
    missing = split_of.keys() - set(keys)
    if missing:
        shown = ", ".join(repr(name) for name, _ in sorted(missing)[:3])
        raise DataError(
            f"expected the images that {path.name} names in {dataset.name}, got none called {shown}"
            f"{', …' if len(missing) > 3 else ''} ({len(missing):,} of {len(split_of):,} missing): give the data that "
            f"the file was written for, or paths from DATA on, such as {whole.key(0)!r}"
        )
    splits = np.array([split_of.get(key, "") for key in keys])
    left_out = {whole.name(row): f"{path.name} does not name it" for row in np.flatnonzero(splits == "").tolist()}
    notes = (f"{len(left_out):,} of {counted(len(whole), 'image')} left out: {path.name} does not name them",)
    return replace(
        dataset,
        splits={name: whole.take(np.flatnonzero(splits == name)) for name in (TRAIN, VAL, TEST) if name in splits},
        notes=dataset.notes + (notes if left_out else ()),
        left_out={**dataset.left_out, **left_out},
    )


def _numbered(rows: Iterable[tuple[str, str]]) -> Iterator[tuple[tuple[str, int], str]]:
    """Yield each path with the number of its earlier occurrences: a manifest may name a file in two splits."""
    seen: Counter[str] = Counter()
    for key, split in rows:
        yield (key, seen[key]), split
        seen[key] += 1


def _read(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the path and split of every row."""
    for number, row in enumerate(_rows(path), start=2):
        split = SPLIT_FOLDERS.get((row["split"] or "").lower())
        if split is None or not row["path"]:
            raise DataError(
                f"expected a path and one of train, val and test in every row of {path}, got {row['path']!r} and "
                f"{row['split']!r} in row {number}: correct it"
            )
        yield plain(row["path"]), split


def _rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            reader = csv.DictReader(file)
            names = [*(reader.fieldnames or ())]
            found = {role: named(names, (*SPELLINGS[role], *SYNONYMS[role])) for role in ("path", "split")}
            if not all(found.values()):
                raise DataError(
                    f"expected the columns 'path' and 'split' in {path}, got {', '.join(names)}: give a split.csv of a "
                    f"run, or write one like it; 'path' may be called {', '.join(SPELLINGS['path'][1:])} as well"
                )
            called = {role: names[columns[0]] for role, columns in found.items()}
            yield from ({**row, **{role: row[name] for role, name in called.items()}} for row in reader)
    except (OSError, csv.Error) as error:
        raise DataError(f"expected a split.csv of a run in {path}, got {error}: check the path") from None
