"""One pass over all images before any other work: each is read, hashed, decoded and measured.

The results are kept in a table with one fixed-size row per image, so a second pass over unchanged files needs nothing
but their stamps.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from graft.audit.marks import Seen, seen
from graft.audit.measuring import SIDE, THUMBNAIL, count_colours, measure, reduce
from graft.data.content import content_digest, unreadable
from graft.data.dataset import Images
from graft.data.loading import available_cores
from graft.errors import ImageError
from graft.files import keep, read_kept
from graft.images import decoding
from graft.images.levels import Levels
from graft.progress import NOBODY, Reporter

# Pillow's names; "pixels" stands for images that come as arrays.
FORMATS = (*decoding.FORMATS, "pixels", *decoding.OPTIONAL_FORMATS)
# The format that each extension promises; other extensions promise nothing.
ENDINGS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".jp2", ".j2k", ".jpx", ".jpf"), "JPEG2000"),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), "PPM"),
    **{f".{name.lower()}": name for name in ("PNG", "GIF", "WEBP", "AVIF", "BMP")},
}
# Increased whenever the same image would give a different row.
NUMBERS = 4
# Images per thread task.
BLOCK = 32
# A larger table, of about a million images, is kept in a file while it is filled.
IN_MEMORY_BYTES = 2**30

_ROW = np.dtype(
    [
        ("stamp", np.uint64, 2),
        ("digest", np.uint64, 2),
        ("size", np.int64),
        ("width", np.int32),
        ("height", np.int32),
        ("format", np.uint8),
        ("wrong_suffix", bool),
        ("frames", np.int32),
        ("orientation", np.uint8),
        ("bright", np.float32),
        ("dark", np.float32),
        ("entropy", np.float32),
        ("sharpness", np.float32),
        ("saturation", np.float32),
        ("colours", np.int32),
        ("colour", np.float32, 3),
        ("thumbnail", np.uint8, (THUMBNAIL, THUMBNAIL)),
    ]
)


@dataclass(frozen=True)
class Looks:
    """The results of one pass over N images, one row each, in order.

    `reasons` maps the row of an image that could not be decoded to a sentence; its columns are zero. Columns may be
    mapped from a file, so they are read-only. `overlays` has images prepared for the search for marks, by row, if they
    were asked for and decoded in this pass.
    """

    digest: np.ndarray  # uint64 (N, 2), of the encoded bytes, or of the pixels of an array
    size: np.ndarray  # int64 (N,), bytes of what was read
    width: np.ndarray  # int32 (N,), px, upright and in full
    height: np.ndarray  # int32 (N,)
    format: np.ndarray  # uint8 (N,), a number into FORMATS
    wrong_suffix: np.ndarray  # bool (N,): the extension promises another format
    frames: np.ndarray  # int32 (N,): more than one in an animation or a file with several pages
    orientation: np.ndarray  # uint8 (N,), Exif's: 1 is upright
    bright: np.ndarray  # float32 (N,); for this and all below see `measuring.Measures`
    dark: np.ndarray  # float32 (N,)
    entropy: np.ndarray  # float32 (N,), bits
    sharpness: np.ndarray  # float32 (N,)
    saturation: np.ndarray  # float32 (N,)
    colours: np.ndarray  # int32 (N,)
    colour: np.ndarray  # float32 (N, 3)
    thumbnail: np.ndarray  # uint8 (N, THUMBNAIL, THUMBNAIL)
    reasons: dict[int, str]
    overlays: dict[int, Seen] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.size)

    @property
    def decoded(self) -> np.ndarray:
        """Which images could be decoded, bool (N,)."""
        decoded = np.ones(len(self), dtype=bool)
        decoded[list(self.reasons)] = False
        return decoded


def look(
    images: Images,
    cache: Path | None = None,
    reporter: Reporter = NOBODY,
    levels: Levels = (),
    overlaid: Collection[int] = (),
) -> Looks:
    """Look at all images except those whose results are in `cache`, a folder.

    Samples deeper than 8 bits are read by `levels`. `reporter` is told, in this thread, how many images are done. Rows
    in `overlaid` are also prepared for the search for marks, which would otherwise decode them once more.
    Results are kept even when the pass is interrupted; images that could not be decoded are not kept, so the next pass
    tries them again.
    """
    from threadpoolctl import threadpool_limits

    stamps = _stamps(images)
    path = None if cache is None else _path(cache, images, levels)
    kept = None if path is None else read_kept(path, reporter)
    before = np.empty(0, _ROW) if kept is None else np.frombuffer(kept.content, _ROW)
    if np.array_equal(before["stamp"], stamps):
        reporter.step("looking", len(before), len(before))
        return _looks(before, {})
    table = _empty_table(len(images), cache)
    missing = _fill(table, stamps, before)
    reasons: dict[int, str] = {}
    overlays: dict[int, Seen | None] = dict.fromkeys(overlaid)
    seen = len(table) - len(missing)
    pool = ThreadPoolExecutor(available_cores(), thread_name_prefix="look")
    try:
        # Matrix products are small here: one thread for each, not all threads for one.
        with threadpool_limits(1, user_api="blas"):
            blocks: list[Future[dict[int, str]]] = [
                pool.submit(_look_at, images, missing[start : start + BLOCK], stamps, table, levels, overlays)
                for start in range(0, len(missing), BLOCK)
            ]
            for done, block in enumerate(as_completed(blocks), start=1):
                reasons |= block.result()
                reporter.step("looking", seen + min(done * BLOCK, len(missing)), len(table))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if path is not None:
            known = table["stamp"].any(1)
            keep(path, (table if known.all() else table[known]).data, reporter)
    prepared = {row: each for row, each in overlays.items() if each is not None}
    return replace(_looks(table, dict(sorted(reasons.items()))), overlays=prepared)


def _empty_table(count: int, cache: Path | None) -> np.ndarray:
    """Create a table of zeros; a large one lies in an unnamed file if there is a cache folder."""
    if cache is None or count * _ROW.itemsize <= IN_MEMORY_BYTES:
        return np.zeros(count, _ROW)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache) as file:
            # Allocated now: if the disk filled up later, that would kill the process.
            os.posix_fallocate(file.fileno(), 0, count * _ROW.itemsize)
            return np.memmap(file, _ROW, "r+", shape=(count,))
    except (OSError, AttributeError):
        return np.zeros(count, _ROW)


def _looks(table: np.ndarray, reasons: dict[int, str]) -> Looks:
    columns: dict[str, Any] = {name: table[name] for name in _ROW.names or () if name != "stamp"}
    return Looks(**columns, reasons=reasons)


def _look_at(
    images: Images,
    rows: np.ndarray,
    stamps: np.ndarray,
    table: np.ndarray,
    levels: Levels,
    overlays: dict[int, Seen | None],
) -> dict[int, str]:
    """Fill in `rows` of `table`, and of `overlays` those in it; return the reasons for what cannot be decoded."""
    reasons: dict[int, str] = {}
    by_shape: dict[tuple[int, ...], list[tuple[int, np.ndarray, int]]] = {}
    for row in rows.tolist():
        try:
            pixels = _open(images, row, table[row], levels)
        except ImageError as error:
            reasons[row] = str(error)
            continue
        if row in overlays:
            overlays[row] = seen(pixels)
        small = reduce(pixels)
        by_shape.setdefault(small.shape, []).append((row, small, count_colours(pixels)))
    for alike in by_shape.values():
        numbers = [row for row, _, _ in alike]
        measures = measure(np.stack([small for _, small, _ in alike]), np.array([colours for _, _, colours in alike]))
        for name, values in vars(measures).items():
            table[name][numbers] = values
        # Written last, since a row with a stamp counts as complete.
        table["stamp"][numbers] = stamps[numbers]
    return reasons


def _open(images: Images, index: int, row: np.void, levels: Levels) -> np.ndarray:
    """Decode an image to uint8 (H, W, 3), a large JPEG reduced; what the file says goes into `row`."""
    try:
        data = images.read(index)
    except OSError as error:
        raise unreadable(error) from None
    if isinstance(data, bytes):
        pixels, facts = decoding.decode_with_facts(data, SIDE, levels)
    else:
        pixels = _to_rgb(data)
        facts = decoding.Facts("pixels", pixels.shape[1], pixels.shape[0], 1, 1, "RGB")
    promised = ENDINGS.get(PurePosixPath(images.key(index)).suffix.lower())
    row["digest"] = content_digest(data)
    row["size"] = len(data) if isinstance(data, bytes) else data.nbytes
    row["width"], row["height"] = facts.width, facts.height
    row["format"], row["frames"], row["orientation"] = FORMATS.index(facts.format), facts.frames, facts.orientation
    row["wrong_suffix"] = promised not in (None, facts.format)
    return pixels


def upright_rgb(data: bytes | np.ndarray, levels: Levels = ()) -> np.ndarray:
    """Decode an image as the audit sees it, uint8 (H, W, 3), a large JPEG reduced. Raises ImageError."""
    return decoding.decode_with_facts(data, SIDE, levels)[0] if isinstance(data, bytes) else _to_rgb(data)


def _to_rgb(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
        raise ImageError(
            "expected an image as a uint8 array of shape (H, W), (H, W, 1) or (H, W, 3), "
            f"got {pixels.dtype} of shape {pixels.shape}: convert it first"
        )
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def _stamps(images: Images) -> np.ndarray:
    """Return a digest of every image's stamp, uint64 (N, 2)."""
    digests = b"".join(
        hashlib.blake2b(stamp.encode("utf-8", "surrogatepass"), digest_size=16).digest() for stamp in images.stamps()
    )
    return np.frombuffer(digests, np.uint64).reshape(-1, 2)


def _fill(table: np.ndarray, stamps: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Copy known rows from `before` into `table`; return the rows that are missing there, int64."""
    if not len(before):
        return np.arange(len(table))
    order = np.argsort(before["stamp"][:, 0])
    place = order[np.searchsorted(before["stamp"][order, 0], stamps[:, 0]).clip(0, len(before) - 1)]
    known = (before["stamp"][place] == stamps).all(1)
    table[known] = before[place[known]]
    return np.flatnonzero(~known)


def _path(cache: Path, images: Images, levels: Levels) -> Path:
    """Return the dataset's cache file, named by the common prefix of all names, so that images may come and go."""
    ends = [images.name(0), images.name(len(images) - 1)] if len(images) else []
    # By character: `photos.zip[0]` and `photos.zip[9]` have no folder in common.
    named = f"{NUMBERS} {_ROW} {levels or ''} {os.path.commonprefix(ends)}"  # noqa: RUF071
    return cache / f"looks-{hashlib.blake2b(named.encode('utf-8', 'surrogatepass'), digest_size=10).hexdigest()}"
