"""A dataset without the faults that an audit found in it.

Among copies within a split, the first is kept. Among copies across splits, those in the training data are dropped: the
test set stays comparable with published results, and training loses little. Files of equal content under several labels
are all dropped, since nobody knows which label is right. Near copies under several labels stay unless their kind is
asked for, since one of them is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np

from graft.data.dataset import TEST, TRAIN, VAL, Dataset, together
from graft.errors import InputError, did_you_mean
from graft.words import counted

DROPPED = ("unreadable", "placeholder", "exact_duplicates", "split_leakage", "label_conflict")
# Further kinds, whose images are dropped only on request.
DROPPABLE = (
    *("near_duplicates", "possible_placeholder", "likely_wrong_label", "outlier", "low_information", "blurry"),
    "class_mark",
    *("dark", "light", "grey", "odd_size", "odd_aspect_ratio", "wrong_extension", "animated"),
)
# An image with copies in several splits stays in the first of these that holds it.
_STAYS = (TEST, VAL, TRAIN)


def check_kinds(kinds: Iterable[str]) -> None:
    """Raise InputError for kinds that cannot be dropped."""
    for kind in kinds:
        if kind not in (*DROPPED, *DROPPABLE):
            raise InputError(
                f"expected one of {', '.join(DROPPABLE)} for --drop, got {kind!r}{did_you_mean(kind, DROPPABLE)}: "
                "choose among them"
            )


def _checked(dataset: Dataset, findings: Iterable[Fault]) -> tuple[Fault, ...]:
    """Return the findings. Raises InputError if they cannot be about this dataset."""
    asked = "give the `findings` of an audit of this dataset"
    given = tuple(findings) if isinstance(findings, Iterable) and not isinstance(findings, str) else (findings,)
    for finding in given:
        if not hasattr(finding, "images") or not hasattr(finding, "kind"):
            raise InputError(f"expected findings of an audit, got {type(finding).__name__}: {asked}")
    beyond = max((number for finding in given for number in finding.images), default=-1)
    if beyond >= len(dataset):
        raise InputError(
            f"expected findings about these {counted(len(dataset), 'image')}, got one about image {beyond:,}: {asked}"
        )
    whole = together(dataset.splits.values())
    for finding in given:
        for number, path in zip(finding.images, getattr(finding, "paths", ()), strict=False):
            if whole.name(number) != path:
                raise InputError(
                    f"expected findings about these images, got one about {path} where {whole.name(number)} is: {asked}"
                )
    return given


class Fault(Protocol):
    """A finding of an audit: its kind, image numbers counted through all splits, and groups of positions in them."""

    @property
    def kind(self) -> str: ...
    @property
    def images(self) -> tuple[int, ...]: ...
    @property
    def groups(self) -> tuple[tuple[int, ...], ...]: ...


def without_faults(dataset: Dataset, findings: Iterable[Fault], more: Iterable[str] = ()) -> Dataset:
    """Return the images to keep, in their splits; `more` lists kinds of DROPPABLE to drop as well.

    Dropped images are in `left_out`. One note says how many there are, another which kinds were found and kept. Raises
    InputError for any other kind, and for findings about other data.
    """
    more, findings = (more,) if isinstance(more, str) else tuple(more), _checked(dataset, findings)
    check_kinds(more)
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
    whole, notes = together(dataset.splits.values()), []
    dropped = {whole.name(row): "the audit found it at fault" for row in np.flatnonzero(~kept).tolist()}
    if dropped:
        notes.append(f"{len(dropped):,} of {counted(len(whole), 'image')} left out: the audit found them at fault")
    spared = [each.kind for each in findings if each.images and each.kind in DROPPABLE and each.kind not in more]
    if spared:
        notes.append(f"found but kept, as they are not among the findings to drop: {', '.join(dict.fromkeys(spared))}")
    return replace(dataset, splits=parts, notes=(*dataset.notes, *notes), left_out={**dataset.left_out, **dropped})


def _contents(dataset: Dataset) -> list[bytes]:
    """Return a key per image, equal for files of equal content; without digests, every image has its own key."""
    images = [part for part in dataset.splits.values() if len(part)]
    if any(part.digests is None for part in images):
        return [str(number).encode() for number in range(len(dataset))]
    return [digest.tobytes() for part in images if part.digests is not None for digest in part.digests]


def _of_equal_content(finding: Fault, dataset: Dataset, content: list[bytes]) -> Iterator[int]:
    """Yield the numbers of the images whose content occurs under several labels in this finding."""
    labels = np.concatenate([part.labels for part in dataset.splits.values()])
    of: dict[bytes, set[int]] = {}
    for number in finding.images:
        of.setdefault(content[number], set()).add(int(labels[number]))
    yield from (number for number in finding.images if len(of[content[number]]) > 1)


def _surplus(finding: Fault, split: np.ndarray) -> Iterator[int]:
    """Yield the numbers of the images to drop for this finding; `split` (N,) names the split of each image."""
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
