"""What is wrong with copies of images: they count twice, leak across a split, or carry two labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from graft.audit.duplicates import exact
from graft.audit.findings import Finding, of_groups
from graft.data.dataset import Dataset, together
from graft.words import counted

if TYPE_CHECKING:
    from graft.audit.chains import KeptTogether
    from graft.audit.looking import Looks


def alike_by_content(looks: Looks) -> np.ndarray:
    """Return a number per image, int64 (N,), equal for files with equal content."""
    number = np.arange(len(looks.decoded))
    for group in exact(looks):
        number[group] = group[0]
    return number


def copy_findings(
    dataset: Dataset,
    looks: Looks,
    pairs: np.ndarray,
    look_alikes: np.ndarray | None = None,
    kept: KeptTogether | None = None,
) -> Iterator[Finding]:
    """Yield findings about exact and near copies, copies in two splits, and copies with two labels.

    `pairs` are rows of images that are copies, `look_alikes` rows that merely look so, int64 (P, 2). `kept` says which
    of them share a split; without it, all do.
    """
    some_copied, some_parted = (False, False) if kept is None else (len(kept.copied) > 0, len(kept.parted) > 0)
    whole = together(dataset.splits.values())
    same = alike_by_content(looks)
    exact_groups = _of_equal(same, same, apart=False)
    if exact_groups:
        yield of_groups(
            "exact_duplicates",
            "warning",
            f"{counted(len(exact_groups), 'image appears', 'images appear')} more than once, in "
            f"{counted(sum(map(len, exact_groups)), 'file')} altogether: each copy counts again in training; keep one "
            "of each",
            whole,
            exact_groups,
        )
    near_groups = _around(pairs[same[pairs[:, 0]] != same[pairs[:, 1]]], same)
    if near_groups:
        yield of_groups(
            "near_duplicates",
            "warning",
            f"{counted(_members(near_groups), 'image')} in {counted(len(near_groups), 'group')} look the same except "
            "for size, compression, cropping or brightness: graft keeps each group in one split"
            f"{', except in classes that have nothing else' * some_copied}; check whether you want all of them",
            whole,
            near_groups,
        )
    yield from _straddling(dataset, same, pairs)
    conflicts = _apart(same, pairs, np.where(whole.labels < 0, -1, whole.labels))
    if conflicts:
        yield of_groups(
            "label_conflict",
            "error",
            f"{counted(len(conflicts), 'image has', 'images have')} more than one label across "
            f"{counted(_members(conflicts), 'copy', 'copies')}: choose one label for each, or leave out all of its "
            "copies",
            whole,
            conflicts,
        )
    if look_alikes is not None and len(look_alikes):
        alone = np.arange(len(same))
        yield of_groups(
            "look_alikes",
            "info",
            f"{counted(len(look_alikes), 'pair')} of images look like copies at a glance but differ in one part or in "
            "colour, or are no more alike than different images here can be: not counted as copies, but kept in one "
            f"split{' unless that takes more than half of a class' * some_parted}",
            whole,
            _around(look_alikes, alone),
        )


def _straddling(dataset: Dataset, same: np.ndarray, pairs: np.ndarray) -> Iterator[Finding]:
    names = list(dataset.splits)
    split = np.repeat(np.arange(len(names)), [len(images) for images in dataset.splits.values()])
    groups = _apart(same, pairs, split)
    if not groups:
        return
    members = np.unique(np.concatenate(groups))
    within = {name: int((split[members] == number).sum()) for number, name in enumerate(names)}
    shares = ", ".join(
        f"{count:,} of {len(dataset.splits[name]):,} in {name}" for name, count in within.items() if count
    )
    yield of_groups(
        "split_leakage",
        "error",
        f"{counted(len(groups), 'image has', 'images have')} copies on both sides of a split ({shares}): scores "
        "measured there are optimistic; remove the copies used for training",
        together(dataset.splits.values()),
        groups,
    )


def _apart(same: np.ndarray, pairs: np.ndarray, of: np.ndarray) -> list[np.ndarray]:
    """Return groups of copies that differ in `of`, int (N,): equal contents, and near copies of a central image.

    Rows where `of` is negative, and copies that do not differ, are in no group.
    """
    equal = _of_equal(np.where(of < 0, -1, same), of)
    # The first file of equal content and equal `of` stands for all of them: there may be thousands of two placeholders.
    known = np.flatnonzero(of >= 0)
    _, first, number = np.unique(
        same[known] * (of.max(initial=0) + 1) + of[known], return_index=True, return_inverse=True
    )
    stands = np.arange(len(same))
    stands[known] = known[first][number]
    files: dict[int, list[int]] = {}
    for row in np.sort(known[first]).tolist():
        files.setdefault(int(same[row]), []).append(row)
    across = [
        (row, other)
        for one, two in same[pairs].tolist()
        if one != two
        for row in files.get(one, ())
        for other in files.get(two, ())
        if of[row] != of[other]
    ]
    near = _around(np.array(across, np.int64).reshape(-1, 2), stands)
    return sorted([*equal, *near], key=lambda group: int(group[0]))


def _around(pairs: np.ndarray, same: np.ndarray) -> list[np.ndarray]:
    """Return groups of rows that each pair with a common central member, with all files of the same content.

    Every pair is in a group. Likeness is not chained: the two ends of a chain share no group.
    """
    near: dict[int, set[int]] = {}
    for one, other in same[pairs].tolist():
        near.setdefault(one, set()).add(other)
        near.setdefault(other, set()).add(one)
    contents: dict[int, list[int]] = {}
    for row in np.flatnonzero(np.isin(same, list(near))).tolist():
        contents.setdefault(int(same[row]), []).append(row)
    groups = []
    # The row with the most copies goes first; the others get the pairs that remain.
    for centre in sorted(near, key=lambda row: (-len(near[row]), row)):
        if near[centre]:
            members = [centre, *near[centre]]
            for other in near[centre]:
                near[other].discard(centre)
            covered = near[centre]
            near[centre] = set()
            # Pairs within the group are covered by it.
            for other in covered:
                # Not in place, which would go through all that is covered for each.
                near[other] = near[other] - covered
            groups.append(np.array(sorted(row for each in members for row in contents[each])))
    return sorted(groups, key=lambda group: int(group[0]))


def _members(groups: list[np.ndarray]) -> int:
    return len(np.unique(np.concatenate(groups)))


def _of_equal(number: np.ndarray, other: np.ndarray, apart: bool = True) -> list[np.ndarray]:
    """Return groups of rows with the same `number`: of two or more, or with `apart` only those that differ in `other`.

    Groups are ordered by their first rows. Rows with a negative number are in no group.
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
