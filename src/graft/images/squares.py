"""Resize an image of any size to the square that a network takes, as an array.

Uses PyTorch if the process has already imported it, otherwise the same arithmetic without it: identical to the bit.
"""

from __future__ import annotations

import sys

import numpy as np

from graft.errors import InputError
from graft.images.antialiasing import antialiased
from graft.images.preprocessing import Preprocessing

# The middle of the range of a byte.
MIDDLE = 128


def square(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Resize uint8 (H, W, 3), (H, W, 1) or (H, W) to uint8 (C, size, size), where C is `preprocessing.channels`.

    `crop` keeps the central square whose side is `crop_fraction` of the shorter side, `squash` the whole image with
    changed proportions, `letterbox` the whole image with the rest of the square in the mean colour. A region that
    already has the right size is copied unchanged. The result is contiguous and shares no memory with `pixels`. Raises
    InputError for `pixels` of any other shape or type.
    """
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
        raise InputError(
            "expected an image as a uint8 array of shape (H, W, 3), (H, W, 1) or (H, W), "
            f"got {pixels.dtype} of shape {pixels.shape}: convert it first"
        )
    size = preprocessing.size
    if preprocessing.resize_mode == "letterbox":
        return _letterbox(pixels, preprocessing)
    if preprocessing.resize_mode == "crop":
        pixels = _crop(pixels, preprocessing.crop_fraction)
    return matched(_resize(pixels, size, size), preprocessing.channels)


def mean_bytes(preprocessing: Preprocessing) -> np.ndarray:
    """Return the colour that becomes zero when normalised, uint8 (C,)."""
    return np.clip([round(255 * mean) for mean in preprocessing.mean], 0, 255).astype(np.uint8)


def _crop(pixels: np.ndarray, fraction: float) -> np.ndarray:
    # Crop before resizing, so that pixels outside are not filtered; the result is the same except at the edge.
    height, width, _ = pixels.shape
    side = max(1, round(fraction * min(height, width)))
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def _letterbox(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    size, (height, width, _) = preprocessing.size, pixels.shape
    rows, columns = (scaled(side, max(height, width), size) for side in (height, width))
    top, left = (size - rows) // 2, (size - columns) // 2
    square = np.repeat(mean_bytes(preprocessing), size * size).reshape(-1, size, size)  # (C,) -> (C, size, size)
    image = matched(_resize(pixels, rows, columns), preprocessing.channels)
    square[:, top : top + rows, left : left + columns] = image
    return square


def scaled(side: int, longer: int, size: int) -> int:
    """Return the whole number nearest to size * side / longer, of two the even one, but at least 1."""
    # In whole numbers: with fractions, ties depend on how they are rounded, and exported graphs have only float32.
    nearest, rest = divmod(2 * side * size + longer, 2 * longer)
    return max(1, nearest - (rest == 0 and nearest % 2))


def _resize(pixels: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Resize uint8 (H, W, C) to uint8 (C, rows, columns), antialiased bilinear."""
    if pixels.shape[:2] == (rows, columns):
        return pixels.transpose(2, 0, 1).copy(order="C")
    return _by_torch(pixels, rows, columns) if "torch" in sys.modules else antialiased(pixels, rows, columns)


def _by_torch(pixels: np.ndarray, rows: int, columns: int) -> np.ndarray:
    import torch
    import torch.nn.functional as F

    # NumPy copies the region without starting threads: one image is work for the calling thread.
    contiguous = np.require(pixels, requirements=["C", "W"])
    if min(contiguous.strides) < 0:
        # A flipped axis of length one is contiguous to NumPy, but its negative stride is invalid in PyTorch.
        contiguous = contiguous.copy()
    region = torch.from_numpy(contiguous).permute(2, 0, 1)  # (H, W, C) -> (C, H, W)
    # Channels last, as decoded, is the layout for which PyTorch has a fast path for bytes.
    resized = F.interpolate(region[None], size=(rows, columns), mode="bilinear", antialias=True)[0]
    return np.ascontiguousarray(resized.numpy())


def matched(image: np.ndarray, channels: int) -> np.ndarray:
    """Convert uint8 (1 or 3, H, W) to uint8 (channels, H, W); channels beyond color get the middle of the range."""
    if len(image) == channels:
        return image
    if channels >= 3:
        color = np.broadcast_to(image, (3, *image.shape[1:]))
        return np.concatenate([color, np.full((channels - 3, *color.shape[1:]), MIDDLE, np.uint8)])
    if channels == 2:
        return np.repeat(matched(image, 1), 2, axis=0)
    # Luma of ITU-R BT.601 in 16-bit fixed point, rounded as in Pillow's "L": equal channels keep their value.
    red, green, blue = image.astype(np.int32)
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)[None]
