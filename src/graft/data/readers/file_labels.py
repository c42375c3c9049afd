"""Images whose files are named after their class, `cat.0.jpg`, in a folder or an archive.

Used with `--label-from REGEX`, or without it if no folder or table gives the classes and nothing else can be meant.
"""

from __future__ import annotations

import os
import re
from collections import Counter

import numpy as np

from graft.data.dataset import TRAIN, WHOLE, Dataset
from graft.data.readers.aside import WHOLE_SETS
from graft.data.readers.columns import arrange_rows
from graft.data.readers.folder_tree import are_no_images
from graft.data.readers.named_after_classes import OF_CAMERAS, are_classes, class_in
from graft.data.readers.place import Place
from graft.data.readers.split_names import SPLIT_FOLDERS, splits_of
from graft.errors import DataError


def read_named_files(place: Place, pattern: re.Pattern[str]) -> Dataset:
    """Read a Dataset from the files in a place, labelled by what the first group of `pattern` matches in their paths.

    The outermost folders are splits if those of all labelled images are. Files whose path has no match are left out by
    name. Raises DataError if no path matches.
    """
    import pyarrow

    paths, name = place.listing.files, place.listing.name
    keys = [os.fsdecode(each.as_py()) for each in paths]
    found = (pattern.search(key) for key in keys)
    labels = [((each and each[1]) or "").strip() for each in found]
    if not any(labels):
        raise DataError(
            f"expected --label-from to find a label in the path of an image in {name}, got none with "
            f"{pattern.pattern!r} in any of {len(keys):,}, such as {keys[0] if keys else 'no file'!r}: correct it"
        )
    columns = {"path": paths, "label": pyarrow.array(labels, pyarrow.large_string())}
    splits = [SPLIT_FOLDERS.get(key.partition("/")[0].lower(), "") for key in keys]
    if all(split for split, label in zip(splits, labels, strict=True) if label):
        columns["split"] = pyarrow.array(splits, pyarrow.large_string())
    return arrange_rows(name, place.source, pyarrow.table(columns))


def read_named_after_classes(place: Place) -> Dataset | None:
    """Read a Dataset of images that are all named after one of several classes, in one folder or in one per split.

    None if another meaning is possible. A split in which no file is named so has no labels.
    """
    import pyarrow

    is_image = ~are_no_images(place.listing.files)
    paths = [os.fsdecode(path.as_py()) for path in place.listing.files]
    splits = _split_of_each(paths, is_image)
    if splits is None:
        return None
    names = [path.rpartition("/")[2] for path in paths]
    labels = [class_in(name) if image else "" for name, image in zip(names, is_image, strict=True)]
    of_split: dict[str, Counter[str]] = {}
    for split, label, image in zip(splits, labels, is_image, strict=True):
        if image:
            of_split.setdefault(split, Counter())[label] += 1
    learned = of_split.get(TRAIN, of_split.get(WHOLE, Counter()))
    others = (counts.keys() for counts in of_split.values() if counts is not learned)
    if not are_classes(learned) or any(found != {""} and not found <= learned.keys() for found in others):
        return None
    if any(OF_CAMERAS.fullmatch(name) for name in names):
        return None
    columns = {"path": place.listing.files, "label": pyarrow.array(labels, pyarrow.large_string())}
    if WHOLE not in of_split:
        columns["split"] = pyarrow.array(splits, pyarrow.large_string())
    first = {label: name for name, label in zip(reversed(names), reversed(labels), strict=True) if label}
    shown = ", ".join(f"{label!r} of {first[label]}" for label in sorted(first)[:3]) + ", …" * (len(first) > 3)
    note = (
        f"no folder or table gives the classes: they are taken from the names of files ({shown}); --label-from REGEX "
        "chooses others"
    )
    return arrange_rows(place.listing.name, place.source, pyarrow.table(columns), notes=(note,))


def _split_of_each(paths: list[str], is_image: np.ndarray) -> list[str] | None:
    """The split of each file, if images lie in one folder, or in one per split and nowhere else; otherwise None."""
    folders = [path.rpartition("/")[0] for path in paths]
    holding = {folder for folder, image in zip(folders, is_image, strict=True) if image}
    meant = splits_of({part for folder in holding for part in folder.split("/")})
    split_of: dict[str, str] = {}
    for folder in holding:
        *_, name = folder.split("/")
        if name and name not in meant and not WHOLE_SETS.fullmatch(name):
            return None
        split_of[folder] = next((meant[part] for part in reversed(folder.split("/")) if part in meant), WHOLE)
    found = Counter(split_of.values())
    if not found or max(found.values()) > 1 or (WHOLE in found and len(found) > 1):
        return None
    return [split_of.get(folder, TRAIN) for folder in folders]
