"""A folder per class, with or without a folder per split above: `train/ants/1.jpg` or `ants/1.jpg`.

Every file counts as a picture whatever its ending, since endings lie; one that cannot be decoded is skipped and named
later. Hidden files are passed over, links are followed, and a folder that was already visited is not entered again.
"""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from graft.data.dataset import TEST, TRAIN, VAL, WHOLE, Dataset, Pictures
from graft.errors import DataError

SPLIT_FOLDERS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VAL,
    "valid": VAL,
    "validation": VAL,
    "test": TEST,
    "testing": TEST,
}


class Files:
    """Pictures that are files of their own."""

    def __init__(self, paths: list[Path], root: Path | None = None) -> None:
        self.paths = paths
        self.root = root

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, row: int) -> str:
        return str(self.paths[row])

    def read(self, row: int) -> bytes:
        from graft.images.decoding import MAX_BYTES

        path = self.paths[row]
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            # A pipe or a device: reading it may never end.
            raise OSError("expected a file, got something else under its name")
        if status.st_size > MAX_BYTES:
            raise OSError(f"expected a picture of at most {MAX_BYTES:,} bytes, got {status.st_size:,}")
        return path.read_bytes()

    def stamp(self, row: int) -> str:
        path = self.paths[row]
        name = path.relative_to(self.root).as_posix() if self.root else str(path)
        return f"{name}:{file_stamp(path)}"


def file_stamp(path: Path) -> str:
    """Number, size and times of a file, a text that changes when its content does.

    The change time is in it beside the modification time, which unpacking and copying tools set back. The number tells
    apart files of one size that were written within a tick of the clock.
    """
    try:
        status = path.stat()
    except OSError:
        return "missing"
    return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


def read_folder(root: Path) -> Dataset:
    """A Dataset from a folder of folders. Raises DataError when no class holds a file."""
    children = _folders(root)
    splits = {child: SPLIT_FOLDERS[child.name.lower()] for child in children if child.name.lower() in SPLIT_FOLDERS}
    others = [child for child in children if child not in splits]
    notes: list[str] = []
    # One class may be called `train` among others; a training folder beside another split is one.
    if splits and (not others or (TRAIN in splits.values() and len(set(splits.values())) > 1)):
        if len(set(splits.values())) < len(splits):
            names = ", ".join(sorted(folder.name for folder in splits))
            raise DataError(f"expected one folder per split in {root}, got {names}: merge the ones that mean the same")
        found = {name: _classes(folder, notes) for folder, name in splits.items()}
        notes += [f"{root.name}: folder {child.name!r} is no split and was left out" for child in others]
    else:
        found = {WHOLE: _classes(root, notes)}
    notes += [
        f"{root.name if name == WHOLE else name}: class folder {label!r} is empty and was left out"
        for name, classes in found.items()
        for label, paths in classes.items()
        if not paths
    ]
    notes += _strays(root, [root] if WHOLE in found else [root, *splits])
    classes = tuple(sorted({label for folders in found.values() for label, paths in folders.items() if paths}))
    if not classes:
        raise DataError(
            f"expected a folder per class with pictures in it, got {_what_is_there(root)}: "
            "put the pictures of each class in a folder named after it"
        )
    index = {label: number for number, label in enumerate(classes)}
    pictures = {}
    for name, folders in found.items():
        paths = [(path, index[label]) for label, files in sorted(folders.items()) for path in files]
        labels = np.array([label for _, label in paths], dtype=np.int64)
        pictures[name] = Pictures(Files([path for path, _ in paths], root), np.arange(len(paths)), labels)
    return Dataset(root.name, classes, pictures, tuple(notes))


def files_below(folder: Path, failed: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    """Every file that is not hidden, at any depth, sorted by name within each folder; links are followed once.

    `failed` is told of each folder that cannot be read; without it such folders are passed over.
    """
    # A link to a folder above leads to pictures that are counted elsewhere, perhaps under another class.
    seen = {_identity(above) for above in folder.absolute().parents}
    for parent, folders, files in os.walk(folder, onerror=failed, followlinks=True):
        identity = _identity(Path(parent))
        if identity in seen:
            folders.clear()
            continue
        seen.add(identity)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError as error:
        raise DataError(
            f"expected a folder that can be read, got {root} ({error.strerror}): check its rights"
        ) from None


def _classes(folder: Path, notes: list[str]) -> dict[str, list[Path]]:
    """Files by class folder; a folder that cannot be read is added to `notes`."""

    def note(error: OSError) -> None:
        notes.append(f"folder {error.filename} cannot be read ({error.strerror}) and was left out")

    return {child.name: list(files_below(child, note)) for child in _folders(folder)}


def _strays(root: Path, parents: list[Path]) -> list[str]:
    """A note for files that lie beside the class folders and so have no class."""
    notes = []
    for parent in parents:
        files = [child for child in sorted(parent.iterdir()) if child.is_file() and not child.name.startswith(".")]
        if files:
            shown = ", ".join(file.name for file in files[:3]) + (", …" if len(files) > 3 else "")
            folder = parent.name if parent == root else f"{root.name}/{parent.name}"
            notes.append(f"{folder}: {len(files)} file(s) outside any class folder were left out ({shown})")
    return notes


def _what_is_there(root: Path) -> str:
    children = list(root.iterdir())
    folders = sum(child.is_dir() for child in children)
    if not children:
        return f"an empty folder ({root})"
    return f"{folders} folder(s) without pictures and {len(children) - folders} file(s) in {root}"
