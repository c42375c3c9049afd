"""The members of a tar file, from its headers alone: POSIX.1-2001 (pax), ustar, GNU tar and the seventh edition's.

A header is one block of 512 bytes, the content follows in whole blocks, and a block of zeros ends the file. Names are
bytes, as they are stored. Python's tarfile keeps an object for each member, and of a file that is cut off it does not
tell what is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from graft.data.streams import BOMB_RATIO, CompressedFile, PlainFile
from graft.errors import DataError

FILE, FOLDER, HARD_LINK, SYMBOLIC_LINK, OTHER = (
    "file",
    "folder",
    "hard link",
    "symbolic link",
    "neither file nor folder",
)
# The kinds that POSIX and GNU name; any other is a file, as POSIX asks.
_KINDS = {
    b"1": HARD_LINK,
    b"2": SYMBOLIC_LINK,
    b"5": FOLDER,
    **dict.fromkeys((b"3", b"4", b"6", b"S", b"M", b"V", b"D", b"N"), OTHER),
}
_WITHOUT_CONTENT = (b"1", b"2", b"3", b"4", b"5", b"6")
_LONG_NAME, _LONG_LINK, _PAX, _PAX_FOR_ALL = b"L", b"K", b"x", b"g"
_ZEROS = bytes(512)
# Read ahead for headers: those of some ten small pictures at once, and not much of a large one in vain.
_AHEAD = 16 * 2**10
_LONGEST_NAME = 2**20


class Member(NamedTuple):
    """One entry: its kind, where its content is in the (decompressed) file, in bytes, and what a link leads to."""

    name: bytes
    kind: str
    place: tuple[int, ...]
    link: bytes = b""


class BrokenTarError(Exception):
    """A tar file ends, or makes no sense any more, before its end: why, and in which member where that is known."""

    def __init__(self, reason: str, member: bytes | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.member = member


class Ahead:
    """Reads small pieces of a stream at rising offsets, many for each time that the file is asked."""

    def __init__(self, stream: PlainFile | CompressedFile) -> None:
        self.stream = stream
        self._start, self._data = 0, b""

    def read(self, start: int, size: int) -> bytes:
        at = start - self._start
        if at < 0 or at + size > len(self._data):
            self._start, self._data, at = start, self.stream.read(start, max(size, _AHEAD)), 0
        return self._data[at : at + size]


def members_of(ahead: Ahead) -> Iterator[Member]:
    """Every member that is whole, in order.

    Raises BrokenTarError after the last whole one of a file that is cut off or damaged, and DataError for a bomb.
    """
    stream, position = ahead.stream, 0
    # What extended headers say of the member that follows.
    said: dict[bytes, bytes] = {}
    while (header := ahead.read(position, 512)) != _ZEROS:
        if len(header) < 512:
            raise BrokenTarError(stream.damage or "it lacks the mark that ends a tar file")
        start, kind = position + 512, header[156:157]
        try:
            name, size = _name_and_size(header, said)
        except ValueError as error:
            raise BrokenTarError(str(error)) from None
        position = start - (-size // 512) * 512
        if position > stream.most:
            raise DataError(
                f"expected content of at most {BOMB_RATIO} times the size of {stream.path.name}, got more than "
                f"{stream.most:,} bytes: it is damaged or a bomb, do not trust it"
            )
        if not stream.reaches(start + size):
            raise BrokenTarError(stream.damage or "it is cut off", name)
        if kind == _PAX_FOR_ALL:
            continue
        if kind in (_LONG_NAME, _LONG_LINK, _PAX):
            if size > _LONGEST_NAME:
                raise BrokenTarError(f"it has a name of {size:,} bytes")
            content = ahead.read(start, size)
            if kind == _PAX:
                said |= _records(content)
            else:
                said[b"path" if kind == _LONG_NAME else b"linkpath"] = _text(content)
            continue
        meaning = FOLDER if name.endswith(b"/") and kind in b"0\0" else _KINDS.get(kind, FILE)
        if any(key.startswith(b"GNU.sparse.") for key in said):
            meaning = OTHER
        yield Member(name, meaning, (start, size), said.get(b"linkpath", _text(header[157:257])))
        said = {}


def looks_like_tar(stream: PlainFile | CompressedFile) -> bool:
    """Whether a stream begins with the header of a member, or is a tar file without any."""
    header = stream.read(0, 512)
    if header == _ZEROS:
        return stream.read(512, 512) == _ZEROS
    try:
        return len(header) == 512 and _name_and_size(header, {}) is not None
    except ValueError:
        return False


def _name_and_size(header: bytes, said: dict[bytes, bytes]) -> tuple[bytes, int]:
    """The name of a member and the bytes of its content. Raises ValueError for what is no header."""
    if not _adds_up(header):
        raise ValueError("what follows is no header of a tar file")
    name = _text(header[:100])
    # GNU tar keeps other things where POSIX has the beginning of a long name.
    if header[345] and header[257:263] == b"ustar\0":
        name = _text(header[345:500]) + b"/" + name
    if header[156:157] in _WITHOUT_CONTENT:
        size = 0
    else:
        size = int(said[b"size"]) if b"size" in said else _number(header[124:136])
    if size < 0:
        raise ValueError(f"it has a member of {size} bytes")
    return said.get(b"path", name), size


def _adds_up(header: bytes) -> bool:
    """Whether a header has the sum that it states, over itself with that field as spaces."""
    try:
        stated = _number(header[148:156])
    except ValueError:
        return False
    unsigned = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    # Some old systems added signed bytes.
    return stated == unsigned or stated == unsigned - 256 * sum(byte > 127 for byte in header)


def _number(field: bytes) -> int:
    """Octal digits among spaces and zeros; or, as GNU writes what is too large for them, bytes after a first bit."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    return int(_text(field).strip() or b"0", 8)


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _records(content: bytes) -> dict[bytes, bytes]:
    """Records of pax, `length key=value` and a line feed each, where the length counts all of it."""
    records, position = {}, 0
    while position < len(content):
        digits = content[position : position + 20].partition(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        key, equals, value = content[position + len(digits) + 1 : position + length - 1].partition(b"=")
        if not equals or length <= len(digits):
            raise BrokenTarError("it has a pax header that makes no sense")
        records[key] = value
        position += length
    return records
