"""Activations computed by many processes at once, on one machine or on several that share a cache.

Beside the entry to be made is a folder of pieces: fixed ranges of the images, in whole batches, so that every image is
computed in the same batch as by a single process. A process claims a piece (`features.claims`), computes it and writes
it atomically, like all files of the cache; the piece of a process that died is claimed again. The process that finds
all pieces complete joins them into the entry, which has the same bytes as one made by a single process.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.errors import GraftError
from graft.features.cache import DTYPES, as_bytes, entry_facts
from graft.features.claims import Claims, me
from graft.files import KeptWriter, keeping, opened_aside, read_kept, remove, write_aside
from graft.progress import Reporter

if TYPE_CHECKING:
    from torch import Tensor

    from graft.data.loading import Batch

# Set the first to share the work on activations with all other processes that do so; torchrun sets the second to the
# number of its processes.
SHARE, PROCESSES = "GRAFT_SHARE", "WORLD_SIZE"
# The limits of a piece in batches and in bytes, and the least number of pieces, so that every process gets several.
MOST_BATCHES, MOST_BYTES, PIECES = 64, 64 * 2**20, 32
# Attempts, in case the folder is cleared away while in use.
TRIES = 3
# The name of the claim to join the pieces.
ENTRY = "entry"
# The wait between looks at what other processes do.
LOOK_SECONDS = 0.2
# The packages that decide the bits of activations.
LIBRARIES = ("graft-vision", "torch", "openvino", "numpy", "pillow", "simplejpeg")

# Runs the engine over ranges of images as they are claimed; yields batches with their activations, in order.
Compute = Callable[[Iterator[range]], Generator[tuple["Batch", "Tensor"], None, None]]


@dataclass(frozen=True)
class Work:
    """Activations of `count` images, each of `shape` in `precision`, in pieces of `piece` images each."""

    path: Path
    count: int
    shape: tuple[int, ...]
    precision: str
    piece: int

    @classmethod
    def of(cls, path: Path, count: int, shape: tuple[int, ...], precision: str, batch: int) -> Work:
        row = max(1, int(np.prod(shape)) * DTYPES[precision].itemsize)
        batches = min(MOST_BATCHES, MOST_BYTES // row // batch, count // batch // PIECES)
        return cls(path, count, shape, precision, batch * max(1, batches))

    @property
    def folder(self) -> Path:
        return _folder(self.path)

    @cached_property
    def pieces(self) -> list[range]:
        return [range(start, min(start + self.piece, self.count)) for start in range(0, self.count, self.piece)]

    def done(self, piece: range) -> Path:
        return self.folder / f"piece{piece.start // self.piece:06}"


def is_shared(path: Path) -> bool:
    """Return whether to share the work on the entry at `path`: the environment asks for it, or others have begun."""
    asked = os.environ.get(SHARE, "0") not in ("", "0") or os.environ.get(PROCESSES, "1") not in ("", "1")
    return asked or _folder(path).is_dir()


def compute_together(work: Work, compute: Compute, reporter: Reporter, tell: Callable[[int], None]) -> None:
    """Make the entry of `work` together with all other processes working on it, and return when it exists.

    `tell` receives the number of images done by all processes. Raises OSError for a file that cannot be written,
    GraftError if other processes working on the entry have other versions of libraries.
    """
    for left in reversed(range(TRIES)):
        try:
            _compute_together(work, compute, reporter, tell)
            return
        except FileNotFoundError:
            # The others finished and cleaned up between two looks, or the cache was cleared.
            if work.path.exists():
                return
            if not left:
                raise


def _compute_together(work: Work, compute: Compute, reporter: Reporter, tell: Callable[[int], None]) -> None:
    work.folder.mkdir(parents=True, exist_ok=True)
    with Claims(work.folder, {"versions": _versions()}) as claims:
        _agree(work, claims)
        while not work.path.exists():
            with closing(compute(_claimed(work, claims))) as outputs:
                _write_pieces(work, claims, outputs, tell)
            tell(_images_done(work))
            if all(work.done(piece).exists() for piece in work.pieces):
                if claims.take(ENTRY, work.path):
                    _join(work, reporter)
                    claims.release(ENTRY)
            else:
                reporter.note_once("waiting for other processes, which are computing the last activations")
            if not work.path.exists():
                time.sleep(LOOK_SECONDS)
    _take_away(work.folder)


def _claimed(work: Work, claims: Claims) -> Iterator[range]:
    """Yield the pieces that no other process computes, each claimed when it is requested."""
    return (piece for piece in work.pieces if claims.take(work.done(piece).name, work.done(piece)))


def _images_done(work: Work) -> int:
    return sum(len(piece) for piece in work.pieces if work.done(piece).exists())


def _write_pieces(
    work: Work, claims: Claims, outputs: Iterator[tuple[Batch, Tensor]], tell: Callable[[int], None]
) -> None:
    """Collect batches into pieces, and write each piece when it is complete."""
    values: list[Tensor] = []
    failures: dict[int, str] = {}
    before, seen = _images_done(work), 0
    for batch, computed in outputs:
        values.append(computed)
        failures.update(batch.failures)
        seen += len(batch.indices) + len(batch.failures)
        piece = work.pieces[min([*batch.indices[:1].tolist(), *batch.failures]) // work.piece]
        tell(before + seen)
        if seen == len(piece):
            facts = entry_facts((sum(map(len, values)), *work.shape), work.precision, failures)
            with opened_aside(work.done(piece)) as file:
                writer = KeptWriter(file)
                for each in values:
                    writer.write(as_bytes(each))
                writer.finish(facts)
            claims.release(work.done(piece).name)
            values, failures, seen = [], {}, 0
            before = _images_done(work)


def _join(work: Work, reporter: Reporter) -> None:
    """Write the entry from all pieces; a damaged piece is removed and computed again."""
    rows, failures = 0, dict[str, str]()
    found = []
    for piece in work.pieces:
        kept = read_kept(work.done(piece), reporter)
        if kept is None:
            return
        rows += kept.facts["shape"][0]
        failures |= kept.facts["failures"]
        found.append(kept.content)
    with keeping(work.path, sum(len(content) for content in found)) as writer:
        for content in found:
            writer.write(content)
        writer.finish(entry_facts((rows, *work.shape), work.precision, {int(key): failures[key] for key in failures}))


def _agree(work: Work, claims: Claims) -> None:
    """Adopt the versions that the first process recorded; if they differ, begin again once its peers are gone.

    Raises GraftError while other processes work with other versions.
    """
    path, own = work.folder / "begun.json", _versions()
    told = json.dumps({**me(), "versions": own}).encode()
    while True:
        try:
            # All at once, so that hardly any process is killed in between.
            with path.open("xb", buffering=0) as file:
                file.write(told)
            return
        except FileExistsError:
            begun = _read(path)
        differing = [name for name in LIBRARIES if begun.get("versions", own).get(name) != own[name]]
        if begun and not differing:
            return
        if begun and claims.others_alive({"versions": begun["versions"]}):
            name = differing[0]
            raise GraftError(
                f"expected {name} {begun['versions'].get(name)}, which the processes at {begun.get('host')} compute "
                f"these activations with, got {own[name]}: install that, or wait until they have finished"
            )
        # No process with other versions is left, or the first was killed while writing its record.
        for piece in work.pieces:
            remove(work.done(piece))
        write_aside(path, lambda file: file.write(told))


def _read(path: Path) -> dict[str, Any]:
    """Read the record of the first process; empty if it is still incomplete after a while."""
    for _ in range(25):
        with suppress(OSError, ValueError):
            found = json.loads(path.read_bytes())
            if isinstance(found, dict) and isinstance(found.get("versions"), dict):
                return found
        time.sleep(LOOK_SECONDS)
    return {}


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = dict.fromkeys(LIBRARIES)
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _folder(path: Path) -> Path:
    # The leading dot marks it as unfinished for everything that scans the cache.
    return path.with_name(f".{path.name}.shared")


def _take_away(folder: Path) -> None:
    """Remove a folder, renaming it first, which only one process can do, so that none finds half of it."""
    aside = folder.with_name(f".{uuid.uuid4().hex[:8]}.shared.done.partial")
    with suppress(OSError):
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
