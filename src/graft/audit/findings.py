"""The findings of an audit as values, and those that can be made without looking at the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from graft.data.dataset import TRAIN, Dataset, Images, counts, together
from graft.words import counted, first_few

Severity = Literal["error", "warning", "info"]

# A class is rare if it has less than this share of the images it would have if all classes were equal; cleanlab's
# default.
RARE = 0.1
# With fewer images, one more or fewer recognised changes a class's recall by over ten points.
FEW = 10


@dataclass(frozen=True)
class Finding:
    """One kind of fault, or a fact worth knowing, and the images that it concerns.

    `paths` are their names and `images` their numbers, counted through all splits. A finding about classes has neither;
    one about files that are in no split has only names. `groups` are positions in `paths` of images that belong
    together. `remarks` has a sentence for each image, or is empty.
    """

    kind: str
    severity: Severity
    message: str
    paths: tuple[str, ...] = ()
    images: tuple[int, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()
    remarks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as `graft audit --json` prints it."""
        groups = [[self.paths[position] for position in group] for group in self.groups]
        found = {"kind": self.kind, "severity": self.severity, "paths": list(self.paths), "message": self.message}
        return {**found, "groups": groups} if groups else found


def of_images(
    kind: str,
    severity: Severity,
    message: str,
    whole: Images,
    rows: Sequence[int] | np.ndarray,
    remarks: Sequence[str] = (),
) -> Finding:
    """Build a finding about some of all images."""
    numbers = tuple(int(row) for row in rows)
    return Finding(kind, severity, message, tuple(map(whole.name, numbers)), numbers, remarks=tuple(remarks))


def of_groups(kind: str, severity: Severity, message: str, whole: Images, groups: Sequence[np.ndarray]) -> Finding:
    """Build a finding about groups of images; an image may be in several."""
    numbers = list(dict.fromkeys(np.concatenate(groups).tolist()))
    place = {number: position for position, number in enumerate(numbers)}
    positions = tuple(tuple(place[number] for number in group.tolist()) for group in groups)
    return replace(of_images(kind, severity, message, whole, numbers), groups=positions)


def class_counts(dataset: Dataset) -> dict[str, int]:
    """Count the images of each class through all splits, by name."""
    return counts(together(dataset.splits.values()), dataset.classes, dataset.label_sets)


def class_findings(dataset: Dataset) -> Iterator[Finding]:
    """Yield classes that are rare, tiny, or missing from a split."""
    trained = dataset.splits.get(TRAIN)
    sizes = class_counts(dataset) if trained is None else counts(trained, dataset.classes, dataset.label_sets)
    where = "" if trained is None else f" in {TRAIN}"
    present = {name: count for name, count in sizes.items() if count}
    if len(present) > 1:
        fewest, most = min(present, key=present.__getitem__), max(present, key=present.__getitem__)
        if present[fewest] < RARE * sum(present.values()) / len(present):
            yield Finding(
                "class_imbalance",
                "warning",
                f"{most!r} has {present[most] / present[fewest]:.0f} times as many images{where} as {fewest!r} "
                f"({present[most]:,} and {present[fewest]:,}): judge by the recall of each class, and add images of "
                f"rare classes{'' if dataset.label_sets is not None else ' or train with --class-weights balanced'}",
            )
    tiny = {name: count for name, count in present.items() if count < FEW}
    if tiny:
        yield Finding(
            "tiny_class",
            "warning",
            f"{counted(len(tiny), 'class has', 'classes have')} fewer than {FEW} images{where}: {_listed(tiny)}; add "
            "images, or merge or drop such classes",
        )
    for split, images in dataset.splits.items():
        sizes = counts(images, dataset.classes, dataset.label_sets)
        missing = [name for name, count in sizes.items() if not count]
        if missing and len(images):
            yield Finding(
                "missing_class",
                "warning",
                f"{split} has no images of {counted(len(missing), 'class', 'classes')}: "
                f"{_listed(dict.fromkeys(missing))}; add some, or keep in mind that its scores say nothing about them",
            )


def left_out(dataset: Dataset) -> Iterator[Finding]:
    """Yield what is in the data but in no split."""
    if dataset.left_out:
        reasons = Counter(dataset.left_out.values()).most_common(5)
        yield Finding(
            "left_out",
            "warning",
            f"{counted(len(dataset.left_out), 'file or row is', 'files or rows are')} in no split: "
            + "; ".join(f"{reason} ({count:,})" for reason, count in reasons),
            tuple(dataset.left_out),
            remarks=tuple(dataset.left_out.values()),
        )


def _listed(classes: dict[str, Any], most: int = 6) -> str:
    return first_few((repr(name) if count is None else f"{name!r} ({count})" for name, count in classes.items()), most)
