"""The layout of image files, as far as it can be read without decoding a pixel.

A file of a few bytes can demand hours or gigabytes. Its demands are added up here first, in walks through the file that
are themselves bounded.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

from graft.errors import ImageError
from graft.images.directories import check_tiff, count_pages, too_costly

MOST_PIECES = 65_536  # segments, chunks, blocks or boxes: twice as many as the largest PNG has in chunks of 8 KiB
MOST_SCANNED = 2_000_000_000  # pixels of a JPEG times passes over them; half as many are decoded within a second
# Some of Pillow's decoders are written in Python and take about a microsecond per pixel, or per byte of the file.
SLOW_PIXELS, SLOW_BYTES = 1_000_000, 8_000_000

JPEG, END_OF_JPEG = b"\xff\xd8\xff", b"\xff\xd9"
_GIF = (b"GIF87a", b"GIF89a")
PNG = b"\x89PNG\r\n\x1a\n"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG2000 = b"\0\0\0\x0cjP  \r\n\x87\n"
EXIF = b"Exif\0\0"

_FRAMES = tuple(marker for marker in range(0xC0, 0xD0) if marker not in (0xC4, 0xC8, 0xCC))
_FILL = re.compile(rb"\xff+")
_MARKER = re.compile(rb"\xff[^\0\xd0-\xd7\xff]")  # neither an escaped FF in the pixel data, nor a restart
_BITMAP_HEADERS = [size.to_bytes(4, "little") for size in (40, 52, 56, 64, 108, 124)]
_PPM, _PPM_HEADER = re.compile(rb"P[0-6fy]"), 4096
_PPM_START = re.compile(rb"P[1-6](\s+|#[^\n]*\n)+\d+")

Piece = TypeVar("Piece")


def starts_as_image(data: bytes) -> bool:
    """Return whether a file starts as one in a format that needs no optional library: JPEG, PNG, GIF, TIFF, …"""
    if data.startswith((JPEG, PNG, *_GIF, *TIFF, _JPEG2000)):
        return True
    if data.startswith(b"RIFF"):
        return data.startswith(b"WEBP", 8)
    bitmap = data.startswith(b"BM") and data[14:18] in _BITMAP_HEADERS
    return bitmap or data[4:12] in (b"ftypavif", b"ftypavis") or _PPM_START.match(data) is not None


def check_layout(data: bytes) -> None:
    """Raise ImageError for a file that would cost far more than its pixels justify."""
    if data.startswith(TIFF):
        check_tiff(data)
    for signature, pieces in ((JPEG, _segments), (PNG, chunks), (_GIF, _before_frame), (_JPEG2000, _boxes)):
        if data.startswith(signature):
            # The decoder reports a file that ends too early.
            with suppress(IndexError, struct.error):
                for _ in _bounded(pieces(data)):
                    pass
    slow = _pixels_decoded_in_python(data)
    if slow > SLOW_PIXELS or (slow and len(data) > SLOW_BYTES):
        raise ImageError(
            f"expected at most {SLOW_PIXELS:,} pixels and {SLOW_BYTES:,} bytes in a kind of file that is slow to "
            f"decode, got {slow:,} and {len(data):,}: save it as PNG"
        )


def count_frames(data: bytes) -> int:
    """Count the frames of a GIF or pages of a TIFF, as far as the file can be followed; 1 for any other file."""
    if data.startswith(TIFF):
        return count_pages(data)
    frames = 0
    if data.startswith(_GIF):
        with suppress(IndexError, struct.error, ImageError):
            for kind, _ in _bounded(_blocks(data)):
                frames += kind == b","
    return max(1, frames)


def reserved_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the widths and heights that Pillow allocates, or decodes, as soon as it opens the file."""
    if data.startswith(_GIF):  # the first frame may extend beyond the screen size in the header
        width, height = struct.unpack_from("<HH", data, 6)
        yield width, height
        for kind, position in _before_frame(data):
            if kind == b",":
                left, top, columns, rows = struct.unpack_from("<4H", data, position + 1)
                yield max(width, left + columns), max(height, top + rows)
    if data.startswith(b"RIFF") and data.startswith(b"WEBPVP8X", 8):  # the canvas
        yield 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")


def find_exif(jpeg: bytes) -> bytes:
    """Return the Exif block of a JPEG, empty if it has none."""
    with suppress(ImageError):
        for marker, start, end in _bounded(_segments(jpeg)):
            if marker == 0xE1 and jpeg.startswith(EXIF, start):
                return jpeg[start + len(EXIF) : end]
    return b""


