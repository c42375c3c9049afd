"""Tables that cannot be read directly; their content is written into the cache once.

Such tables are compressed on their own, as `train.csv.gz` and Kaggle's `train.csv.zip` are, or are in the UTF-16 that
spreadsheet programs call Unicode text, or in Windows-1252.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO
from zipfile import BadZipFile, ZipFile

from graft.errors import DataError
from graft.expanding import DAMAGE, copy_of, keep_copy, open_content

PACKED = (".gz", ".bz2", ".xz", ".zip")
_BLOCK = 2**20
# Tables of text that spreadsheet programs may write in the encoding of Windows, and what none of these holds: control
# characters, and letters in UTF-8, which would be read as two.
_OF_TEXT, WESTERN = (".csv", ".tsv", ".txt"), "cp1252"
_NOT_WESTERN = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f\x81\x8d\x8f\x90\x9d]|[\xc2\xc3][\x80-\xbf]")


def ending_of(path: Path) -> str:
    """The ending of a table's name in lower case, without any compression ending."""
    *_, inner, last = "", "", *(each.lower() for each in path.suffixes)
    return inner if last in PACKED else last


def plain_table(path: Path) -> Path:
    """The same file, or its content in the cache as uncompressed UTF-8.

    Raises OSError, and DataError for damaged content and for a zip that is not a single table.
    """
    packed = path.suffix.lower() in PACKED
    if not packed and not _is_utf16(path):
        return path
    copy = copy_of(path).with_suffix(ending_of(path))
    if not copy.exists():
        try:
            with _opened(path) if packed else path.open("rb") as content:
                keep_copy(path, copy, _as_utf8(io.BufferedReader(content)))  # type: ignore[arg-type]
        except (*DAMAGE, BadZipFile, UnicodeDecodeError) as error:
            raise DataError(f"expected a table in {path.name}, got content that is damaged ({error})") from None
    return copy


def western_table(path: Path) -> Path | None:
    """The content of a table in Windows-1252, in the cache as UTF-8; None for a table in UTF-8, or in neither."""
    if path.suffix.lower() not in _OF_TEXT or _is_utf8(path):
        return None
    copy = copy_of(path, WESTERN).with_suffix(path.suffix.lower())
    if not copy.exists():
        with path.open("rb") as content:
            before = b""
            for block in iter(partial(content.read, _BLOCK), b""):
                if _NOT_WESTERN.search(before + block):
                    return None
                before = block[-1:]
            content.seek(0)
            keep_copy(
                path, copy, (block.decode(WESTERN).encode() for block in iter(partial(content.read, _BLOCK), b""))
            )
    return copy


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as content:
            for block in iter(partial(content.read, _BLOCK), b""):
                decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    if path.suffix.lower() != ".zip":
        with open_content(path) as content:
            yield content
        return
    with ZipFile(path) as archive:
        names = [each for each in archive.namelist() if not each.endswith("/") and not each.startswith("__MACOSX/")]
        if len(names) != 1:
            raise DataError(f"expected one table in {path.name}, got {len(names):,} files: unpack it")
        with archive.open(names[0]) as content:
            yield content


def _as_utf8(content: io.BufferedReader) -> Iterator[bytes]:
    if content.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        with io.TextIOWrapper(content, "utf-16", newline="") as text:
            while some := text.read(_BLOCK):
                yield some.encode()
    else:
        while block := content.read(_BLOCK):
            yield block


def _is_utf16(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
