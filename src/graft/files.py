"""Atomic file writes, and the cache folder with its budget.

The folder is `GRAFT_CACHE`, else `graft` in `XDG_CACHE_HOME` or `~/.cache`; the budget is `GRAFT_CACHE_BYTES`, else 20
GiB or a fifth of the disk, whichever is less. It holds activations, compiled sections, the audit's measurements of
images and expanded archives. Each kind has a folder of its own, and all share the budget: the least recently used entry
goes first.

A cache file holds its content, then facts about it in JSON and their length, then a digest of everything before. A file
altered by the disk, a copy or another program is detected when it is read, and its content is computed again.
"""

from __future__ import annotations

import io
import json
import math
import mmap
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from xxhash import xxh3_128

from graft.errors import InputError
from graft.names import plain
from graft.progress import Reporter

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

ACTIVATIONS, COMPILED, LOOKS, EXPANDED, JOBS = "activations", "compiled", "looks", "expanded", "jobs"
# The kinds that share the budget.
KINDS = (ACTIVATIONS, COMPILED, LOOKS, EXPANDED, JOBS)
# Held by the process that works in a folder.
LOCK_FILE = ".lock"
# An unfinished file older than this belongs to a process that is gone.
ABANDONED_AFTER_SECONDS = 24 * 3600
# 128-bit XXH3: it guards against accidents, at 14 times the speed of blake2b.
DIGEST_BYTES = 16
LENGTH_BYTES = 8


def cache_folder() -> Path:
    """Return the folder for whatever graft can compute again, or do without."""
    if os.environ.get("GRAFT_CACHE"):
        return Path(os.environ["GRAFT_CACHE"]).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(home) if home else Path.home() / ".cache") / "graft"
    except RuntimeError as error:
        raise InputError(
            "expected a home folder to keep the cache in, but this user has none: set GRAFT_CACHE to a folder"
        ) from error


