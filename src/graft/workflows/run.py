"""A run and its folder, which `train.py` fills step by step, every file written aside and renamed.

model/          all that deployment needs
args.yaml  plan.json  split.csv  audit.json  metrics.jsonl  rate_range.json (--find-lr)  result.json  report.html
checkpoints/    resumable state: tensors and JSON, no pickle

`args.yaml`, `split.csv` and `plan.json` are there before training begins: what it takes to go on with it.
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
# Which job of several processes trains here, while it does: when it is started again, it goes on.
JOB_FILE = ".job"


@dataclass(frozen=True, repr=False)
class Run:
    """A finished training. `folder` is absolute; `skipped` maps images that could not be decoded to the reason.

    `expected` is the accuracy on unseen images where more than val tells it; None where nothing does.
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
        """Whether it gives an image several labels: figures are then `LabelFigures`, and `majority` is the share of the
        set of labels that most images of val have."""
        return "mean_average_precision" in self.val.to_dict()

    @property
    def logs(self) -> list[dict[str, Any]]:
        """The epochs of its training, a row for each: epoch, losses, val_top1, learning_rate and seconds.

        Where images have several labels, `val_mean_average_precision` stands in place of an accuracy. Empty where no
        stage was trained in steps.
        """
        try:
            lines = (self.folder / METRICS_FILE).read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        return [json.loads(line) for line in lines]

    def plot(self) -> "Chart":
        """Losses and accuracy by epoch, or where a head was solved at once its accuracies, as a chart for notebooks."""
        from graft.workflows.run_chart import chart_of

        return chart_of(self)

    def to_dict(self) -> dict[str, Any]:
        """As `graft train --json` prints it."""
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
    """A path that exists without the folders above it: what is handed on says nothing of this machine."""
    path = Path(named).expanduser()
    return path.name if path.exists() else named


def near(folder: Path) -> str:
    """A folder as it is shown: from the working folder on where it lies below, else from the root on."""
    with suppress(OSError, ValueError):
        return str(folder.relative_to(Path.cwd()))
    return str(folder)


def check_free(out: Path | None, data: Path) -> Path:
    """Where the run is to be, by its absolute path. What is wrong with it is told before hours of work on it.

    Raises InputError for a folder that holds something else, or that lies inside the data, and GraftError for one that
    cannot be made.
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
    """Raises GraftError for a folder that cannot be made or written to, before hours of work on what is to be in it."""
    above = next(each for each in (wanted, *wanted.parents) if each.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise _cannot_make(wanted, f"no permission to write in {above}" if above.is_dir() else f"the file {above}")


def claim(out: Path | None, data: Path) -> Path:
    """An empty folder for a run, by its absolute path; by default `runs/<data name>`, numbered when taken.

    Raises InputError and GraftError as `check_free` does.
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
                # Another run took the name in between.
                pass
        number += 1


def begun(out: Path | None, data: Path) -> Path:
    """The folder of the run to go on with: `data` itself, `out`, or the newest in `runs/` that has the data's name.

    Raises InputError where there is none.
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
    """The folder that a `job` claimed before it was started again, where it had come so far.

    One in which nothing can be gone on with is cleared away. Where `data` is a run that is resumed, it claims no other.
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
    """Keep other processes from the run in `folder` while the block runs; the lock of a killed process is void.

    Raises InputError when another process has it.
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
    """Whether the classifier in `folder` was trained on the images of val too, once they had been measured on."""
    try:
        return bool(json.loads((folder / PLAN_FILE).read_text(encoding="utf-8")).get("refit", False))
    except (OSError, ValueError, AttributeError):
        return False


def finished(folder: Path) -> Run | None:
    """The result of the run in `folder`, if that and the model are there: without one of them it can be made again."""
    try:
        model_folder(folder)
        return read_run(folder)
    except (InputError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def fault_of_model(run: Run) -> str | None:
    """What is wrong with the model of a finished run, whose files are read for that; None where nothing is."""
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
    """The result of a finished run."""
    return run_of(folder, json.loads((folder / RESULT_FILE).read_text(encoding="utf-8")))


def run_of(folder: Path, values: dict[str, Any]) -> Run:
    """The run of which `Run.to_dict` gave these values."""
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
    """Where the run is to be. Raises InputError for a place inside the data."""
    name = data.name if data.is_dir() else data.stem
    # Absolute at once: wherever the process goes to in the meantime, the run is in one place.
    wanted = (out if out is not None else Path("runs") / name).expanduser().absolute()
    if data.is_dir() and wanted.resolve().is_relative_to(data.resolve()):
        raise InputError(f"expected a place outside the images, got {near(wanted)}, inside {data}: give another --out")
    return wanted


def check_outside_images(out: Path | None, data: Path, dataset: Dataset, apart: Sequence[Path] = ()) -> None:
    """Refuse a place for the run among images that are files of their own, such as those that a manifest names.

    `apart` are further data, those of other splits.

    Raises InputError for one inside a folder that images lie in, or inside the folder that has all of them below it
    where that lies below the manifest's own.
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
