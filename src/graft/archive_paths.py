"""Paths in an archive: which may be followed, and which are hidden."""

from __future__ import annotations

import re
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

from graft.errors import DataError

if TYPE_CHECKING:
    import pyarrow

_ENDING = re.compile(r"\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz))$", re.IGNORECASE)
# Most names have nothing of this; in those that have, the three below are looked for.
_UNUSUAL = re.compile(rb"^(?:[./\\]|.:|__MACOSX)|[/\\](?:[./\\]|__MACOSX|$)|(?i:(?:s\.db|p\.ini)$)")
_UNSAFE = re.compile(rb"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)")
_HIDDEN = re.compile(rb"(^|/)(\.|__MACOSX(/|$)|(?i:((eh)?thumbs\.db|desktop\.ini)$))")
# Components without meaning: `./` and a doubled slash.
_IDLE = re.compile(rb"(^|/)(?:\.?/)+")


class Texts:
    """A growing column of byte strings, without a Python object for each."""

    def __init__(self) -> None:
        self._bytes, self._ends = bytearray(), array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, text: bytes) -> None:
        self._bytes += text
        self._ends.append(len(self._bytes))

    def column(self) -> pyarrow.LargeBinaryArray:
        import pyarrow

        buffers = [None, pyarrow.py_buffer(self._ends), pyarrow.py_buffer(self._bytes)]
        return pyarrow.LargeBinaryArray.from_buffers(pyarrow.large_binary(), len(self), buffers)


def name_without_ending(path: Path) -> str:
    """`photos` of `photos.tar.gz`."""
    return _ENDING.sub("", path.name) or path.name


def visible_path(name: bytes, archive: str) -> bytes | None:
    """The path of a member without meaningless components, None for a hidden one.

    Raises DataError for a name that leads out of the archive.
    """
    if not _UNUSUAL.search(name):
        return name or None
    if _UNSAFE.search(name):
        raise DataError(
            f"expected paths inside {archive}, got {name.decode(errors='backslashreplace')!r}, which leads out of it: "
            "do not trust it, or pack the folder again"
        )
    path = _IDLE.sub(rb"\1", name).rstrip(b"/")
    return None if not path or _HIDDEN.search(path) else path
