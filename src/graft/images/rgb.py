"""From an image of any mode that Pillow has loaded to RGB."""

from collections.abc import Callable

import numpy as np
from PIL import Image

# About this many pixels are converted at a time, by rows, so that intermediate images stay small.
BAND_PIXELS = 2**20


def to_rgb(image: Image.Image) -> np.ndarray:
    """uint8 (H, W, 3); transparency is laid over white, and deeper greys keep their high byte."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, BAND_PIXELS // image.width)
    bands = [slice(top, min(top + rows, image.height)) for top in range(0, image.height, rows)]
    deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    convert = _deep_converter(image, bands) if deep else _convert
    for band in bands:
        pixels[band] = convert(_rows(image, band))
    return pixels


def _rows(image: Image.Image, band: slice) -> Image.Image:
    whole = band.stop - band.start == image.height
    return image if whole else image.crop((0, band.start, image.width, band.stop))


def _convert(image: Image.Image) -> np.ndarray:
    if image.mode in ("P", "PA", "LA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(image, mask=image)  # the same as `alpha_composite` in a third of the time
        image = canvas
    return np.asarray(image.convert("RGB"))


def _deep_converter(image: Image.Image, bands: list[slice]) -> Callable[[Image.Image], np.ndarray]:
    """How bands of an image of deep grey become uint8 (h, W, 1), which depends on its least and largest value."""
    ranges = [(levels.min(), levels.max()) for levels in (_levels(_rows(image, band)) for band in bands)]
    least, most = min(low for low, _ in ranges), max(high for _, high in ranges)
    nothing = image.info.get("transparency")  # the one value of a 16-bit PNG that stands for "nothing here"

    def convert(band: Image.Image) -> np.ndarray:
        levels = _levels(band)
        if levels.dtype.kind == "f":
            # A file of floats does not say its range. Usually it is [0, 1]; anything beyond is taken for grey levels,
            # and clipped rather than stretched, so that the look of an image does not depend on its extremes.
            levels = np.rint((255 * levels if least >= 0 and most <= 1 else levels).clip(0, 255))
        elif levels.dtype.itemsize == 2 or most > 255:
            levels = levels >> 8
        grey = levels.clip(0, 255).astype(np.uint8)
        if nothing is not None:
            grey[np.asarray(band) == nothing] = 255
        return grey[:, :, None]

    return convert


def _levels(image: Image.Image) -> np.ndarray:
    """(h, W), with zero for values that are not numbers."""
    levels = np.asarray(image)
    return np.nan_to_num(levels) if levels.dtype.kind == "f" else levels
