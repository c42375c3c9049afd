"""The members of a zip file, from its directory: PKWARE's APPNOTE.TXT, sections 4.3 to 4.5.

Not by Python's zipfile, which keeps an object of two thirds of a kilobyte for each member, and expands one that is
larger than it says as far as it goes: here a member is some numbers in an array, and is never more than it says.
"""

from __future__ import annotations

import bz2
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graft.data.streams import BOMB_BYTES, BOMB_RATIO
from graft.data.tar_members import FILE, FOLDER, Member
from graft.errors import DataError

_LOCAL = struct.Struct("<4s5H3I2H")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_LOCATOR_64 = struct.Struct("<4sIQI")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LONGEST_COMMENT = 2**16
# In place of a number that needs 64 bits, which then is in an extra field.
_ELSEWHERE = 2**32 - 1
_STORED, _DEFLATED, _BZIPPED = 0, 8, 12
_ENCRYPTED, _UTF8 = 0x2041, 0x0800
_UNIX, _LINK = 3, 0o12
# What is in front of a member's content, at the least.
LEAST_HEADER = _LOCAL.size


def members_of(path: Path) -> Iterator[Member]:
    """Every member, in the order of the directory. The place of one is what `read_member` takes.

    Raises DataError for a directory that is damaged, and for what is encrypted or a bomb.
    """
    try:
        directory, shift, most, count = _directory(path)
        position = total = found = 0
        while position < len(directory):
            member, flags, position = _entry(directory, position, shift)
            if flags & _ENCRYPTED:
                raise DataError(
                    f"expected a zip file that anyone can read, got {path.name}, in which "
                    f"{_shown(member.name)} is encrypted: make it again without a password"
                )
            total += member.place[1]
            if total > most:
                raise DataError(
                    f"expected content of at most {BOMB_RATIO} times the size of {path.name}, got more than {most:,} "
                    "bytes: it is a bomb, do not trust it"
                )
            found += 1
            yield member
    except (struct.error, ValueError) as error:
        raise DataError(
            f"expected a whole zip file, got {path.name}, whose directory is damaged ({error}): fetch it again"
        ) from None
    if count != found % 2**16:
        raise DataError(
            f"expected a whole zip file, got {path.name}, whose directory is damaged ({found:,} members, and {count:,} "
            "or 65,536 more of them stated): fetch it again"
        )


def read_member(path: Path, start: int, size: int, packed: int, method: int, checksum: int) -> bytes:
    """The content of a member, never more than a picture may have. Raises OSError."""
    from graft.images.decoding import MAX_BYTES

    if max(size, packed) > MAX_BYTES:
        raise OSError(f"expected a picture of at most {MAX_BYTES:,} bytes, got {max(size, packed):,}")
    with path.open("rb") as opened:
        opened.seek(start)
        header = opened.read(_LOCAL.size)
        if len(header) < _LOCAL.size or not header.startswith(b"PK\3\4"):
            raise OSError("expected a member of a zip file where its directory says: it is damaged")
        name_bytes, extra_bytes = _LOCAL.unpack(header)[-2:]
        opened.seek(name_bytes + extra_bytes, 1)
        content = opened.read(packed)
    try:
        # One more than stated is enough to see that there is more.
        content = _decoder(method).decompress(content, size + 1) if method != _STORED else content
    except (zlib.error, OSError) as error:
        raise OSError(f"expected a whole member of a zip file, got a damaged one ({error})") from None
    if len(content) != size:
        raise OSError(f"expected {size:,} bytes, as stated, got {'more' if len(content) > size else len(content)}")
    if zlib.crc32(content) != checksum:
        raise OSError("expected the checksum that is stated, got another: it is damaged")
    return content


def _decoder(method: int) -> Any:
    if method == _DEFLATED:
        return zlib.decompressobj(-zlib.MAX_WBITS)
    if method == _BZIPPED:
        return bz2.BZ2Decompressor()
    raise OSError(f"expected a member that is stored, deflated or bzipped, got method {method}: zip it again")


def _directory(path: Path) -> tuple[bytes, int, int, int]:
    """The directory's bytes; by how much offsets are stated too low; the most content; the members modulo 2**16."""
    with path.open("rb") as opened:
        length = opened.seek(0, 2)
        tail_start = max(0, length - _END.size - _LONGEST_COMMENT - _LOCATOR_64.size)
        opened.seek(tail_start)
        tail = opened.read()
        end = tail.rfind(b"PK\5\6")
        if end < 0:
            raise ValueError("it lacks its end")
        _, disk, _, _, count, size, start, _ = _END.unpack_from(tail, end)
        position = tail_start + end
        if tail.startswith(b"PK\6\7", max(0, end - _LOCATOR_64.size)) and end >= _LOCATOR_64.size:
            end_64 = _LOCATOR_64.unpack_from(tail, end - _LOCATOR_64.size)[2]
            opened.seek(end_64)
            _, _, _, _, disk, _, _, count, size, start = _END_64.unpack(opened.read(_END_64.size))
            position = end_64
        # Something may stand in front of the archive, such as a program that unpacks it.
        shift = position - size - start
        if disk or shift < 0 or start + shift > length:
            raise ValueError("it is one part of several, or a part is missing")
        opened.seek(start + shift)
        directory = opened.read(size)
    if len(directory) < size:
        raise ValueError("it is cut off")
    return directory, shift, max(BOMB_BYTES, BOMB_RATIO * length), count % 2**16


def _entry(directory: bytes, position: int, shift: int) -> tuple[Member, int, int]:
    """The member whose entry is at `position`, its flags, and where the next entry is."""
    fields = _ENTRY.unpack_from(directory, position)
    magic, made, _, flags, method, _, _, checksum, packed, size, name_bytes, extra_bytes, comment_bytes = fields[:13]
    outer, start = fields[15:]
    position += _ENTRY.size
    following = position + name_bytes + extra_bytes + comment_bytes
    if magic != b"PK\1\2" or following > len(directory):
        raise ValueError("an entry makes no sense")
    name = directory[position : position + name_bytes].partition(b"\0")[0]
    if _ELSEWHERE in (size, packed, start):
        extra = directory[position + name_bytes : position + name_bytes + extra_bytes]
        size, packed, start = _wide(extra, (size, packed, start))
    if not flags & _UTF8:
        name = _as_utf8(name)
    # Old tools of Windows write its own separator.
    name = name.replace(b"\\", b"/") if b"/" not in name else name
    kind = FOLDER if name.endswith(b"/") else FILE
    if made >> 8 == _UNIX and outer >> 28 == _LINK:
        kind = "a link"
    return Member(name, kind, (start + shift, size, packed, method, checksum)), flags, following


def _wide(extra: bytes, numbers: tuple[int, ...]) -> tuple[int, ...]:
    """Size, packed size and start, those of them that need it from the extra field of ZIP64 (4.5.3)."""
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        position += 4
        if kind == 1:
            values = iter(struct.unpack_from(f"<{length // 8}Q", extra, position))
            wide = tuple(next(values, number) if number == _ELSEWHERE else number for number in numbers)
            if max(wide) >= 2**62:
                raise ValueError("a number is too large")
            return wide
        position += length
    return numbers


def _as_utf8(name: bytes) -> bytes:
    """A name in code page 437, which is what one without a flag is in; many tools forget the flag on UTF-8."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return name.decode("cp437").encode()
    return name


def _shown(name: bytes) -> str:
    return repr(name.decode(errors="backslashreplace"))
