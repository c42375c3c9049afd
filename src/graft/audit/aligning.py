"""How closely a crop, brightness, contrast and a slight blur can turn one thumbnail into another.

The edges of the crop are found as Lucas and Kanade find a shift ("An iterative image registration technique", 1981):
the change of an image as an edge moves is one more term of a linear fit, and its weight says how far to move the edge.
Many pairs are computed at a time.
"""

from functools import cache, lru_cache

import numpy as np

from graft.audit.measuring import THUMBNAIL

# The visible part of an image: (left, right) and (top, bottom), as fractions of its sides.
Window = tuple[tuple[float, float], tuple[float, float]]

# A fitted window cuts off at most this much at each edge.
FARTHEST_EDGE = 0.08

_STEPS = 600  # per side: the edges of windows are rounded to these


def through(images: np.ndarray, window: Window) -> np.ndarray:
    """Return images (n, H, W) seen through one window, stretched back to the full size, float32."""
    side = images.shape[-1]
    across, down = (_resampling(*(round(edge * _STEPS) for edge in edges), side) for edges in window)
    return down @ images.astype(np.float32) @ across.T


def unexplained(whole: np.ndarray, part: np.ndarray, windows: np.ndarray, good: float) -> np.ndarray:
    """Return the share of `part`'s detail variance that the best fit from `whole` leaves, float32 (P,) in [0, 1].

    See `fitted`, which also returns the windows.
    """
    return fitted(whole, part, windows, good)[1]


def fitted(whole: np.ndarray, part: np.ndarray, windows: np.ndarray, good: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the windows of the best fits from `whole` to `part`, float32 (P, 4), and what each leaves, float32 (P,).

    Both are uint8 or float32 (P, side, side), THUMBNAIL or any other side. `windows`, float32 (P, 4), say where each
    fit starts: left, right, top and bottom. A fit that cannot be expected to leave as little as `good` is abandoned.
    Contrast may have either sign, so a negative is explained too.
    """
    whole, part, window = whole.astype(np.float32), part.astype(np.float32), windows.copy()
    remainder = explain(seen_through(whole, window), part, moving=False)[1]
    blur = _gaussian(1.1, whole.shape[-1])
    # Blurred first, which makes larger moves look small.
    for blurred, hopeful in ((True, 5 * good), (False, 2 * good), (False, 2 * good)):
        tried = np.flatnonzero(remainder <= hopeful)
        original, copy, start = whole[tried], part[tried], window[tried]
        seen = (blur @ original @ blur.T, blur @ copy @ blur.T) if blurred else (original, copy)
        weights, _, _ = explain(seen_through(seen[0], start), seen[1], moving=True)
        gain = weights[:, 0] + weights[:, 1]
        gain = np.where(np.abs(gain) < 0.3, 1, gain)
        side = np.repeat(start[:, 1::2] - start[:, ::2], 2, axis=1)
        moved = start + (weights[:, 2:] / gain[:, None]).clip(-0.04, 0.04) * side
        moved[:, ::2] = moved[:, ::2].clip(0, FARTHEST_EDGE)
        moved[:, 1::2] = moved[:, 1::2].clip(1 - FARTHEST_EDGE, 1)
        rest = explain(seen_through(original, moved), copy, moving=False)[1]
        better = rest < remainder[tried]
        window[tried[better]] = moved[better]
        remainder[tried[better]] = rest[better]
    return window, remainder


def explain(seen: np.ndarray, part: np.ndarray, moving: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Solve least squares for (P, H, W): weights (P, 2 or 6), share of detail variance left (P,), residual (P, H, W).

    The terms are the image, the blurred image and, when `moving`, the change of the image as the left, right, top or
    bottom edge of its window moves by the length of a side.
    """
    # About what a thumbnail loses when its image is halved in size.
    side = seen.shape[-1]
    blur = _gaussian(0.75, side)
    terms = [seen, blur @ seen @ blur.T]
    if moving:
        along = ((np.arange(side) + 0.5) / side).astype(np.float32)
        down, across = np.gradient(seen * side, axis=(1, 2))
        terms += [across * (1 - along), across * along, down * (1 - along)[:, None], down * along[:, None]]
    # (P, terms, H, W) -> (P, terms, H * W)
    basis = detail(np.stack(terms, 1)).reshape(len(seen), len(terms), side**2)
    wanted = detail(part).reshape(len(part), side**2, 1)
    square = basis @ basis.transpose(0, 2, 1)
    # A small ridge on the diagonal: without detail along an axis, nothing determines where the edges are.
    ridge = 1e-5 * np.einsum("pii->pi", square) + 1e-2
    weights = np.linalg.solve(square + ridge[:, :, None] * np.eye(len(terms), dtype=np.float32), basis @ wanted)
    rest = wanted - basis.transpose(0, 2, 1) @ weights
    remainder = (rest**2).sum((1, 2)) / np.maximum((wanted**2).sum((1, 2)), 1)
    return weights[:, :, 0], remainder, rest.reshape(part.shape)


def detail(images: np.ndarray) -> np.ndarray:
    """Return (…, H, W) minus local brightness.

    Most of the variance of sky above land, for example, lies in its two brightness levels.
    """
    blur = _gaussian(4.0, images.shape[-1])
    return images - blur @ images @ blur.T


def seen_through(images: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Return (P, H, W), each seen through its own window (P, 4) and stretched back to the full size, float32."""
    steps = np.rint(window * _STEPS).astype(np.int64)
    side = images.shape[-1]
    across, down = _resamplings(steps[:, :2], side), _resamplings(steps[:, 2:], side)
    return down @ images @ across.swapaxes(1, 2)


def _resamplings(edges: np.ndarray, side: int) -> np.ndarray:
    """Return the weights for pairs of edges in steps, int64 (P, 2): float32 (P, side, side)."""
    if side == THUMBNAIL:
        return np.asarray(_of_thumbnails()[edges[:, 0], _STEPS - edges[:, 1]])
    return np.stack([_resampling(start, end, side) for start, end in edges.tolist()] or [np.empty((side, side))])


@cache
def _of_thumbnails() -> np.ndarray:
    """Return the weights for every window that a fit can reach, indexed by the steps from either edge."""
    steps = range(round(FARTHEST_EDGE * _STEPS) + 1)
    return np.stack([[_resampling(start, _STEPS - end, THUMBNAIL) for end in steps] for start in steps])


@lru_cache(2**13)
def _resampling(start: int, end: int, side: int) -> np.ndarray:
    """Return weights that stretch `start` to `end`, in steps, to a whole side, float32 (side, side).

    Cubic convolution, Keys 1981, with a = -1/2; the outermost pixel is repeated beyond the edge.
    """
    position = start + (end - start) * (np.arange(side) + 0.5) / side
    position = (position * side / _STEPS - 0.5).clip(0, side - 1)
    distance = np.abs(position[:, None] - np.arange(side))
    close = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    weights = np.where(distance < 1, close, np.where(distance < 2, far, 0))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


@cache
def _gaussian(deviation: float, side: int) -> np.ndarray:
    """Return weights that blur a side by a Gaussian of `deviation` px of a thumbnail, float32 (side, side)."""
    position = np.arange(side) * (THUMBNAIL / side)
    weights = np.exp(-0.5 * ((position - position[:, None]) / deviation) ** 2)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
