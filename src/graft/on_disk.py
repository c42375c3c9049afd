"""Whether files exist, for a million paths at once: a folder with many of them is listed, not queried per file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.names import restored

if TYPE_CHECKING:
    import pyarrow

# One query takes about as long as listing ten files, so a folder with fewer rows is not listed.
_WORTH_LISTING = 100
# Not a path: `https://…`. A letter before a colon may be a drive.
_ADDRESS = r"^[A-Za-z][A-Za-z0-9+.-]+://"


def as_written(
    paths: pyarrow.LargeBinaryArray, exist: Callable[[pyarrow.LargeBinaryArray], np.ndarray]
) -> tuple[pyarrow.LargeBinaryArray, np.ndarray]:
    """Return paths as the files that `exist` finds are spelled, and which paths have a file, bool (N,).

    A path without a file is tried again as `graft.names` writes names that are not text, and then without surrounding
    spaces and with slashes in place of backslashes.
    """
    import pyarrow.compute

    there = exist(paths)
    for respelled in (_restored, tidy):
        missing = np.flatnonzero(~there)
        tried = respelled(paths.take(missing))
        differs = pyarrow.compute.not_equal(tried, paths.take(missing))
        missing, tried = missing[differs.to_numpy(zero_copy_only=False)], tried.filter(differs)
        if len(missing):
            found = exist(tried)
            there[missing] = found
            mask = np.zeros(len(paths), bool)
            mask[missing[found]] = True
            paths = pyarrow.compute.replace_with_mask(paths, mask, tried.filter(found))
    return paths, there


def _restored(paths: pyarrow.LargeBinaryArray) -> pyarrow.LargeBinaryArray:
    import pyarrow
    import pyarrow.compute

    if not pyarrow.compute.any(pyarrow.compute.match_substring(paths, "\\x")).as_py():
        return paths
    names = (os.fsencode(restored(os.fsdecode(path.as_py()))) for path in paths)
    return pyarrow.array(names, pyarrow.large_binary())


def tidy(paths: pyarrow.LargeBinaryArray) -> pyarrow.LargeBinaryArray:
    import pyarrow
    import pyarrow.compute

    slashes = pyarrow.compute.replace_substring(paths, "\\", "/").cast(pyarrow.large_string(), safe=False)
    return pyarrow.compute.ascii_trim_whitespace(slashes).cast(pyarrow.large_binary())


def below(folder: bytes, names: pyarrow.LargeBinaryArray) -> pyarrow.LargeBinaryArray:
    """Prefix names with a folder, which ends in a slash."""
    import pyarrow
    import pyarrow.compute

    start, nothing = (pyarrow.scalar(text, pyarrow.large_binary()) for text in (folder, b""))
    return pyarrow.compute.binary_join_element_wise(start, names, nothing)


def exist_below(root: Path, paths: pyarrow.LargeBinaryArray) -> np.ndarray:
    """Return which paths below `root` exist, bool (N,)."""
    import pyarrow
    import pyarrow.compute

    # os.path rather than Path, which would take three times as long for a million files.
    start = os.fsencode(root)
    folders = pyarrow.compute.replace_substring_regex(paths, "[^/]*$", "").dictionary_encode()
    of_row = folders.indices.to_numpy()
    counts = np.bincount(of_row, minlength=len(folders.dictionary))
    listed, exact = [pyarrow.array([], pyarrow.large_binary())], np.zeros(len(counts), bool)
    for number in np.flatnonzero(counts >= _WORTH_LISTING).tolist():
        folder = folders.dictionary[number].as_py()
        names, exact[number] = _list(os.path.join(start, folder))  # noqa: PTH118
        listed.append(below(folder, pyarrow.array(names, pyarrow.large_binary())))
    there = np.array(pyarrow.compute.is_in(paths, value_set=pyarrow.concat_arrays(listed)))
    for row in np.flatnonzero(~there & ~exact[of_row]).tolist():
        path = paths[row].as_py()
        there[row] = bool(path) and _is_there(os.path.join(start, path))  # noqa: PTH118
    return there


def in_one_spelling(root: Path, paths: pyarrow.LargeBinaryArray) -> pyarrow.LargeBinaryArray:
    """Return paths below `root`, absolute or not, so that all that lead to one file without a link are the same."""
    import pyarrow
    import pyarrow.compute

    several = pyarrow.compute.match_substring_regex(paths, r"(^|/)\.{0,2}/")
    address = pyarrow.compute.match_substring_regex(paths, _ADDRESS)
    mask = pyarrow.compute.and_not(several, address)
    odd = paths.filter(mask)
    if not len(odd):
        return paths
    folders = pyarrow.compute.replace_substring_regex(odd, "[^/]*$", "").dictionary_encode()
    start = os.path.abspath(os.fsencode(root))  # noqa: PTH100
    plain = pyarrow.array([_plain_folder(start, each.as_py()) for each in folders.dictionary], pyarrow.large_binary())
    names = pyarrow.compute.replace_substring_regex(odd, "^.*/", "")
    nothing = pyarrow.scalar(b"", pyarrow.large_binary())
    spelled = pyarrow.compute.binary_join_element_wise(plain.take(folders.indices), names, nothing)
    return pyarrow.compute.replace_with_mask(paths, mask, spelled)


def _plain_folder(start: bytes, folder: bytes) -> bytes:
    """A folder relative to another, with a slash at its end unless both are the same; as it was behind a link."""
    written = os.path.join(start, folder)  # noqa: PTH118
    plain = os.path.normpath(written)
    # The folder above a link is not the one above what the link leads to.
    if b".." in folder.split(b"/") and os.path.exists(written) and not _is_same(written, plain):  # noqa: PTH110
        return folder
    found = os.path.relpath(plain, start)
    if os.path.isabs(folder) and found.split(b"/")[0] == b"..":  # noqa: PTH117
        return folder
    return b"" if found == b"." else found + b"/"


def _is_same(one: bytes, other: bytes) -> bool:
    try:
        return os.path.samefile(one, other)  # noqa: PTH121
    except OSError:
        return False


def _is_there(path: bytes) -> bool:
    # A class name may equal its folder's name, and a folder is not an image.
    return os.path.exists(path) and not os.path.isdir(path)  # noqa: PTH110, PTH112


def _list(folder: bytes) -> tuple[list[bytes], bool]:
    """Return the names of files in a folder, and whether any file not among them certainly does not exist.

    Such a file may exist if the folder cannot be listed, or if its disk ignores case.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return [], True
    except (OSError, ValueError):
        return [], False
    other = next((name.swapcase() for name in names if name.swapcase() != name), None)
    return names, other is None or other in names or not os.path.exists(os.path.join(folder, other))  # noqa: PTH110, PTH118


def file_stamp(path: Path) -> str:
    """Return the inode, size and times of a file as a string that changes when the content does.

    The change time is included because unpacking and copying tools set back the modification time; the inode, because
    files of equal size may be written within one clock tick.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):
        return "missing"
    return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"
