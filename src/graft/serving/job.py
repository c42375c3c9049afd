"""A long prediction job that outlives its process: each row is saved beside the output file as soon as it is known.

`out.csv.unfinished` holds, as JSON lines, the description of the job and then one row per image, in order. Once all
rows are there, they are written to `out.csv` in the format asked for, aside and then renamed. A process that ends
earlier, however it ends, leaves at most one truncated line, which whoever resumes the job removes.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any, Protocol

from graft.errors import GraftError, InputError
from graft.files import JOBS, cache_folder, keep, read_kept
from graft.names import plain
from graft.on_disk import file_stamp
from graft.progress import NOBODY
from graft.serving.prediction import Prediction

UNFINISHED = ".unfinished"
# Seconds after which rows are flushed to the file; rows that a killed process had not flushed are computed again.
KEPT_BACK = 1.0
# The options that make a rule. It holds thresholds, which do not tell what was asked for.
WHAT_A_RULE_IS = "choice of --error-budget, --sets, --recall or --abstain"


class Named(Protocol):
    """An image with the path that its row has."""

    @property
    def path(self) -> str: ...


@dataclass(frozen=True)
class Job:
    """Everything besides the images that decides the rows.

    A digest of the model, the engine, the classes per row, the views, and the rule for abstaining.
    """

    model: str
    engine: str
    top: int
    views: str = ""
    rule: str = ""


class Unfinished:
    """The rows of a job known so far, in a file open for appending; see `unfinished`."""

    def __init__(self, path: Path, file: IO[bytes], before: int) -> None:
        self.path = path
        # The rows that an earlier process left, and all rows.
        self.before = self.count = before
        self._file = file
        self._flushed = time.monotonic()

    def add(self, prediction: Prediction) -> None:
        row = {field.name: getattr(prediction, field.name) for field in fields(prediction)}
        # ASCII, with escapes for any name.
        self._file.write(json.dumps(row).encode() + b"\n")
        self.count += 1
        if time.monotonic() - self._flushed > KEPT_BACK:
            self._file.flush()
            self._flushed = time.monotonic()

    def rows(self) -> Iterator[Prediction]:
        """Yield all rows, in order."""
        self._file.flush()
        with self.path.open("rb") as file:
            next(file)
            yield from map(_row, file)

    def left(self, images: Iterable[Named]) -> Iterator[Any]:
        """Yield the images without a row. Raises InputError where the existing rows do not match the first images."""
        upcoming = iter(images)
        for number, row in zip(range(1, self.before + 1), self.rows(), strict=False):
            image = next(upcoming, None)
            if image is None or plain(image.path) != plain(row.path):
                came = "no more" if image is None else repr(plain(image.path))
                raise InputError(
                    f"expected the images that the job began with, got {came} as image {number:,} in place of "
                    f"{plain(row.path)!r}: give the same images in the same order, or begin again with --overwrite"
                )
        yield from upcoming

    def close(self, finished: bool) -> None:
        """Delete the file, once all rows are written elsewhere or when there are none to keep."""
        # Deleted before the lock is released, so that no other process opens a file that is about to vanish; afterwards
        # on systems that cannot delete an open file.
        done = finished or not self.count
        if done:
            with suppress(PermissionError):
                self.path.unlink(missing_ok=True)
        self._file.close()
        if done:
            self.path.unlink(missing_ok=True)


def place_of(out: Path) -> Path:
    """Return where the rows of an unfinished job are kept."""
    return out.with_name(out.name + UNFINISHED)


@contextmanager
def unfinished(out: Path, job: Job, resume: bool, overwrite: bool) -> Iterator[Unfinished]:
    """Open the known rows of the file `out`, to add the others; they are kept when the block ends in an error.

    Rows left by another process are continued with `resume` and deleted with `overwrite`. Raises InputError when there
    are such rows and neither is set, or when they belong to another job; GraftError when another process is adding to
    them now, and when the disk is full.
    """
    path = place_of(out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _opened(path) as file:
            if os.fstat(file.fileno()).st_size and not resume and not overwrite:
                raise InputError(
                    f"expected --resume or --overwrite for {out}, for which {path.name} holds the progress of an "
                    "earlier job, got neither: --resume continues it, --overwrite starts over"
                )
            if not resume:
                file.truncate(0)
            before = _whole_rows(file, job, path)
            rows = Unfinished(path, file, before)
            try:
                yield rows
            except BaseException:
                with suppress(OSError):
                    rows.close(finished=False)
                raise
            rows.close(finished=True)
    except OSError as error:
        raise GraftError(
            f"expected to keep predictions in {path}, got {error.strerror or error}: free space there, then continue "
            "with --resume, or give another --out"
        ) from None


def _whole_rows(file: IO[bytes], job: Job, path: Path) -> int:
    """Return how many rows the file holds, after removing a truncated one; a new file gets its first line."""
    file.seek(0)
    first, whole, count = file.readline(), 0, 0
    if first and not first.endswith(b"\n") and not json.dumps(asdict(job)).encode().startswith(first):
        raise InputError(
            f"expected the rows of a job in {path}, got something else: move it away, or begin again with --overwrite"
        )
    if first.endswith(b"\n"):
        try:
            begun = json.loads(first)
            _check_same(begun, job, path.name)
            whole = len(first)
        except (ValueError, AttributeError, RecursionError):
            raise InputError(
                f"expected the rows of a job in {path}, got something else: move it away, or begin again with "
                "--overwrite"
            ) from None
    for line in file if whole else ():
        try:
            _row(line)
        except (ValueError, KeyError, TypeError, RecursionError):
            break
        if not line.endswith(b"\n"):
            break
        whole, count = whole + len(line), count + 1
    file.truncate(whole)
    if not whole:
        file.write(json.dumps(asdict(job)).encode() + b"\n")
    return count


def _row(line: bytes) -> Prediction:
    """Parse a row that `add` wrote. Raises ValueError, KeyError, TypeError or RecursionError for anything else."""
    row = json.loads(line)
    if not isinstance(row["path"], str) or set(row) != {field.name for field in fields(Prediction)}:
        raise ValueError
    several = {name: None if row[name] is None else tuple(row[name]) for name in ("set", "labels")}
    return Prediction(**{**row, "top": tuple((str(name), float(p)) for name, p in row["top"]), **several})


def remember(out: Path, job: Job, complete: bool) -> None:
    """Remember in the cache which job writes a file, for `check_remembered`; a `complete` file as it is now."""
    stamp = file_stamp(out) if complete else ""
    keep(_remembered(out), json.dumps({"job": asdict(job), "stamp": stamp}).encode(), NOBODY)


def check_remembered(out: Path, job: Job) -> bool:
    """Return whether the rows of a file are known to be of this job; raises InputError if they are of another one."""
    kept = read_kept(_remembered(out), NOBODY)
    known = {} if kept is None else json.loads(bytes(kept.content))
    # Another file may have taken the place of a complete one.
    if not known or known["stamp"] not in ("", file_stamp(out)):
        return False
    _check_same(known["job"], job, str(out))
    return True


def _remembered(out: Path) -> Path:
    place = os.fsencode(out.absolute())
    return cache_folder() / JOBS / hashlib.blake2b(place, digest_size=16).hexdigest()


def _check_same(begun: dict[str, Any], job: Job, name: str) -> None:
    """Raise InputError, with what differs, unless a job is the one that was `begun`."""
    differing = [each for each, value in asdict(job).items() if begun.get(each) != value]
    if not differing:
        return
    told = [
        f"{getattr(job, each) or 'none'} in place of {begun.get(each) or 'none'}"
        for each in differing
        if each not in ("model", "rule")
    ]
    values = f" ({', '.join(told)})" if told else ""
    what = " and ".join(WHAT_A_RULE_IS if each == "rule" else each for each in differing)
    raise InputError(
        f"expected the job that {name} was begun by, got another {what}{values}: use the same options as before, give "
        "another --out, or begin again with --overwrite"
    )


def _opened(path: Path) -> IO[bytes]:
    """Return the file to append to, locked and still the one at `path`. Raises OSError and GraftError."""
    while True:
        # Links are not followed: the target would not be a job.
        file = open(path, "a+b", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o666))  # noqa: SIM115
        try:
            _alone(file, path)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:
            pass
        except BaseException:
            file.close()
            raise
        # Another process finished the job and deleted the file between the two steps.
        file.close()


def _alone(file: IO[bytes], path: Path) -> None:
    """Lock out other processes for as long as the file is open, where the system can."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise GraftError(
            f"expected a job that no other process is working on, got {path}, which one is adding to: wait for it, or "
            "give another --out"
        ) from None
    except OSError:
        # Some network file systems have no locks.
        return
