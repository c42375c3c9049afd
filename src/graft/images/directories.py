"""Image file directories: the tables of entries that describe a TIFF and make up an Exif block.

TIFF 6.0 section 2, BigTIFF (version 43), Exif 2.32 section 4.6. An entry is a tag, a kind of value, a count, and the
values themselves or, if they do not fit, their offset in the file.
"""

import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from graft.errors import ImageError

WIDTH, HEIGHT, BITS, STRIPS, ORIENTATION, SAMPLES, ROWS, PLANES = 256, 257, 258, 273, 274, 277, 278, 284
TILE_WIDTH, TILE_HEIGHT, TILES = 322, 323, 324
EXIF, GPS, INTEROPERABILITY = 34665, 34853, 40965
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}  # bytes
NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # kinds of whole numbers, as `struct` names them
OTHER_NUMBERS = {6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 17: "q"}
TEXTS = (1, 2, 6, 7)  # kinds that Pillow keeps as bytes; for the others it makes a Python object per value
FIRST_PRIVATE = 32768  # decoding ignores tags from here on, so their values stay bytes

# Far beyond the files of any camera or scanner, and still read in an instant.
MOST_ENTRIES, MOST_PAGES, MOST_VALUES = 4096, 65_536, 2**20
# Values may overlap or misstate their length by this many bytes in all.
SLACK_BYTES = 64 * 2**20
TILE_BYTES = 256 * 2**20


def too_costly(found: str) -> ImageError:
    """Make the error for a file that would take far more time or memory than its pixels are worth."""
    return ImageError(
        f"expected an image file that costs no more than its pixels do, got {found}: save it again or leave it out"
    )


@dataclass(frozen=True)
class DirectoryEntry:
    """Kind and count of the values of a tag, and the position in the file of the values or of their offset."""

    kind: int
    count: int
    at: int


class Directories:
    """The directories of a TIFF or an Exif block. Raises ValueError for anything else."""

    def __init__(self, data: bytes) -> None:
        order = {b"II": "<", b"MM": ">"}.get(data[:2])
        version = int.from_bytes(data[2:4], "little" if order == "<" else "big")
        if order is None or version not in (42, 43):
            raise ValueError("no directory")
        self.data, self.order, self.big = data, order, version == 43
        self.first = self.unpack("Q", 8) if self.big else self.unpack("I", 4)

    def unpack(self, form: str, at: int) -> int:
        """Read one number. Raises ValueError beyond the end of the file."""
        if at + struct.calcsize(form) > len(self.data):
            raise ValueError(f"it ends before byte {at:,}, to which it refers")
        return int(struct.unpack_from(self.order + form, self.data, at)[0])

    def follow(self, at: int) -> int:
        """Return the position of the directory after the one at `at`, zero for none."""
        count = self.unpack("Q" if self.big else "H", at)
        return self.unpack("Q", at + 8 + 20 * count) if self.big else self.unpack("I", at + 2 + 12 * count)

    def read(self, at: int) -> dict[int, DirectoryEntry]:
        """Read the entries of the directory at `at`, up to the end of the file; the first of equal tags counts.

        Raises ValueError if there is no directory, and ImageError for one that is far too long.
        """
        count = self.unpack("Q" if self.big else "H", at)
        if count > MOST_ENTRIES:
            raise too_costly(f"{count:,} entries in one directory")
        start, step, form = (at + 8, 20, "HHQ") if self.big else (at + 2, 12, "HHI")
        entries: dict[int, DirectoryEntry] = {}
        for place in range(start, min(start + count * step, len(self.data) - step + 1), step):
            tag, kind, values = struct.unpack_from(self.order + form, self.data, place)
            entries.setdefault(tag, DirectoryEntry(kind, values, place + struct.calcsize("=" + form)))
        return entries

    def number(self, entries: Mapping[int, DirectoryEntry], tag: int, default: int) -> int:
        """Return the first value of a tag if it is present and a whole number, else `default`."""
        entry = entries.get(tag)
        if entry is None or entry.kind not in NUMBERS or not entry.count:
            return default
        elsewhere = entry.count * SIZES[entry.kind] > (8 if self.big else 4)
        try:
            at = self.unpack("Q" if self.big else "I", entry.at) if elsewhere else entry.at
            return self.unpack(NUMBERS[entry.kind], at)
        except ValueError:
            return default

    def values(self, entries: Mapping[int, DirectoryEntry], tag: int) -> np.ndarray:
        """Return all values of a tag, (n,), empty if it is missing or not numeric. Raises ValueError beyond the end."""
        entry = entries.get(tag)
        form = None if entry is None else (NUMBERS | OTHER_NUMBERS).get(entry.kind)
        if entry is None or form is None or not entry.count:
            return np.empty(0)
        size = entry.count * SIZES[entry.kind]
        at = self.unpack("Q" if self.big else "I", entry.at) if size > (8 if self.big else 4) else entry.at
        if at + size > len(self.data):
            raise ValueError(f"it ends before byte {at + size:,}, to which it refers")
        return np.frombuffer(self.data, self.order + form, entry.count, at)


