"""Images that occur twice: byte for byte, or nearly, as after saving again, resizing, cropping or brightening.

Near duplicates are found in two steps, neither of which compares every image with every other.

1. Candidates. The signs of the first 64 principal components of a thumbnail are its code. Copies agree in most signs
   when one is seen through the window that the other was cropped to, so the code of each image through each of WINDOWS
   is looked up among the codes of all. When codes are sorted by several permutations of their bits, those that differ
   in few bits are neighbours in one order or another (Charikar, "Similarity estimation techniques from rounding
   algorithms", 2002, section 3). Only a few neighbours are examined: among thousands of images that are all alike, each
   is paired with some, which links them all, and not with every other.
2. Confirmation. A window, brightness, contrast and a slight blur are fitted so that one thumbnail becomes the other
   (`audit.aligning`). The share of the variance of its detail that remains decides.

How much may remain depends on the data: two photographs are far apart, two handwritten digits are not. See `limit_of`.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.audit.aligning import Window, through, unexplained
from graft.audit.measuring import THUMBNAIL
from graft.data.loading import available_cores
from graft.files import keep, read_kept
from graft.progress import NOBODY, Reporter

if TYPE_CHECKING:
    from graft.audit.looking import Looks

# The parts of its original that a copy may show along an axis, and the pairs (across, down) that are searched.
_ALL, _MOST, _LEAST, _END, _START = (0.0, 1.0), (0.025, 0.975), (0.05, 0.95), (0.05, 1.0), (0.0, 0.95)
WINDOWS: tuple[Window, ...] = (
    (_ALL, _ALL),
    (_MOST, _MOST),
    (_LEAST, _LEAST),
    *((across, down) for across, down in product((_ALL, _END, _START), repeat=2) if across != _ALL or down != _ALL),
)
# The most of 64 signs that may differ. Copies differ in at most 13, one in a thousand pairs of different images in at
# most 18.
MOST_SIGNS = 14
# Orders that the codes are sorted in, and neighbours examined on either side in each.
ORDERS = 16
NEIGHBOURS = 4
# An order sorts by bits of this many first components; later ones are noisy.
STEADY_COMPONENTS = 36
# Between thumbnails of candidates, one of them seen through a window. Copies reach 0.95 or more.
LEAST_CORRELATION = 0.85
# Candidates of one image that are examined further, most alike first.
MOST_CANDIDATES = 3
# The share of the variance of detail that may remain; less where images are alike by nature.
LIMITS = (0.06, 0.04, 0.028, 0.02, 0.014, 0.012, 0.01, 0.0085, 0.007, 0.006, 0.005)
# Mean colours of copies, minus their grey, differ by at most this, in [0, 1].
COLOUR_TOLERANCE = 0.1
# Standard deviation of a thumbnail, in levels of 255, below which it is flat and tells nothing apart.
LEAST_CONTRAST = 4.0

# Increased whenever the same looks would give different pairs.
NUMBERS = 4

_BITS = 64
# Vectors that are iterated for as many components as there are bits, and how often: on photographs, 4 signs of 10,000
# are then others than those of exact components.
_WIDTH, _ROUNDS = 96, 4
_SAMPLE = 16384  # images that the components are computed from
# Images, and pairs, computed at a time: few enough to stay in a core's cache.
_ROWS = 2048
_PAIRS = 128
# Images whose pairs are searched at a time: at most 128 pairs each, in 0.3 GiB.
_SHARD = 2**18


def exact(looks: Looks) -> list[np.ndarray]:
    """Return groups of two or more images with equal content, as increasing int64 rows, ordered by first row."""
    rows = np.flatnonzero(looks.decoded)
    order = rows[np.lexsort((rows, looks.digest[rows, 1], looks.digest[rows, 0]))]
    digest = looks.digest[order]
    starts = np.flatnonzero((digest[1:] != digest[:-1]).any(1)) + 1
    return sorted((group for group in np.split(order, starts) if len(group) > 1), key=lambda group: int(group[0]))


def near(looks: Looks, cache: Path | None = None, reporter: Reporter = NOBODY) -> np.ndarray:
    """Return pairs of rows of different content that look the same, int64 (P, 2), lower row first: see `alike`."""
    return alike(looks, cache, reporter).pairs


@dataclass(frozen=True)
class Alike:
    """Pairs of rows whose thumbnails show the same, int64 (P, 2), sorted, lower row first.

    `limit` is the share of the variance of detail in which they may differ, one of LIMITS.
    """

    pairs: np.ndarray
    limit: float


def alike(looks: Looks, cache: Path | None = None, reporter: Reporter = NOBODY) -> Alike:
    """Find pairs of images that look the same but differ in content.

    Among images with equal content, only the first is compared; `exact` has the others. Images whose thumbnail is flat
    are left to `fine_copies`. With `cache`, a folder, the pairs are kept for the same images in the same order.
    """
    rows, _ = by_contrast(looks)
    if cache is None:
        return _alike(looks, rows)
    content = hashlib.blake2b(looks.digest[rows].tobytes(), digest_size=10, key=str(NUMBERS).encode()).hexdigest()
    path = cache / f"pairs-{content}"
    # Stored as numbers among the compared images, since equal contents may come and go.
    kept = read_kept(path, reporter)
    if kept is not None:
        numbers = np.frombuffer(kept.content, np.int64)
        return Alike(rows[numbers[1:].reshape(-1, 2)], LIMITS[numbers[0]])
    found = _alike(looks, rows)
    place = np.array([LIMITS.index(found.limit)])
    keep(path, np.concatenate([place, np.searchsorted(rows, found.pairs).ravel()]).data, reporter)
    return found


def _alike(looks: Looks, rows: np.ndarray) -> Alike:
    if len(rows) < 2:
        return Alike(np.empty((0, 2), dtype=np.int64), LIMITS[0])
    thumbnails = _Thumbnails(looks.thumbnail, rows)
    colour = looks.colour[rows]
    candidates = _candidates(thumbnails)
    tint = colour - colour.mean(1, keepdims=True)
    alike = np.abs(tint[candidates.whole] - tint[candidates.part]).max(1, initial=0) <= COLOUR_TOLERANCE
    candidates = candidates.take(alike)
    remainder = _remainder(candidates, thumbnails)
    limit = limit_of(remainder, len(rows))
    found = remainder <= limit
    pairs = rows[np.stack([candidates.whole[found], candidates.part[found]], 1)]
    return Alike(np.unique(np.sort(pairs, 1), axis=0), limit)


def by_contrast(looks: Looks) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of each content: with something in its thumbnail, and with a flat one, int64."""
    rows = np.flatnonzero(looks.decoded)
    _, first = np.unique(looks.digest[rows], axis=0, return_index=True)
    rows = np.sort(rows[first])
    contrast = [looks.thumbnail[rows[start : start + _ROWS]].std((1, 2)) for start in range(0, len(rows), _ROWS)]
    clear = np.concatenate([*contrast, []]) >= LEAST_CONTRAST
    return rows[clear], rows[~clear]


