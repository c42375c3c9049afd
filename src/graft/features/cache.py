"""Activations on disk, so that a frozen layer is computed once.

An entry is a folder named by a digest of all that decides its numbers: the pictures (names, sizes, times), the
preprocessing, the section (layers and weights) and the precision. It is written under another name and renamed when
complete, so a reader sees a whole entry or none. Beyond the budget the entries used longest ago go first.

Compiled sections (`openvino_engine`) and what was seen of pictures (`data.looking`) lie beside the entries and count in
the same budget.

The folder is `GRAFT_CACHE`, else `graft` in `XDG_CACHE_HOME` or `~/.cache`; the budget is `GRAFT_CACHE_BYTES`, else
20 GiB or a fifth of the disk, whichever is less.
"""

import hashlib
import io
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn

from graft.data.dataset import Pictures
from graft.errors import InputError
from graft.images.preprocessing import Preprocessing

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Raised when the same pictures, layers and weights come to give other numbers: another decoder, resize or forward pass.
NUMBERS = 2
LOOKS = "looks"
# An unfinished entry older than this belongs to a process that is gone.
ABANDONED_AFTER_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Activations:
    """What a section makes of some pictures: `values` (n, …), one row for each picture at `indices`, int64 (n,).

    `failures` maps the index of a picture that could not be decoded to the reason. `cached` says that nothing was
    computed.
    """

    values: Tensor
    indices: np.ndarray
    failures: dict[int, str]
    cached: bool


def cache_folder() -> Path:
    """Where graft keeps what it can compute again."""
    if os.environ.get("GRAFT_CACHE"):
        return Path(os.environ["GRAFT_CACHE"]).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "graft"


def cache_budget() -> int:
    """Bytes that the cache may take."""
    stated = os.environ.get("GRAFT_CACHE_BYTES")
    if stated:
        if not stated.isdigit():
            raise InputError(f"expected a whole number of bytes in GRAFT_CACHE_BYTES, got {stated!r}: mend or unset it")
        return int(stated)
    folder = cache_folder().absolute()
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return min(20 * 2**30, shutil.disk_usage(folder).total // 5)
    except OSError:
        # A folder that may not even be looked at: nothing is kept.
        return 0


def section_digest(section: nn.Module, preprocessing: Preprocessing, precision: str, engine: str) -> str:
    """A digest of everything but the pictures that decides what a section computes."""
    digest = hashlib.blake2b(digest_size=20)
    # The printed layers tell strides, paddings and epsilons, which no tensor shows.
    digest.update(repr((NUMBERS, repr(section), preprocessing, precision, engine)).encode())
    for name, tensor in sorted(section.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def entry_path(section: str, pictures: Pictures) -> Path:
    """Where the activations of `pictures` under the section with this digest are kept."""
    digest = hashlib.blake2b(section.encode(), digest_size=20)
    for stamp in pictures.stamps():
        digest.update(stamp.encode("utf-8", "surrogatepass") + b"\n")
    return cache_folder() / "activations" / digest.hexdigest()


def read_entry(path: Path) -> Activations | None:
    """The entry at `path`, its values mapped from disk; None when there is none or it is damaged."""
    try:
        facts = json.loads((path / "entry.json").read_text(encoding="utf-8"))
        shape, dtype = tuple(facts["shape"]), DTYPES[facts["dtype"]]
        count = int(np.prod(shape))
        if (path / "values.bin").stat().st_size != count * dtype.itemsize:
            raise ValueError("cut off")
        flat = (
            torch.from_file(str(path / "values.bin"), size=count, dtype=dtype) if count else torch.empty(0, dtype=dtype)
        )
        failures = {int(index): str(reason) for index, reason in facts["failures"].items()}
        indices = np.setdiff1d(np.arange(shape[0] + len(failures)), np.array(list(failures), dtype=np.int64))
        if len(indices) != shape[0]:
            raise ValueError("failures that are not among the pictures")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):
        _remove(path)
        return None
    # Used now, so removed late; a cache that only others may write to is as good to read.
    with suppress(OSError):
        os.utime(path / "entry.json")
    return Activations(flat.view(shape), indices, failures, cached=True)


class EntryWriter:
    """An entry being written: `append` rows in order, then `finish`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] = (folder / "values.bin").open("wb")
        self._rows = 0

    def append(self, values: Tensor) -> None:
        self._rows += len(values)
        self._file.write(values.contiguous().reshape(-1).view(torch.uint8).numpy().data)

    def finish(self, row_shape: tuple[int, ...], dtype: str, failures: dict[int, str]) -> None:
        _flush(self._file)
        facts = {"shape": [self._rows, *row_shape], "dtype": dtype, "failures": failures}
        with (self._folder / "entry.json").open("w", encoding="utf-8") as file:
            json.dump(facts, file)
            _flush(file)

    def close(self) -> None:
        self._file.close()


@contextmanager
def new_entry(path: Path, expected_bytes: int) -> Iterator[EntryWriter]:
    """Write an entry aside; it appears at `path` when the block ends well and leaves nothing when it does not."""
    make_room(expected_bytes)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    aside.mkdir(parents=True)
    try:
        writer = EntryWriter(aside)
        try:
            yield writer
        finally:
            writer.close()
        try:
            aside.rename(path)
        except OSError:
            # Another process finished the same entry first, and the numbers are the same; or what is there is damaged.
            if read_entry(path) is None:
                _remove(path)
                aside.rename(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def make_room(needed: int) -> None:
    """Remove what was used longest ago until `needed` bytes fit in the budget, and what killed processes left."""
    entries = []
    for child in [*_children("activations"), *_children("compiled"), *_children(LOOKS)]:
        try:
            files = list(child.iterdir()) if child.is_dir() else [child]
            if child.name.startswith("."):
                # The folder's own time stands still while a file in it grows.
                last = max(path.stat().st_mtime for path in (child, *files))
                if time.time() - last > ABANDONED_AFTER_SECONDS:
                    _remove(child)
                continue
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
        _remove(child)
        total -= size


def _children(kind: str) -> list[Path]:
    folder = cache_folder() / kind
    return list(folder.iterdir()) if folder.is_dir() else []


def _remove(path: Path) -> None:
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
            _flush(file)
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


def _flush(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())