def cache_budget() -> int:
    """Return the number of bytes that the cache may take."""
    stated = os.environ.get("GRAFT_CACHE_BYTES")
    if stated:
        return number_of_bytes(stated, "in GRAFT_CACHE_BYTES", "write it like these, or unset it")
    folder = cache_folder().absolute()
    most = 20 * 2**30
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return min(most, shutil.disk_usage(folder).total // 5)
    except OSError:
        # The folder may not even be inspected. Whoever writes to it gets the error.
        return most


def number_of_bytes(text: str, where: str, advice: str = "write it like these") -> int:
    """Parse a size in bytes such as 500000, 10MB, 10 MiB or 1.5G. Raises InputError that says `where`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", text.strip().lower())
    if match is None:
        raise InputError(f"expected a size such as 500000000, 500MB or 10GiB {where}, got {text!r}: {advice}")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** ("kmgt".find(match[2]) + 1 if match[2] else 0))


@dataclass(frozen=True)
class Entry:
    """A cache file, or a folder kept by an older version: its size, and when it was last used (Unix time)."""

    kind: str
    path: Path
    size: int
    used: float

    @property
    def finished(self) -> bool:
        return not self.path.name.startswith(".")


def cache_entries(*kinds: str) -> Iterator[Entry]:
    """Yield everything in the folders of these kinds, unfinished files included."""
    for kind in kinds:
        folder = cache_folder() / kind
        for path in folder.iterdir() if folder.is_dir() else ():
            # Another process may remove it meanwhile.
            with suppress(OSError):
                own = path.stat()
                # A folder's own modification time does not change while a file in it grows.
                inside = [each.stat() for each in path.rglob("*")] if stat.S_ISDIR(own.st_mode) else []
                size = sum(each.st_size for each in inside or [own])
                yield Entry(kind, path, size, max(each.st_mtime for each in (own, *inside)))


def make_room(needed: int) -> None:
    """Remove leftovers of killed processes, then least recently used entries until `needed` bytes fit in the budget."""
    budget, total, finished = cache_budget(), 0, []
    for entry in cache_entries(*KINDS):
        if entry.finished:
            finished.append(entry)
            total += entry.size
        elif time.time() - entry.used > ABANDONED_AFTER_SECONDS:
            remove(entry.path)
    for entry in sorted(finished, key=lambda entry: entry.used):
        if total + needed <= budget:
            return
        remove(entry.path)
        total -= entry.size


def remove_abandoned(folder: Path) -> None:
    """Remove the unfinished files that `write_aside` left in a folder when its process died."""
    for unfinished in folder.glob(".*.partial"):
        with suppress(OSError):
            if time.time() - unfinished.stat().st_mtime > ABANDONED_AFTER_SECONDS:
                remove(unfinished)


def unfinished_below(folder: Path) -> list[Path]:
    """Return the files and folders in or below a folder that are being written aside, by live processes or dead."""
    return list(folder.rglob(".*.partial"))


def remove(path: Path) -> None:
    """Remove a file or folder of the cache if possible."""
    with suppress(OSError):
        path.unlink() if path.is_file() else shutil.rmtree(path)


@dataclass(frozen=True)
class Kept:
    """A cache file as it was written: its content, memory-mapped read-only, and the facts about it."""

    content: memoryview
    facts: dict[str, Any]


def read_kept(path: Path, reporter: Reporter) -> Kept | None:
    """Read the entry at `path`; None if there is none, or if it is damaged, which `reporter` is told.

    The whole file is read once to compare the digest: at 5 GB a second from memory, else at the speed of the disk.
    """
    try:
        if path.is_dir():
            raise ValueError("no file")
        with path.open("rb") as file:
            kept = _checked(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    except OSError:
        return None
    except ValueError:
        remove(path)
        reporter.note(f"{path} was damaged and is removed: what the cache held there is computed again")
        return None
    # Marks the entry as just used, so that it is removed late; a cache that is read-only for this user works as well.
    with suppress(OSError):
        os.utime(path)
    return kept


def _checked(data: memoryview) -> Kept:
    """Parse an entry. Raises ValueError unless the data are those that were written."""
    facts_end = len(data) - DIGEST_BYTES - LENGTH_BYTES
    if facts_end < 0 or xxh3_128(data[:-DIGEST_BYTES]).digest() != data[-DIGEST_BYTES:]:
        raise ValueError("not what was written")
    facts_start = facts_end - int.from_bytes(data[facts_end:-DIGEST_BYTES], "little")
    return Kept(data[:facts_start], json.loads(bytes(data[facts_start:facts_end])))


class KeptWriter:
    """A cache file being written: its content in pieces, then the facts about it, which complete it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = xxh3_128()

    def write(self, data: ReadableBuffer) -> None:
        self._digest.update(data)
        self._file.write(data)

    def finish(self, facts: dict[str, Any]) -> None:
        text = json.dumps(facts).encode()
        self.write(text)
        self.write(len(text).to_bytes(LENGTH_BYTES, "little"))
        self._file.write(self._digest.digest())


@contextmanager
def keeping(path: Path, expected_bytes: int) -> Iterator[KeptWriter]:
    """Write a cache file that appears when the block succeeds; if the block fails, nothing is left.

    Raises OSError.
    """
    make_room(expected_bytes)
    if path.is_dir():
        remove(path)
    with opened_aside(path) as file:
        yield KeptWriter(file)


def keep(path: Path, content: ReadableBuffer, reporter: Reporter, facts: dict[str, Any] | None = None) -> None:
    """Keep `content` for the next run if the budget allows; a failed write is reported once to `reporter`."""
    size = memoryview(content).nbytes
    if size > cache_budget():
        return
    try:
        with keeping(path, size) as writer:
            writer.write(content)
            writer.finish(facts or {})
    except OSError as error:
        reporter.note_once(
            f"the cache in {cache_folder()} cannot be written ({error.strerror or error}), so the next run computes "
            "everything again: free space there, or set GRAFT_CACHE to a folder that can be written"
        )


@contextmanager
def opened_aside(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that is renamed to `path` when the block succeeds and removed when it fails.

    Raises OSError with the name of the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with aside.open("wb") as file:
            yield file
            flush(file)
        aside.replace(path)
    except OSError as error:
        # A write to a full disk reports no name, and the temporary name would mean nothing to the user.
        if error.filename in (None, str(aside)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def write_aside(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file under a temporary name and rename it once complete. Raises OSError."""
    with opened_aside(path) as file:
        write(file)


def write_table_aside(path: Path, write: Callable[[IO[str]], Any]) -> None:
    """Write a CSV file the same way. Raises OSError."""

    def encoded(file: IO[bytes]) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        write(text)
        text.flush()
        text.detach()

    write_aside(path, encoded)


def flush(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON under a temporary name and rename it once complete."""
    write_aside(path, lambda file: file.write(f"{json_text(value)}\n".encode()))


def json_text(value: Any, indent: int | None = 2) -> str:
    """Return `value` as JSON, with strings written as `graft.names` does; non-finite numbers become null.

    Numbers and truths of numpy are written as Python's: one among the figures must not end a run that is nearly done.
    """
    return json.dumps(_for_json(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _for_json(value: Any) -> Any:
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {_for_json(key): _for_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_for_json(item) for item in value]
    if type(value).__module__ == "numpy" and value.shape == ():
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
