"""Arrays of images and labels, in one file or several, whose names may then give the split or the content.

MedMNIST's `train_images` and `train_labels`, Keras' `x_train` and `y_train`, SVHN's `X` and `y`, and tables of pixels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from graft.array_files import ENDINGS, load_arrays
from graft.data.dataset import TEST, TRAIN, VAL, WHOLE, Dataset
from graft.data.label_sets import as_cell
from graft.data.readers.column_names import SPLIT_WORDS
from graft.data.readers.idx import Pixels, of_pixels
from graft.data.readers.pixel_tables import TABLES, pixel_arrays
from graft.data.table_options import TableOptions, refuse_columns
from graft.errors import DataError
from graft.images.numbers import as_bytes, images_first
from graft.on_disk import file_stamp
from graft.words import counted

FILES = rf"(?i)({'|'.join(map(re.escape, (*ENDINGS, *TABLES)))})$"
# What parts of an array's name stand for: images, labels, or the class names.
_IMAGES = ("images", "image", "imgs", "x", "data", "pixels")
_LABELS = ("labels", "label", "y", "targets", "target", "classes", "ans")
_NAMES = ("class_names", "label_names", "classnames", "names", "list_classes")


class NoArraysError(DataError):
    """No arrays are images with labels."""


def read_arrays(files: Sequence[Path], name: str, options: TableOptions) -> Dataset:
    """Read pairs of arrays: images, (N, H, W) or (N, H, W, C), and labels, (N,), (N, 1) or one-hot (N, K).

    Numbers are bytes, or what `as_bytes` infers from all files. If `options` allow several labels per image, a matrix
    of 0 and 1 gives each image the columns that are 1. Raises NoArraysError if there is no pair, and DataError for
    objects, which would have to be unpickled, for other shapes, for several pairs of one split, and for images with
    several labels.
    """
    notes: list[str] = []
    arrays: dict[str, np.ndarray] = {}
    for file in files:
        table = file.suffix.lower() in TABLES
        if not table:
            refuse_columns(options, file)
        loaded = pixel_arrays(file, options, notes, alone=len(files) == 1) if table else load_arrays(file)
        own = file.stem if len(files) > 1 else ""
        arrays |= {f"{own}_{each}" if own and own != each else each: array for each, array in loaded.items()}
    pairs = _pairs(arrays, name)
    if not pairs:
        shown = ", ".join(f"{each} {array.shape}" for each, array in list(arrays.items())[:6]) or "none"
        raise NoArraysError(
            f"expected arrays of images and labels in {name}, such as train_images and train_labels or x_train and "
            f"y_train, got {shown}: name them so, or give the folder of both"
        )
    names = next((_as_text(array) for each, array in arrays.items() if each.endswith(_NAMES)), None)
    labels = {
        split: _words(_labels(arrays[each], each, name, options.multi_label), names)
        for split, (_, each) in pairs.items()
    }
    oriented = {split: images_first(arrays[each], len(labels[split])) for split, (each, _) in pairs.items()}
    pixels, told = as_bytes(oriented, name)
    for split, (images, each) in pairs.items():
        if len(pixels[split]) != len(labels[split]):
            raise DataError(
                f"expected as many labels as images in {name}, got {len(labels[split]):,} in {each} and "
                f"{len(pixels[split]):,} in {images}: check that both belong together"
            )
    stamp = "|".join(map(file_stamp, files))
    parts = {
        split: (Pixels(pixels[split], f"{name}/{images}", stamp), labels[split]) for split, (images, _) in pairs.items()
    }
    return of_pixels(Path(name).stem, parts, (*notes, *told))


def _pairs(arrays: Mapping[str, np.ndarray], where: str) -> dict[str, tuple[str, str]]:
    """The names of the image and label arrays by split. Raises DataError if several could be either."""
    images: dict[str, list[str]] = {}
    labels: dict[str, list[str]] = {}
    for name, array in arrays.items():
        parts = re.split(r"[^a-z0-9]+", name.lower())
        split = next((SPLIT_WORDS[part] for part in parts if part in SPLIT_WORDS), WHOLE)
        if name.endswith(_NAMES):
            continue
        # A file of both may be named `train_data`.
        if {*parts} & {*_IMAGES} and not (array.ndim < 3 and {*parts} & {*_LABELS}):
            images.setdefault(split, []).append(name)
        elif {*parts} & {*_LABELS}:
            labels.setdefault(split, []).append(name)
    order = [split for split in (TRAIN, VAL, TEST, WHOLE) if split in images and split in labels]
    if len(order) > 1 and WHOLE in order:
        order.remove(WHOLE)
    found = {}
    for split in order:
        own = images[split]
        sizes = {size for each in own for size in arrays[each].shape}
        fitting = [each for each in labels[split] if sizes & {*arrays[each].shape}] or labels[split][:1]
        for what, several in (("images", own), ("labels", fitting)):
            if len(several) > 1:
                raise DataError(
                    f"expected one array of the {what}{'' if split == WHOLE else f' of {split}'} in {where}, got "
                    f"{' and '.join(several)}: give a file with one of them as DATA"
                )
        found[split] = own[0], fitting[0]
    return found


def _labels(array: np.ndarray, name: str, where: str, multi_label: bool = False) -> np.ndarray:
    """Labels, (N,), or with `multi_label` possibly a matrix of 0 and 1, (N, K)."""
    if array.ndim == 2 and 1 in array.shape:
        return _labels(array.ravel(), name, where)
    if array.ndim == 2 and array.dtype.kind in "biuf" and np.isin(array, (0, 1)).all():
        if multi_label:
            return array.astype(bool)
        several = np.flatnonzero(array.sum(axis=1) != 1)
        if len(several):
            row = array[several[0]].astype(int).tolist()
            raise DataError(
                f"expected one label for each image in {name} of {where}, got {sum(row)} in row {several[0]} ({row}) "
                f"and in {counted(len(several), 'row')} in all without exactly one: keep those with one, or train on "
                "all of them with --multi-label"
            )
        found: np.ndarray = array.argmax(axis=1)
        return found
    if array.ndim != 1 and array.shape[1:] != (1, 1, 1):
        raise DataError(
            f"expected labels of shape (N,) or (N, 1), or one-hot (N, K), in {name} of {where}, got {array.shape}: "
            "keep one label for each image"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        wrong = np.flatnonzero(~np.isfinite(array))
        raise DataError(
            f"expected a label for each image in {name} of {where}, got {array.ravel()[wrong[0]]} for image "
            f"{wrong[0]}, counted from 0, and {counted(len(wrong), 'such label')} in all: leave these images out"
        )
    return array.ravel()


def _words(labels: np.ndarray, names: list[str] | None) -> list[str]:
    if labels.ndim == 2:
        of_column = _words(np.arange(labels.shape[1]), names)
        return [as_cell(of_column[column] for column in np.flatnonzero(row)) for row in labels]
    if labels.dtype.kind == "f" and np.equal(np.mod(labels, 1), 0).all():
        labels = labels.astype(np.int64)
    values = labels.tolist()
    if names is not None and labels.dtype.kind in "iu" and values and 0 <= min(values) <= max(values) < len(names):
        return [names[value] for value in values]
    return _as_text(labels)


def _as_text(array: np.ndarray) -> list[str]:
    values = array.ravel().tolist()
    return [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values]
