"""One folder per class, with or without one folder per split above: `train/ants/1.jpg` or `ants/1.jpg`.

Hidden files are ignored, links are followed, and no folder is entered twice.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from graft.arrow import binary_array
from graft.data.dataset import Dataset, Several, Source
from graft.data.readers.tree import Listing, arrange
from graft.errors import DataError
from graft.on_disk import file_stamp

if TYPE_CHECKING:
    import pyarrow


# Files that Windows hides in folders of images.
_OF_WINDOWS = ("thumbs.db", "ehthumbs.db", "desktop.ini")


# Other things that may have a file name.
_OTHER_KINDS = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"))


class Files:
    """Images in individual files, at paths relative to a folder: bytes with `/`, large_binary (N,)."""

    def __init__(self, root: Path, paths: pyarrow.LargeBinaryArray) -> None:
        self.root = root
        self.paths = paths

    @classmethod
    def of(cls, paths: Iterable[Path | str], root: Path | None = None) -> Files:
        """Files at absolute paths or paths relative to `root`, by default the working directory."""
        return cls(root or Path(), binary_array(os.fsencode(path) for path in paths))

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, row: int) -> Path:
        return self.root / self.key(row)

    def name(self, row: int) -> str:
        return str(self.path(row))

    def key(self, row: int) -> str:
        return os.fsdecode(self.paths[row].as_py())

    def read(self, row: int) -> bytes:
        return read_file(self.path(row))

    def stamp(self, row: int) -> str:
        return f"{self.key(row)}:{file_stamp(self.path(row))}"


def folders_of(sources: Iterable[Source]) -> set[str]:
    """The absolute paths of the folders that hold images in individual files; empty for other sources."""
    import pyarrow.compute

    found: set[str] = set()
    for source in {id(source): source for source in sources}.values():
        if isinstance(source, Several):
            found |= folders_of(source.sources)
        elif isinstance(source, Files):
            # Addresses lie in no folder.
            below = pyarrow.compute.replace_substring_regex(source.paths, "[^/]*$", "").unique()
            # Done on text: checking a million folders on disk would take long.
            root = source.root.resolve()
            found |= {os.path.normpath(root / os.fsdecode(folder.as_py())) for folder in below}
    return found


def read_file(path: Path) -> bytes:
    """Read the bytes of an image. Raises OSError if it is not a regular file or is larger than an image may be."""
    from graft.images.decoding import MAX_BYTES

    try:
        status = path.stat()
    except ValueError:
        raise OSError("expected a readable file, got a path with NUL in it, which no path can have") from None
    if stat.S_ISDIR(status.st_mode):
        raise OSError("expected a readable file, got a folder: name its files, or use `graft predict RUN FOLDER`")
    if not stat.S_ISREG(status.st_mode):
        # Reading it might never end.
        came = next((name for is_one, name in _OTHER_KINDS if is_one(status.st_mode)), "something else")
        raise OSError(
            f"expected a regular file, got {came}: write its content to a file (`cat > image.jpg`), and name that"
        )
    if status.st_size > MAX_BYTES:
        raise OSError(f"expected an image of at most {MAX_BYTES:,} bytes, got {status.st_size:,}")
    return path.read_bytes()


def read_folder(root: Path, keep_folds: bool = True) -> Dataset:
    """Read a Dataset from a folder of folders, as `arrange` does. Raises DataError if no class holds a file."""
    listing = list_folder(root)
    return arrange(listing, Files(root, listing.files), keep_folds)


def list_folder(root: Path) -> Listing:
    """List a folder; notes name subfolders that cannot be read. Raises DataError if the folder itself cannot."""
    import pyarrow

    notes: list[str] = []

    def failed(error: OSError) -> None:
        if Path(error.filename) == root:
            raise DataError(f"expected a folder that can be read, got {root} ({error.strerror}): check its permissions")
        notes.append(f"folder {error.filename} cannot be read ({error.strerror}) and was left out")

    prefix, chunks, folders = os.fsencode(root) + b"/", [binary_array([])], set()
    for folder, names in _walk(root, failed):
        below = os.fsencode(folder).removeprefix(prefix[:-1]).lstrip(b"/")
        paths = [(below + b"/" if below else b"") + os.fsencode(name) for name in names]
        chunks.append(binary_array(paths))
        if below and not names:
            folders.add(tuple(os.fsdecode(below).split("/")))
    return Listing(straight(root).name, pyarrow.concat_arrays(chunks), frozenset(folders), tuple(notes))


def straight(path: Path) -> Path:
    """The same file or folder without `..`, which hides its name and what lies above or below it.

    Links that remain are kept, since paths in a table that is a link start from the link.
    """
    turns = [number for number, part in enumerate(path.parts, 1) if part == ".."]
    return Path(*path.parts[: turns[-1]]).resolve().joinpath(*path.parts[turns[-1] :]) if turns else path


def files_below(folder: Path, failed: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    """Yield all files that are not hidden, at any depth, sorted by name within each folder; links are followed once.

    `failed` is called for each folder that cannot be read; without it, such folders are skipped.
    """
    for parent, names in _walk(folder, failed):
        yield from (Path(parent, name) for name in names)


def _walk(folder: Path, failed: Callable[[OSError], None] | None = None) -> Iterator[tuple[str, list[str]]]:
    """Yield all folders at any depth with their sorted file names, except hidden ones."""
    # A link to a folder above leads to images found elsewhere, perhaps under another class.
    seen = {_identity(above) for above in straight(folder).absolute().parents}
    for parent, folders, files in os.walk(folder, onerror=failed, followlinks=True):
        identity = _identity(Path(parent))
        if identity in seen:
            folders.clear()
            continue
        seen.add(identity)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield parent, sorted(name for name in files if not name.startswith(".") and name.lower() not in _OF_WINDOWS)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
