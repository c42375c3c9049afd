"""A run and its folder, which `train.py` fills step by step; every file is written aside, then renamed.

model/          all that deployment needs
args.yaml  plan.json  split.csv  audit.json  metrics.jsonl  rate_range.json (--find-lr)  result.json  report.html
checkpoints/    resumable state: tensors and JSON, no pickle

`args.yaml`, `split.csv` and `plan.json` are written before training begins, and are all that resuming needs.
"""

import json
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.data.dataset import TEST, VAL
from graft.errors import InputError
from graft.evaluation.accuracy import Accuracy as Accuracy
from graft.evaluation.accuracy import Expected as Expected
from graft.files import json_text
from graft.html import escaped, table
from graft.names import plain
from graft.training.crowns import METRICS_FILE
from graft.weights.saved import load_model, model_folder

if TYPE_CHECKING:
    from graft.workflows.run_chart import Chart

PLAN_FILE = "plan.json"
RESULT_FILE = "result.json"
SPLIT_FILE = "split.csv"


@dataclass(frozen=True, repr=False)
class Run:
    """A finished run, taken wherever the path of one is. `folder` is absolute.

    `skipped` maps images that could not be decoded to the reason. `expected` is the accuracy expected on unseen images,
    where more than val determines it; otherwise None.
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

    def __fspath__(self) -> str:
        return str(self.folder)

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
        return f"expected the model of this run in {near(run.folder / 'model')}, got the model of another run"
    return None


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
