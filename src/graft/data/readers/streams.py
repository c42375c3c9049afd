"""Parts of files, each plain or compressed as a whole by gzip, bzip2 or xz.

What is compressed can only be read forward, and is started again for what lies further back. So that threads which read
in nearly increasing order do not start it again and again, the latest blocks that were passed are kept.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from io import BufferedIOBase
from pathlib import Path
from threading import Lock
from typing import Any, cast

BLOCK = 256 * 2**10
# The images of a class are mostly packed together, in any order, and read in that of their names.
KEPT_BYTES = 128 * 2**20
_MOST_OPEN = 4
# Content of more than this and a hundred times its file is a bomb.
BOMB_BYTES, BOMB_RATIO = 2**30, 100
# What reading raises where a file is cut off or damaged.
DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError)

_OPENERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b\x08": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}


def open_content(path: Path) -> BufferedIOBase:
    """The content of a file without its compression, to be read forward. Raises OSError, later those in DAMAGE."""
    opener = _opener(path)
    return path.open("rb") if opener is None else cast(BufferedIOBase, opener(path))


def is_compressed(path: Path) -> bool:
    """Whether a file is compressed, by how it begins. Raises OSError."""
    return _opener(path) is not None


def bomb_limit(path: Path) -> int:
    """Bytes of content beyond which a compressed file is a bomb."""
    return max(BOMB_BYTES, BOMB_RATIO * path.stat().st_size)


class Contents:
    """The contents of some files, of which several threads read images."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self._compressed = [is_compressed(path) for path in paths]
        self._lock = Lock()
        self._blocks: OrderedDict[tuple[int, int], bytearray] = OrderedDict()
        # The last block read of each file that is open, and those that follow it.
        self._open: OrderedDict[int, tuple[int, Iterator[tuple[int, bytearray]]]] = OrderedDict()

    def read(self, file: int, start: int, size: int) -> bytes:
        """An image of `size` bytes. Raises OSError where they are too many or not all there."""
        from graft.images.decoding import MAX_BYTES

        if size > MAX_BYTES:
            raise OSError(f"expected an image of at most {MAX_BYTES:,} bytes, got {size:,}")
        if self._compressed[file]:
            first = start // BLOCK
            with self._lock:
                blocks = [self._block(file, number) for number in range(first, -(-(start + size) // BLOCK))]
            data = b"".join(blocks)[start - first * BLOCK :][:size]
        else:
            # Opened each time: there may be more files than may be open at once.
            with self.paths[file].open("rb") as opened:
                opened.seek(start)
                data = opened.read(size)
        if len(data) < size:
            raise OSError(f"expected {size:,} bytes, got {len(data):,}: {self.paths[file].name} is damaged or cut off")
        return data

    def notes(self, name: str, size: int) -> list[str]:
        """What a user should know where `size` bytes of content are too many to be kept."""
        if size <= KEPT_BYTES or not any(self._compressed):
            return []
        return [
            f"{name} is compressed, so that every image that is not near the one before is looked for from the start "
            "of its file: a zip or .tar of the same is faster by far"
        ]

    def _block(self, file: int, number: int) -> bytes | bytearray:
        """A block of a compressed file, empty behind its end."""
        if (file, number) not in self._blocks:
            last, blocks = self._open.pop(file, (number, iter(())))
            if last >= number:
                blocks = enumerate(_blocks_of(self.paths[file]))
            for last, block in blocks:
                self._blocks[file, last] = block
                if len(self._blocks) > KEPT_BYTES // BLOCK:
                    self._blocks.popitem(last=False)
                if last == number:
                    break
            self._open[file] = last, blocks
            if len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
        if (file, number) not in self._blocks:
            return b""
        self._blocks.move_to_end((file, number))
        return self._blocks[file, number]


def _blocks_of(path: Path) -> Iterator[bytearray]:
    """The content of a compressed file, the last block of which is shorter; up to where it is damaged."""
    with open_content(path) as content:
        filled = BLOCK
        while filled == BLOCK:
            block, filled = bytearray(BLOCK), 0
            with suppress(*DAMAGE), memoryview(block) as view:
                # Little at a time, as what comes with an error is lost.
                while count := content.readinto1(view[filled:]):
                    filled += count
            del block[filled:]
            yield block


def _opener(path: Path) -> Callable[[Path], Any] | None:
    with path.open("rb") as opened:
        beginning = opened.read(max(map(len, _OPENERS)))
    return next((opener for magic, opener in _OPENERS.items() if beginning.startswith(magic)), None)
