"""A run and its folder, which `train.py` fills step by step; every file is written aside, then renamed.

model/          all that deployment needs
args.yaml  plan.json  split.csv  audit.json  metrics.jsonl  rate_range.json (--find-lr)  result.json  report.html
checkpoints/    resumable state: tensors and JSON, no pickle

`args.yaml`, `split.csv` and `plan.json` are written before training begins, and are all that resuming needs.
"""

import glob
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.data.dataset import TEST, VAL, Dataset
from graft.data.readers.folder import folders_of
from graft.errors import GraftError, InputError
from graft.evaluation.accuracy import Accuracy as Accuracy
from graft.evaluation.accuracy import Expected as Expected
from graft.files import LOCK_FILE, json_text, remove, unfinished_below
from graft.html import escaped, table
from graft.names import plain
from graft.training.crowns import METRICS_FILE
from graft.weights.saved import ARGUMENTS_FILE, load_model, model_folder

if TYPE_CHECKING:
    from graft.workflows.run_chart import Chart

PLAN_FILE = "plan.json"
RESULT_FILE = "result.json"
SPLIT_FILE = "split.csv"
# Identifies the multi-process job that trains here, so that a restarted job resumes.
JOB_FILE = ".job"


@dataclass(frozen=True, repr=False)
class Run:
    """A finished run. `folder` is absolute; `skipped` maps images that could not be decoded to the reason.

    `expected` is the accuracy expected on unseen images, where more than val determines it; otherwise None.
    """

    folder: Path
    base: str
    level: str
    cut: str
    classes: tuple[str, ...]
    val: Accuracy
    test: Accuracy | None
    majority: float
    seconds: dict[str, float]
    images: int
    engine: str
    skipped: dict[str, str]
    notes: tuple[str, ...]
    expected: Expected | None = None

    def __repr__(self) -> str:
        measured = self.val if self.test is None else self.test
        return f"Run({near(self.folder)!r}, level={self.level!r}, {VAL if self.test is None else TEST}={measured!r})"

    def _repr_html_(self) -> str:
        measured = [(name, split) for name, split in ((VAL, self.val), (TEST, self.test)) if split is not None]
        rows = [
            ("level", f"{self.level}, cut {self.cut}"),
            *measured,
            *([] if self.expected is None else [("expected", self.expected)]),
            (f"majority-{'set' if self.multi_label else 'class'} baseline", f"{self.majority:.1%}"),
        ]
        notes = "".join(f"<li>{escaped(note)}</li>" for note in self.notes)
        return f"{table((near(self.folder), self.base), rows)}<ul>{notes}</ul>"

    @property
    def multi_label(self) -> bool:
        """Whether the run gives an image several labels.

        The figures are then `LabelFigures`, and `majority` is the share of val with the most frequent set of labels.
        """
        return "mean_average_precision" in self.val.to_dict()

    @property
    def logs(self) -> list[dict[str, Any]]:
        """The epochs of training, one row each: epoch, losses, val_top1, learning_rate and seconds.

        For multi-label images, `val_mean_average_precision` replaces the accuracy. Empty if no stage was trained in
        steps.
        """
        try:
            lines = (self.folder / METRICS_FILE).read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        return [json.loads(line) for line in lines]

    def plot(self) -> "Chart":
        """Chart losses and accuracy by epoch, or the accuracies of a head that was solved at once, for notebooks."""
        from graft.workflows.run_chart import chart_of

        return chart_of(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that `graft train --json` prints."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values = {"run": near(values.pop("folder")), **values, "classes": list(self.classes), "notes": list(self.notes)}
        values["baseline"] = {"majority": values.pop("majority")}
        if self.multi_label:
            values["baseline"]["mean_average_precision"] = self.val.to_dict()["baseline"]
        values |= {name: split.to_dict() for name, split in ((VAL, self.val), (TEST, self.test)) if split is not None}
        if self.test is None:
            del values[TEST]
        if self.expected is None:
            del values["expected"]
        else:
            values["expected"] = self.expected.to_dict()
        return values


def short(named: str) -> str:
    """Strip the parent folders from a path that exists, so that what is passed on reveals nothing of this machine."""
    path = Path(named).expanduser()
    return path.name if path.exists() else named


def near(folder: Path) -> str:
    """Return a folder as it is displayed: relative to the working directory if below it, else absolute."""
    with suppress(OSError, ValueError):
        return str(folder.relative_to(Path.cwd()))
    return str(folder)


def check_free(out: Path | None, data: Path) -> Path:
    """Return the absolute path for the run, checked now rather than after hours of work.

    Raises InputError for a folder that is not empty or lies inside the data, and GraftError for one that cannot be
    made.
    """
    wanted = _wanted(out, data)
    if out is not None and wanted.exists() and (not wanted.is_dir() or any(wanted.iterdir())):
        raise InputError(
            f"expected a new or empty folder for --out, got {near(wanted)}, which holds something: give another, or "
            "--resume the run in it"
        )
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


def begun(out: Path | None, data: Path) -> Path:
    """Return the folder of the run to resume: `data` itself, `out`, or the newest in `runs/` with the data's name.

    Raises InputError if there is none.
    """
    if (data / ARGUMENTS_FILE).is_file():
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
            f"expected a run to go on with in {near(wanted)}, got none: name its folder (`graft train --resume RUN`), "
            "or train without --resume"
        )
    return max(found, key=lambda child: (child / ARGUMENTS_FILE).stat().st_mtime)


