"""A zip or tar file of folders of pictures: `photos.zip` with `train/ants/1.jpg` in it, or `photos/train/ants/1.jpg`.

Members are read where they lie, nothing is unpacked. The rules are those of a folder; hidden entries, and what a Mac
adds, are passed over.
"""

from __future__ import annotations

import os
import posixpath
import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.data import tar_members, zip_members
from graft.data.dataset import Dataset
from graft.data.folder import file_stamp
from graft.data.streams import KEPT_BYTES, CompressedFile, PlainFile, Window, open_stream, read_whole
from graft.data.tar_members import FILE, FOLDER, HARD_LINK, SYMBOLIC_LINK, BrokenTarError, Member
from graft.data.tree import SPLIT_FOLDERS, Listing, arrange
from graft.errors import DataError

if TYPE_CHECKING:
    import pyarrow

_ZIP = (b"PK\3\4", b"PK\5\6")
_ENDING = re.compile(r"\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz))$", re.IGNORECASE)
# What most names have nothing of; in one that has, the three below are looked for.
_UNUSUAL = re.compile(rb"^(?:[./\\]|.:|__MACOSX)|[/\\](?:[./\\]|__MACOSX|$)")
_UNSAFE = re.compile(rb"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)")
_HIDDEN = re.compile(rb"(^|/)(\.|__MACOSX(/|$))")
# Components that mean nothing: `./` and a doubled slash.
_IDLE = re.compile(rb"(^|/)(?:\.?/)+")
# The outermost folder of a path, and up to two of them as one text.
_FIRST_FOLDER = "^(?P<folder>[^/]+)/"
_TWO_FOLDERS = "^(?P<folders>[^/]+(?:/[^/]+)?)/"


class Members:
    """Pictures in an archive: their paths in it, large_binary (N,), and where each is, int64 (N, k), as `read` asks."""

    def __init__(
        self, archive: Path, paths: pyarrow.LargeBinaryArray, places: np.ndarray, read: Callable[..., bytes]
    ) -> None:
        self.archive = archive
        self.paths = paths
        self.places = places
        self._read = read
        self._stamp = file_stamp(archive)

    def __len__(self) -> int:
        return len(self.paths)

    def key(self, row: int) -> str:
        return os.fsdecode(self.paths[row].as_py())

    def name(self, row: int) -> str:
        return f"{self.archive.name}/{self.key(row)}"

    def read(self, row: int) -> bytes:
        return self._read(*self.places[row].tolist())

    def stamp(self, row: int) -> str:
        return f"{self._stamp}:{self.key(row)}"


class Texts:
    """A growing column of bytes without an object for each."""

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


def is_archive(path: Path) -> bool:
    """Whether `path` is a zip or tar file, compressed or not, by how it begins."""
    return path.is_file() and (_is_zip(path) or tar_members.looks_like_tar(open_stream(path, Window())))


def _is_zip(path: Path) -> bool:
    with path.open("rb") as opened:
        return opened.read(4) in _ZIP


def read_archive(path: Path) -> Dataset:
    """A Dataset from a zip or tar file of folders.

    Raises DataError when no class holds a file, for paths that lead out of the archive, for what is encrypted, and for
    content that is out of all proportion to the file.
    """
    import pyarrow

    read: Callable[..., bytes]
    if _is_zip(path):
        contents, read = _gather(path, zip_members.members_of(path)), partial(zip_members.read_member, path)
        _refuse_overlaps(path, contents.places)
    else:
        stream = open_stream(path, Window())
        contents, read = _gather(path, tar_members.members_of(tar_members.Ahead(stream))), partial(read_whole, stream)
        contents.notes.extend(_slowness(stream, contents.places))
    if contents.notes and not len(contents.paths):
        raise DataError(f"expected folders of pictures in {path.name}, got none that can be read: {contents.notes[0]}")
    root = _root(pyarrow.concat_arrays([contents.paths, contents.folders]))
    files, folders = (_within(root, each) for each in (contents.paths, contents.folders))
    above = _folders(_TWO_FOLDERS, pyarrow.concat_arrays([files, folders]))
    listing = Listing(
        name_without_ending(path),
        files,
        frozenset(tuple(folder.split("/")) for folder in above),
        tuple(contents.notes),
    )
    dataset = arrange(listing, Members(path, contents.paths, contents.places, read))
    left_out = {f"{path.name}/{os.fsdecode(name)}": reason for name, reason in contents.left_out.items()}
    return replace(dataset, left_out={**left_out, **dataset.left_out})


def name_without_ending(path: Path) -> str:
    """`photos` of `photos.tar.gz`."""
    return _ENDING.sub("", path.name) or path.name


def visible_path(name: bytes, archive: str) -> bytes | None:
    """The path of a member without components that mean nothing, None for what is hidden.

    Raises DataError for a name that leads out of the archive.
    """
    if not _UNUSUAL.search(name):
        return name or None
    if _UNSAFE.search(name):
        raise DataError(
            f"expected paths inside {archive}, got {name.decode(errors='backslashreplace')!r}, which leads out of it: "
            "do not trust it, or make it again from the folder itself"
        )
    path = _IDLE.sub(rb"\1", name).rstrip(b"/")
    return None if not path or _HIDDEN.search(path) else path


@dataclass(frozen=True)
class _Contents:
    """What is visible in an archive; folders end in a slash."""

    paths: pyarrow.LargeBinaryArray
    places: np.ndarray
    folders: pyarrow.LargeBinaryArray
    left_out: dict[bytes, str]
    notes: list[str]


