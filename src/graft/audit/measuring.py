"""What can be told from the pixels of one image: light, detail, colour, and a thumbnail to know it again by.

Images are measured many at a time. None is larger than SIDE x SIDE by then: what is looked for here shows at that
size, and a measure does not change with the resolution of a camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

# Sides in px: of what is measured, and of the thumbnails. Both are squares for every large image.
SIDE = 128
THUMBNAIL = 24
# Deviation of the Gaussian that a thumbnail is seen through, px of the thumbnail. With less, what is left of finer
# detail depends on where it falls between the pixels, so on a shift by a fraction of one.
SMOOTHING = 0.8
# Colours are counted up to this number, among about 64 x 64 pixels.
MOST_COLOURS = 257
_COUNTED_SIDE = 64
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as in JPEG


@dataclass(frozen=True)
class Measures:
    """Of n images; a row for each. Levels are luminances in [0, 1].

    `bright` is the level that 5 % of the pixels are below (high where even the darkest parts are light), `dark` the one
    that 1 % are above (low where even the lightest parts are dark). `entropy`, in bits, is that of the histogram of the
    256 grey levels. `sharpness` is the variance of the Laplacian by that of the image: the same at any contrast, low
    for a blurred one. `saturation` is the mean distance between the largest and the least channel in [0, 1], 0 for grey
    images. `colours` counts distinct ones, up to MOST_COLOURS. `colour` is the mean, float32 (n, 3) in [0, 1].
    `thumbnail` is grey, uint8 (n, THUMBNAIL, THUMBNAIL), of the whole image whatever its proportions.
    """

    bright: np.ndarray
    dark: np.ndarray
    entropy: np.ndarray
    sharpness: np.ndarray
    saturation: np.ndarray
    colours: np.ndarray
    colour: np.ndarray
    thumbnail: np.ndarray


def reduce(pixels: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) to one of at most SIDE x SIDE px, each side for itself; smaller sides stay as they are."""
    height, width, _ = pixels.shape
    size = (min(width, SIDE), min(height, SIDE))
    if size == (width, height):
        return pixels
    # Not by boxes, which is faster: thin lines come out differently with every crop.
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def count_colours(pixels: np.ndarray) -> int:
    """Distinct colours of uint8 (H, W, 3) among pixels at even distances, up to MOST_COLOURS."""
    # Not of a reduced image: blending makes new ones.
    rows, columns = (max(1, side // _COUNTED_SIDE) for side in pixels.shape[:2])
    chosen = pixels[::rows, ::columns].reshape(-1, 3).astype(np.uint32)
    packed = np.sort(chosen[:, 0] << 16 | chosen[:, 1] << 8 | chosen[:, 2])
    return min(MOST_COLOURS, 1 + int(np.count_nonzero(packed[1:] != packed[:-1])))


def measure(pixels: np.ndarray, colours: np.ndarray) -> Measures:
    """Reduced images of one size, uint8 (n, h, w, 3), and the colours counted in each before, int (n,)."""
    count, height, width, _ = pixels.shape
    # Channel by channel: along an axis of three nothing is fast.
    channels = np.ascontiguousarray(pixels.transpose(3, 0, 1, 2), dtype=np.float32)  # (n, h, w, 3) -> (3, n, h, w)
    # Not as a product of matrices, whose last bits depend on where in the batch an image stands.
    grey = _LUMA[0] * channels[0] + _LUMA[1] * channels[1] + _LUMA[2] * channels[2]  # (n, h, w), levels 0 to 255
    levels = np.rint(grey).astype(np.int64) + 256 * np.arange(count)[:, None, None]
    share = np.bincount(levels.ravel(), minlength=256 * count).reshape(count, 256) / (height * width)
    below = share.cumsum(1)
    return Measures(
        bright=((below < 0.05).sum(1) / 255).astype(np.float32),
        dark=((below < 0.99).sum(1) / 255).astype(np.float32),
        entropy=-(share * np.log2(share, where=share > 0, out=np.zeros_like(share))).sum(1).astype(np.float32),
        sharpness=_sharpness(grey),
        saturation=(channels.max(0) - channels.min(0)).mean((1, 2)) / 255,
        colours=np.asarray(colours, dtype=np.int32),
        colour=channels.mean((2, 3)).T / 255,
        thumbnail=thumbnails(grey),
    )


def thumbnails(grey: np.ndarray) -> np.ndarray:
    """Grey levels float32 (n, h, w), 0 to 255, to uint8 (n, THUMBNAIL, THUMBNAIL)."""
    small = _samples(grey.shape[1]) @ grey @ _samples(grey.shape[2]).T
    return np.rint(small).clip(0, 255).astype(np.uint8)


def _sharpness(grey: np.ndarray) -> np.ndarray:
    """Variance of the Laplacian over variance, float32 (n,); 0 for images of one level, or less than 3 px a side."""
    if min(grey.shape[1:]) < 3:
        return np.zeros(len(grey), dtype=np.float32)
    inner = grey[:, 1:-1, 1:-1]
    laplacian = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * inner
    variance = grey.var((1, 2))
    # A level of 255 is the least that two pixels can differ by: below it there is nothing but rounding.
    return np.where(variance > 0.25, laplacian.var((1, 2)) / np.maximum(variance, 0.25), 0).astype(np.float32)


@lru_cache(maxsize=SIDE)
def _samples(side: int) -> np.ndarray:
    """The weights of `side` pixels in each of a thumbnail's, float32 (THUMBNAIL, side), rows of sum 1."""
    # A Gaussian over the image's own pixels, these being joined by lines where they are fewer than it needs.
    fine = max(1, -(-4 * THUMBNAIL // side)) * side
    position = (np.arange(fine) + 0.5) / fine
    lines = np.maximum(0, 1 - np.abs((position * side - 0.5).clip(0, side - 1)[:, None] - np.arange(side)))
    centre = (np.arange(THUMBNAIL) + 0.5) / THUMBNAIL
    weights = np.exp(-0.5 * ((position - centre[:, None]) * THUMBNAIL / SMOOTHING) ** 2)
    weights = weights / weights.sum(1, keepdims=True) @ lines
    return weights.astype(np.float32)
