"""Bytes at an offset of a file, whether it is plain or compressed as a whole by gzip, bzip2 or xz.

What is compressed can only be read forward. So that threads which read in nearly increasing order do not start it again
and again, the latest blocks that were passed are kept, in bounded memory. What lies further back is read again from the
last mark before it: of gzip the state of the decoder is noted every few megabytes, of the others only the start.
"""

from __future__ import annotations

import bz2
import lzma
import sys
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

BLOCK = 256 * 2**10
KEPT_BYTES = 64 * 2**20
_INPUT = 64 * 2**10
# A mark of gzip takes 40 KiB, its window and tables; where there would be more of them they are set further apart.
_BETWEEN_MARKS = 4 * 2**20
_MOST_MARKS = 512
# xz states how much it needs, up to 4 GiB; its highest preset takes 65 MiB.
_MOST_XZ_MEMORY = 256 * 2**20
_MOST_DECODERS = 4

# Content of more than this and a hundred times its file is a bomb.
BOMB_BYTES, BOMB_RATIO = 2**30, 100

_DECODERS: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b\x08": lambda: zlib.decompressobj(31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": lambda: lzma.LZMADecompressor(memlimit=_MOST_XZ_MEMORY),
}


class PlainFile:
    """A file as it is. It is opened for each read: there may be more shards than files that may be open."""

    damage = ""
    most = sys.maxsize

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size

    def read(self, start: int, size: int) -> bytes:
        """The bytes from `start` on, fewer than `size` at the end of the file. Raises OSError."""
        with self.path.open("rb") as opened:
            opened.seek(start)
            return opened.read(size)

    def reaches(self, end: int) -> bool:
        """Whether there are `end` bytes or more."""
        return end <= self.size


class Window:
    """The latest blocks of several compressed files, and which of these are in the middle of being read."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._blocks: OrderedDict[tuple[Path, int], bytes] = OrderedDict()
        self._at_work: OrderedDict[Path, CompressedFile] = OrderedDict()

    def block(self, path: Path, number: int) -> bytes | None:
        if (path, number) not in self._blocks:
            return None
        self._blocks.move_to_end((path, number))
        return self._blocks[path, number]

    def keep(self, path: Path, number: int, block: bytes) -> None:
        self._blocks[path, number] = block
        while len(self._blocks) > KEPT_BYTES // BLOCK:
            self._blocks.popitem(last=False)

    def at_work(self, file: CompressedFile) -> None:
        """Let the file that was not read for longest go: a decoder of xz takes many megabytes."""
        self._at_work[file.path] = file
        self._at_work.move_to_end(file.path)
        if len(self._at_work) > _MOST_DECODERS:
            self._at_work.popitem(last=False)[1].pause()


@dataclass
class _Place:
    """How far a compressed file was read: bytes given out, bytes taken in, and the decoder in between."""

    decoder: Any
    given: int = 0
    taken: int = 0
    pending: bytes = field(default=b"", repr=False)

    def copy(self) -> _Place:
        return replace(self, decoder=self.decoder.copy())


class CompressedFile:
    """A file that is compressed as a whole. `damage` says why it ended before its end, once it was read so far."""

    def __init__(self, path: Path, start_decoder: Callable[[], Any], window: Window) -> None:
        self.path = path
        self.damage = ""
        self.most = max(BOMB_BYTES, BOMB_RATIO * path.stat().st_size)
        self._start_decoder = start_decoder
        self._window = window
        self._place: _Place | None = None
        self._marks: list[_Place] = []
        self._between_marks = _BETWEEN_MARKS
        self.has_marks = hasattr(start_decoder(), "copy")

    def read(self, start: int, size: int) -> bytes:
        """The bytes from `start` on, fewer than `size` at the end of the content or where it is damaged."""
        parts, end = [], start + size
        with self._window.lock:
            for number in range(start // BLOCK, -(-end // BLOCK)):
                block = self._block(number)
                parts.append(block[max(0, start - number * BLOCK) : end - number * BLOCK])
                if len(block) < BLOCK:
                    break
        return b"".join(parts)

    def reaches(self, end: int) -> bool:
        """Whether there are `end` bytes or more; reads up to there."""
        return end == 0 or len(self.read(end - 1, 1)) == 1

    def pause(self) -> None:
        self._place = None

    def _block(self, number: int) -> bytes:
        found = self._window.block(self.path, number)
        if found is not None:
            return found
        place = self._nearest(number * BLOCK)
        self._window.at_work(self)
        self._place = None
        while True:
            self._mark(place)
            at = place.given // BLOCK
            block = self._advance(place)
            self._window.keep(self.path, at, block)
            if len(block) < BLOCK:
                return block if at == number else b""
            if at == number:
                self._place = place
                return block

    def _nearest(self, start: int) -> _Place:
        """The furthest place from which `start` is still ahead."""
        known = [mark.copy() for mark in self._marks if mark.given <= start][-1:]
        if self._place and self._place.given <= start:
            known.append(self._place)
        return max(known, key=lambda place: place.given, default=_Place(self._start_decoder()))

    def _mark(self, place: _Place) -> None:
        last = self._marks[-1].given if self._marks else 0
        if self.has_marks and place.given >= last + self._between_marks:
            self._marks.append(place.copy())
            if len(self._marks) > _MOST_MARKS:
                del self._marks[::2]
                self._between_marks *= 2

    def _advance(self, place: _Place) -> bytes:
        """The next block, shorter at the end."""
        parts, missing = [], BLOCK
        with self.path.open("rb", buffering=0) as opened:
            opened.seek(place.taken)

            def take() -> bytes:
                data = opened.read(_INPUT)
                place.taken += len(data)
                return data

            try:
                while missing:
                    if place.decoder.eof:
                        # A file may be several one after the other; zeros may follow, and stand for nothing.
                        place.pending = (place.decoder.unused_data or take()).lstrip(b"\0")
                        if not place.pending:
                            break
                        place.decoder = self._start_decoder()
                    # Little at a time, as what comes with an error is lost.
                    data = place.decoder.decompress(place.pending, min(missing, _INPUT))
                    place.pending = getattr(place.decoder, "unconsumed_tail", b"")
                    if data:
                        parts.append(data)
                        missing -= len(data)
                    elif not place.pending and not place.decoder.eof:
                        place.pending = take()
                        if not place.pending:
                            raise EOFError("it is cut off")
            except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
                self.damage = str(error)
        block = b"".join(parts)
        place.given += len(block)
        return block


def open_stream(path: Path, window: Window) -> PlainFile | CompressedFile:
    """The file at `path`, by how it begins. Raises OSError."""
    with path.open("rb") as opened:
        beginning = opened.read(max(map(len, _DECODERS)))
    start_decoder = next((each for magic, each in _DECODERS.items() if beginning.startswith(magic)), None)
    return CompressedFile(path, start_decoder, window) if start_decoder else PlainFile(path)


def read_whole(stream: PlainFile | CompressedFile, start: int, size: int) -> bytes:
    """A picture that is `size` bytes of a stream. Raises OSError where they are too many or not all there."""
    from graft.images.decoding import MAX_BYTES

    if size > MAX_BYTES:
        raise OSError(f"expected a picture of at most {MAX_BYTES:,} bytes, got {size:,}")
    data = stream.read(start, size)
    if len(data) < size:
        raise OSError(f"expected {size:,} bytes, got {len(data):,}: {stream.path.name} is damaged or was cut off")
    return data
