"""Images as arrays of numbers of any kind, and which bytes they mean."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graft.errors import DataError


def as_bytes(arrays: Mapping[str, np.ndarray], where: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Arrays of images as uint8 (N, H, W) or (N, H, W, C); notes tell what was taken for what.

    Numbers are taken for bytes where all of `where` are within 0..255, for shares of 255 where all are within 0..1.
    Raises DataError for numbers beyond, and for other shapes.
    """
    shaped = {split: _channels_last(array) for split, array in arrays.items()}
    for array in shaped.values():
        if array.ndim not in (3, 4) or 0 in array.shape[1:] or (array.ndim == 4 and array.shape[3] not in (1, 3, 4)):
            raise DataError(
                f"expected images of shape (N, H, W) or (N, H, W, 3) in {where}, got {array.shape}: reshape them"
            )
    if all(array.dtype == np.uint8 for array in shaped.values()):
        return shaped, []
    low = min((float(array.min()) for array in shaped.values() if array.size), default=0.0)
    high = max((float(array.max()) for array in shaped.values() if array.size), default=0.0)
    if not (low >= 0 and high <= 255):
        raise DataError(
            f"expected images of numbers from 0 to 255 or from 0 to 1 in {where}, got {low:g} to {high:g}: save "
            "them as uint8"
        )
    shares = high <= 1 and any(array.dtype.kind == "f" for array in shaped.values())
    scale = 255.0 if shares else 1.0
    note = f"{where}: images of {next(iter(shaped.values())).dtype} from {low:g} to {high:g} were taken for " + (
        "shares of 255" if shares else "bytes"
    )
    return {split: np.rint(array * scale).astype(np.uint8) for split, array in shaped.items()}, [note]


def _channels_last(array: np.ndarray) -> np.ndarray:
    first = array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] not in (1, 3, 4)
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if first else array
