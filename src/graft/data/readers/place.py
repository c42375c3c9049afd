"""Where images and the tables about them lie together: a folder or an archive, listed once for all readers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from graft.arrow import as_numpy
from graft.data.dataset import Source
from graft.data.readers.folder import Files
from graft.data.readers.folder_tree import Tree, grow
from graft.data.readers.tree import Listing
from graft.on_disk import below

if TYPE_CHECKING:
    import numpy as np
    import pyarrow


@dataclass(frozen=True)
class Place:
    """Files below `root`; the rows of `source` are those of `listing`.

    For an archive (`packed`), `root` is a folder in which its tables are unpacked when asked for.
    """

    root: Path
    listing: Listing
    source: Source
    packed: bool = False

    @cached_property
    def tree(self) -> Tree:
        return grow(self.listing.files, self.listing.folders)

    def names(self, pattern: str) -> list[str]:
        """The paths of the files that match an expression."""
        import pyarrow.compute

        files = self.listing.files
        return [
            os.fsdecode(each.as_py()) for each in files.filter(pyarrow.compute.match_substring_regex(files, pattern))
        ]

    def file(self, name: str) -> Path:
        """A file on disk, unpacked if necessary. Raises OSError."""
        path = self.root / name
        if self.packed and not path.exists():
            content = self.source.read(int(self.rows(_column([name]))[0]))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(content))
        return path

    def files_below(self, folder: Path) -> pyarrow.LargeBinaryArray:
        """The paths of the files in a folder below `root`, relative to that folder."""
        import pyarrow.compute

        prefix = b"" if folder == self.root else os.fsencode(folder.relative_to(self.root)) + b"/"
        files = self.listing.files
        files = files.filter(pyarrow.compute.starts_with(files, prefix))
        return pyarrow.compute.replace_substring(files, prefix, b"", max_replacements=1) if prefix else files

    def rows(self, paths: pyarrow.LargeBinaryArray) -> np.ndarray:
        """The row of each path, int64 (N,), -1 for a path that is not here."""
        import pyarrow.compute

        found = pyarrow.compute.index_in(paths, value_set=self.listing.files)
        return as_numpy(found.fill_null(-1)).astype("int64")

    def source_of(self, folder: Path, paths: pyarrow.LargeBinaryArray) -> Source:
        """The images at some paths below a folder, whether they exist or not."""
        if not self.packed:
            return Files(folder, paths)
        if folder != self.root:
            paths = below(os.fsencode(folder.relative_to(self.root)) + b"/", paths)
        return Chosen(self.source, self.rows(paths), paths)


class Chosen:
    """Rows of another source, int64 (N,), in their own order; -1 stands for a path that it does not hold."""

    def __init__(self, source: Source, rows: np.ndarray, paths: pyarrow.LargeBinaryArray) -> None:
        self.source, self.rows, self.paths = source, rows, paths

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, row: int) -> str:
        return self.key(row) if self.rows[row] < 0 else self.source.name(int(self.rows[row]))

    def key(self, row: int) -> str:
        return os.fsdecode(self.paths[row].as_py())

    def read(self, row: int) -> bytes | np.ndarray:
        if self.rows[row] < 0:
            raise OSError("expected a file in the archive, got none of that name")
        return self.source.read(int(self.rows[row]))

    def stamp(self, row: int) -> str:
        return "missing" if self.rows[row] < 0 else self.source.stamp(int(self.rows[row]))


def _column(names: list[str]) -> pyarrow.LargeBinaryArray:
    import pyarrow

    return pyarrow.array(map(os.fsencode, names), pyarrow.large_binary())
