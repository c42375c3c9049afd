"""Tar files compressed as a whole by gzip, bzip2 or xz: each is expanded once into the cache as a plain tar.

Compressed content can only be read forwards, and training reads images in any order. The copies count towards the
cache's budget; an evicted copy is made again on the next read.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import IO, Any, cast

from graft.bombs import MAX_BYTES, bomb, bomb_limit
from graft.errors import DataError, GraftError
from graft.files import EXPANDED, cache_budget, cache_folder, make_room, write_aside
from graft.on_disk import file_stamp

_BLOCK = 256 * 2**10
# What reading a truncated or damaged file raises.
DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError)

_OPENERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b\x08": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}


def open_content(path: Path) -> IO[bytes]:
    """Open a file's decompressed content for reading forwards. Raises OSError; reads raise any of DAMAGE."""
    opener = _opener(path)
    return path.open("rb") if opener is None else cast(IO[bytes], opener(path))


def is_compressed(path: Path) -> bool:
    """Return whether a file is compressed, judged by its first bytes. Raises OSError."""
    return _opener(path) is not None


class Contents:
    """Plain or compressed files from which several threads read images."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Expand compressed files.

        Raises DataError for a bomb or content too large for the cache, GraftError if writing fails.
        """
        self.paths = paths
        self._copies = {number: copy_of(path) for number, path in enumerate(paths) if is_compressed(path)}
        self._lock = Lock()
        room = cache_budget() if self._copies else 0
        for number in self._copies:
            with self.open(number) as opened:
                room -= os.fstat(opened.fileno()).st_size
            with suppress(OSError):
                # The least recently used copy is evicted first.
                os.utime(self._copies[number])
            if room < 0:
                raise _no_room(paths[number])

    def open(self, file: int) -> IO[bytes]:
        """Open a file, or its expanded copy. Raises OSError."""
        copy = self._copies.get(file)
        if copy is None:
            return self.paths[file].open("rb")
        with suppress(OSError):
            return copy.open("rb")
        with self._lock:
            if not copy.exists():
                _expand(self.paths[file], copy)
            return copy.open("rb")

    def blocks(self, file: int, start: int, size: int) -> Iterator[bytes]:
        """Yield a part of a file, block by block. Raises OSError."""
        with self.open(file) as opened:
            opened.seek(start)
            while size > 0 and (block := opened.read(min(size, _BLOCK))):
                size -= len(block)
                yield block

    def read(self, file: int, start: int, size: int) -> bytes:
        """Read an image of `size` bytes. Raises OSError where there are too many bytes, or too few."""
        if size > MAX_BYTES:
            raise OSError(f"expected an image of at most {MAX_BYTES:,} bytes, got {size:,}")
        # Opened on each read: there may be more files than may be open at once.
        with self.open(file) as opened:
            opened.seek(start)
            data = opened.read(size)
        if len(data) < size:
            raise OSError(f"expected {size:,} bytes, got {len(data):,}: {self.paths[file].name} is damaged or cut off")
        return data


def copy_of(path: Path, inner: str = "") -> Path:
    """Return the path in the cache of the content of a file, or of a file inside it; the path changes with the file."""
    known = f"{path.resolve()}:{file_stamp(path)}:{inner}" if inner else f"{path.resolve()}:{file_stamp(path)}"
    return cache_folder() / EXPANDED / f"{hashlib.blake2b(os.fsencode(known), digest_size=16).hexdigest()}.tar"


def _expand(path: Path, copy: Path) -> None:
    with open_content(path) as content:
        keep_copy(path, copy, _whole_blocks(content))


def keep_copy(path: Path, copy: Path, blocks: Iterator[bytes]) -> None:
    """Write the content of a file to its copy in the cache.

    Raises DataError for a bomb or content too large for the cache, GraftError if writing fails.
    """
    most, room = bomb_limit(path), cache_budget()

    def write(file: IO[bytes]) -> None:
        for block in blocks:
            file.write(block)
            if file.tell() > most:
                raise bomb(path)
            if file.tell() > room:
                raise _no_room(path)
        make_room(file.tell())

    try:
        write_aside(copy, write)
    except OSError as error:
        raise GraftError(
            f"expected to expand {path.name} into {copy.parent}, but that failed ({error.strerror or error}): free "
            "space there, set GRAFT_CACHE to a folder that can be written, or unpack it and name the folder"
        ) from error


def _whole_blocks(content: Any) -> Iterator[bytes]:
    """Yield the content up to any damage, which the reader of the tar file then notices."""
    with suppress(*DAMAGE):
        while block := content.read1(_BLOCK):
            yield block


def _no_room(path: Path) -> DataError:
    return DataError(
        f"expected room in the cache for the content of {path.name}, got a budget of {cache_budget():,} bytes: unpack "
        "it and name the folder, or raise GRAFT_CACHE_BYTES"
    )


def _opener(path: Path) -> Callable[[Path], Any] | None:
    with path.open("rb") as opened:
        beginning = opened.read(max(map(len, _OPENERS)))
    return next((opener for magic, opener in _OPENERS.items() if beginning.startswith(magic)), None)
