"""Whether images with matching thumbnails are copies, judged by where their pixels differ.

On a plain ground most of an image is like any other: two caps, two sheets of writing or two renders of a product agree
in nearly all of their variance and differ in one place, or in colour. A copy differs a little everywhere, from the
resampling and the compression. So the images of a pair are read again, aligned, and compared tile by tile and in
colour.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from graft.audit.aligning import detail, explain, fitted, seen_through
from graft.audit.duplicates import WINDOWS, Alike, correlation
from graft.audit.looking import Looks, upright_rgb
from graft.audit.measuring import LUMA, reduce
from graft.data.dataset import Images
from graft.data.loading import available_cores
from graft.errors import ImageError
from graft.files import keep, read_kept
from graft.images.levels import Levels
from graft.progress import NOBODY, Reporter

# Side in px of the compared images, and of their tiles; a pair is aligned at half the side.
SIDE, TILE = 96, 8
# The residual share of detail in the tiles where the fit leaves the most, squared and divided by the residual share of
# the whole image. Copies stay below, other images on the same ground do not (docs/audit.md).
WORST_TILES, MOST_CONCENTRATED, SOME_IN_WORST, MOST_IN_WORST = 4, 3.0, 0.35, 0.8
# Smallest residual share taken into account; below it, compression differs from place to place.
LEAST_REMAINDER = 0.01
# The most that tint may differ by in a tenth of the image, in levels of 255.
MOST_TINT = 24.0
# Where thumbnails of different images are as alike as this limit, the residual detail that a copy may have, as a
# multiple of the limit. It is higher where the data have one size and the copy another, since resizing leaves more.
ALIKE_BY_NATURE, OF_LIMIT, OF_LIMIT_RESIZED = 0.012, 1.2, 8.0
# The share of images that must have one size for another size to be odd.
ONE_SIZE = 0.9

# Increased whenever the same pairs would get other answers.
NUMBERS = 2

_PAIRS = 64
# Pairs whose images are in memory at a time; they take 0.4 GiB at most.
_AT_ONCE = 2048


@dataclass(frozen=True)
class Comparison:
    """What distinguishes the images of P pairs, one number per pair, float32 (P,).

    `remainder` is the share of the variance of detail that the fit leaves, `worst` that share in the tiles where it
    leaves the most, and `tint` the colour difference, in levels, exceeded in a tenth of the image.
    """

    remainder: np.ndarray
    worst: np.ndarray
    tint: np.ndarray


def confirmed(
    images: Images,
    looks: Looks,
    alike: Alike,
    cache: Path | None = None,
    reporter: Reporter = NOBODY,
    levels: Levels = (),
) -> np.ndarray:
    """Return which pairs are copies, bool (P,); `images` and `looks` have the rows that the pairs name.

    Deep samples are read by `levels`. With `cache`, a folder, the answers are kept for the same pairs among images of
    the same sizes.
    """
    if cache is None or not len(alike.pairs):
        return _confirmed(images, looks, alike, levels)
    settings = str((NUMBERS, alike.limit, *levels))
    named = [looks.digest[alike.pairs].tobytes(), _resized(looks, alike.pairs).tobytes(), settings]
    content = hashlib.blake2b(b"".join(each if isinstance(each, bytes) else each.encode() for each in named))
    path = cache / f"confirmed-{content.hexdigest()[:20]}"
    kept = read_kept(path, reporter)
    if kept is not None:
        return np.frombuffer(kept.content, bool)
    found = _confirmed(images, looks, alike, levels)
    keep(path, found.data, reporter)
    return found


def _confirmed(images: Images, looks: Looks, alike: Alike, levels: Levels) -> np.ndarray:
    seen = compare(images, looks, alike.pairs, levels)
    same = shows_the_same(seen)
    if alike.limit <= ALIKE_BY_NATURE:
        allowed = np.where(_resized(looks, alike.pairs), OF_LIMIT_RESIZED, OF_LIMIT)
        same &= seen.remainder <= allowed * alike.limit
    return np.asarray(same)


def shows_the_same(seen: Comparison) -> np.ndarray:
    """Return which pairs neither differ in a few places nor in colour, bool (P,)."""
    concentrated = seen.worst**2 > MOST_CONCENTRATED * np.maximum(seen.remainder, LEAST_REMAINDER)
    elsewhere = (concentrated & (seen.worst > SOME_IN_WORST)) | (seen.worst > MOST_IN_WORST)
    return np.asarray(~elsewhere & (seen.tint <= MOST_TINT))


def _resized(looks: Looks, pairs: np.ndarray) -> np.ndarray:
    """Return which pairs differ in size where nearly all images have one size, bool (P,)."""
    size = np.stack([looks.width, looks.height], 1)
    _, counts = np.unique(size[looks.decoded], axis=0, return_counts=True)
    if counts.max(initial=0) < ONE_SIZE * np.count_nonzero(looks.decoded):
        return np.zeros(len(pairs), bool)
    return np.asarray((size[pairs[:, 0]] != size[pairs[:, 1]]).any(1))


def compare(images: Images, looks: Looks, pairs: np.ndarray, levels: Levels = ()) -> Comparison:
    """Read both images of each pair, int64 (P, 2), again and compare them; a missing image differs in everything."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(available_cores(), "confirm") as pool:

        def compared(start: int) -> np.ndarray:
            some = pairs[start : start + _AT_ONCE]
            rows = np.unique(some).tolist()
            squares = dict(zip(rows, pool.map(lambda row: square(images, row, levels), rows), strict=True))

            def judge(first: int) -> np.ndarray:
                block = some[first : first + _PAIRS]
                there = [squares[int(one)] is not None and squares[int(other)] is not None for one, other in block]
                values = np.full((3, len(block)), np.inf, np.float32)
                if any(there):
                    block = block[there]
                    sides = [np.stack([squares[int(row)] for row in rows]) for rows in block.T]  # type: ignore[misc]
                    values[:, there] = compare_squares(sides[0], sides[1], looks.thumbnail[block])
                return values

            return np.concatenate([*pool.map(judge, range(0, len(some), _PAIRS))], 1)

        return Comparison(*np.concatenate([*map(compared, range(0, len(pairs), _AT_ONCE)), np.empty((3, 0))], 1))


