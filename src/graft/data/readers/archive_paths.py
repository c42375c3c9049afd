"""Paths in an archive: which may be followed, which are hidden, and where the tree of images begins."""

from __future__ import annotations

import os
import posixpath
import re
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

from graft.data.readers.tree import SPLIT_FOLDERS
from graft.errors import DataError

if TYPE_CHECKING:
    import pyarrow

_ENDING = re.compile(r"\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz))$", re.IGNORECASE)
# Most names have nothing of this; in those that have, the three below are looked for.
_UNUSUAL = re.compile(rb"^(?:[./\\]|.:|__MACOSX)|[/\\](?:[./\\]|__MACOSX|$)")
_UNSAFE = re.compile(rb"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)")
_HIDDEN = re.compile(rb"(^|/)(\.|__MACOSX(/|$))")
# Components without meaning: `./` and a doubled slash.
_IDLE = re.compile(rb"(^|/)(?:\.?/)+")
# The outermost folder of a path, and up to two of them as one text.
_FIRST_FOLDER = "^(?P<folder>[^/]+)/"
TWO_FOLDERS = "^(?P<folders>[^/]+(?:/[^/]+)?)/"


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


def root_of(entries: pyarrow.LargeBinaryArray) -> bytes:
    """Where a tree of splits or classes begins: a folder ending in a slash if one was packed as a whole, else empty.

    That is the folder that holds everything, unless it is itself a split, if it holds folders of splits or more than
    one folder: a folder of images alone is a class.
    """
    import pyarrow.compute

    if not len(entries):
        return b""
    extremes = pyarrow.compute.min_max(entries)
    common = posixpath.commonprefix([extremes["min"].as_py(), extremes["max"].as_py()]).rpartition(b"/")[0]
    if not common:
        return b""
    below = within(common + b"/", entries)
    inner = [_is_split(folder) for folder in folders_in(_FIRST_FOLDER, below)]
    if inner and all(inner):
        return common + b"/"
    above = common.split(b"/")
    for depth, name in enumerate(above):
        if _is_split(os.fsdecode(name)):
            return b"".join(each + b"/" for each in above[:depth])
    return common + b"/" if len(inner) > 1 else b""


def within(folder: bytes, paths: pyarrow.LargeBinaryArray) -> pyarrow.LargeBinaryArray:
    import pyarrow.compute

    return pyarrow.compute.binary_replace_slice(paths, start=0, stop=len(folder), replacement=b"")


def folders_in(pattern: str, paths: pyarrow.LargeBinaryArray) -> list[str]:
    """The distinct folders that the only group of the pattern finds in the paths."""
    import pyarrow.compute

    found = pyarrow.compute.struct_field(pyarrow.compute.extract_regex(paths, pattern), 0)
    return [os.fsdecode(folder.as_py()) for folder in found.unique().drop_null()]


def _is_split(folder: str) -> bool:
    return folder.lower() in SPLIT_FOLDERS
