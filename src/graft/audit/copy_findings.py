"""What is wrong with copies of images: they count twice, leak across a split, or carry two labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from graft.audit.duplicates import exact
from graft.audit.findings import Finding, of_groups
from graft.data.dataset import Dataset, together
from graft.data.grouping import linked
from graft.words import counted

if TYPE_CHECKING:
    from graft.audit.looking import Looks


def alike_by_content(looks: Looks) -> np.ndarray:
    """A number for every image, int64 (N,), equal for files with equal content."""
    number = np.arange(len(looks.decoded))
    for group in exact(looks):
        number[group] = group[0]
    return number


def copy_findings(dataset: Dataset, looks: Looks, pairs: np.ndarray) -> Iterator[Finding]:
    """Exact and near copies, those in two splits, and those with two labels; `pairs` are rows of images alike."""
    whole = together(dataset.splits.values())
    same = alike_by_content(looks)
    near = linked(same, pairs)
    exact_groups = _groups(same, same, apart=False)
    if exact_groups:
        yield of_groups(
            "exact_duplicates",
            "warning",
            f"{counted(len(exact_groups), 'image appears', 'images appear')} more than once, in "
            f"{counted(sum(map(len, exact_groups)), 'file')} altogether: each copy counts again in training; keep one",
            whole,
            exact_groups,
        )
    near_groups = _groups(near, same)
    if near_groups:
        yield of_groups(
            "near_duplicates",
            "warning",
            f"{counted(sum(map(len, near_groups)), 'image')} in {counted(len(near_groups), 'group')} look the same but "
            "for size, compression, cropping or brightness: graft keeps each group in one split; check whether all are "
            "wanted",
            whole,
            near_groups,
        )
    yield from _straddling(dataset, near)
    labels = np.where(whole.labels < 0, -1, whole.labels)
    conflicts = _groups(np.where(labels < 0, -1, near), labels)
    if conflicts:
        yield of_groups(
            "label_conflict",
            "error",
            f"{counted(len(conflicts), 'image has', 'images have')} more than one label, in "
            f"{counted(sum(map(len, conflicts)), 'copy', 'copies')}: decide on one label for each, or leave out all of "
            "its copies",
            whole,
            conflicts,
        )


def _straddling(dataset: Dataset, near: np.ndarray) -> Iterator[Finding]:
    names = list(dataset.splits)
    split = np.repeat(np.arange(len(names)), [len(images) for images in dataset.splits.values()])
    groups = _groups(near, split)
    if not groups:
        return
    within = {name: sum(int((split[group] == number).sum()) for group in groups) for number, name in enumerate(names)}
    shares = ", ".join(
        f"{count:,} of {len(dataset.splits[name]):,} in {name}" for name, count in within.items() if count
    )
    yield of_groups(
        "split_leakage",
        "error",
        f"{counted(len(groups), 'image has', 'images have')} copies on both sides of a split ({shares}): scores "
        "measured there are optimistic; remove the copies that are trained on",
        together(dataset.splits.values()),
        groups,
    )


def _groups(number: np.ndarray, other: np.ndarray, apart: bool = True) -> list[np.ndarray]:
    """Groups of two or more rows with the same `number`; with `apart` only those that differ in `other`.

    Groups come in the order of their first rows. Rows with a negative number are in no group.
    """
    order = np.argsort(number, kind="stable")
    order = order[number[order] >= 0]
    sizes = np.unique(number[order], return_counts=True)[1]
    starts = np.cumsum(sizes) - sizes
    if apart:
        lowest, highest = np.minimum.reduceat(other[order], starts), np.maximum.reduceat(other[order], starts)
        chosen = np.flatnonzero(lowest != highest)
    else:
        chosen = np.flatnonzero(sizes > 1)
    groups = [order[starts[group] : starts[group] + sizes[group]] for group in chosen]
    return sorted(groups, key=lambda group: int(group[0]))
