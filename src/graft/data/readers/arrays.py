"""Arrays of numpy (`.npz`): MedMNIST's `train_images` and `train_labels`, Keras' `x_train` and `y_train`, and the like.

Nothing in them is unpickled.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from graft.data.dataset import TEST, TRAIN, VAL, WHOLE, Dataset, Images, class_order
from graft.data.readers.column_names import SPLIT_WORDS
from graft.data.readers.folder import file_stamp
from graft.data.readers.idx import Pixels
from graft.errors import DataError
from graft.images.numbers import as_bytes
from graft.words import counted

ENDING = ".npz"
# What the parts of an array's name say: images, labels, or the names of the classes.
_IMAGES = ("images", "image", "imgs", "x", "data", "pixels")
_LABELS = ("labels", "label", "y", "targets", "target", "classes")
_NAMES = ("class_names", "label_names", "classnames", "names")
# Arrays that unpack to more than so many bytes, and to a hundred times their file, are a bomb.
_BOMB_BYTES, _BOMB_RATIO = 2**32, 100


def read_arrays(path: Path) -> Dataset:
    """A Dataset from pairs of arrays of images, (N, H, W) or (N, H, W, C), and labels, (N,), (N, 1) or one-hot (N, K).

    Numbers other than uint8 are taken for bytes where all are within 0..255, or for shares of 255 where all are within
    0..1, by the whole of the file. Raises DataError for objects, which would have to be unpickled, for other shapes,
    and for images with several labels.
    """
    arrays = _load(path)
    pairs = _pairs(arrays)
    if not pairs:
        shown = ", ".join(f"{name} {array.shape}" for name, array in list(arrays.items())[:6]) or "none"
        raise DataError(
            f"expected arrays of images and labels in {path.name}, such as train_images and train_labels or x_train "
            f"and y_train, got {shown}: name them so"
        )
    names = next((list(map(str, arrays[name])) for name in _NAMES if name in arrays), None)
    pixels, notes = as_bytes({split: arrays[images] for split, (images, _) in pairs.items()}, path.name)
    labels = {split: _labels(arrays[name], name, path) for split, (_, name) in pairs.items()}
    for split, (images, name) in pairs.items():
        if len(pixels[split]) != len(labels[split]):
            raise DataError(
                f"expected as many labels as images in {path.name}, got {len(labels[split]):,} in {name} and "
                f"{len(pixels[split]):,} in {images}: check that both belong together"
            )
    words = {split: _words(each, names) for split, each in labels.items()}
    classes = class_order({word for each in words.values() for word in each})
    position = {word: number for number, word in enumerate(classes)}
    stamp = file_stamp(path)
    return Dataset(
        path.stem,
        classes,
        {
            split: Images(
                Pixels(pixels[split], f"{path.name}/{images}", stamp),
                np.arange(len(pixels[split])),
                np.array([position[word] for word in words[split]], np.int64),
            )
            for split, (images, _) in pairs.items()
        },
        tuple(notes),
    )


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as opened:
            size = sum(each.file_size for each in opened.infolist())
        if size > max(_BOMB_BYTES, _BOMB_RATIO * path.stat().st_size):
            raise DataError(
                f"expected arrays of at most {_BOMB_RATIO} times the size of {path.name}, got {size:,} bytes: it is "
                "damaged or a bomb, do not trust it"
            )
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except DataError:
        raise
    except Exception as error:  # zip, zlib and numpy's reader have errors of their own
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(
            f"expected arrays of numbers in {path.name}, got what cannot be read or would have to be unpickled "
            f"({reason}): save it again with numpy.savez, without objects"
        ) from None


def _pairs(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[str, str]]:
    """The names of the arrays of images and labels by split."""
    found: dict[str, dict[str, str]] = {}
    for name in arrays:
        parts = name.lower().replace("-", "_").split("_")
        split = next((SPLIT_WORDS[part] for part in parts if part in SPLIT_WORDS), WHOLE)
        what = "images" if set(parts) & {*_IMAGES} else "labels" if set(parts) & {*_LABELS} else ""
        if what and name not in _NAMES:
            found.setdefault(split, {}).setdefault(what, name)
    order = [split for split in (TRAIN, VAL, TEST, WHOLE) if found.get(split, {}).keys() == {"images", "labels"}]
    if len(order) > 1 and WHOLE in order:
        order.remove(WHOLE)
    return {split: (found[split]["images"], found[split]["labels"]) for split in order}


def _labels(array: np.ndarray, name: str, path: Path) -> np.ndarray:
    """Labels, (N,)."""
    if array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    if array.ndim == 2 and array.dtype.kind in "biuf" and np.isin(array, (0, 1)).all():
        several = np.flatnonzero(array.sum(axis=1) != 1)
        if len(several):
            row = array[several[0]].astype(int).tolist()
            raise DataError(
                f"expected one label for each image in {name} of {path.name}, got {int(array[several[0]].sum())} in "
                f"row {several[0]} ({row}) and in {counted(len(several), 'row')} in all another number than one: keep "
                "those with one"
            )
        found: np.ndarray = array.argmax(axis=1)
        return found
    if array.ndim != 1:
        raise DataError(
            f"expected labels of shape (N,) or (N, 1), or one-hot (N, K), in {name} of {path.name}, got {array.shape}: "
            "keep one label for each image"
        )
    return array


def _words(labels: np.ndarray, names: list[str] | None) -> list[str]:
    if labels.dtype.kind == "f" and np.equal(np.mod(labels, 1), 0).all():
        labels = labels.astype(np.int64)
    values = labels.tolist()
    if names is not None and labels.dtype.kind in "iu" and values and 0 <= min(values) <= max(values) < len(names):
        return [names[value] for value in values]
    return [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values]