@dataclass(frozen=True)
class _Thumbnails:
    """Thumbnails of some rows, read only on demand from where they are, which may be a file."""

    every: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: np.ndarray | slice) -> np.ndarray:
        return np.asarray(self.every[self.rows[chosen]])


@dataclass(frozen=True)
class _Candidates:
    """Pairs in which `part` may be `whole` seen through a window: numbers of images and of WINDOWS, int64 (P,).

    `correlation`, float32 (P,), is between the thumbnails, with `whole` seen through the window.
    """

    whole: np.ndarray
    part: np.ndarray
    window: np.ndarray
    correlation: np.ndarray

    def take(self, chosen: np.ndarray | slice) -> _Candidates:
        return _Candidates(self.whole[chosen], self.part[chosen], self.window[chosen], self.correlation[chosen])

    def and_also(self, other: _Candidates) -> _Candidates:
        columns = zip(vars(self).values(), vars(other).values(), strict=True)
        return _Candidates(*(np.concatenate(both) for both in columns))


def _candidates(thumbnails: _Thumbnails) -> _Candidates:
    """Return the most alike among the pairs whose codes differ in few bits.

    Pairs are searched for _SHARD images at a time, and the most alike of each shard are kept. A pair among the most
    alike of all is also among the most alike of its shard, so shards affect nothing but memory.
    """
    mean, components = _components(thumbnails)
    codes = _codes(thumbnails, WINDOWS[0], mean, components)
    count = len(codes)
    random = np.random.default_rng(0)
    orders = []
    for _ in range(ORDERS):
        bits = random.permutation(STEADY_COMPONENTS)[:32]
        keys = _keys(codes, bits)
        order = np.argsort(keys, kind="stable")
        orders.append((bits, keys[order], order.astype(np.min_scalar_type(count))))
    best = _Candidates(*(np.empty(0, kind) for kind in (np.int64, np.int64, np.int8, np.float32)))
    for number, window in enumerate(WINDOWS):
        for start in range(0, count, _SHARD):
            shard = _Thumbnails(thumbnails.every, thumbnails.rows[start : start + _SHARD])
            seen = _codes(shard, window, mean, components)
            own = np.arange(start, start + len(shard))
            pairs = np.empty(0, np.int64)
            for bits, keys, order in orders:
                place = np.searchsorted(keys, _keys(seen, bits))
                found = [pairs]
                for step in range(-NEIGHBOURS, NEIGHBOURS):
                    other = order[(place + step).clip(0, count - 1)].astype(np.int64)
                    near = (np.bitwise_count(seen ^ codes[other]) <= MOST_SIGNS) & (other != own)
                    found.append(own[near] * count + other[near])
                pairs = np.unique(np.concatenate(found))
            whole, part = np.divmod(pairs, count)
            likeness = _correlation(thumbnails, whole, part, window)
            of_shard = _Candidates(whole, part, np.full(len(whole), number, np.int8), likeness)
            best = best.and_also(_most_alike(of_shard.take(likeness >= LEAST_CORRELATION), count))
        best = _most_alike(best, count)
    return best