def read_orientation(data: bytes) -> int:
    """Read the orientation, 1 to 8, from a TIFF or an Exif block; 1 (upright) if absent or damaged."""
    try:
        directories = Directories(data)
        value = directories.number(directories.read(directories.first), ORIENTATION, 1)
    except (ValueError, ImageError):
        return 1
    return value if 1 <= value <= 8 else 1


def count_pages(data: bytes) -> int:
    """Count the linked directories of a TIFF, each once, as far as they can be read."""
    seen: set[int] = set()
    with suppress(ValueError):
        directories = Directories(data)
        at = directories.first
        while at and at not in seen and len(seen) < MOST_PAGES:
            seen.add(at)
            at = directories.follow(at)
    return max(1, len(seen))


def check_tiff(data: bytes) -> None:
    """Raise ImageError for a TIFF that would cost far more time or memory than its pixels justify."""
    try:
        directories = Directories(data)
        first = directories.read(directories.first)
    except ValueError:
        # The decoder reports the damage.
        return
    total = 0
    for entries in (first, *_below(directories, first)):
        for tag, entry in entries.items():
            total += min(entry.count * SIZES.get(entry.kind, 0), len(data))
            if tag < FIRST_PRIVATE and entry.kind not in TEXTS and entry.count > MOST_VALUES:
                raise too_costly(f"{entry.count:,} values under tag {tag}")
    if total > len(data) + SLACK_BYTES:
        raise too_costly(f"{total:,} bytes of values in a file of {len(data):,}")
    _check_pieces(directories, first)


def _check_pieces(directories: Directories, entries: Mapping[int, DirectoryEntry]) -> None:
    """Raise ImageError for tiles too large for memory, and for more tiles or strips than cover the image."""

    def number(tag: int, default: int) -> int:
        return directories.number(entries, tag, default)

    width, height, samples = number(WIDTH, 0), number(HEIGHT, 0), number(SAMPLES, 1)
    columns, rows, pieces = width, number(ROWS, height) or height, entries.get(STRIPS)
    if pieces is None or TILES in entries:
        columns, rows, pieces = number(TILE_WIDTH, 0), number(TILE_HEIGHT, 0), entries.get(TILES)
        size = columns * rows * samples * number(BITS, 1) // 8
        if size > TILE_BYTES:
            raise too_costly(f"tiles of {size:,} bytes, where {TILE_BYTES:,} are allowed")
    planes = samples if number(PLANES, 1) == 2 else 1
    covered = (pieces.count if pieces else 0) * max(1, min(columns, width)) * max(1, min(rows, height))
    # Pieces at the edge extend beyond it, by less than the size of the image in each direction.
    if covered > 4 * width * height * planes:
        raise too_costly(f"{covered:,} pixels in the pieces of an image of {width:,} x {height:,}")


def _below(directories: Directories, entries: Mapping[int, DirectoryEntry]) -> Iterator[Mapping[int, DirectoryEntry]]:
    """Yield the Exif directories that a directory links to, which Pillow reads as well."""
    for tags in ((EXIF,), (GPS,), (EXIF, INTEROPERABILITY)):
        reached = entries
        for tag in tags:
            at = directories.number(reached, tag, 0)
            reached = directories.read(at) if 0 < at < len(directories.data) - 8 else {}
        yield reached
