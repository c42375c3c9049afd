"""Images for a classifier to predict, from any store of images, with or without labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.data.dataset import Images, Several, Source, together
from graft.data.opening import open_dataset
from graft.data.readers.archive import is_archive
from graft.data.readers.folder import Files, list_folder
from graft.data.readers.folder_tree import are_no_images
from graft.data.readers.hub_dataset import PREFIX
from graft.data.readers.idx import is_idx, pixel_files, read_pixels
from graft.data.readers.parquet import read_embedded_images, refuse_arrow
from graft.data.readers.remote import Addresses, is_address
from graft.data.readers.table import is_table, read_paths
from graft.data.readers.tar_shards import is_tar_shards, read_tar_shards
from graft.data.readers.unpacking import open_place
from graft.errors import DataError, LeftOpenError
from graft.progress import NOBODY, Reporter
from graft.words import counted

if TYPE_CHECKING:
    import pyarrow


def open_images(place: str | Path, reporter: Reporter = NOBODY) -> Images:
    """Open all images at `place`, in their order there and without labels.

    `place` is an archive, a manifest, Parquet, WebDataset shards, IDX files, `hf:owner/dataset`, or a folder. Any other
    file is itself an image, as is an address (`https://…`, `s3://…`). Folders and archives contribute every file at any
    depth except those whose names mark them as something else, for example `notes.txt`; `reporter` is told about these.
    The key of an image in an archive or a manifest is its path there; that of a file is the path to it. Nothing is
    decoded. Raises DataError for a place that cannot be read or holds no image.
    """
    if str(place).startswith(PREFIX):
        return together(open_dataset(place).splits.values())
    if is_address(str(place)):
        return one_image(place)
    path = Path(place)
    try:
        found = _open(path, reporter)
    except OSError as error:
        raise DataError(
            f"expected images that can be read, got {str(path)!r} ({error.strerror or error}): check the path and "
            "its permissions"
        ) from None
    except LeftOpenError as error:
        # No option says here how a table is to be read.
        raise DataError(
            f"{error.found}: write the path of each image, from the folder of {path.name} on, in a column 'path', or "
            "give the images or their folder"
        ) from None
    if not len(found):
        raise DataError(f"expected images in {path}, got none: check the path")
    return found


def _open(path: Path, reporter: Reporter) -> Images:
    if is_idx(path):
        return _all_of(Several([read_pixels(file) for file in pixel_files(path)]))
    if is_tar_shards(path):
        return together(read_tar_shards(path).splits.values())
    if path.is_dir():
        # A table in a folder of images may be anything, even predictions for them; one that holds images is the data.
        embedded = read_embedded_images(path) if any(path.glob("*.parquet")) else None
        if embedded is not None:
            return _all_of(embedded)
        listed = list_folder(path)
        return _of_files(
            path, listed.files, Files.of(path / os.fsdecode(file.as_py()) for file in listed.files), reporter
        )
    if is_archive(path):
        with open_place(path) as place:
            return _of_files(path, place.listing.files, place.source, reporter)
    refuse_arrow(path)
    if path.suffix.lower() == ".parquet":
        return _all_of(read_embedded_images(path) or read_paths(path))
    return _all_of(read_paths(path) if is_table(path) else Files.of([path]))


def one_image(place: str | Path) -> Images:
    """Return the image in a file or at an address, without checking that it exists."""
    return _all_of((Addresses if is_address(str(place)) else Files).of([place]))


def _of_files(place: Path, files: pyarrow.LargeBinaryArray, source: Source, reporter: Reporter) -> Images:
    """Return the images among the files of a place, large_binary (N,), which are the rows of `source`."""
    others = are_no_images(files)
    if others.any():
        shown = ", ".join(os.fsdecode(files[row].as_py()) for row in np.flatnonzero(others)[:3].tolist())
        named = f"{shown}{', …' if others.sum() > 3 else ''}"
        if others.all():
            raise DataError(
                f"expected images in {place}, got {counted(len(others), 'file')} named as something else ({named}): "
                "check the path, or name the files themselves"
            )
        what = counted(
            int(others.sum()), "file that is not named like an image was", "files that are not named like images were"
        )
        reporter.note(f"{place}: {what} passed over ({named})")
    return _all_of(source).take(np.flatnonzero(~others))


def _all_of(source: Source) -> Images:
    return Images(source, np.arange(len(source)), np.full(len(source), -1, dtype=np.int64))