def begun_by(job: str, out: Path | None, data: Path) -> Path | None:
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
            f"expected a run that no other process works on, got {near(folder)}, which one does: wait for it or stop it"
        ) from None
    try:
        yield
    finally:
        (folder / LOCK_FILE).unlink(missing_ok=True)
        lock.release()


def was_refitted(folder: Path) -> bool:
    """Return whether the classifier in `folder` was also trained on val, after it was measured there."""
    try:
        return bool(json.loads((folder / PLAN_FILE).read_text(encoding="utf-8")).get("refit", False))
    except (OSError, ValueError, AttributeError):
        return False


def finished(folder: Path) -> Run | None:
    """Return the result of the run in `folder` if it and the model exist; without either, the run can be redone."""
    try:
        model_folder(folder)
        return read_run(folder)
    except (InputError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def fault_of_model(run: Run) -> str | None:
    """Read the model of a finished run and say what is wrong with it; None if nothing is."""
    try:
        saved = load_model(model_folder(run.folder))
    except InputError as error:
        return str(error)
    said = json.loads(json_text(run.to_dict()))
    own = {name: saved.facts[name] for name in ("base", "level", "cut", "images", VAL, TEST) if name in saved.facts}
    if list(map(plain, saved.classes)) != said["classes"] or any(said.get(name) != own[name] for name in own):
        return f"expected the model of this run in {near(run.folder / 'model')}, got that of another"
    return None


def clear_away(folder: Path) -> None:
    """Remove what killed processes left unfinished in the run in `folder`, while no other process works on it."""
    for left in unfinished_below(folder):
        remove(left)


def read_run(folder: Path) -> Run:
    """Read the result of a finished run."""
    return run_of(folder, json.loads((folder / RESULT_FILE).read_text(encoding="utf-8")))


def run_of(folder: Path, values: dict[str, Any]) -> Run:
    """Return the run for which `Run.to_dict` gave these values."""
    values |= {"folder": folder, "majority": values.pop("baseline")["majority"]}
    del values["run"]
    for name in (VAL, TEST):
        split = values.get(name)
        values[name] = Accuracy.from_dict(split) if split else None
    values |= {"classes": tuple(values["classes"]), "notes": tuple(values["notes"])}
    if values.get("expected"):
        values["expected"] = Expected.from_dict(values["expected"])
    return Run(**values)


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
    return GraftError(
        f"expected to make the run folder {near(folder)}, got {reason}: give an --out that can be written"
    )
