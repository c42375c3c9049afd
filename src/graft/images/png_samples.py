"""What Pillow does not provide for a PNG: its depth, its significant bits, and 16 bits of colour.

PNG specification, sections 8.2, 9, 11.2.2 and 11.3.3.4.
"""

import struct
import zlib

import numpy as np

from graft.images.containers import PNG, chunks
from graft.images.levels import Range, Samples

RGB, GREY_ALPHA, RGBA = 2, 4, 6
# The first row and column of each pass of an interlaced PNG, and the steps to the next ones: section 8.2.
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def is_deep(data: bytes) -> bool:
    return data.startswith(PNG) and data[24:25] == b"\x10"


def significant(data: bytes) -> Range | None:
    """Return the range of the bits that `sBIT` declares significant, None unless it declares 8 to 15 of the 16.

    The specification requires such samples to be scaled to all 16 bits, but cameras' values are as often stored
    unscaled: the range holds only if no sample exceeds it.
    """
    for start in chunks(data):
        name, length = data[start + 4 : start + 8], int.from_bytes(data[start : start + 4], "big")
        if name == b"sBIT" and 1 <= length <= 4:
            bits = max(data[start + 8 : start + 8 + length])
            return (0, 2.0**bits - 1) if 8 <= bits < 16 else None
        if name in (b"PLTE", b"IDAT"):
            break
    return None


def within(values: np.ndarray, stated: Range | None) -> Range | None:
    """Return the stated range if no value exceeds it, else None."""
    return stated if stated is not None and values.size and float(values.max()) <= stated[1] else None


def read_colours(data: bytes) -> Samples:
    """Read all 16 bits of a PNG in colour or with alpha, of which Pillow returns eight.

    Raises ValueError or a subclass, and zlib.error, for a damaged file.
    """
    width, height, _, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    bands = {RGB: 3, GREY_ALPHA: 2, RGBA: 4}[colour]
    size = 2 * bands  # bytes of a pixel
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    grids = [(-(-(height - top) // down), -(-(width - left) // right)) for top, left, down, right in passes]
    total = sum(rows * (1 + size * columns) for rows, columns in grids if columns > 0 and rows > 0)
    packed = [data[at + 8 : at + 8 + _length(data, at)] for at in chunks(data) if data[at + 4 : at + 8] == b"IDAT"]
    flat = np.frombuffer(zlib.decompressobj().decompress(b"".join(packed), total), np.uint8)
    values, at = np.empty((height, width, bands), np.uint16), 0
    for (top, left, down, right), (rows, columns) in zip(passes, grids, strict=True):
        if rows > 0 and columns > 0:
            end = at + rows * (1 + size * columns)
            lines = flat[at:end].reshape(rows, 1 + size * columns)
            pixels = _unfiltered(lines[:, 1:].reshape(rows, columns, size), lines[:, 0])
            values[top::down, left::right] = pixels.view(">u2")
            at = end
    alpha = (values[:, :, -1] >> 8).astype(np.uint8) if bands in (2, 4) else None
    shown = values[:, :, :3] if bands >= 3 else values[:, :, 0]
    return Samples(shown, None, within(shown, significant(data)), alpha)


def _length(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def _unfiltered(filtered: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Undo the filter of each row: bytes (rows, columns, bytes of a pixel), section 9.

    A pixel depends on those to its left, above, and above to the left, so the pixels of a diagonal are independent.
    """
    rows, columns, _ = filtered.shape
    if kinds.max(initial=0) > 4:
        raise ValueError("it has a filter of an unknown kind")
    # Padded with a row and a column of zeros in front.
    found = np.zeros((rows + 1, columns + 1, filtered.shape[2]), np.uint8)
    for diagonal in range(rows + columns - 1):
        row = np.arange(max(0, diagonal - columns + 1), min(rows, diagonal + 1))
        column, kind = diagonal - row, kinds[row, None]
        left = found[row + 1, column].astype(np.int16)
        above = found[row, column + 1].astype(np.int16)
        corner = found[row, column].astype(np.int16)
        to_left, to_above, to_corner = abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)
        paeth = np.where(
            (to_left <= to_above) & (to_left <= to_corner), left, np.where(to_above <= to_corner, above, corner)
        )
        guess = np.select([kind == 1, kind == 2, kind == 3, kind == 4], [left, above, (left + above) >> 1, paeth], 0)
        found[row + 1, column + 1] = (filtered[row, column] + guess).astype(np.uint8)
    return np.ascontiguousarray(found[1:, 1:])