def check_scans(jpeg: bytes, width: int, height: int) -> None:
    """Raise ImageError for a JPEG with so many passes over its pixels that decoding takes seconds."""
    most = max(1, MOST_SCANNED // (width * height))
    # Two cheap checks first: most JPEGs have one pass, and few of the others have too many.
    if not _has_more_scans(jpeg) or jpeg.count(b"\xff\xda") <= most:
        return
    scans, position, markers = 0, 2, 0
    while (found := _MARKER.search(jpeg, position)) and jpeg[found.start() + 1] != 0xD9:
        scans += jpeg[found.start() + 1] == 0xDA
        markers += 1
        if scans > most or markers > MOST_PIECES:
            raise too_costly(f"more than {most} passes over {width:,} x {height:,} pixels")
        position = found.end() + int.from_bytes(jpeg[found.end() : found.end() + 2], "big")


def frame_of_jpeg(jpeg: bytes) -> tuple[int, int] | None:
    """Return the marker of the coding process, C0 to CF, and the bits per sample; None for a JPEG without a frame."""
    with suppress(ImageError, IndexError):
        for marker, start, _ in _bounded(_segments(jpeg)):
            if marker in _FRAMES:
                return marker, jpeg[start]
    return None


def has_all_scans(jpeg: bytes) -> bool:
    """Return whether the scans of a JPEG, if complete, send every bit of every coefficient: ITU T.81, annex G."""
    missing: dict[int, list[int]] = {}
    position = 2
    for _ in range(MOST_PIECES):
        found = _MARKER.search(jpeg, position)
        if found is None:
            break
        marker, start = jpeg[found.start() + 1], found.end() + 2
        body = jpeg[start : found.end() + int.from_bytes(jpeg[found.end() : start], "big")]
        if marker in _FRAMES and len(body) >= 6:
            missing = {number: [1] * 64 for number in body[6::3]}
        if marker == 0xDA and len(body) >= 4 and len(body) == 4 + 2 * body[0]:
            first, last, bits = body[-3:]
            for number in body[1 : 1 + 2 * body[0] : 2]:
                missing.setdefault(number, [1] * 64)[first : last + 1] = [bits & 15] * (min(last, 63) + 1 - first)
        position = start + len(body)
    return bool(missing) and not any(map(any, missing.values()))


def has_one_scan(jpeg: bytes) -> bool:
    """Return whether a JPEG is baseline with all colours in one scan, and so decodes a few rows at a time."""
    with suppress(ImageError, IndexError):
        return not _has_more_scans(jpeg)
    return False


def _has_more_scans(jpeg: bytes) -> bool:
    """Return whether more passes may follow the first: not in a baseline JPEG whose first pass has all colours."""
    colours = 0
    for marker, start, _ in _bounded(_segments(jpeg)):
        if marker in (0xC0, 0xC1):
            colours = jpeg[start + 5]
        elif marker == 0xDA:
            return jpeg[start] != colours
    return True


def _bounded(pieces: Iterable[Piece]) -> Iterator[Piece]:
    for number, piece in enumerate(pieces):
        if number > MOST_PIECES:
            raise too_costly(f"more than {MOST_PIECES:,} pieces")
        yield piece


def _segments(jpeg: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of the content of each JPEG segment before the pixels: ITU T.81, annex B.

    A segment is FF, a marker and a two-byte length that includes itself; more FF may precede it.
    """
    position = 2
    while (fill := _FILL.match(jpeg, position)) and fill.end() + 3 <= len(jpeg):
        position = fill.end()
        marker, length = jpeg[position], int.from_bytes(jpeg[position + 1 : position + 3], "big")
        yield marker, position + 3, position + 1 + length
        if marker == 0xDA:
            break
        position += 1 + length


def chunks(png: bytes) -> Iterator[int]:
    """Yield the start of each chunk of a PNG: length, name, content and checksum."""
    position = len(PNG)
    while position + 12 <= len(png):
        yield position
        position += 12 + int.from_bytes(png[position : position + 4], "big")


def _boxes(jpeg2000: bytes) -> Iterator[int]:
    """Yield the start of each JP2 box: ITU T.800, annex I. Length 0 means to the end, 1 that a long length follows."""
    position = 0
    while position + 8 <= len(jpeg2000):
        yield position
        length = int.from_bytes(jpeg2000[position : position + 4], "big")
        if length == 1:
            length = int.from_bytes(jpeg2000[position + 8 : position + 16], "big")
        if length < 8:
            break
        position += length


def _blocks(gif: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield kind and position of each block of a GIF (GIF89a, appendix A): "!", ",", or empty for data inside these.

    Raises IndexError at the end of a truncated file.
    """
    flags = gif[10]
    position = 13 + (6 << (flags & 7) if flags & 0x80 else 0)
    while (kind := gif[position : position + 1]) in (b"!", b","):
        yield kind, position
        if kind == b"!":
            position += 2
        else:
            flags = gif[position + 9]
            position += 11 + (6 << (flags & 7) if flags & 0x80 else 0)
        # Data blocks state their length; one of length zero ends the sequence.
        while length := gif[position]:
            yield b"", position
            position += 1 + length
        position += 1


def _before_frame(gif: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield the blocks of a GIF up to and including its first frame."""
    for kind, position in _blocks(gif):
        yield kind, position
        if kind == b",":
            break


def _pixels_decoded_in_python(data: bytes) -> int:
    """Count the pixels of a run-length encoded BMP, or of a PPM that is not plain bytes; 0 for any other file."""
    if data.startswith(b"BM") and data[14:18] in _BITMAP_HEADERS:
        width, height, _, compression = struct.unpack("<iiII", data[18:34].ljust(16, b"\0"))
        return abs(width * height) if compression in (1, 2) else 0
    if not _PPM.match(data):
        return 0
    words = re.sub(rb"#[^\r\n]*", b" ", data[:_PPM_HEADER]).split(maxsplit=4)
    plain = words[0] in (b"P1", b"P2", b"P3")
    if words[0] in (b"P4", b"Pf") or (words[3:4] == [b"255"] and not plain):
        return 0
    # Pillow reads an overlong header, or comments among the numbers, a byte at a time or worse.
    hostile = len(words) < 4 or (plain and data.count(b"#") > 100)
    try:
        return 2 * SLOW_PIXELS if hostile else int(words[1]) * int(words[2])
    except ValueError:
        return 0
