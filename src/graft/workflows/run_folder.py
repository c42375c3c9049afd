"""The life of a run's folder: claimed, begun, interrupted, resumed; one process at a time works in it."""

import glob
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from graft.data.dataset import Dataset
from graft.data.readers.folder import folders_of
from graft.errors import GraftError, InputError
from graft.files import LOCK_FILE, remove, unfinished_below
from graft.weights.saved import ARGUMENTS_FILE
from graft.workflows.run import near

# Identifies the multi-process job that trains here, so that a restarted job resumes.
JOB_FILE = ".job"
# What has been computed and is used again when a run is resumed.
CHECKPOINTS = "checkpoints"


def check_free(out: Path | None, data: Path) -> Path:
    """Return the absolute path for the run, checked now rather than after hours of work.

    Raises InputError for a folder that is not empty or lies inside the data, and GraftError for one that cannot be
    made.
    """
    wanted = _wanted(out, data)
    if out is not None and wanted.exists() and (not wanted.is_dir() or any(wanted.iterdir())):
        raise _holds_something(wanted)
    check_makeable(wanted)
    return wanted


def check_makeable(wanted: Path) -> None:
    """Check that a folder can be made and written to, before hours of work. Raises GraftError if not."""
    above = next(each for each in (wanted, *wanted.parents) if each.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise _cannot_make(wanted, f"no permission to write in {above}" if above.is_dir() else f"the file {above}")


def claim(out: Path | None, data: Path) -> Path:
    """Create an empty folder for a run and return its absolute path; by default `runs/<data name>`, numbered if taken.

    Raises what `check_free` raises.
    """
    wanted = check_free(out, data)
    if out is not None:
        return _made(wanted, exists=True)
    number = 1
    while True:
        candidate = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        if not candidate.exists():
            try:
                return _made(candidate, exists=False)
            except FileExistsError:
                # Another run took the name in the meantime.
                pass
        number += 1


@contextmanager
def new_folder(out: Path | None, data: Path) -> Iterator[Path]:
    """Claim a folder for a run as `claim` does, and keep other processes out of it while the block runs.

    If the block raises, what it wrote is removed, unless work can be resumed: after any error but an InputError once
    the arguments are written, and after that one, too, once something has been computed. Raises InputError if another
    process was faster.
    """
    found = out is not None and _wanted(out, data).exists()
    folder = claim(out, data)
    with locked(folder):
        if any(each.name != LOCK_FILE for each in folder.iterdir()):
            # It was claimed before the lock was held, and another process did its work between the two.
            raise _holds_something(folder)
        try:
            yield folder
        except BaseException as error:
            begun_with = (folder / ARGUMENTS_FILE).is_file()
            if not begun_with or (isinstance(error, InputError) and not holds_work(folder)):
                for each in folder.iterdir():
                    remove(each)
                if not found:
                    shutil.rmtree(folder, ignore_errors=True)
            raise


def holds_work(folder: Path) -> bool:
    """Return whether something was computed in a run's folder that resuming uses again."""
    return any(each.suffix == ".safetensors" for each in (folder / CHECKPOINTS).glob("*"))


def folder_to_resume(out: Path | None, data: Path) -> Path:
    """Return the folder of the run to resume: `data` itself, `out`, or the newest in `runs/` with the data's name.

    Raises InputError if there is none, and for a run that is to go on in another folder than its own.
    """
    if (data / ARGUMENTS_FILE).is_file():
        if out is not None and out.resolve() != data.resolve():
            raise InputError(
                f"expected a run to continue in its own folder, got {near(data)} to resume and {near(out)} for --out: "
                "leave --out out, or copy the folder there first and resume the copy"
            )
        return data.absolute()
    wanted = _wanted(out, data)
    candidates = [wanted]
    if out is None and wanted.parent.is_dir():
        prefix = f"{wanted.name}-"
        candidates += [
            child
            for child in wanted.parent.iterdir()
            if child.name.startswith(prefix) and child.name.removeprefix(prefix).isdigit()
        ]
    found = [child for child in candidates if (child / ARGUMENTS_FILE).is_file()]
    if not found:
        raise InputError(
            f"expected a run to continue in {near(wanted)}, got none: name its folder (`graft train --resume RUN`), "
            "or train without --resume"
        )
    return max(found, key=lambda child: (child / ARGUMENTS_FILE).stat().st_mtime)


def folder_of_job(job: str, out: Path | None, data: Path) -> Path | None:
    """Return the folder that a `job` claimed before it was restarted; None if it claimed none.

    A folder from which nothing can be resumed is removed. If `data` is a run to resume, the job claims no other.
    """
    if (data / ARGUMENTS_FILE).is_file():
        return None
    wanted = _wanted(out, data)
    for folder in [wanted] if out is not None else wanted.parent.glob(f"{glob.escape(wanted.name)}*"):
        with suppress(OSError):
            if (folder / JOB_FILE).read_text(encoding="utf-8") == job:
                if (folder / ARGUMENTS_FILE).is_file():
                    return folder
                remove(folder)
    return None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of the run in `folder` while the block runs; the lock of a killed process is void.

    Raises InputError if another process holds it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"expected a run that no other process is working on, got {near(folder)}, which another one is using: "
            "wait for it or stop it"
        ) from None
    try:
        yield
    finally:
        (folder / LOCK_FILE).unlink(missing_ok=True)
        lock.release()


def clear_away(folder: Path) -> None:
    """Remove what killed processes left unfinished in the run in `folder`, while no other process works on it."""
    for left in unfinished_below(folder):
        remove(left)


def _wanted(out: Path | None, data: Path) -> Path:
    """Return the path for the run. Raises InputError for a place inside the data."""
    name = data.name if data.is_dir() else data.stem
    # Made absolute at once, so that a later change of working directory does not move the run.
    wanted = (out if out is not None else Path("runs") / name).expanduser().absolute()
    if data.is_dir() and wanted.resolve().is_relative_to(data.resolve()):
        raise InputError(f"expected a place outside the images, got {near(wanted)}, inside {data}: give another --out")
    return wanted


def check_outside_images(out: Path | None, data: Path, dataset: Dataset, apart: Sequence[Path] = ()) -> None:
    """Refuse a place for the run among images that are files of their own, like those a manifest names.

    `apart` lists the data of splits given separately. Raises InputError for a place inside a folder with images, or
    inside the common parent of all such folders if that parent lies below the manifest's own folder.
    """
    wanted, beside = _wanted(out, data).resolve(), data.resolve().parent
    folders = folders_of([images.source for images in dataset.splits.values()])
    if not folders:
        return
    above = Path(os.path.commonpath(folders))
    if above != beside and above.is_relative_to(beside):
        folders.add(str(above))
    folders |= {str(each.resolve()) for each in apart if each.is_dir()}
    holding = next((each for each in (wanted, *wanted.parents) if str(each) in folders), None)
    if holding is not None:
        raise InputError(
            f"expected a place outside the images, got {near(wanted)}, inside {holding}: give another --out"
        )


def _made(folder: Path, exists: bool) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=exists)
    except FileExistsError:
        raise
    except OSError as error:
        raise _cannot_make(folder, error.strerror or str(error)) from None
    return folder


def _cannot_make(folder: Path, reason: str) -> GraftError:
    return GraftError(f"expected to create the run folder {near(folder)}, got {reason}: give a writable --out")


def _holds_something(folder: Path) -> InputError:
    return InputError(
        f"expected a new or empty folder for --out, got {near(folder)}, which is not empty: give another, or --resume "
        "the run in it"
    )
