"""A zip or tar file of image folders: `photos.zip` with `train/ants/1.jpg` in it, or `photos/train/ants/1.jpg`.

Members are read in place; a compressed tar file is first expanded into the cache. The rules are those of a folder;
hidden entries and those that macOS adds are skipped.
"""

from __future__ import annotations

import os
import posixpath
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.archive_paths import Texts, name_without_ending, visible_path
from graft.data.dataset import Dataset
from graft.data.readers.tree import Listing, arrange
from graft.errors import DataError
from graft.expanding import Contents
from graft.on_disk import file_stamp
from graft.tar_members import (
    FILE,
    FOLDER,
    HARD_LINK,
    SYMBOLIC_LINK,
    BrokenTarError,
    Member,
    looks_like_tar,
    members_of,
)
from graft.words import counted
from graft.zip_members import Zip

if TYPE_CHECKING:
    import pyarrow

_ZIP = (b"PK\3\4", b"PK\5\6")


class Members:
    """Images in an archive: their paths, large_binary (N,), and positions, int64 (N, k), the arguments of `read`."""

    def __init__(
        self,
        archive: Path,
        paths: pyarrow.LargeBinaryArray,
        places: np.ndarray,
        read: Callable[..., bytes],
        blocks: Callable[..., Iterator[bytes]],
    ) -> None:
        self.archive = archive
        self.paths = paths
        self.places = places
        self._read, self._blocks = read, blocks
        # For an archive within another: unpacks it again if it is gone.
        self.ensure: Callable[[], object] | None = None
        self._stamp = file_stamp(archive)

    def __len__(self) -> int:
        return len(self.paths)

    def key(self, row: int) -> str:
        return os.fsdecode(self.paths[row].as_py())

    def name(self, row: int) -> str:
        return f"{self.archive.name}/{self.key(row)}"

    def read(self, row: int) -> bytes:
        if self.ensure is not None:
            self.ensure()
        return self._read(*self.places[row].tolist())

    def blocks(self, row: int) -> Iterator[bytes]:
        """Yield the content of a file of any size in blocks."""
        return self._blocks(*self.places[row].tolist())

    def stamp(self, row: int) -> str:
        return f"{self._stamp}:{self.key(row)}"


def is_archive(path: Path) -> bool:
    """Whether `path` starts like a zip or tar file, compressed or not."""
    return path.is_file() and (_is_zip(path) or looks_like_tar(path))


def _is_zip(path: Path) -> bool:
    with path.open("rb") as opened:
        return opened.read(4) in _ZIP


def list_archive(path: Path, encoding: str | None = None) -> tuple[Listing, Members]:
    """List the content of a zip or tar file; `encoding` is that of `Zip`.

    Raises DataError if nothing in it can be read, for paths that lead out of the archive, for encrypted members, and
    for content out of all proportion to the file size.
    """
    found, members = _open(path, encoding)
    if found.notes and not len(found.paths):
        raise DataError(f"expected folders of images in {path.name}, got none that can be read: {found.notes[0]}")
    folders = frozenset(tuple(os.fsdecode(folder.as_py()).rstrip("/").split("/")) for folder in found.folders)
    left_out = {f"{path.name}/{os.fsdecode(name)}": reason for name, reason in found.left_out.items()}
    return Listing(name_without_ending(path), found.paths, folders, tuple(found.notes), left_out), members


def read_archive(path: Path, keep_folds: bool = True, encoding: str | None = None) -> Dataset:
    """Read a Dataset from a zip or tar file of folders, as `arrange` does. Raises DataError as `list_archive` does."""
    return arrange(*list_archive(path, encoding), keep_folds)


def _open(path: Path, encoding: str | None = None) -> tuple[_Found, Members]:
    read: Callable[..., bytes]
    blocks: Callable[..., Iterator[bytes]]
    if _is_zip(path):
        packed = Zip(path, encoding)
        found, read, blocks = _gather(path, packed.members()), packed.read, packed.blocks
        found.notes.extend(packed.notes)
    else:
        contents = Contents([path])
        with contents.open(0) as opened:
            found = _gather(path, members_of(opened))
        read, blocks = partial(contents.read, 0), partial(contents.blocks, 0)
    return found, Members(path, found.paths, found.places, read, blocks)


@dataclass(frozen=True)
class _Found:
    """The visible entries of an archive; folders end in a slash."""

    paths: pyarrow.LargeBinaryArray
    places: np.ndarray
    folders: pyarrow.LargeBinaryArray
    left_out: dict[bytes, str]
    notes: list[str]


def _gather(archive: Path, members: Iterator[Member]) -> _Found:
    paths, folders, places, links = Texts(), Texts(), array("q"), list[tuple[bytes, bytes]]()
    left_out: dict[bytes, str] = {}
    notes: list[str] = []
    try:
        for name, kind, place, link, _ in members:
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
        used = counted(len(paths), "whole file before that is", "whole files before that are")
        notes.append(error.note(archive.name, f"{used} used"))
        if error.member is not None:
            left_out[error.member] = f"{archive.name} ends in the middle of it"
    column, rows = _with_links(paths.column(), links, left_out)
    if left_out:
        shown = ", ".join(os.fsdecode(name) for name in list(left_out)[:3])
        count = counted(len(left_out), "entry was", "entries were")
        notes.append(f"{archive.name}: {count} left out ({shown}{', …' * (len(left_out) > 3)})")
    latest = _latest(column)
    if len(latest) < len(column):
        count = counted(len(column) - len(latest), "entry was", "entries were")
        notes.append(f"{archive.name}: {count} left out, since a later one has the same path")
    width = len(places) // max(len(paths), 1)
    table = np.frombuffer(places, np.int64).reshape(-1, width or 1)[rows[latest]]
    return _Found(column.take(latest), table, folders.column(), left_out, notes)


def _with_links(
    paths: pyarrow.LargeBinaryArray, links: list[tuple[bytes, bytes]], left_out: dict[bytes, str]
) -> tuple[pyarrow.LargeBinaryArray, np.ndarray]:
    """The paths followed by links to files, and the file that each stands for; other links are left out."""
    import pyarrow
    import pyarrow.compute

    targets = pyarrow.array([target for _, target in links], pyarrow.large_binary())
    found = pyarrow.compute.index_in(targets, value_set=paths).fill_null(-1).to_numpy()
    linked = [path for (path, _), row in zip(links, found, strict=True) if row >= 0]
    missed = [path for (path, _), row in zip(links, found, strict=True) if row < 0]
    left_out |= dict.fromkeys(missed, "it is a link to something that is not a file in the archive")
    column = pyarrow.concat_arrays([paths, pyarrow.array(linked, pyarrow.large_binary())])
    return column, np.concatenate([np.arange(len(paths)), found[found >= 0]])


def _latest(paths: pyarrow.LargeBinaryArray) -> np.ndarray:
    """The last row of each path, since unpacking would overwrite the others."""
    numbers = paths.dictionary_encode().indices.to_numpy()
    last = np.empty(numbers.max(initial=-1) + 1, np.int64)
    last[numbers] = np.arange(len(numbers))
    return np.sort(last)
