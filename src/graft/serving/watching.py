"""Images as they arrive in a folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from graft.data.readers.folder import files_below
from graft.errors import InputError
from graft.on_disk import file_stamp

# Seconds between two looks at a folder; a look may take a tenth of the time, so large folders are looked at less often.
PAUSE, SHARE = 0.5, 0.1
# What programs call a file that they are still writing.
UNDER_WAY = (".part", ".partial", ".crdownload", ".download", ".tmp", ".filepart")


def arrivals(folder: Path, wait: Callable[[float], None] = time.sleep) -> Iterator[list[Path]]:
    """At every look at the folder, the files at any depth that are there and whole, each once; it never ends.

    A file is whole when two looks show it with the same size and times, and one that changes after that has arrived
    again. Hidden files and those named as unfinished are passed over. `wait` is called with the seconds between looks.
    Raises InputError where the folder is none, or is gone.
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
        # What is gone is forgotten, so that memory holds no more than the folder.
        told = {file: told[file] for file in told if file in found} | {file: found[file] for file in ready}
        seen = found
        took = time.monotonic() - began
        yield ready
        wait(max(PAUSE, took / SHARE))