def _correlation(thumbnails: _Thumbnails, whole: np.ndarray, part: np.ndarray, window: Window) -> np.ndarray:
    """Return the correlation between the thumbnails of each pair, `whole` seen through the window, float32 (P,)."""
    found = np.empty(len(whole), dtype=np.float32)
    for start in range(0, len(whole), _ROWS):
        rows = slice(start, start + _ROWS)
        found[rows] = correlation(thumbnails[whole[rows]], thumbnails[part[rows]], window)
    return found


def correlation(whole: np.ndarray, part: np.ndarray, window: Window) -> np.ndarray:
    """Return the correlation of thumbnails (P, THUMBNAIL, THUMBNAIL), `whole` seen through the window, float32 (P,)."""
    return np.asarray((_normalised(through(whole, window)) * _normalised(part)).sum(1))


def _most_alike(candidates: _Candidates, count: int) -> _Candidates:
    """Return each pair of `count` images once, with its best window; for each image, its MOST_CANDIDATES best pairs."""
    best = np.argsort(-candidates.correlation, kind="stable")
    lower = np.minimum(candidates.whole, candidates.part)[best]
    higher = np.maximum(candidates.whole, candidates.part)[best]
    _, first = np.unique(lower * count + higher, return_index=True)
    first.sort()
    best, lower, higher = best[first], lower[first], higher[first]
    return candidates.take(best[(_rank(lower) < MOST_CANDIDATES) | (_rank(higher) < MOST_CANDIDATES)])


