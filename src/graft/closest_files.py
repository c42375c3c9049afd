"""Which of the files about images, of other endings, describes which image: by their names and folders.

The file of an image has its name and lies in its folder, or else in the closest folder that is left. A ground-floor
module: it knows of paths alone.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from graft.endings import IMAGE_ENDING

_ENDING = r"\.[^./]*$"


def closest(images: Sequence[str], files: Sequence[str], splits: Mapping[str, str]) -> dict[str, list[str]]:
    """The files that may describe each image: normally one, and several where no folder is the closest.

    `splits` are those of all files: an image of one split is not described by a file of another.
    """
    beside = {re.sub(_ENDING, "", name): name for name in files}
    pairs = {path: [beside[key]] for path in images if (key := re.sub(IMAGE_ENDING, "", path)) in beside}
    taken = {name for (name,) in pairs.values()}
    by_name = defaultdict[str, list[str]](list)
    for key, name in beside.items():
        if name not in taken:
            by_name[key.rpartition("/")[2]].append(name)
    near: dict[str, dict[str, tuple[int, int]]] = {}
    for path in (path for path in images if path not in pairs):
        alike = by_name.get(re.sub(IMAGE_ENDING, "", path.rpartition("/")[2]), ())
        alike = [name for name in alike if splits[name] in ("", splits[path]) or not splits[path]]
        near[path] = {name: _closeness(path, name) for name in alike}
    closest: dict[str, tuple[int, int]] = {}
    for each in near.values():
        for name, closeness in each.items():
            closest[name] = max(closeness, closest.get(name, closeness))
    for path, each in near.items():
        best = [name for name in each if each[name] == max(each.values()) == closest[name]]
        if best:
            pairs[path] = best
    return pairs


def _closeness(first: str, second: str) -> tuple[int, int]:
    """How close the folders of two files are: how many of their parts are the same, and how few are not, negative."""
    one, other = first.split("/")[:-1], second.split("/")[:-1]
    above = _shared(one, other)
    shared = above + _shared(one[above:][::-1], other[above:][::-1])
    return shared, 2 * shared - len(one) - len(other)


def _shared(one: Iterable[str], other: Iterable[str]) -> int:
    """How many parts two paths have in common from their beginnings."""
    same = 0
    for first, second in zip(one, other, strict=False):
        if first != second:
            break
        same += 1
    return same
