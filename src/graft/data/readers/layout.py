"""How a tree was understood: which folder holds the images of which class, in which split.

`folder_meanings` decides this; `layout_advice` says what cannot be decided and what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from graft.data.readers.aside import Aside, Sorted, sort_folders
from graft.data.readers.folder_tree import Folder, Tree
from graft.data.readers.split_names import fold_of


@dataclass(frozen=True)
class Place:
    """A folder whose images are of one class, in one split; `fold` is its fold or source, if any."""

    folder: Folder
    split: str
    label: str
    fold: str | None = None


@dataclass
class Layout:
    """How a tree was understood: places of images, folders left out, empty class folders, and notes.

    `root` is where splits or classes begin; `splits` are the split folders.
    """

    tree: Tree
    root: Folder
    places: list[Place] = field(default_factory=list)
    aside: list[Aside] = field(default_factory=list)
    empty: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    splits: list[Folder] = field(default_factory=list)
    _sorted: dict[Folder, Sorted] = field(default_factory=dict)

    def folders_in(self, folder: Folder) -> tuple[Folder, ...]:
        """The folders in a folder that may stand for something; the others are put aside."""
        if folder not in self._sorted:
            self._sorted[folder] = sort_folders(self.tree, folder)
            self.aside += self._sorted[folder].aside
        return self._sorted[folder].kept

    def empty_in(self, folder: Folder) -> tuple[Folder, ...]:
        self.folders_in(folder)
        return self._sorted[folder].empty

    def inside(self, folder: Folder) -> Folder:
        """The innermost in a chain of single folders of folders that starts at `folder`, whatever their names."""
        while len(inner := self.folders_in(folder)) == 1 and holds_folders(inner[0], self.folders_in(inner[0])):
            folder = inner[0]
        return folder


def holds_folders(folder: Folder, inner: Sequence[Folder]) -> bool:
    """Whether what matters in a folder lies in its subfolders: few images beside several of them, or none."""
    below = sum(each.all_images for each in inner)
    return bool(inner) and folder.images < (below if len(inner) > 1 else 1)


def are_folds(folders: Sequence[Folder]) -> bool:
    """Whether sibling folders are all named as folds of a cross-validation."""
    return len(folders) > 1 and all(fold_of(folder.name) for folder in folders)