def square(images: Images, row: int, levels: Levels) -> np.ndarray | None:
    """Read an image as float32 (SIDE, SIDE, 3), or None where it can no longer be read."""
    try:
        small = Image.fromarray(np.ascontiguousarray(reduce(upright_rgb(images.read(row), levels))))
    except (ImageError, OSError):
        return None
    larger = min(small.size) >= SIDE
    kind = Image.Resampling.BOX if larger else Image.Resampling.BICUBIC
    return np.asarray(small.resize((SIDE, SIDE), kind), np.float32)


def compare_squares(first: np.ndarray, second: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """Return a Comparison's columns, float32 (3, P), for images (P, SIDE, SIDE, 3) and `thumbnails` (P, 2, …)."""
    count = len(first)
    likeness = [
        correlation(thumbnails[:, whole], thumbnails[:, part], window)
        for whole, part in ((0, 1), (1, 0))
        for window in WINDOWS
    ]
    best = np.stack(likeness).argmax(0)
    turned, start = (best >= len(WINDOWS))[:, None, None, None], np.array(WINDOWS, np.float32).reshape(-1, 4)
    whole, part = np.where(turned, second, first), np.where(turned, first, second)
    grey, wanted = whole @ LUMA, part @ LUMA
    window, _ = fitted(halved(grey), halved(wanted), start[best % len(WINDOWS)], 1.0)
    seen = seen_through(grey, window)
    weights, remainder, rest = explain(seen, wanted, moving=False)
    gain = weights.sum(1)
    fine = detail(wanted)
    left = _tiles(rest**2)
    shown = np.maximum(_tiles(fine**2), _tiles((fine - rest) ** 2))
    most = np.argpartition(-left, WORST_TILES, axis=1)[:, :WORST_TILES]
    of_worst = [np.take_along_axis(values, most, 1).sum(1) for values in (left, shown)]
    worst = of_worst[0] / np.maximum(of_worst[1], 1)
    tint = np.zeros((count, SIDE, SIDE), np.float32)
    for channel in range(3):
        of_whole, of_part = seen_through(whole[..., channel], window) - seen, part[..., channel] - wanted
        tint = np.maximum(tint, np.abs(gain.clip(0.5, 2)[:, None, None] * of_whole - of_part))
    return np.stack([remainder, worst, np.quantile(tint.reshape(count, -1), 0.9, axis=1)]).astype(np.float32)


def halved(images: np.ndarray) -> np.ndarray:
    """Return (P, SIDE, SIDE) at half the side."""
    return images.reshape(len(images), SIDE // 2, 2, SIDE // 2, 2).mean((2, 4))


def _tiles(values: np.ndarray) -> np.ndarray:
    """Return the mean over each tile, (P, SIDE, SIDE) -> (P, tiles)."""
    across = SIDE // TILE
    return values.reshape(len(values), across, TILE, across, TILE).mean((2, 4)).reshape(len(values), -1)
