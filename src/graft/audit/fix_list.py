"""A dataset without its faults, as a manifest of the files to keep, which graft opens like any other.

The data are not touched. Of copies within a split, the first is kept. Of copies on both sides of a split, those that
are trained on are dropped: the test set stays comparable with what others measured on it, and training loses little.
Of files of equal content under several labels, all are dropped, since nobody knows which label is right; near copies
under several labels stay unless asked for, since one of them is right.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np

from graft.audit.findings import Finding
from graft.data.dataset import TEST, TRAIN, VAL, WHOLE, Dataset, Several, Source
from graft.data.readers.folder import Files
from graft.data.split_file import write_split
from graft.errors import InputError, did_you_mean
from graft.names import plain

DROPPED = ("unreadable", "placeholder", "exact_duplicates", "split_leakage", "label_conflict")
# Other kinds, whose images are dropped when asked for.
DROPPABLE = (
    *("near_duplicates", "possible_placeholder", "likely_wrong_label", "outlier", "low_information", "blurry"),
    *("dark", "light", "grey", "odd_size", "odd_aspect_ratio", "wrong_extension", "animated"),
)
# An image with copies in several splits stays in the first of these that it is in.
_STAYS = (TEST, VAL, TRAIN)


def check_kinds(kinds: Iterable[str]) -> None:
    """Raise InputError for kinds that cannot be dropped."""
    for kind in kinds:
        if kind not in (*DROPPED, *DROPPABLE):
            raise InputError(
                f"expected one of {', '.join(DROPPABLE)} for --drop, got {kind!r}{did_you_mean(kind, DROPPABLE)}: "
                "choose among them"
            )


def without_faults(dataset: Dataset, findings: Iterable[Finding], more: Iterable[str] = ()) -> Dataset:
    """The images to keep, in their splits; `more` are kinds of DROPPABLE to drop as well."""
    more = tuple(more)
    sizes = [len(images) for images in dataset.splits.values()]
    split = np.repeat(np.array(list(dataset.splits), dtype=object), sizes)
    kept = np.ones(len(split), bool)
    content = _contents(dataset)
    for finding in findings:
        if finding.kind == "label_conflict" and finding.kind not in more:
            kept[list(_of_equal_content(finding, dataset, content))] = False
        elif finding.kind in (*DROPPED, *more):
            kept[list(_surplus(finding, split))] = False
    bounds = np.cumsum([0, *sizes])
    parts = {
        name: images.take(np.flatnonzero(kept[start : start + len(images)]))
        for start, (name, images) in zip(bounds, dataset.splits.items(), strict=False)
    }
    return Dataset(dataset.name, dataset.classes, parts)


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
            word = dataset.classes[label] if label >= 0 else ""
            path = plain(file_of(images.source, row))
            writer.writerow([path, word, *(cells[each] for each in cells if columns[each])])


def write_split_file(dataset: Dataset, file: IO[str]) -> None:
    """Write a file for `--split-file` that names these images only; those of a dataset without splits are `train`."""
    splits = {TRAIN if name == WHOLE else name: images for name, images in dataset.splits.items()}
    write_split(replace(dataset, splits=splits), file)


def file_of(source: Source, row: int) -> str:
    """The absolute path, or the address, of an image. Raises InputError for one that is part of a larger file."""
    while isinstance(source, Several):
        source, row = source.at(row)
    if not isinstance(source, Files):
        raise InputError(
            f"expected images that are files of their own for --fix-list, got {source.name(row)}, part of a larger "
            "file: write --fix-split FILE instead, and train on the same data with --split-file FILE"
        )
    name = source.name(row)
    return name if "://" in name else str(Path(name).absolute())


def _contents(dataset: Dataset) -> list[bytes]:
    """What is equal for files of equal content; of images that were not looked over, each has its own."""
    images = [part for part in dataset.splits.values() if len(part)]
    if any(part.digests is None for part in images):
        return [str(number).encode() for number in range(len(dataset))]
    return [digest.tobytes() for part in images if part.digests is not None for digest in part.digests]


def _of_equal_content(finding: Finding, dataset: Dataset, content: list[bytes]) -> Iterator[int]:
    """Numbers of the images of a group that have their content in common under several labels."""
    labels = np.concatenate([part.labels for part in dataset.splits.values()])
    of: dict[bytes, set[int]] = {}
    for number in finding.images:
        of.setdefault(content[number], set()).add(int(labels[number]))
    yield from (number for number in finding.images if len(of[content[number]]) > 1)


def _surplus(finding: Finding, split: np.ndarray) -> Iterator[int]:
    """Numbers of the images to drop for this finding, counted through all splits; `split` (N,) names each one's."""
    if finding.kind not in ("exact_duplicates", "near_duplicates", "split_leakage"):
        yield from finding.images
        return
    for group in finding.groups:
        members = [finding.images[position] for position in group]
        if finding.kind == "split_leakage":
            there = {split[member] for member in members}
            stays = next((name for name in _STAYS if name in there), split[members[0]])
            yield from (member for member in members if split[member] != stays)
        else:
            for name in {split[member] for member in members}:
                yield from [member for member in members if split[member] == name][1:]
