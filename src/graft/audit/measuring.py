"""Measurements of one image's pixels: light, detail, colour, and a thumbnail to recognise it by.

Many images are measured at a time, each with the same result as alone. All are reduced to at most SIDE x SIDE px: what
the audit looks for shows at that size, and no measurement depends on the camera's resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

# Sides in px of the measured images and of the thumbnails. Large images become square in both.
SIDE = 128
THUMBNAIL = 24
# Standard deviation of the Gaussian that samples a thumbnail, in px of the thumbnail. With less, finer detail changes
# after a shift by a fraction of a pixel.
SMOOTHING = 0.8
# Colours are counted up to this many, in about 64 x 64 pixels.
MOST_COLOURS = 257
_COUNTED_SIDE = 64
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as in JPEG


@dataclass(frozen=True)
class Measures:
    """Measurements of n images, one row each. Levels are luminances in [0, 1].

    `bright` is the level that 5 % of the pixels lie below (high where even the darkest parts are light), `dark` the
    level that 1 % lie above (low where even the lightest parts are dark). `entropy`, in bits, is that of the histogram
    of 256 grey levels. `sharpness` is the variance of the Laplacian divided by that of the image: independent of
    contrast, low for a blurred image. `saturation` is the mean difference between the largest and the smallest channel,
    in [0, 1], 0 for grey images. `colours` counts distinct colours, up to MOST_COLOURS. `colour` is the mean, float32
    (n, 3) in [0, 1]. `thumbnail` is grey, uint8 (n, THUMBNAIL, THUMBNAIL), and shows the whole image whatever its
    proportions.
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
    """Reduce uint8 (H, W, 3) to at most SIDE x SIDE px, each side independently; a shorter side keeps its length."""
    height, width, _ = pixels.shape
    size = (min(width, SIDE), min(height, SIDE))
    if size == (width, height):
        return pixels
    # Not with the faster box filter: thin lines would come out differently with every crop.
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def count_colours(pixels: np.ndarray) -> int:
    """Count the distinct colours of uint8 (H, W, 3) in evenly spaced pixels, up to MOST_COLOURS."""
    # Counted before reduction, because blending makes new colours.
    rows, columns = (max(1, side // _COUNTED_SIDE) for side in pixels.shape[:2])
    chosen = pixels[::rows, ::columns].reshape(-1, 3).astype(np.uint32)
    packed = np.sort(chosen[:, 0] << 16 | chosen[:, 1] << 8 | chosen[:, 2])
    return min(MOST_COLOURS, 1 + int(np.count_nonzero(packed[1:] != packed[:-1])))


def measure(pixels: np.ndarray, colours: np.ndarray) -> Measures:
    """Measure reduced images of one size, uint8 (n, h, w, 3); `colours`, int (n,), were counted before reducing."""
    count, height, width, _ = pixels.shape
    # Channels first: no operation is fast along an axis of three.
    channels = np.ascontiguousarray(pixels.transpose(3, 0, 1, 2), dtype=np.float32)  # (n, h, w, 3) -> (3, n, h, w)
    # Not a matrix product, whose last bits depend on an image's position in the batch.
    grey = LUMA[0] * channels[0] + LUMA[1] * channels[1] + LUMA[2] * channels[2]  # (n, h, w), levels 0 to 255
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
    """Reduce grey levels float32 (n, h, w), 0 to 255, to uint8 (n, THUMBNAIL, THUMBNAIL)."""
    small = _samples(grey.shape[1]) @ grey @ _samples(grey.shape[2]).T
    return np.rint(small).clip(0, 255).astype(np.uint8)


def _sharpness(grey: np.ndarray) -> np.ndarray:
    """Return the Laplacian's variance over the image's, float32 (n,); 0 for one level, or less than 3 px a side."""
    if min(grey.shape[1:]) < 3:
        return np.zeros(len(grey), dtype=np.float32)
    inner = grey[:, 1:-1, 1:-1]
    laplacian = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * inner
    variance = grey.var((1, 2))
    # Distinct pixels differ by at least one level of 255: a smaller variance is only rounding.
    return np.where(variance > 0.25, laplacian.var((1, 2)) / np.maximum(variance, 0.25), 0).astype(np.float32)


@lru_cache(maxsize=SIDE)
def _samples(side: int) -> np.ndarray:
    """Return the weights of `side` pixels in each thumbnail pixel, float32 (THUMBNAIL, side); each row sums to 1."""
    # A Gaussian over the image's pixels, interpolated linearly where there are fewer than it needs.
    fine = max(1, -(-4 * THUMBNAIL // side)) * side
    position = (np.arange(fine) + 0.5) / fine
    lines = np.maximum(0, 1 - np.abs((position * side - 0.5).clip(0, side - 1)[:, None] - np.arange(side)))
    centre = (np.arange(THUMBNAIL) + 0.5) / THUMBNAIL
    weights = np.exp(-0.5 * ((position - centre[:, None]) * THUMBNAIL / SMOOTHING) ** 2)
    weights = weights / weights.sum(1, keepdims=True) @ lines
    return weights.astype(np.float32)