def _gather(archive: Path, members: Iterator[Member]) -> _Contents:
    paths, folders, places, links = Texts(), Texts(), array("q"), list[tuple[bytes, bytes]]()
    left_out: dict[bytes, str] = {}
    notes: list[str] = []
    try:
        for name, kind, place, link in members:
            path = visible_path(name, archive.name)
            if path is None:
                continue
            if kind == FILE:
                paths.append(path)
                places.extend(place)
            elif kind == FOLDER:
                folders.append(path + b"/")
            elif kind == HARD_LINK:
                links.append((path, posixpath.normpath(link)))
            elif kind == SYMBOLIC_LINK:
                links.append((path, posixpath.normpath(posixpath.join(posixpath.dirname(path), link))))
            else:
                left_out[path] = f"it is {kind}"
    except BrokenTarError as error:
        notes.append(told(error, archive.name, f"the {len(paths):,} whole files before that are used"))
        if error.member is not None:
            left_out[error.member] = f"{archive.name} ends in the middle of it"
    rows = np.arange(len(paths))
    column = paths.column()
    if links:
        import pyarrow
        import pyarrow.compute

        targets = pyarrow.array([target for _, target in links], pyarrow.large_binary())
        found = pyarrow.compute.index_in(targets, value_set=column).fill_null(-1).to_numpy()
        left_out |= {
            path: "it is a link to what is no file in the archive"
            for (path, _), row in zip(links, found, strict=True)
            if row < 0
        }
        linked = [path for (path, _), row in zip(links, found, strict=True) if row >= 0]
        column = pyarrow.concat_arrays([column, pyarrow.array(linked, pyarrow.large_binary())])
        rows = np.concatenate([rows, found[found >= 0]])
    if left_out:
        shown = ", ".join(os.fsdecode(name) for name in list(left_out)[:3])
        notes.append(f"{archive.name}: {len(left_out):,} entries were left out ({shown}{', …' * (len(left_out) > 3)})")
    latest = _latest(column)
    if len(latest) < len(column):
        notes.append(
            f"{archive.name}: {len(column) - len(latest):,} entries were left out, as others of their path follow"
        )
    width = len(places) // max(len(paths), 1)
    table = np.frombuffer(places, np.int64).reshape(-1, width or 1)[rows[latest]]
    return _Contents(column.take(latest), table, folders.column(), left_out, notes)


def _latest(paths: pyarrow.LargeBinaryArray) -> np.ndarray:
    """The last row of each path: a tool that unpacks would write the others over."""
    numbers = paths.dictionary_encode().indices.to_numpy()
    last = np.empty(numbers.max(initial=-1) + 1, np.int64)
    last[numbers] = np.arange(len(numbers))
    return np.sort(last)


def told(error: BrokenTarError, name: str, consequence: str) -> str:
    """A note on a tar file that is cut off."""
    within = "" if error.member is None else f", in the middle of {os.fsdecode(error.member)!r}"
    return f"{name} is not whole ({error.reason}{within}): {consequence}, fetch it again"


def _slowness(stream: PlainFile | CompressedFile, places: np.ndarray) -> list[str]:
    """A note for what must be read from its start again and again."""
    content = int(places.sum(1).max(initial=0))
    if isinstance(stream, PlainFile) or stream.has_marks or content <= KEPT_BYTES:
        return []
    return [
        f"{stream.path.name} can only be read from its start, for every picture that is not near the one before: "
        "a zip, .tar or .tar.gz of the same is faster by far"
    ]


def _refuse_overlaps(archive: Path, places: np.ndarray) -> None:
    if not len(places):
        return
    starts, packed = places[:, 0], places[:, 2]
    order = np.argsort(starts)
    ends = starts[order] + zip_members.LEAST_HEADER + packed[order]
    if (ends[:-1] > starts[order][1:]).any():
        raise DataError(
            f"expected members one after the other in {archive.name}, got some that overlap: it is damaged or a bomb, "
            "do not trust it"
        )


def _root(entries: pyarrow.LargeBinaryArray) -> bytes:
    """Where a tree of splits or classes begins: a folder with a slash if one was packed as a whole, else empty.

    It is the folder that holds everything, and itself no split, if there are folders of splits or more than one folder
    in it: a folder of pictures alone is a class.
    """
    import pyarrow.compute

    if not len(entries):
        return b""
    extremes = pyarrow.compute.min_max(entries)
    common = posixpath.commonprefix([extremes["min"].as_py(), extremes["max"].as_py()]).rpartition(b"/")[0]
    if not common:
        return b""
    below = _within(common + b"/", entries)
    inner = [_is_split(folder) for folder in _folders(_FIRST_FOLDER, below)]
    if inner and all(inner):
        return common + b"/"
    above = common.split(b"/")
    for depth, name in enumerate(above):
        if _is_split(os.fsdecode(name)):
            return b"".join(each + b"/" for each in above[:depth])
    return common + b"/" if len(inner) > 1 else b""


def _within(folder: bytes, paths: pyarrow.LargeBinaryArray) -> pyarrow.LargeBinaryArray:
    import pyarrow.compute

    return pyarrow.compute.binary_replace_slice(paths, start=0, stop=len(folder), replacement=b"")


def _folders(pattern: str, paths: pyarrow.LargeBinaryArray) -> list[str]:
    """Each different folder that the pattern's one group finds in the paths."""
    import pyarrow.compute

    found = pyarrow.compute.struct_field(pyarrow.compute.extract_regex(paths, pattern), 0)
    return [os.fsdecode(folder.as_py()) for folder in found.unique().drop_null()]


def _is_split(folder: str) -> bool:
    return folder.lower() in SPLIT_FOLDERS
