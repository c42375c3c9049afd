"""IDX files, the format of MNIST: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-…`, gzipped or not.

A file holds two zero bytes, a type code (8 for uint8), the number of axes, each axis as a big-endian uint32, and the
data. LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
"""

import gzip
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from graft.data.dataset import TEST, WHOLE, Dataset, Images, class_order
from graft.data.readers.split_names import split_in_name
from graft.errors import DataError
from graft.on_disk import file_stamp
from graft.words import counted

_NAME = re.compile(r"^(?P<split>.*?)[-_.]?(?P<what>images|labels)[-_.]idx(?P<axes>\d)[-_.]ubyte(\.gz)?$")


class Pixels:
    """Images as rows of one array, uint8 (N, H, W) or (N, H, W, C)."""

    def __init__(self, array: np.ndarray, label: str, stamp: str) -> None:
        self.array = array
        self.label = label
        self._stamp = stamp

    def __len__(self) -> int:
        return len(self.array)

    def name(self, row: int) -> str:
        return f"{self.label}[{row}]"

    key = name

    def read(self, row: int) -> np.ndarray:
        image: np.ndarray = self.array[row]
        return image

    def stamp(self, row: int) -> str:
        return f"{self._stamp}:{row}"


def is_idx(path: Path) -> bool:
    """Whether `path` is an IDX file by name, or a folder that holds one."""
    if path.is_dir():
        return any(_match(child) for child in path.iterdir())
    return _match(path) is not None


def _match(path: Path) -> re.Match[str] | None:
    # Hidden files are ignored, as in a folder of images: archives made on macOS contain `._train-images…` as well.
    return None if path.name.startswith(".") else _NAME.match(path.name)


def read_idx(path: Path) -> Dataset:
    """Read a Dataset from a folder of pairs of image and label files, or from the pair that `path` belongs to.

    Raises DataError for a file without its partner, and for one that is not an IDX file, is cut off, or has no pixels.
    """
    folder = path if path.is_dir() else path.parent
    pairs: dict[str, dict[str, Path]] = {}
    for child in sorted(folder.iterdir()):
        match = _match(child)
        if match:
            pairs.setdefault(match["split"], {})[match["what"]] = child
    if path.is_file():
        chosen = _match(path)
        pairs = {prefix: pair for prefix, pair in pairs.items() if chosen and prefix == chosen["split"]}
    arrays = {}
    for prefix, pair in pairs.items():
        missing = {"images", "labels"} - set(pair)
        if missing:
            present = next(iter(pair.values()))
            raise DataError(
                f"expected images and labels in pairs, got {present.name} alone: add its {missing.pop()} file"
            )
        split = _split_of(prefix)
        if split in arrays:
            raise DataError(
                f"expected one pair of files for the split {split!r} in {folder}, got {pair['images'].name} as well: "
                "move one of the pairs to a folder of its own"
            )
        images, labels = read_pixels(pair["images"]), _read(pair["labels"], (1,))
        if len(images) != len(labels):
            raise DataError(
                f"expected as many labels as images, got {len(labels):,} in {pair['labels'].name} and "
                f"{len(images):,} in {pair['images'].name}: check that both files belong together"
            )
        arrays[split] = (images, labels)
    return of_pixels(
        folder.name, {name: (pixels, [*map(str, each.tolist())]) for name, (pixels, each) in arrays.items()}
    )


def of_pixels(name: str, parts: Mapping[str, tuple[Pixels, Sequence[str]]], notes: Sequence[str] = ()) -> Dataset:
    """Build a Dataset from the images and labels of each split."""
    classes = class_order({word for _, words in parts.values() for word in words})
    position = {word: number for number, word in enumerate(classes)}
    splits = {
        split: Images(pixels, np.arange(len(pixels)), np.array([position[word] for word in words], np.int64))
        for split, (pixels, words) in parts.items()
    }
    return Dataset(name, classes, splits, tuple(notes))


def read_pixels(path: Path) -> Pixels:
    """Read the images in an IDX file. Raises DataError if it is cut off or holds no images."""
    images = _read(path, (3, 4))
    if 0 in images.shape[1:] or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise DataError(
            f"expected images of shape (H, W), (H, W, 1) or (H, W, 3) in {path.name}, got {images.shape[1:]}: convert "
            "them first"
        )
    return Pixels(images, path.name, file_stamp(path))


def pixel_files(path: Path) -> list[Path]:
    """The IDX image files in a folder, or the file itself."""
    if path.is_file():
        return [path]
    found = ((child, _match(child)) for child in sorted(path.iterdir()))
    return [child for child, match in found if match and match["what"] == "images"]


def _split_of(prefix: str) -> str:
    split = TEST if prefix.lower() == "t10k" else split_in_name(prefix)
    return prefix if split == WHOLE and prefix else split


def _read(path: Path, axes: tuple[int, ...]) -> np.ndarray:
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"expected an IDX file, got {path} ({error}): fetch it again") from None
    if len(data) < 4 or data[:3] != b"\x00\x00\x08" or data[3] not in axes:
        raise DataError(
            f"expected an IDX file of bytes with {counted(axes[0], 'axis', 'axes')}, got {path.name}, which begins "
            f"with {data[:4]!r}: fetch it again"
        )
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", data[3], 4)) if len(data) >= 4 + 4 * data[3] else ()
    start = 4 + 4 * data[3]
    if not shape or len(data) != start + math.prod(shape):
        raise DataError(
            f"expected {path.name} to hold {shape} bytes of data, got {len(data) - start:,}: it is cut off, fetch it "
            "again"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
