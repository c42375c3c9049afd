"""The samples of a TIFF at their full depth, where Pillow has no mode for them or keeps only their high byte.

TIFF 6.0, sections 8, 14, 18 and 19, and Adobe's technical note 3 on floats. Compressed strips and tiles are stacked in
a plain 8-bit TIFF, which libtiff can decompress whatever the samples are.
"""

import io
import struct
from dataclasses import dataclass

import numpy as np
from PIL import TiffImagePlugin

from graft.errors import ImageError
from graft.images.directories import (
    BITS,
    HEIGHT,
    PLANES,
    ROWS,
    SAMPLES,
    STRIPS,
    TILE_HEIGHT,
    TILE_WIDTH,
    TILES,
    WIDTH,
    Directories,
    DirectoryEntry,
)
from graft.images.levels import Range, Samples, to_bytes

COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIP_BYTES, PREDICTOR, TILE_SIZES = 259, 262, 266, 279, 317, 325
EXTRA, SAMPLE_FORMAT, LEAST, MOST = 338, 339, 340, 341
PREMULTIPLIED, STRAIGHT = 1, 2  # kinds of opacity in EXTRA, called associated and unassociated alpha there

# Limits in bytes of samples: for a whole image as numbers, and for the pieces that are unpacked at a time.
MOST_BYTES, CHUNK_BYTES, MOST_CHUNK = 400 * 2**20, 8 * 2**20, 200 * 2**20
NONE, UNPACKED_BY_LIBTIFF = 1, (5, 8, 32946, 32773, 34925, 50000)  # LZW, deflate twice, PackBits, LZMA, Zstandard
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
_UNSIGNED, _SIGNED, _FLOAT, _UNDEFINED = 1, 2, 3, 4


@dataclass(frozen=True)
class Form:
    """How a TIFF stores the samples of its first image."""

    width: int
    height: int
    bands: int
    bits: int
    kind: str  # NumPy's kind: u, i or f
    order: str
    compression: int
    photometric: int
    predictor: int
    separate: bool  # each band is stored by itself
    extra: tuple[int, ...]
    stated: Range | None
    tiled: bool
    piece_width: int
    piece_height: int
    offsets: np.ndarray
    counts: np.ndarray

    @property
    def mode(self) -> str:
        """The mode in `Facts`, for example "3 x float32"."""
        name = {"u": "uint", "i": "int", "f": "float"}[self.kind] + str(self.bits)
        return name if self.bands == 1 else f"{self.bands} x {name}"


def read_form(data: bytes) -> Form | None:
    """Return how a TIFF stores its samples; None if Pillow reads it as well or better. Raises ValueError if damaged."""
    directories = Directories(data)
    entries = directories.read(directories.first)

    def number(tag: int, default: int) -> int:
        return directories.number(entries, tag, default)

    bands = number(SAMPLES, 1)
    bits, formats = _all(directories, entries, BITS, (1,)), _all(directories, entries, SAMPLE_FORMAT, (_UNSIGNED,))
    photometric, compression = number(PHOTOMETRIC, BLACK_IS_ZERO), number(COMPRESSION, NONE)
    several = bands >= 5 or (bands >= 3 and photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO))
    deep = bits[0] > 8 or bits[0] not in (1, 2, 4, 8) or formats[0] in (_SIGNED, _FLOAT) or several
    known = compression == NONE or compression in UNPACKED_BY_LIBTIFF
    if not deep or not known or photometric > RGB or len(set(bits)) > 1 or number(FILL_ORDER, 1) != 1:
        return None
    kind = {_UNSIGNED: "u", _SIGNED: "i", _FLOAT: "f", _UNDEFINED: "u"}.get(int(formats[0]))
    if kind is None or len(set(formats)) > 1 or not _is_readable(int(bits[0]), kind):
        return None
    width, height = number(WIDTH, 0), number(HEIGHT, 0)
    tiled = TILES in entries
    across, down = (TILE_WIDTH, TILE_HEIGHT) if tiled else (WIDTH, ROWS)
    counts = _all(directories, entries, TILE_SIZES if tiled else STRIP_BYTES, ())
    offsets = _all(directories, entries, TILES if tiled else STRIPS, ())
    if not len(counts) and len(offsets) == 1:
        counts = np.array([len(data)])
    piece_height = number(down, height)
    return Form(
        width,
        height,
        bands,
        int(bits[0]),
        kind,
        directories.order,
        compression,
        photometric,
        number(PREDICTOR, 1),
        number(PLANES, 1) == 2 and bands > 1,
        tuple(int(value) for value in _all(directories, entries, EXTRA, ())),
        _stated(directories, entries),
        tiled,
        number(across, 0),
        piece_height if tiled else min(piece_height, height),
        offsets,
        counts,
    )


