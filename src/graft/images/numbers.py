"""Images as arrays of any numeric type and order of axes, and their meaning as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

import numpy as np

from graft.errors import DataError

# Rows of fewer numbers are not images, but data like measurements of flowers' petals.
_FEWEST = 64


def as_bytes(arrays: Mapping[str, np.ndarray], where: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Convert arrays of images to uint8 (N, H, W) or (N, H, W, C), with notes on how numbers were interpreted.

    All arrays in `where` together decide: numbers are fractions of 255 if none is above 1, levels from 0 to 16 if none
    is above 16, otherwise bytes. Raises DataError for numbers outside 0 to 255, and for other shapes.
    """
    shaped = {name: _channels_last(array) for name, array in arrays.items()}
    for array in shaped.values():
        if array.ndim not in (3, 4) or 0 in array.shape[1:] or (array.ndim == 4 and array.shape[3] not in (1, 3, 4)):
            raise DataError(
                f"expected images of shape (N, H, W) or (N, H, W, 3) in {where}, got {array.shape}: reshape them"
            )
    low = min((float(array.min()) for array in shaped.values() if array.size), default=0.0)
    high = max((float(array.max()) for array in shaped.values() if array.size), default=0.0)
    if not (low >= 0 and high <= 255):
        raise DataError(
            f"expected images of numbers from 0 to 255 or from 0 to 1 in {where}, got {low:g} to {high:g}: save "
            "them as uint8"
        )
    most = 1.0 if 0 < high <= 1 else 16.0 if 0 < high <= 16 else 255.0
    if most == 255 and all(array.dtype == np.uint8 for array in shaped.values()):
        return shaped, []
    meant = {1.0: "shares of 255", 16.0: "levels from 0 to 16", 255.0: "bytes"}[most]
    kind = next(iter(shaped.values())).dtype
    note = f"{where}: images of {kind} from {low:g} to {high:g} were taken for {meant}"
    return {name: np.rint(array * (255 / most)).astype(np.uint8) for name, array in shaped.items()}, [note]


def images_first(array: np.ndarray, count: int) -> np.ndarray:
    """Move the axis of `count` images to the front: MATLAB has it last, (H, W, 3, N)."""
    last = array.ndim > 2 and array.shape[0] != count == array.shape[-1]
    return np.moveaxis(array, -1, 0) if last else array


def side_of(numbers: int) -> int:
    """Return the side of the square image with this many numbers, grey or in three colours; 0 if there is none."""
    return next((isqrt(each) for each in (numbers, numbers // 3) if each >= _FEWEST and _fits(numbers, each)), 0)


def _fits(numbers: int, pixels: int) -> bool:
    return isqrt(pixels) ** 2 == pixels and numbers in (pixels, 3 * pixels)


def square_images(rows: np.ndarray) -> tuple[np.ndarray, str]:
    """Reshape rows of pixels, (N, K), to (N, H, H) or (N, H, H, 3), with a note on the order of colours if any.

    Colours are read as interleaved or in planes, whichever makes neighbouring pixels more alike.
    """
    side = side_of(rows.shape[1])
    if rows.shape[1] == side * side:
        return rows.reshape(-1, side, side), ""
    together, planes = rows.reshape(-1, side, side, 3), rows.reshape(-1, 3, side, side).transpose(0, 2, 3, 1)
    if _roughness(planes) < _roughness(together):
        return planes, "all of a colour one after the other"
    return together, "the colours of a pixel together"


def _roughness(images: np.ndarray) -> float:
    some = images[:100].astype(np.float64)
    return float(np.abs(np.diff(some, axis=1)).mean() + np.abs(np.diff(some, axis=2)).mean())


def _channels_last(array: np.ndarray) -> np.ndarray:
    first = array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] not in (1, 3, 4)
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if first else array
