"""What a classifier is asked about, one image after the other: the intake of `Classifier.predict`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from graft.data.dataset import Dataset, Images, together
from graft.data.handed_over import HandedOver
from graft.data.unlabelled import open_images
from graft.errors import ImageError, InputError
from graft.images.handed_over import ACCEPTED, is_open_file, is_tensor, named, taken_in
from graft.serving.gathering import Entry


class Given(HandedOver):
    """Images as they were handed over, or entries of what holds many; `before` them came that many others."""

    def name(self, row: int) -> str:
        thing = self.things[row]
        return thing.path if isinstance(thing, Entry) else super().name(row)

    key = name

    def read(self, row: int) -> bytes | np.ndarray:
        thing = self.things[row]
        return thing.read() if isinstance(thing, Entry) else super().read(row)

    def stamp(self, row: int) -> str:
        return str(row)


def one_by_one(images: Any) -> Iterator[Any]:
    """What `predict` was given, as images one by one; open files are read as they come.

    A folder, an archive and a `Dataset` are all images that they hold, one array (n, H, W, 3) or tensor (n, 3, H, W) is
    n images, and anything that is an image itself is one. Raises InputError for what is none of these, at once.
    """
    if isinstance(images, str) and not images:
        raise InputError("expected an image or several, got an empty text: give a path, or . for the current folder")
    if isinstance(images, Dataset):
        images = together(images.splits.values()) if images.splits else ()
    elif isinstance(images, str | os.PathLike) and (place := os.fspath(images)) and _is_folder(place):
        images = open_images(Path(place).expanduser())
    elif _is_one(images):
        images = [images]
    if isinstance(images, Images):
        return (Entry(images, index) for index in range(len(images)))
    if not isinstance(images, Iterable):
        raise InputError(f"expected {ACCEPTED}, or several of these, got {named(images)}: give one or several")
    return map(_taken_in, images)


def _is_folder(place: str | bytes) -> bool:
    try:
        return Path(os.fsdecode(place)).expanduser().is_dir()
    except (OSError, ValueError, RuntimeError):
        return False


def _is_one(images: Any) -> bool:
    if isinstance(images, np.ndarray) or is_tensor(images):
        # What has no axis of channels, last or by mistake first, is as many images (H, W).
        greys = images.ndim == 3 and images.shape[-1] > 5 and images.shape[0] not in (1, 3, 4)
        return bool(images.ndim != 4) and not greys
    kinds = (str, bytes, bytearray, memoryview, os.PathLike, Image.Image)
    return isinstance(images, kinds) or is_open_file(images)


def _taken_in(thing: Any) -> Any:
    """The image, or in its place what is wrong with an open file."""
    try:
        return thing if isinstance(thing, Entry) else taken_in(thing)
    except ImageError as error:
        return error
