"""Near duplicates among images whose thumbnail is flat because their detail is too fine for it, such as stripes.

Such images are few, so all of them are read again and compared with each other at SIDE px. Only whole images are
compared: seen through a window that is not exactly the right one, fine detail is other detail.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graft.audit.aligning import detail
from graft.audit.confirming import SIDE, Comparison, compare_squares, halved, shows_the_same, square
from graft.audit.duplicates import COLOUR_TOLERANCE, MOST_CANDIDATES, by_contrast, limit_of
from graft.audit.duplicates import LIMITS as NEAR_LIMITS
from graft.audit.looking import Looks
from graft.audit.measuring import LUMA
from graft.data.dataset import Images
from graft.data.loading import available_cores
from graft.files import keep, read_kept
from graft.images.levels import Levels
from graft.progress import NOBODY, Reporter

# Between the levels of the darkest and the lightest parts of an image (`Measures.bright` and `dark`), in [0, 1]; with
# less, as in a photograph of the dark, there is little but noise to compare.
LEAST_RANGE = 16 / 255
# Images that are compared, each with every other, in 0.3 GB. Where all are alike, this takes two minutes.
MOST_IMAGES = 4096
# Side in px, at SIDE, of the tiles whose colour is compared.
COLOUR_TILE = 2
# Between images at half of SIDE. Low, since `limit_of` needs to see the pairs beyond LIMITS too.
LEAST_CORRELATION = 0.6
# The share of the variance of detail that may remain; less where images are alike by nature.
LIMITS = (0.3, 0.2, 0.14, 0.1, 0.07, 0.05, 0.035, 0.025, 0.017, 0.012)
# Pairs between a limit and its double, relative to those found (see `limit_of`). More than for thumbnails, since fine
# detail suffers more from being saved again and copies differ more among themselves.
OF_FOUND = 0.5

# Increased whenever the same images would give different pairs.
NUMBERS = 1

_PAIRS = 64
_ROWS = 512


@dataclass(frozen=True)
class FineCopies:
    """Pairs of rows of different content that are copies, int64 (P, 2), and the rows that were not compared, int64."""

    pairs: np.ndarray
    left: np.ndarray


def fine_copies(
    images: Images,
    looks: Looks,
    cache: Path | None = None,
    reporter: Reporter = NOBODY,
    levels: Levels = (),
    near_limit: float = NEAR_LIMITS[0],
) -> FineCopies:
    """Find copies among images that have contrast but a flat thumbnail; beyond MOST_IMAGES they are not compared.

    If the other images are alike by nature, so that `alike` has a low `near_limit`, so may these be. Deep samples are
    read by `levels`. With `cache`, a folder, the pairs are kept for the same images in the same order.
    """
    _, flat = by_contrast(looks)
    fine = flat[looks.dark[flat] - looks.bright[flat] >= LEAST_RANGE]
    rows, left = fine[:MOST_IMAGES], fine[MOST_IMAGES:]
    if len(rows) < 2:
        return FineCopies(np.empty((0, 2), np.int64), left)
    if cache is None:
        return FineCopies(_pairs(images, looks, rows, levels, near_limit), left)
    named = looks.digest[rows].tobytes() + str((NUMBERS, near_limit, *levels)).encode()
    path = cache / f"fine-{hashlib.blake2b(named, digest_size=10).hexdigest()}"
    kept = read_kept(path, reporter)
    if kept is not None:
        return FineCopies(rows[np.frombuffer(kept.content, np.int64).reshape(-1, 2)], left)
    pairs = _pairs(images, looks, rows, levels, near_limit)
    # Stored as numbers among the compared images, since equal contents may come and go.
    keep(path, np.searchsorted(rows, pairs).data, reporter)
    return FineCopies(pairs, left)


def _pairs(images: Images, looks: Looks, rows: np.ndarray, levels: Levels, near_limit: float) -> np.ndarray:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(available_cores(), "confirm") as pool:

        def read(row: int) -> np.ndarray | None:
            found = square(images, row, levels)
            return None if found is None else found.astype(np.uint8)  # whole levels, at a quarter of the size

        found = [*pool.map(read, rows.tolist())]
        rows = rows[[each is not None for each in found]]
        if len(rows) < 2:
            return np.empty((0, 2), np.int64)
        squares = np.stack([each for each in found if each is not None])
        small = np.concatenate([*pool.map(_small, np.split(squares, range(_PAIRS, len(squares), _PAIRS)))])
        candidates = _candidates(small, looks.colour[rows])

        def judge(start: int) -> np.ndarray:
            pairs = candidates[start : start + _PAIRS]
            first, second = (_with_even_colour(squares[each].astype(np.float32)) for each in pairs.T)
            return compare_squares(first, second, small[pairs])

        blocks = [*pool.map(judge, range(0, len(candidates), _PAIRS)), np.empty((3, 0), np.float32)]
    seen = Comparison(*np.concatenate(blocks, 1))
    limit = min(limit_of(seen.remainder, len(rows), LIMITS, OF_FOUND), LIMITS[0] * near_limit / NEAR_LIMITS[0])
    return np.asarray(rows[candidates[shows_the_same(seen) & (seen.remainder <= limit)]])


def _with_even_colour(squares: np.ndarray) -> np.ndarray:
    """Average the colour of squares (n, SIDE, SIDE, 3) over tiles, not their grey: JPEG keeps less of it."""
    grey = (squares @ LUMA)[..., None]
    tiles = (
        (squares - grey)
        .reshape(len(squares), SIDE // COLOUR_TILE, COLOUR_TILE, SIDE // COLOUR_TILE, COLOUR_TILE, 3)
        .mean((2, 4))
    )
    return np.asarray(grey + tiles.repeat(COLOUR_TILE, 1).repeat(COLOUR_TILE, 2))


def _small(squares: np.ndarray) -> np.ndarray:
    """Return the detail of squares (n, SIDE, SIDE, 3) at half the side, grey, float32 with a norm of 1 each."""
    fine = detail(halved(squares.astype(np.float32) @ LUMA))
    fine -= fine.mean((1, 2), keepdims=True)
    return np.asarray(fine / np.maximum(np.linalg.norm(fine, axis=(1, 2), keepdims=True), 1e-6))


def _candidates(small: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Return the pairs of each image with those most like it, int64 (P, 2), lower number first."""
    flat, tint = small.reshape(len(small), -1), colour - colour.mean(1, keepdims=True)
    found = []
    for start in range(0, len(flat), _ROWS):
        likeness = flat[start : start + _ROWS] @ flat.T
        own = np.arange(len(likeness))
        likeness[own, start + own] = -1
        most = np.argsort(-likeness, axis=1, kind="stable")[:, :MOST_CANDIDATES]
        near, place = np.nonzero(np.take_along_axis(likeness, most, 1) >= LEAST_CORRELATION)
        found.append(np.stack([start + near, most[near, place]], 1))
    pairs = np.unique(np.sort(np.concatenate(found), 1), axis=0)
    one, other = pairs.T
    return np.asarray(pairs[np.abs(tint[one] - tint[other]).max(1, initial=0) <= COLOUR_TOLERANCE])
