"""Images that belong together: of one patient, video or burst, or copies of each other. No split may divide them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from graft.data.dataset import Dataset, Images, group_numbers
from graft.errors import InputError

FOLDER = "folder"


def by_path(dataset: Dataset, rule: str) -> Dataset:
    """Group images by their paths: by folder (`folder`), or by what a regular expression matches.

    If the expression has groups of its own, the first one is what counts. An image that it does not match gets a group
    of its own, and a note says how many do. Raises InputError for an invalid expression and one that matches nothing.
    """
    try:
        expression = None if rule == FOLDER else re.compile(rule)
    except re.error as error:
        raise InputError(
            f"expected 'folder', a column of the manifest or a regular expression for --group, got {rule!r} ({error}): "
            "correct it"
        ) from None
    numbers: dict[str, int] = {}
    alone = 0
    splits = {}
    for name, images in dataset.splits.items():
        groups = np.empty(len(images), dtype=np.int64)
        for index in range(len(images)):
            group = _group_of(images.key(index), expression)
            alone += group is None
            # No path has a zero byte in it.
            groups[index] = numbers.setdefault(f"\0{alone}" if group is None else group, len(numbers))
        splits[name] = replace(images, groups=groups)
    if alone == len(dataset):
        raise InputError(
            f"expected --group to be 'folder', a column of the manifest or a regular expression that matches paths, "
            f"got {rule!r}, which matches none of {len(dataset):,}: correct it or leave it out"
        )
    notes = (f"--group matches {len(dataset) - alone:,} of {len(dataset):,} paths; each other image is on its own",)
    names = tuple("" if name.startswith("\0") else name for name in numbers)
    return replace(dataset, splits=splits, notes=dataset.notes + (notes if alone else ()), group_names=names)


def joined(dataset: Dataset, pairs: np.ndarray) -> Dataset:
    """The dataset with the groups of each pair of images merged; int64 (P, 2), counted through all splits."""
    if not len(pairs):
        return dataset
    return replace(_with_columns(dataset, groups=linked(_numbered(dataset), pairs)), group_names=())


def with_content(dataset: Dataset, digests: np.ndarray, copies: np.ndarray) -> Dataset:
    """The dataset with the `digests` and `copies` of its images (see `Images`), counted through all splits."""
    return _with_columns(dataset, digests=digests, copies=copies)


def copied(images: Images, others: Images) -> np.ndarray:
    """Which of `images` show the same as one of `others`, bool (N,); none if they have not been looked over."""
    if images.copies is None or others.copies is None:
        return np.zeros(len(images), dtype=bool)
    return np.isin(images.copies, others.copies)


def linked(number: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """A number for each row, int64 (N,), equal for all linked by `pairs`, int64 (P, 2), or equal `number`, int (N,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = int(number.max(initial=-1)) + 1
    ends = (number[pairs[:, 0]], number[pairs[:, 1]])
    links = coo_array((np.ones(len(pairs), bool), ends), shape=(count, count))
    _, component = connected_components(links, directed=False)
    return component.astype(np.int64)[number]


def straddling(dataset: Dataset) -> Iterator[tuple[str, str, int]]:
    """Pairs of splits, with the number of groups that have images in both, if there are any."""
    if len(dataset.splits) < 2:
        return
    groups = _numbered(dataset)
    bounds = np.cumsum([0, *map(len, dataset.splits.values())])
    within = {
        name: np.unique(groups[start:end]) for name, start, end in zip(dataset.splits, bounds, bounds[1:], strict=False)
    }
    names = list(within)
    for index, name in enumerate(names):
        for other in names[index + 1 :]:
            both = len(np.intersect1d(within[name], within[other], assume_unique=True))
            if both:
                yield name, other, both


def _group_of(path: str, expression: re.Pattern[str] | None) -> str | None:
    if expression is None:
        return path.rpartition("/")[0]
    match = expression.search(path)
    if match is None:
        return None
    return match[1] if expression.groups else match[0]


def _numbered(dataset: Dataset) -> np.ndarray:
    """The group of each image through all splits, int64 (N,), from zero without gaps."""
    return np.unique(group_numbers(dataset.splits.values()), return_inverse=True)[1]


def _with_columns(dataset: Dataset, **columns: Any) -> Dataset:
    splits: dict[str, Images] = {}
    start = 0
    for name, images in dataset.splits.items():
        rows = slice(start, start + len(images))
        splits[name] = replace(images, **{column: values[rows] for column, values in columns.items()})
        start += len(images)
    return replace(dataset, splits=splits)
