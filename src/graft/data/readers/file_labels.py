"""Images whose files are named after their class, `cat.0.jpg`, in a folder or an archive: `--label-from REGEX`."""

from __future__ import annotations

import os
import re

from graft.data.dataset import Dataset
from graft.data.readers.columns import arrange_rows
from graft.data.readers.place import Place
from graft.data.readers.split_names import SPLIT_FOLDERS
from graft.errors import DataError


def read_named_files(place: Place, pattern: re.Pattern[str]) -> Dataset:
    """A Dataset of the files in a place, by what the first group of `pattern` finds in their paths.

    The outermost folders are splits if those of all images that have a label are some. Files in whose path nothing is
    found are left out by name. Raises DataError if nothing is found in any.
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
