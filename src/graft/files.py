"""Files that are written whole or not at all, and the cache folder with its budget.

The folder is `GRAFT_CACHE`, else `graft` in `XDG_CACHE_HOME` or `~/.cache`; the budget is `GRAFT_CACHE_BYTES`, else
20 GiB or a fifth of the disk, whichever is less. Activations, compiled sections, what the audit saw of images and
expanded archives lie in it, each kind in a folder of its own, and share the budget: what was used longest ago goes
first.
"""

import io
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from graft.errors import InputError

LOOKS = "looks"
EXPANDED = "expanded"
# An unfinished entry older than this belongs to a process that is gone.
ABANDONED_AFTER_SECONDS = 24 * 3600


def cache_folder() -> Path:
    """Where graft keeps what it can compute again."""
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
    """Bytes that the cache may take."""
    stated = os.environ.get("GRAFT_CACHE_BYTES")
    if stated:
        if not stated.isdigit():
            raise InputError(f"expected a whole number of bytes in GRAFT_CACHE_BYTES, got {stated!r}: fix or unset it")
        return int(stated)
    folder = cache_folder().absolute()
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return min(20 * 2**30, shutil.disk_usage(folder).total // 5)
    except OSError:
        # A folder that may not even be looked at: nothing is kept.
        return 0


def make_room(needed: int) -> None:
    """Remove what was used longest ago until `needed` bytes fit in the budget, and what killed processes left."""
    entries = []
    for child in [*_children("activations"), *_children("compiled"), *_children(LOOKS), *_children(EXPANDED)]:
        try:
            if child.name.startswith("."):
                if _abandoned(child):
                    remove(child)
                continue
            files = list(child.iterdir()) if child.is_dir() else [child]
            size = sum(file.stat().st_size for file in files)
            facts = child / "entry.json" if child.is_dir() else child
            # A folder without its facts is what a removal left that was cut short.
            entries.append((facts.stat().st_mtime if facts.exists() else 0.0, size, child))
        except OSError:
            # Removed by another process in between.
            continue
    total, budget = sum(size for _, size, _ in entries), cache_budget()
    for _, size, child in sorted(entries):
        if total + needed <= budget:
            return
        remove(child)
        total -= size


def remove_abandoned(folder: Path) -> None:
    """Remove what `write_aside` left unfinished in a folder, in processes that are gone."""
    for unfinished in folder.glob(".*.partial"):
        with suppress(OSError):
            if _abandoned(unfinished):
                remove(unfinished)


def _abandoned(unfinished: Path) -> bool:
    # The folder's own time stands still while a file in it grows.
    inside = list(unfinished.iterdir()) if unfinished.is_dir() else []
    return time.time() - max(path.stat().st_mtime for path in (unfinished, *inside)) > ABANDONED_AFTER_SECONDS


def _children(kind: str) -> list[Path]:
    folder = cache_folder() / kind
    return list(folder.iterdir()) if folder.is_dir() else []


def remove(path: Path) -> None:
    """Take away a file or folder in the cache, out of sight first: a removal cut short leaves no half of an entry."""
    aside = path.with_name(f".{path.name.strip('.')}.{uuid.uuid4().hex[:8]}.partial")
    with suppress(OSError):
        path.rename(aside)
    for left in (aside, path):
        with suppress(OSError):
            left.unlink() if left.is_file() else shutil.rmtree(left)


def write_aside(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file under another name and rename it when it is complete. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with aside.open("wb") as file:
            write(file)
            flush(file)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_table_aside(path: Path, write: Callable[[IO[str]], Any]) -> None:
    """The same for a file of CSV, in which names need not be valid UTF-8. Raises OSError."""

    def encoded(file: IO[bytes]) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
        write(text)
        text.flush()
        text.detach()

    write_aside(path, encoded)


def flush(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Indented JSON, written aside and renamed."""
    data = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_aside(path, lambda file: file.write(data.encode()))