def _components(thumbnails: _Thumbnails) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of normalised thumbnails, float32 (D,), and their first principal components, float32 (D, 64).

    A small set of images has fewer components than that, and a mean that is nearly one of them. So smooth random images
    with a mean of zero are added, through their covariance, as if there were 256 of them.
    """
    count = len(thumbnails)
    imagined = 256
    sample = np.random.default_rng(0).permutation(count)[:_SAMPLE]
    values = _normalised(thumbnails[np.sort(sample)])
    mean = values.sum(0) / (len(values) + imagined)
    position = np.arange(THUMBNAIL)
    smooth = np.exp(-0.5 * ((position - position[:, None]) / 3) ** 2)
    added = (imagined / THUMBNAIL**2 * np.kron(smooth, smooth)).astype(np.float32)
    covariance = (values - mean).T @ (values - mean) + added
    return mean.astype(np.float32), _leading(covariance, _smoothest(smooth))[:, :_BITS]


def _smoothest(smooth: np.ndarray) -> np.ndarray:
    """Return the first _WIDTH principal components (D, _WIDTH) of images whose pixels covary so along either axis.

    They are products of those along an axis, `smooth` (THUMBNAIL, THUMBNAIL).
    """
    variances, vectors = np.linalg.eigh(smooth)
    down, across = np.divmod(np.argsort(-np.outer(variances, variances).ravel(), kind="stable")[:_WIDTH], len(smooth))
    return np.einsum("yk,xk->yxk", vectors[:, down], vectors[:, across]).reshape(-1, _WIDTH)


def _leading(covariance: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return the leading eigenvectors of a covariance (D, D) as columns, the first one first, nearly.

    Orthogonal iteration from `start` (D, _WIDTH): Golub and Van Loan, "Matrix Computations", section 8.2.4. All
    eigenvectors would take ten times as long, a quarter of a second.
    """
    basis = start.astype(covariance.dtype)
    for _ in range(_ROUNDS):
        basis, _ = np.linalg.qr(covariance @ basis)
    _, vectors = np.linalg.eigh(basis.T @ covariance @ basis)
    return np.asarray(basis @ vectors[:, ::-1])


def _codes(thumbnails: _Thumbnails, window: Window, mean: np.ndarray, components: np.ndarray) -> np.ndarray:
    """Return the signs of each image's components seen through a window, uint64 (N,), the first in the highest bit."""
    codes = []
    for start in range(0, len(thumbnails), _ROWS):
        values = _normalised(through(thumbnails[start : start + _ROWS], window))
        signs = np.packbits((values - mean) @ components > 0, axis=1)
        codes.append(signs.view(">u8")[:, 0].astype(np.uint64))
    return np.concatenate(codes)


def _keys(codes: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Return the given 32 bits of each code, in the given order, uint32 (N,)."""
    signs = np.unpackbits(codes.astype(">u8")[:, None].view(np.uint8), axis=1)
    return np.packbits(np.ascontiguousarray(signs[:, bits]), axis=1).view(">u4")[:, 0].astype(np.uint32)


def _normalised(values: np.ndarray) -> np.ndarray:
    """Flatten (n, H, W) to float32 (n, H * W), each row of mean 0 and norm 1."""
    flat = values.reshape(len(values), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _rank(values: np.ndarray) -> np.ndarray:
    """Return how many times each value occurred before, int64 (n,)."""
    order = np.argsort(values, kind="stable")
    starts = np.concatenate([[0], np.flatnonzero(np.diff(values[order])) + 1]) if len(values) else order
    rank = np.empty(len(values), dtype=np.int64)
    rank[order] = np.arange(len(values)) - np.repeat(starts, np.diff([*starts, len(values)]))
    return rank


def limit_of(remainder: np.ndarray, images: int, limits: tuple[float, ...] = LIMITS, of_found: float = 0.15) -> float:
    """Return the share of the variance of detail that may remain, one of the limits.

    Doubling the limit multiplies pairs that are alike by chance about tenfold; copies do not multiply. So the limit is
    the highest with few pairs between itself and its double, relative to the number of images or of pairs found (the
    share `of_found`). About a tenth of those few is what it lets in by chance.
    """
    for limit in limits:
        found = np.count_nonzero(remainder <= limit)
        between = np.count_nonzero(remainder <= 2 * limit) - found
        if between <= max(5, 0.05 * images, of_found * found):
            return limit
    return limits[-1]


def _remainder(candidates: _Candidates, thumbnails: _Thumbnails) -> np.ndarray:
    """Return the share of the variance of `part`'s detail that a fit from `whole` leaves, float32 (P,) in [0, 1]."""
    windows = np.array(WINDOWS, dtype=np.float32).reshape(-1, 4)

    def fit(start: int) -> np.ndarray:
        pairs = candidates.take(np.s_[start : start + _PAIRS])
        return unexplained(thumbnails[pairs.whole], thumbnails[pairs.part], windows[pairs.window], LIMITS[0])

    with ThreadPoolExecutor(available_cores(), thread_name_prefix="confirm") as pool:
        return np.concatenate([*pool.map(fit, range(0, len(candidates.whole), _PAIRS)), np.empty(0, np.float32)])
