"""Corruptions found in the field, at five severities: noise, blur, compression, weather, occlusion, movement.

After Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
arXiv 1903.12261, with the severities of its code where it has the corruption; lengths in pixels are scaled from its
224 px. Fog and snow are our own, in its spirit, as are occlusion, colour cast, rotation and shift. The same image,
severity and seed give the same pixels: everything is computed by NumPy in float64, except JPEG, which is Pillow's.
"""

from collections.abc import Callable
from io import BytesIO
from math import ceil, cos, radians, sin

import numpy as np
from PIL import Image

SEVERITIES = (1, 2, 3, 4, 5)
# The side of the images for which the lengths below are given.
SIDE = 224


def corrupt(pixels: np.ndarray, name: str, severity: int, seed: int = 0) -> np.ndarray:
    """Apply one of `CORRUPTIONS` to `pixels`, uint8 (H, W, C), at a severity from 1 to 5; keep the shape."""
    random = np.random.default_rng((seed, severity, *name.encode()))
    return _rounded(CORRUPTIONS[name](pixels.astype(np.float64) / 255, severity - 1, random))


def _noise(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    return x + random.normal(0, (0.08, 0.12, 0.18, 0.26, 0.38)[severity], x.shape)


def _blur(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    return _blurred(x, (1, 2, 3, 4, 6)[severity] * _scale(x))


def _jpeg(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    if x.shape[2] not in (1, 3):
        # JPEG has one channel or three colours; of a camera that sees more, each is an image of its own.
        return np.concatenate([_jpeg(x[:, :, at : at + 1], severity, random) for at in range(x.shape[2])], 2)
    channels, file = x.shape[2], BytesIO()
    pixels = _rounded(x)
    Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).save(
        file, "JPEG", quality=(25, 18, 15, 10, 7)[severity]
    )
    decoded = np.asarray(Image.open(file), dtype=np.float64) / 255
    return decoded[:, :, None] if channels == 1 else decoded


def _brightness(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    # Raise the value channel of HSV.
    value = x.max(2, keepdims=True)
    raised = np.minimum(value + (0.1, 0.2, 0.3, 0.4, 0.5)[severity], 1.0)
    return np.where(value > 0, x * raised / np.maximum(value, 1e-12), raised)


def _contrast(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    mean = x.mean((0, 1), keepdims=True)
    return mean + (x - mean) * (0.4, 0.3, 0.2, 0.1, 0.05)[severity]


def _fog(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    strength, decay = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))[severity]
    height, width, _ = x.shape
    fog, weight, cells = np.zeros((height, width)), 1.0, 2
    while cells <= max(height, width):
        fog += weight * _enlarged(random.random((cells + 1, cells + 1)), height, width)
        weight, cells = weight / decay, cells * 2
    fog = (fog - fog.min()) / max(float(np.ptp(fog)), 1e-12)
    highest = x.max()
    return np.asarray((x + strength * fog[:, :, None]) * highest / (highest + strength))


def _snow(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    # Flakes are the peaks of smoothed noise, smeared downwards over a paler image.
    share, length, paler = ((0.02, 5, 0.1), (0.04, 7, 0.2), (0.06, 9, 0.25), (0.09, 12, 0.3), (0.12, 15, 0.4))[severity]
    flakes = _blurred(random.random(x.shape[:2])[:, :, None], _scale(x))
    flakes = (flakes > np.quantile(flakes, 1 - share)).astype(np.float64)
    steps = max(1, round(length * _scale(x)))
    drawn = np.max(
        [np.roll(flakes, (step, step // 3), (0, 1)) * (1 - step / (2 * steps)) for step in range(steps)], axis=0
    )
    grey = x.mean(2, keepdims=True)
    return np.asarray((1 - paler) * x + paler * np.maximum(x, grey * 1.5 + 0.5) + drawn)


def _occlusion(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    part = (0.15, 0.25, 0.35, 0.45, 0.55)[severity]
    height, width, _ = x.shape
    down, across = ceil(part * height), ceil(part * width)
    top, left = random.integers(0, height - down + 1), random.integers(0, width - across + 1)
    covered = x.copy()
    covered[top : top + down, left : left + across] = 0.5
    return covered


def _pixelation(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[severity]
    # Each cell takes the mean of its pixels.
    for axis in (0, 1):
        length = x.shape[axis]
        cells = max(1, round(length * share))
        cell = np.arange(length) * cells // length
        starts = np.flatnonzero(np.diff(cell, prepend=-1))
        sums = np.add.reduceat(x, starts, axis=axis)
        counts = np.diff(np.append(starts, length)).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        x = np.take(sums / counts, cell, axis=axis)
    return x


def _colour_cast(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    strength = (0.1, 0.2, 0.3, 0.4, 0.5)[severity]
    # A warm or cold light raises the channels at one end and lowers those at the other.
    tint = np.linspace(1 + strength, 1 - strength, x.shape[2])
    return np.asarray(x * (tint if random.random() < 0.5 else tint[::-1]))


def _rotation(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    angle = radians((5, 10, 15, 20, 30)[severity]) * (1 if random.random() < 0.5 else -1)
    height, width, _ = x.shape
    down, across = np.mgrid[:height, :width] - np.array([(height - 1) / 2, (width - 1) / 2])[:, None, None]
    rows = cos(angle) * down - sin(angle) * across + (height - 1) / 2
    columns = sin(angle) * down + cos(angle) * across + (width - 1) / 2
    return _sampled(x, _reflected(rows, height), _reflected(columns, width))


def _shift(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    part = (0.03, 0.06, 0.1, 0.14, 0.2)[severity]
    height, width, _ = x.shape
    angle = random.uniform(0, 2 * np.pi)
    rows = np.arange(height) + round(part * height * sin(angle))
    columns = np.arange(width) + round(part * width * cos(angle))
    return x[_reflected(rows, height).astype(int)][:, _reflected(columns, width).astype(int)]


CORRUPTIONS: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    "noise": _noise,
    "blur": _blur,
    "jpeg": _jpeg,
    "brightness": _brightness,
    "contrast": _contrast,
    "fog": _fog,
    "snow": _snow,
    "occlusion": _occlusion,
    "pixelation": _pixelation,
    "colour_cast": _colour_cast,
    "rotation": _rotation,
    "shift": _shift,
}


def _rounded(x: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(x * 255), 0, 255).astype(np.uint8)


def _scale(x: np.ndarray) -> float:
    return max(x.shape[:2]) / SIDE


def _blurred(x: np.ndarray, sigma: float) -> np.ndarray:
    """Apply a Gaussian blur along both axes, out to four standard deviations, mirroring the image at its edges."""
    reach = max(1, ceil(4 * sigma))
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / sigma))
    for axis in (0, 1):
        length = x.shape[axis]
        places = _reflected(np.arange(-reach, length + reach), length).astype(int)
        wide = np.take(x, places, axis=axis)
        x = sum(
            weight * np.take(wide, np.arange(start, start + length), axis=axis)
            for start, weight in enumerate(kernel / kernel.sum())
        )
    return x


def _enlarged(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = np.linspace(0, len(grid) - 1, height), np.linspace(0, grid.shape[1] - 1, width)
    return _sampled(grid[:, :, None], *np.meshgrid(rows, columns, indexing="ij"))[:, :, 0]


def _reflected(places: np.ndarray, length: int) -> np.ndarray:
    """Mirror positions outside 0 to length - 1 at the edges."""
    if length == 1:
        return np.zeros_like(places)
    period = 2 * (length - 1)
    places = np.mod(places, period)
    return np.asarray(np.minimum(places, period - places))


def _sampled(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Interpolate `x`, (H, W, C), bilinearly at positions inside it, (h, w) each."""
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    bottom, right = np.minimum(top + 1, x.shape[0] - 1), np.minimum(left + 1, x.shape[1] - 1)
    down, across = (rows - top)[:, :, None], (columns - left)[:, :, None]
    upper = x[top, left] * (1 - across) + x[top, right] * across
    lower = x[bottom, left] * (1 - across) + x[bottom, right] * across
    return np.asarray(upper * (1 - down) + lower * down)
