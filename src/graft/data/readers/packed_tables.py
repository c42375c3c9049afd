"""Tables that cannot be read directly; their content is written into the cache once.

Such tables are compressed on their own, as `train.csv.gz` and Kaggle's `train.csv.zip` are, or are in the UTF-16 that
spreadsheet programs call Unicode text.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from zipfile import BadZipFile, ZipFile

from graft.errors import DataError
from graft.expanding import DAMAGE, copy_of, keep_copy, open_content

PACKED = (".gz", ".bz2", ".xz", ".zip")
_BLOCK = 2**20


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
