"""The folders of a tree and how many files they hold, built from file paths; layouts are read from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from graft.arrow import as_numpy
from graft.endings import NO_IMAGE

if TYPE_CHECKING:
    import pyarrow


def are_no_images(files: pyarrow.LargeBinaryArray) -> np.ndarray:
    """Which files, at paths with `/`, large_binary (N,), have names of something other than images: bool (N,)."""
    import pyarrow.compute

    return as_numpy(pyarrow.compute.match_substring_regex(files, NO_IMAGE))


@dataclass(eq=False)
class Folder:
    """A folder: its path below the root, how many files lie directly in it, and how many of these may be images.

    `all_files` and `all_images` include those in its subfolders. `number` is its number among the folders that directly
    hold files, -1 if it holds none.
    """

    path: tuple[str, ...]
    number: int = -1
    files: int = 0
    images: int = 0
    all_files: int = 0
    all_images: int = 0
    folders: dict[str, Folder] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path[-1] if self.path else ""

    def below(self) -> Iterator[Folder]:
        """Yield the folder itself and all folders in it, at any depth."""
        pending = [self]
        while pending:
            folder = pending.pop()
            yield folder
            pending.extend(folder.folders.values())


@dataclass(frozen=True)
class Tree:
    """A root, the number of each file's folder, int64 (N,), and how to get the names of the files in folders."""

    root: Folder
    folder_of_file: np.ndarray
    names_in: Callable[[Folder], list[str]]

    def reaches(self, parts: Sequence[str]) -> bool:
        """Whether there is a folder at a path."""
        folder: Folder | None = self.root
        for name in parts:
            folder = None if folder is None else folder.folders.get(name)
        return folder is not None


def grow(files: pyarrow.LargeBinaryArray, empty: Iterable[tuple[str, ...]] = ()) -> Tree:
    """Build a tree from files at paths with `/`, large_binary (N,), and from further folders, which may be empty."""
    import pyarrow.compute

    parents = pyarrow.compute.replace_substring_regex(files, r"(?s)/?[^/]*$", "").dictionary_encode()
    numbers = as_numpy(parents.indices).astype(np.int64)
    no_image = are_no_images(files)
    held = np.bincount(numbers, minlength=len(parents.dictionary)).tolist()
    without = np.bincount(numbers[no_image], minlength=len(parents.dictionary)).tolist()
    root = Folder(())
    for number, path in enumerate(parents.dictionary):
        text = os.fsdecode(path.as_py())
        folder = _reach(root, tuple(text.split("/")) if text else ())
        folder.number, folder.files, folder.images = number, held[number], held[number] - without[number]
    for parts in empty:
        _reach(root, parts)
    for folder in reversed(list(root.below())):
        inner = folder.folders.values()
        folder.all_files = folder.files + sum(each.all_files for each in inner)
        folder.all_images = folder.images + sum(each.all_images for each in inner)

    by_folder, ends = np.argsort(numbers, kind="stable"), np.cumsum([0, *held])

    def names_in(folder: Folder) -> list[str]:
        """The names of all files below a folder."""
        within = [each.number for each in folder.below() if each.number >= 0]
        rows = np.concatenate([by_folder[:0], *(by_folder[ends[number] : ends[number + 1]] for number in within)])
        return [os.fsdecode(path.as_py()).rpartition("/")[2] for path in files.take(rows)]

    return Tree(root, numbers, names_in)


def _reach(root: Folder, parts: tuple[str, ...]) -> Folder:
    folder = root
    for depth, name in enumerate(parts, 1):
        folder = folder.folders.setdefault(name, Folder(parts[:depth]))
    return folder
