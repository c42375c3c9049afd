"""Take in what a classifier is asked about, one image after another: the intake of `Classifier.predict`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from graft.data.dataset import Dataset, Images, together
from graft.data.handed_over import Frame, HandedOver, images_column
from graft.data.unlabelled import open_images
from graft.errors import ImageError, InputError
from graft.images.handed_over import ACCEPTED, is_open_file, is_tensor, named, said_by, taken_in
from graft.serving.gathering import Entry

# Kinds of numpy arrays whose elements are things rather than pixel values: objects, texts, bytes.
LISTED = "OUST"


class Given(HandedOver):
    """Images as handed over, or entries of a source of many; `before` others came ahead of them."""

    def name(self, row: int) -> str:
        thing = self.things[row]
        return thing.path if isinstance(thing, Entry) else super().name(row)

    key = name

    def read(self, row: int) -> bytes | np.ndarray:
        """Read one image. Raises OSError and ImageError; one unreadable image stops nothing."""
        thing = self.things[row]
        try:
            if isinstance(thing, str):
                os.fsencode(thing)
            return thing.read() if isinstance(thing, Entry) else super().read(row)
        except UnicodeEncodeError:
            raise ImageError(
                f"expected a path that a file can have, got {thing!r} with a lone surrogate in it, which no path can "
                "have: correct it"
            ) from None
        except InputError as error:
            # An address of a kind that nothing here reads.
            raise ImageError(str(error)) from None

    def stamp(self, row: int) -> str:
        return str(row)


def one_by_one(images: Any) -> Iterator[Any]:
    """Yield what `predict` was given, image by image; open files are read as they come.

    A folder, an archive or a `Dataset` stands for all its images, and a data frame for those in its column `path`, or
    of another name that a table may have for it; one array (n, H, W, 3) or tensor (n, 3, H, W) is n
    images, an array (n,) of paths is n paths, and anything that is itself an image is one. Raises InputError at once
    for anything else.
    """
    if isinstance(images, str) and not images:
        raise InputError("expected an image or several, got an empty string: give a path, or . for the current folder")
    if isinstance(images, Frame) and (column := images_column(images)) is not None:
        images = list(images[column])
    elif isinstance(images, Mapping | Frame):
        raise InputError(
            f"expected {ACCEPTED}, or several of these, got {named(images)}: give its values, or its column of paths, "
            "as a list"
        )
    _refuse_batches(images)
    if isinstance(images, Dataset):
        images = together(images.splits.values()) if images.splits else ()
    elif isinstance(images, str | os.PathLike) and _is_folder(images):
        images = open_images(Path(os.fsdecode(images)).expanduser())
    elif _is_one(images):
        images = [images]
    if isinstance(images, Images):
        return (Entry(images, index) for index in range(len(images)))
    if not isinstance(images, Iterable):
        _refuse_pairs(images)
        raise InputError(f"expected {ACCEPTED}, or several of these, got {named(images)}: give one or several")
    try:
        return map(_taken_in, images)
    except (TypeError, RuntimeError) as error:
        # A torch tensor claims to be iterable even when its shape cannot be iterated over.
        raise InputError(
            f"expected {ACCEPTED}, or several of these, got {named(images)} that cannot be iterated over "
            f"({said_by(error)}): give a list of images"
        ) from None


def _refuse_batches(images: Any) -> None:
    """Raise InputError for what has labels beside its images: a loader of torch, or a batch that one gave."""
    loads = hasattr(images, "dataset") and hasattr(images, "batch_size")
    if loads or (
        isinstance(images, tuple | list)
        and len(images) == 2
        and _dimensions(images[0]) == 4
        and (_dimensions(images[1]) in (0, 1) or isinstance(images[1], tuple | list))
    ):
        what = named(images) if loads else "a batch of images with its labels"
        raise InputError(
            f"expected {ACCEPTED}, or several of these, got {what}: pass each batch's images, "
            "`for images, labels in loader: classifier.predict(images)`"
        )


def _refuse_pairs(images: Any) -> None:
    """Raise InputError for a dataset of torch that gives (image, label) by number."""
    if not (hasattr(images, "__getitem__") and hasattr(images, "__len__")):
        return
    try:
        first = images[0]
    except Exception:  # a caller's own type may raise anything; it is refused as it is
        return
    if isinstance(first, tuple | list) and len(first) >= 2:
        raise InputError(
            f"expected {ACCEPTED}, or several of these, got {named(images)} that gives images with their labels: pass "
            "`graft.Dataset.from_torch(…)` of it"
        )


def _dimensions(thing: Any) -> int | None:
    return int(thing.ndim) if isinstance(thing, np.ndarray) or is_tensor(thing) else None


def _is_folder(place: str | os.PathLike[Any]) -> bool:
    try:
        return Path(os.fsdecode(place)).expanduser().is_dir()
    except Exception:  # a caller's own path type may raise anything; the error is reported in its place
        return False


def _is_one(images: Any) -> bool:
    if isinstance(images, np.ndarray) and images.ndim == 1 and images.dtype.kind in LISTED:
        return False
    if isinstance(images, np.ndarray) or is_tensor(images):
        try:
            # An array without a channel axis, last or by mistake first, is a stack of images (H, W).
            greys = images.ndim == 3 and images.shape[-1] > 5 and images.shape[0] not in (1, 3, 4)
        except RuntimeError:
            return True  # a tensor of tensors of different shapes, which is reported in its place
        return bool(images.ndim != 4) and not greys
    kinds = (str, bytes, bytearray, memoryview, os.PathLike, Image.Image)
    return isinstance(images, kinds) or is_open_file(images)


def _taken_in(thing: Any) -> Any:
    """Return the image, a path as a string, or the error of an open file or path in its place."""
    try:
        taken = thing if isinstance(thing, Entry) else taken_in(thing)
        if isinstance(taken, os.PathLike):
            return os.fsdecode(taken)
        # Turn a numpy string into a Python one, since answers are named by it.
        return str(taken) if isinstance(taken, str) else taken
    except ImageError as error:
        return error
    except Exception as error:  # a caller's own path type may raise anything
        return ImageError(
            f"expected the path of an image, got {named(thing)} that gives none ({said_by(error)}): name a file"
        )
