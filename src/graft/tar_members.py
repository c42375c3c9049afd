"""The members of a tar file in order, read through Python's tarfile.

tarfile stops silently at a malformed header, and keeps an object for each member. So it is asked for one member at a
time, and the bytes after the last one are checked.
"""

from __future__ import annotations

import math
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from graft.expanding import DAMAGE, open_content

FILE, FOLDER, HARD_LINK, SYMBOLIC_LINK, OTHER = (
    "file",
    "folder",
    "hard link",
    "symbolic link",
    "neither file nor folder",
)
_KINDS = {tarfile.DIRTYPE: FOLDER, tarfile.LNKTYPE: HARD_LINK, tarfile.SYMTYPE: SYMBOLIC_LINK}
# Nonsensical numbers and texts, such as an impossible offset, raise errors that tarfile lets through.
_NONSENSE = (tarfile.TarError, ValueError, OverflowError, RecursionError, *DAMAGE)
# Longer than any name, extended header or label.
MOST_TEXT_BYTES = 2**20


class Member(NamedTuple):
    """An archive entry: its kind, the place of its content, a link's target, and the content if asked for."""

    name: bytes
    kind: str
    place: tuple[int, ...]
    link: bytes = b""
    content: bytes = b""


class BrokenTarError(Exception):
    """A tar file ends early or becomes malformed: the reason, and the member if known."""

    def __init__(self, reason: str, member: bytes | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.member = member

    def note(self, name: str, consequence: str) -> str:
        """Return a sentence for the user about the file of that name."""
        inside = "" if self.member is None else f", in the middle of {os.fsdecode(self.member)!r}"
        return f"{name} is not whole ({self.reason}{inside}): {consequence}, fetch it again"


def looks_like_tar(path: Path) -> bool:
    """Return whether a file, compressed or not, begins with a member's header or is an empty tar file."""
    with open_content(path) as content:
        try:
            if _open_tar(content).next() is not None:
                return True
            content.seek(0)
            return content.read(2 * tarfile.BLOCKSIZE) == bytes(2 * tarfile.BLOCKSIZE)
        except (BrokenTarError, *DAMAGE):
            return False


def members_of(
    content: IO[bytes], wanted: Callable[[bytes], bool] = lambda name: False, most: float = math.inf
) -> Iterator[Member]:
    """Yield every complete member of an open tar file; its place is the start and size of its content.

    Members whose name is `wanted` come with their content, unless it is larger than MOST_TEXT_BYTES. Raises
    BrokenTarError after the last complete member of a file that is truncated, damaged or longer than `most` bytes.
    """
    tar, before, name = _open_tar(content), 0, None
    try:
        while (info := tar.next()) is not None:
            # tarfile keeps every member in this list.
            tar.members.clear()  # type: ignore[attr-defined]
            if info.size < 0 or tar.offset <= before:
                raise tarfile.ReadError("a member of negative size")
            before, name = tar.offset, _as_bytes(info.name)
            if tar.offset > most:
                raise tarfile.ReadError(f"more than {most:,} bytes of content")
            kind = FILE if info.isreg() and not info.issparse() else _KINDS.get(info.type, OTHER)
            data = _read(content, info, wanted(name)) if kind == FILE else b""
            yield Member(name, kind, (info.offset_data, info.size), _as_bytes(info.linkname), data)
            name = None
        content.seek(tar.offset)
        if any(end := content.read(tarfile.BLOCKSIZE)) or len(end) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("neither a tar header nor an end-of-archive mark follows")
    except _NONSENSE as error:
        raise BrokenTarError(f"it is cut off or damaged: {error}", name) from None


def _open_tar(content: IO[bytes]) -> tarfile.TarFile:
    """Open a tar file. Raises BrokenTarError if the content does not begin like one."""
    bounded: Any = _Bounded(content)
    try:
        return tarfile.TarFile(fileobj=bounded, encoding="utf-8", errors="surrogateescape")
    except _NONSENSE:
        raise BrokenTarError("it is not a tar file") from None


class _Bounded:
    """A file with bounded reads: tarfile reads a name as long as a header states, and everything if negative."""

    def __init__(self, file: IO[bytes]) -> None:
        self.seek, self.tell, self._read = file.seek, file.tell, file.read

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MOST_TEXT_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._read(size)


def _read(content: IO[bytes], info: tarfile.TarInfo, wanted: bool) -> bytes:
    """Return a member's content if it is wanted, else nothing. Raises EOFError if its end is missing."""
    whole = wanted and info.size <= MOST_TEXT_BYTES
    length = info.size if whole else min(info.size, 1)
    content.seek(info.offset_data + info.size - length)
    data = content.read(length)
    if len(data) < length:
        raise EOFError("unexpected end of data")
    return data if whole else b""


def _as_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
