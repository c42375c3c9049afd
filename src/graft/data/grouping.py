"""Images that belong together: from one patient, video or burst, or copies of each other. No split may divide them."""

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

    If the expression has capturing groups, the first one counts. An image that it does not match gets a group of its
    own, and a note says how many do. Raises InputError for an invalid expression and for one that matches nothing.
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
            # No path contains a zero byte.
            groups[index] = numbers.setdefault(f"\0{alone}" if group is None else group, len(numbers))
        splits[name] = replace(images, groups=groups)
    if alone == len(dataset):
        raise InputError(
            f"expected --group to be 'folder', a column of the manifest or a regular expression that matches paths, "
            f"got {rule!r}, which matches none of {len(dataset):,}: correct it or leave it out"
        )
    notes = (f"--group matches {len(dataset) - alone:,} of {len(dataset):,} paths; every other image is its own group",)
    names = tuple("" if name.startswith("\0") else name for name in numbers)
    return replace(dataset, splits=splits, notes=dataset.notes + (notes if alone else ()), group_names=names)


def joined(dataset: Dataset, pairs: np.ndarray) -> Dataset:
    """Merge the groups of each pair of images; `pairs`, int64 (P, 2), are image numbers counted through all splits.

    A group is then named after all named groups in it.
    """
    if not len(pairs):
        return dataset
    before, names = group_numbers(dataset.splits.values()), dataset.group_names
    groups = linked(np.unique(before, return_inverse=True)[1], pairs)
    named: dict[int, list[str]] = {}
    for group, old in np.unique(np.stack([groups, before], 1), axis=0).tolist() if names else ():
        if old < len(names) and names[old]:
            named.setdefault(group, []).append(names[old])
    called = tuple(" + ".join(named.get(group, ())) for group in range(max(named, default=-1) + 1))
    return replace(_with_columns(dataset, groups=groups), group_names=called)


def with_content(dataset: Dataset, digests: np.ndarray, copies: np.ndarray) -> Dataset:
    """Return the dataset with the `digests` and `copies` of its images (see `Images`), counted through all splits."""
    return _with_columns(dataset, digests=digests, copies=copies)


def copied(images: Images, others: Images) -> np.ndarray:
    """Return which of `images` are copies of one of `others`, bool (N,); none if they have not been looked over."""
    if images.copies is None or others.copies is None:
        return np.zeros(len(images), dtype=bool)
    return np.isin(images.copies, others.copies)


def linked(number: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return the component of each row, int64 (N,): rows linked by `pairs` or with equal `number` share a component.

    `pairs` is int64 (P, 2), `number` int (N,).
    """
    if not len(pairs):
        return number.astype(np.int64)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = int(number.max(initial=-1)) + 1
    ends = (number[pairs[:, 0]], number[pairs[:, 1]])
    links = coo_array((np.ones(len(pairs), bool), ends), shape=(count, count))
    _, component = connected_components(links, directed=False)
    return component.astype(np.int64)[number]


def straddling(dataset: Dataset) -> Iterator[tuple[str, str, int]]:
    """Yield the pairs of splits that share groups, with the number of shared groups."""
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
    """Return the group of each image through all splits, int64 (N,), numbered from zero without gaps."""
    return np.unique(group_numbers(dataset.splits.values()), return_inverse=True)[1]


def _with_columns(dataset: Dataset, **columns: Any) -> Dataset:
    splits: dict[str, Images] = {}
    start = 0
    for name, images in dataset.splits.items():
        rows = slice(start, start + len(images))
        splits[name] = replace(images, **{column: values[rows] for column, values in columns.items()})
        start += len(images)
    return replace(dataset, splits=splits)
