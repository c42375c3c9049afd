"""Paths inside archives: which are safe to extract, and which are hidden."""

from __future__ import annotations

import re
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

from graft.errors import DataError

if TYPE_CHECKING:
    import pyarrow

_ENDING = re.compile(r"\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz))$", re.IGNORECASE)
# A quick filter: most names match none of this, and only the rest are checked for the three patterns below.
_UNUSUAL = re.compile(rb"^(?:[./\\]|.:|__MACOSX)|[/\\](?:[./\\]|__MACOSX|$)|(?i:(?:s\.db|p\.ini)$)")
_UNSAFE = re.compile(rb"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)")
_HIDDEN = re.compile(rb"(^|/)(\.|__MACOSX(/|$)|(?i:((eh)?thumbs\.db|desktop\.ini)$))")
# Meaningless components: `./` and doubled slashes.
_IDLE = re.compile(rb"(^|/)(?:\.?/)+")


class Texts:
    """A growing column of byte strings that needs no Python object per string."""

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
    """Return the name without its endings: `photos` for `photos.tar.gz`."""
    return _ENDING.sub("", path.name) or path.name


def visible_path(name: bytes, archive: str) -> bytes | None:
    """Return a member's path without meaningless components, or None if it is hidden.

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
