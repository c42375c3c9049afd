"""Small images for reports and notebooks."""

import io

import numpy as np
from PIL import Image

from graft.errors import ImageError
from graft.images.decoding import decode
from graft.images.levels import Levels

SIDE = 96


def thumbnail(data: bytes | np.ndarray, side: int = SIDE, levels: Levels = ()) -> bytes | None:
    """Make a PNG of an encoded image or pixels uint8 (H, W[, C]), at most `side` px a side; None if that fails."""
    image = shrunk(data, side, levels)
    if image is None:
        return None
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def shrunk(data: bytes | np.ndarray, side: int, levels: Levels) -> Image.Image | None:
    """Make the thumbnail as a PIL image."""
    try:
        pixels = decode(data, side, levels) if isinstance(data, bytes) else data
        image = Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
        image.thumbnail((side, side), reducing_gap=2.0)
    except (ImageError, OSError, ValueError, TypeError):
        return None
    return image
