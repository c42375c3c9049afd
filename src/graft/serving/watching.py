"""Watch a folder for arriving images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from graft.data.readers.folder import files_below
from graft.errors import InputError
from graft.on_disk import file_stamp

# Seconds between two scans of a folder. A scan may take a tenth of the time, so large folders are scanned less often.
PAUSE, SHARE = 0.5, 0.1
# File extensions that programs use for files still being written.
UNDER_WAY = (".part", ".partial", ".crdownload", ".download", ".tmp", ".filepart")


def arrivals(folder: Path, wait: Callable[[float], None] = time.sleep) -> Iterator[list[Path]]:
    """Yield, per scan of the folder, the complete files at any depth, each once; never ends.

    A file is complete when two scans show it with the same size and times; one that changes afterwards has arrived
    again. Hidden files and those with a name for unfinished files are skipped. `wait` is called with the seconds
    between scans. Raises InputError if the folder does not exist, is not a folder, or disappears.
    """
    _check(folder)
    return _arrivals(folder, wait)


def _check(folder: Path) -> None:
    if not folder.is_dir():
        came = "which is a file" if folder.exists() else "which is not there"
        raise InputError(
            f"expected a folder to watch, got {str(folder)!r}, {came}: give the folder that images arrive in"
        )


def _arrivals(folder: Path, wait: Callable[[float], None]) -> Iterator[list[Path]]:
    seen: dict[Path, str] = {}
    told: dict[Path, str] = {}
    while True:
        _check(folder)
        began = time.monotonic()
        found = {file: file_stamp(file) for file in files_below(folder) if file.suffix.lower() not in UNDER_WAY}
        ready = [file for file, stamp in found.items() if seen.get(file) == stamp != told.get(file)]
        # Forget files that are gone, so that memory holds no more than the folder.
        told = {file: told[file] for file in told if file in found} | {file: found[file] for file in ready}
        seen = found
        took = time.monotonic() - began
        yield ready
        wait(max(PAUSE, took / SHARE))