def _is_readable(bits: int, kind: str) -> bool:
    return bits in (16, 32, 64) if kind == "f" else bits in (8, 16, 32, 64) or (kind == "u" and bits < 16)


def _all(
    directories: Directories, entries: dict[int, DirectoryEntry], tag: int, default: tuple[int, ...]
) -> np.ndarray:
    found = directories.values(entries, tag)
    return found if len(found) else np.array(default, dtype=np.int64)


def _stated(directories: Directories, entries: dict[int, DirectoryEntry]) -> Range | None:
    least, most = (directories.values(entries, tag).astype(float) for tag in (LEAST, MOST))
    if not len(least) or not len(most) or not np.isfinite([*least, *most]).all() or least.min() >= most.max():
        return None
    return float(least.min()), float(most.max())


def read_samples(data: bytes, form: Form) -> Samples:
    """Read the samples of the first image, colours first.

    Raises ImageError for bands that are neither grey nor RGB and for too many bytes, ValueError and OSError for a
    damaged file.
    """
    colours, opacity = _colours(form)
    kept = [*range(colours), *([opacity] if opacity is not None else [])]
    dtype = np.dtype(f"{form.kind}{_bytes_kept(form)}")
    if form.width * form.height * len(kept) * dtype.itemsize > MOST_BYTES:
        raise ImageError(
            f"expected samples of at most {MOST_BYTES:,} bytes, got {form.width:,} x {form.height:,} of {form.mode}: "
            "scale it down or leave it out"
        )
    values = np.empty((form.height, form.width, len(kept)), dtype)
    if form.separate:
        pieces = -(-len(form.offsets) // form.bands)
        for place, band in enumerate(kept):
            _fill(values[:, :, place : place + 1], data, form, range(band * pieces, (band + 1) * pieces), 1, [0])
    else:
        _fill(values, data, form, range(len(form.offsets)), form.bands, kept)
    shown = values[:, :, 0] if colours == 1 else values[:, :, :3]
    certain = (0.0, 2.0**form.bits - 1) if form.kind == "u" and form.bits < 16 else None
    inverted = form.photometric == WHITE_IS_ZERO
    if opacity is None:
        return Samples(shown, certain, form.stated, None, inverted)
    alpha = _opacity(values[:, :, -1], certain)
    return Samples(shown, certain, form.stated, alpha, inverted, form.extra[0] == PREMULTIPLIED)


def _opacity(alpha: np.ndarray, certain: Range | None) -> np.ndarray:
    opaque = certain[1] if certain else 1.0 if alpha.dtype.kind == "f" else float(np.iinfo(alpha.dtype).max)
    return to_bytes(alpha, 0, opaque)


def _bytes_kept(form: Form) -> int:
    if form.kind == "f":
        return 4
    return 1 if form.bits <= 8 else 2 if form.bits <= 16 else min(4, form.bits // 8)


def _colours(form: Form) -> tuple[int, int | None]:
    """Return how many bands are colours, and which one, if any, is opacity."""
    extra = form.extra[0] if form.extra else 0
    if form.photometric == RGB and form.bands >= 3:
        return 3, 3 if form.bands == 4 and extra in (PREMULTIPLIED, STRAIGHT) else None
    if form.bands == 1 or (form.bands == 2 and extra in (PREMULTIPLIED, STRAIGHT)):
        return 1, 1 if form.bands == 2 else None
    if form.bands == 3:
        return 3, None
    raise ImageError(
        f"expected grey or RGB, got a TIFF of {form.bands} bands that does not say which are red, green and blue: "
        "save the three to look at as RGB"
    )


def _fill(values: np.ndarray, data: bytes, form: Form, pieces: range, bands: int, kept: list[int]) -> None:
    """Copy the samples of some strips or tiles into place: `values` is (H, W, len(kept))."""
    columns, rows = form.piece_width, form.piece_height
    if not columns or not rows:
        raise ValueError("its strips or tiles have no size")
    row_bytes = -(-columns * bands * form.bits // 8)
    across = -(-form.width // columns)
    down = -(-form.height // rows)
    if len(pieces) < across * down or len(form.counts) < pieces.stop or len(form.offsets) < pieces.stop:
        raise ValueError(f"it has {len(pieces)} strips or tiles, where {across * down} are needed")
    if row_bytes * rows > MOST_CHUNK:
        raise ImageError(
            f"expected strips or tiles of at most {MOST_CHUNK:,} bytes, got {row_bytes * rows:,}: "
            "save it in smaller ones"
        )
    together = max(1, CHUNK_BYTES // (row_bytes * rows))
    for first in range(0, across * down, together):
        chosen = range(first, min(first + together, across * down))
        heights = [rows if form.tiled else min(rows, form.height - number * rows) for number in chosen]
        packed = [_piece(data, form, pieces[number]) for number in chosen]
        flat = _unpack(packed, heights, rows, row_bytes, form.compression)
        samples = _as_samples(flat, form, columns, bands)[:, :, kept]
        start = 0
        for number, height in zip(chosen, heights, strict=True):
            top, left = number // across * rows, number % across * columns
            place = values[top : top + rows, left : left + columns]
            place[:] = samples[start : start + len(place), : place.shape[1]]
            start += height


def _piece(data: bytes, form: Form, number: int) -> bytes:
    start, count = int(form.offsets[number]), int(form.counts[number])
    if start < 0 or start > len(data) or (start + count > len(data) and form.compression != NONE):
        raise ValueError(f"it ends before byte {start + count:,}, to which it refers")
    return data[start : start + count]


def _unpack(packed: list[bytes], heights: list[int], rows: int, row_bytes: int, compression: int) -> np.ndarray:
    """Unpack strips or tiles and stack them: uint8 (rows, row_bytes)."""
    if compression == NONE:
        whole = [piece[: height * row_bytes] for piece, height in zip(packed, heights, strict=True)]
        if any(len(piece) < height * row_bytes for piece, height in zip(whole, heights, strict=True)):
            raise ValueError("it ends too early")
        return np.frombuffer(b"".join(whole), np.uint8).reshape(-1, row_bytes)
    image = TiffImagePlugin.TiffImageFile(
        io.BytesIO(_as_bytes_tiff(packed, sum(heights), rows, row_bytes, compression))
    )
    image.load()
    return np.asarray(image)


def _as_bytes_tiff(packed: list[bytes], height: int, rows: int, row_bytes: int, compression: int) -> bytes:
    """Build a TIFF with one 8-bit band from these strips."""
    body = b"".join(packed)
    sizes = np.array([len(piece) for piece in packed], "<u4")
    starts = 8 + np.cumsum([0, *sizes[:-1]]).astype("<u4")
    at, count = 8 + len(body) + len(body) % 2, len(packed)
    values = [(256, row_bytes), (257, height), (258, 8), (259, compression), (262, 1), (273, 0), (277, 1), (278, rows)]
    lists = at + 2 + 12 * 9 + 4
    entries = b""
    for tag, value in [*values, (279, 0)]:
        each = starts if tag == 273 else sizes if tag == 279 else None
        if each is None:
            entries += struct.pack("<HHII", tag, 4, 1, value)
        elif count == 1:
            entries += struct.pack("<HHII", tag, 4, 1, int(each[0]))
        else:
            entries += struct.pack("<HHII", tag, 4, count, lists + (4 * count if tag == 279 else 0))
    header = b"II*\0" + struct.pack("<I", at)
    behind = starts.tobytes() + sizes.tobytes()
    return header + body.ljust(at - 8, b"\0") + struct.pack("<H", 9) + entries + bytes(4) + behind


def _as_samples(flat: np.ndarray, form: Form, columns: int, bands: int) -> np.ndarray:
    """Convert bytes, uint8 (rows, bytes of a row), to numbers (rows, columns, bands), and undo the predictor."""
    rows, size = len(flat), form.bits // 8
    if form.bits % 8:
        bits = np.unpackbits(flat, axis=1)[:, : columns * bands * form.bits].reshape(rows, -1, form.bits)
        weights = (1 << np.arange(form.bits)[::-1]).astype(np.uint16)
        values = (bits @ weights).astype(np.uint8 if form.bits < 8 else np.uint16)
        return values.reshape(rows, columns, bands)
    if form.predictor == 3 and form.kind == "f":
        summed = np.cumsum(flat.reshape(rows, -1, bands), axis=1, dtype=np.uint8).reshape(rows, size, columns * bands)
        values = np.ascontiguousarray(summed.transpose(0, 2, 1)).view(f">f{size}").reshape(rows, columns, bands)
    else:
        unsigned = np.ascontiguousarray(flat).view(f"{form.order}u{size}").reshape(rows, columns, bands)
        if form.predictor == 2:
            unsigned = np.cumsum(unsigned, axis=1, dtype=f"u{size}")
        values = unsigned.view(unsigned.dtype.str.replace("u", form.kind))
    if size == 8 and form.kind != "f":
        return np.clip(values, *((0, 2**32 - 1) if form.kind == "u" else (-(2**31), 2**31 - 1)))
    with np.errstate(over="ignore"):
        return values.astype(np.dtype(f"{form.kind}{_bytes_kept(form)}"))
