"""Images as they lie in what holds many of them, with labels or without: what a classifier is asked about."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from graft.data.dataset import Images, Several, Source, together
from graft.data.opening import open_dataset
from graft.data.readers.archive import is_archive
from graft.data.readers.folder import Files, list_folder
from graft.data.readers.hub_dataset import PREFIX
from graft.data.readers.idx import is_idx, pixel_files, read_pixels
from graft.data.readers.parquet import read_embedded_images
from graft.data.readers.remote import Addresses, is_address
from graft.data.readers.table import is_table, read_paths
from graft.data.readers.tar_shards import is_tar_shards, read_tar_shards
from graft.data.readers.unpacking import open_place
from graft.errors import DataError


def open_images(place: str | Path) -> Images:
    """All images at `place`, in the order that they have there and without labels.

    `place` is an archive, a manifest, Parquet, WebDataset shards, IDX files, `hf:owner/dataset`, or a folder, of which
    every file at any depth counts; any other file is an image itself, and so is an address (`https://…`, `s3://…`).
    What lies in an archive or is named by a manifest has the path that it has there as its key, a file the path to it.
    Nothing is decoded. Raises DataError for what cannot be read, or holds no image.
    """
    if str(place).startswith(PREFIX):
        return together(open_dataset(place).splits.values())
    if is_address(str(place)):
        return one_image(place)
    path = Path(place)
    try:
        found = _open(path)
    except OSError as error:
        raise DataError(
            f"expected images that can be read, got {str(path)!r} ({error.strerror or error}): check the path and "
            "its permissions"
        ) from None
    if not len(found):
        raise DataError(f"expected images in {path}, got none: check the path")
    return found


def _open(path: Path) -> Images:
    if is_idx(path):
        return _all_of(Several([read_pixels(file) for file in pixel_files(path)]))
    if is_tar_shards(path):
        return together(read_tar_shards(path).splits.values())
    if path.is_dir():
        # A table in a folder of images may be anything, such as predictions for them; one of images is the data.
        embedded = read_embedded_images(path) if any(path.glob("*.parquet")) else None
        return _all_of(embedded or Files.of(path / os.fsdecode(file.as_py()) for file in list_folder(path).files))
    if is_archive(path):
        with open_place(path) as place:
            return _all_of(place.source)
    if path.suffix.lower() == ".parquet":
        return _all_of(read_embedded_images(path) or read_paths(path))
    return _all_of(read_paths(path) if is_table(path) else Files.of([path]))


def one_image(place: str | Path) -> Images:
    """The image in a file or at an address, whether it is there or not."""
    return _all_of((Addresses if is_address(str(place)) else Files).of([place]))


def _all_of(source: Source) -> Images:
    return Images(source, np.arange(len(source)), np.full(len(source), -1, dtype=np.int64))
