"""The members of a zip file, read through Python's zipfile.

Members compressed by bzip2 or LZMA are not read, because zipfile expands a whole one at once, however large.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from threading import Lock

from graft.bombs import BOMB_RATIO, MAX_BYTES, bomb_limit
from graft.errors import DataError
from graft.name_encoding import check_encoding, encoding_of
from graft.tar_members import FILE, FOLDER, Member
from graft.words import counted

# What zipfile raises for damaged files.
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, OverflowError, RuntimeError)
_ENCRYPTED, _UTF8, _UNIX = 0x2041, 0x0800, 3
_UNICODE_PATH = 0x7075
# The least number of bytes that precede a member's content.
_LEAST_HEADER = 30


class Zip:
    """An open zip file for use by several threads."""

    def __init__(self, path: Path, encoding: str | None = None) -> None:
        """Open a zip. `encoding` applies to names that declare none; by default the best fit, reported in `notes`.

        Raises DataError for a file that is incomplete, encrypted or a bomb, InputError for an unknown encoding.
        """
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except _DAMAGE as error:
            raise DataError(
                f"expected a whole zip file, got {path.name}, whose directory is damaged ({error}): fetch it again"
            ) from None
        self._infos = self._archive.infolist()
        self._lock = Lock()
        self._refuse_what_is_hostile()
        unsaid = [name for name in map(_unsaid_name, self._infos) if name is not None]
        self._encoding, self.notes = check_encoding(encoding) if encoding else "utf-8", list[str]()
        if unsaid and not encoding:
            self._encoding, sure = encoding_of(unsaid)
            shown = ", ".join(repr(name.decode(self._encoding, "replace")) for name in unsaid[:3])
            count = counted(len(unsaid), "name in it is", "names in it are")
            self.notes.append(
                f"{path.name} does not say how {count} written: read as {self._encoding}"
                f"{'' if sure else ', which is uncertain'} ({shown}); "
                "if that is wrong, give --encoding, or pack it again with names in UTF-8"
            )

    def members(self) -> Iterator[Member]:
        """Yield every member in directory order; its place is the argument of `read`."""
        for number, info in enumerate(self._infos):
            name = self._name(info)
            kind = FOLDER if name.endswith(b"/") else FILE
            if info.create_system == _UNIX and stat.S_ISLNK(info.external_attr >> 16):
                kind = "a link"
            yield Member(name, kind, (number,))

    def read(self, number: int) -> bytes:
        """Return a member's content, never more than its stated size. Raises OSError."""
        info = self._infos[number]
        if max(info.file_size, info.compress_size) > MAX_BYTES:
            raise OSError(f"expected an image of at most {MAX_BYTES:,} bytes, got {info.file_size:,}")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise OSError(
                f"expected a member that is stored or deflated, got method {info.compress_type}: zip it again"
            )
        try:
            # zipfile counts its open members without locking.
            with self._lock, self._archive.open(info) as member:
                data = member.read(info.file_size)
        except _DAMAGE as error:
            raise OSError(
                f"expected a whole member of a zip file, got a damaged one ({str(error) or 'cut off'})"
            ) from None
        if len(data) < info.file_size:
            raise OSError(f"expected {info.file_size:,} bytes, as stated, got {len(data):,}: it is damaged")
        return data

    def blocks(self, number: int) -> Iterator[bytes]:
        """Yield a member's content, block by block. Raises OSError."""
        try:
            with self._archive.open(self._infos[number]) as member:
                while block := member.read(2**18):
                    yield block
        except (*_DAMAGE, NotImplementedError) as error:
            raise OSError(f"expected a whole member of a zip file, got a damaged one ({error})") from None

    def _refuse_what_is_hostile(self) -> None:
        name = self.path.name
        encrypted = next((info for info in self._infos if info.flag_bits & _ENCRYPTED), None)
        if encrypted is not None:
            raise DataError(
                f"expected a zip file that anyone can read, got {name}, in which {encrypted.filename!r} is encrypted: "
                "pack it again without a password"
            )
        most = bomb_limit(self.path)
        if sum(info.file_size for info in self._infos) > most:
            raise DataError(
                f"expected content of at most {BOMB_RATIO} times the size of {name}, got more than {most:,} bytes: it "
                "is a bomb, do not trust it"
            )
        in_order = sorted(self._infos, key=attrgetter("header_offset"))
        if in_order and in_order[0].header_offset < 0:
            raise DataError(f"expected a whole zip file, got {name}, of which a part is missing: fetch it again")
        if any(
            one.header_offset + _LEAST_HEADER + one.compress_size > following.header_offset
            for one, following in pairwise(in_order)
        ):
            raise DataError(
                f"expected members one after the other in {name}, got some that overlap: it is damaged or a bomb, do "
                "not trust it"
            )

    def _name(self, info: zipfile.ZipInfo) -> bytes:
        """Return a name in UTF-8, with the backslashes of old Windows tools as slashes."""
        unsaid = _unsaid_name(info)
        if unsaid is not None:
            name = unsaid.decode(self._encoding, "replace").encode()
        elif info.flag_bits & _UTF8:
            name = info.filename.encode()
        else:
            name = _unicode_name(info) or info.filename.encode("cp437")
        return name if b"/" in name else name.replace(b"\\", b"/")


def _unsaid_name(info: zipfile.ZipInfo) -> bytes | None:
    """Return a name whose encoding nothing declares, else None; many tools write UTF-8 and forget to flag it."""
    if info.filename.isascii() or info.flag_bits & _UTF8:
        return None
    stored = info.filename.encode("cp437")
    return None if _is_utf8(stored) or _unicode_name(info) else stored


def _unicode_name(info: zipfile.ZipInfo) -> bytes:
    """Return the UTF-8 name that Info-ZIP and others add to one in a code page; empty if there is none."""
    extra = info.extra
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and len(field) > 5:
            of_name = zlib.crc32(info.filename.encode("cp437"))
            return field[5:] if struct.unpack("<L", field[1:5])[0] == of_name and _is_utf8(field[5:]) else b""
    return b""


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
