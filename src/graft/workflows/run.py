"""A run and its folder: claimed once, filled step by step, every file written aside and renamed.

model/          all that deployment needs
args.yaml  plan.json  audit.json  split.csv  metrics.jsonl  result.json  report.html  rate_range.json (--find-lr)
checkpoints/    resumable state: tensors and JSON, no pickle
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from graft.data.dataset import TEST, VAL
from graft.errors import GraftError, InputError
from graft.files import write_aside

ARGUMENTS_FILE = "args.yaml"
PLAN_FILE = "plan.json"
RESULT_FILE = "result.json"


@dataclass(frozen=True)
class Accuracy:
    """Top-1 on a split with Wilson's 95 % interval, on `n` images."""

    top1: float
    top1_ci95: tuple[float, float]
    n: int


@dataclass(frozen=True)
class Run:
    """A finished training. `skipped` maps images that could not be decoded to the reason."""

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

    def to_dict(self) -> dict[str, Any]:
        """As `graft train --json` prints it."""
        values = asdict(self)
        values = {"run": str(values.pop("folder")), **values}
        values["baseline"] = {"majority": values.pop("majority")}
        if self.test is None:
            del values["test"]
        return values


def claim(out: Path | None, data: Path, resume: bool) -> Path:
    """An empty folder for a run, or with `resume` the one of the run to go on with.

    The default is `runs/<data name>`, numbered when taken. Raises InputError for a folder that holds something else,
    or that lies inside the data.
    """
    name = data.name if data.is_dir() else data.stem
    wanted = (out if out is not None else Path("runs") / name).expanduser()
    inside = data if data.is_dir() else None
    if inside is not None and wanted.resolve().is_relative_to(inside.resolve()):
        raise InputError(f"expected a run folder outside the images, got {wanted}, inside {data}: give another --out")
    if resume:
        return _unfinished(wanted, numbered=out is None)
    if out is not None:
        if wanted.exists() and (not wanted.is_dir() or any(wanted.iterdir())):
            raise InputError(
                f"expected a new or empty folder for --out, got {wanted}, which holds something: give another, or "
                "--resume the run in it"
            )
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


def write_arguments(folder: Path, arguments: dict[str, Any]) -> None:
    data = yaml.safe_dump(arguments, sort_keys=False, allow_unicode=True)
    write_aside(folder / ARGUMENTS_FILE, lambda file: file.write(data.encode()))


def check_arguments(folder: Path, arguments: dict[str, Any]) -> None:
    """Refuse to go on with a run that was begun with other arguments. Raises InputError naming those that differ."""
    try:
        begun = yaml.safe_load((folder / ARGUMENTS_FILE).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        begun = None
    if not isinstance(begun, dict):
        raise InputError(f"expected the arguments of a run in {folder / ARGUMENTS_FILE}, got none: train it anew")
    differing = [f"{name} was {begun.get(name)!r}" for name, value in arguments.items() if begun.get(name) != value]
    if differing:
        raise InputError(
            f"expected the arguments that {folder} was begun with, got others ({'; '.join(differing)}): give the same "
            "ones, or train into another folder"
        )


def read_run(folder: Path) -> Run:
    """The result of a finished run."""
    values = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
    values |= {"folder": folder, "majority": values.pop("baseline")["majority"]}
    del values["run"]
    for name in (VAL, TEST):
        split = values.get(name)
        values[name] = Accuracy(split["top1"], tuple(split["top1_ci95"]), split["n"]) if split else None
    values |= {"classes": tuple(values["classes"]), "notes": tuple(values["notes"])}
    return Run(**values)


def _unfinished(wanted: Path, numbered: bool) -> Path:
    """The newest run by that name."""
    candidates = [wanted]
    if numbered and wanted.parent.is_dir():
        prefix = f"{wanted.name}-"
        candidates += [child for child in wanted.parent.iterdir() if child.name.removeprefix(prefix).isdigit()]
    begun = [child for child in candidates if (child / ARGUMENTS_FILE).is_file()]
    if not begun:
        raise InputError(
            f"expected a run to go on with in {wanted}, got none: train without --resume, or give its --out"
        )
    return max(begun, key=lambda child: (child / ARGUMENTS_FILE).stat().st_mtime)


def _made(folder: Path, exists: bool) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=exists)
    except FileExistsError:
        raise
    except OSError as error:
        raise GraftError(
            f"expected to make the run folder {folder}, got {error.strerror}: give an --out that can be written"
        ) from None
    return folder
