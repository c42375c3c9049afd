"""Images whose files are named after their class, `cat.0.jpg`, in a folder or an archive: `--label-from REGEX`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from graft.data.dataset import Dataset, Source
from graft.data.readers.archive import is_archive, read_members
from graft.data.readers.columns import arrange_rows
from graft.data.readers.folder import Files, list_folder
from graft.data.readers.split_names import SPLIT_FOLDERS
from graft.errors import DataError

if TYPE_CHECKING:
    import pyarrow


def read_named_files(path: Path, pattern: re.Pattern[str], encoding: str | None = None) -> Dataset:
    """A Dataset of the files in a folder or archive, by what the first group of `pattern` finds in their paths.

    The outermost folders are splits if those of all images that have a label are some. Files in whose path nothing is
    found are left out by name. Raises DataError if nothing is found in any, and for what is no folder or archive.
    """
    import pyarrow

    source, paths = _files(path, encoding)
    keys = [os.fsdecode(each.as_py()) for each in paths]
    found = (pattern.search(key) for key in keys)
    labels = [((each and each[1]) or "").strip() for each in found]
    if not any(labels):
        raise DataError(
            f"expected --label-from to find a label in the path of an image in {path.name}, got none with "
            f"{pattern.pattern!r} in any of {len(keys):,}, such as {keys[0] if keys else 'no file'!r}: correct it"
        )
    columns = {"path": paths, "label": pyarrow.array(labels, pyarrow.large_string())}
    splits = [SPLIT_FOLDERS.get(key.partition("/")[0].lower(), "") for key in keys]
    if all(split for split, label in zip(splits, labels, strict=True) if label):
        columns["split"] = pyarrow.array(splits, pyarrow.large_string())
    return arrange_rows(path.name, source, pyarrow.table(columns))


def _files(path: Path, encoding: str | None) -> tuple[Source, pyarrow.LargeBinaryArray]:
    if path.is_dir():
        files = list_folder(path).files
        return Files(path, files), files
    if is_archive(path):
        members = read_members(path, encoding)
        return members, members.paths
    raise DataError(
        f"expected a folder, an archive or a table of images with --label-from, got {path}: give one of these, or "
        "leave it out"
    )
