"""An outcome on disk: JSON for its figures, SVG for its drawing, named after the experiment."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.errors import InputError
from graft.files import json_text, write_aside
from graft.lab.drawn import draw
from graft.lab.experiment import Conditions, Experiment, Outcome, as_dict
from graft.lab.fitting import one_thread

QUICK_ENDING = "-quick"


@dataclass(frozen=True)
class Record:
    """A completed experiment: its form and seed, its outcome, and how many seconds it took.

    `with_data` says that it ran on images that the user named.
    """

    experiment: Experiment
    quick: bool
    seed: int
    outcome: Outcome
    seconds: float
    with_data: bool = False

    @property
    def command(self) -> str:
        """Return the command that runs it again; DATA stands for what the experiment takes with `--data`."""
        options = (
            *((" --data DATA",) if self.with_data else ()),
            *((" --quick",) if self.quick else ()),
            *((f" --seed {self.seed}",) if self.seed else ()),
        )
        return f"graft lab {self.experiment.name}{''.join(options)}"

    def to_dict(self) -> dict[str, Any]:
        """Return the record as `graft lab NAME --json` prints it and `docs/results` keeps it."""
        return {
            "name": self.experiment.name,
            "claims": list(self.experiment.claims),
            "claim": self.experiment.claim,
            "command": self.command,
            "quick": self.quick,
            "seed": self.seed,
            **as_dict(self.outcome),
            "seconds": round(self.seconds, 1),
        }


def perform(experiment: Experiment, conditions: Conditions) -> Record:
    """Run an experiment. Raises InputError for `--data` that it does not take, or lacks where it needs any."""
    if conditions.data is not None and experiment.data is None:
        raise InputError(
            f"expected no --data for {experiment.name}, which draws its own images, got {conditions.data}: leave it out"
        )
    if conditions.data is None and experiment.needs_data:
        raise InputError(
            f"expected --data for {experiment.name} ({experiment.data}), which graft does not include, got none: name "
            "a folder"
        )
    if conditions.data is not None and not conditions.data.exists():
        raise InputError(f"expected a folder for --data, got {conditions.data}, which does not exist: name another")
    started = time.perf_counter()
    with one_thread():
        outcome = experiment.run(conditions)
    seconds = time.perf_counter() - started
    return Record(experiment, conditions.quick, conditions.seed, outcome, seconds, conditions.data is not None)


def write(record: Record, folder: Path) -> tuple[Path, Path]:
    """Write the JSON and the SVG atomically, replacing older ones; return their paths."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "which is a file" if isinstance(error, FileExistsError) else f"in which none can be ({error.strerror})"
        raise InputError(f"expected a folder for --out, got {folder}, {reason}: give another") from None
    stem = record.experiment.name + (QUICK_ENDING if record.quick else "")
    figures, drawing = folder / f"{stem}.json", folder / f"{stem}.svg"
    text = json_text(record.to_dict()) + "\n"
    # The figures last: where they exist, the drawing does too.
    write_aside(drawing, lambda file: file.write(draw(record.outcome.figure)))
    write_aside(figures, lambda file: file.write(text.encode()))
    return figures, drawing


def recorded(folder: Path, name: str) -> dict[str, Any] | None:
    """Return a folder's record of an experiment, of the full form where there is one; None if there is none.

    Raises InputError for a path that is not a folder, and for a file that `write` did not write.
    """
    if not folder.is_dir():
        raise InputError(
            f"expected a folder of recorded figures for --out, got {folder}, which is not one: name another"
        )
    for stem in (name, name + QUICK_ENDING):
        path = folder / f"{stem}.json"
        if path.is_file():
            try:
                kept = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                kept = None
            if not isinstance(kept, dict) or not isinstance(kept.get("verdict"), str):
                raise InputError(
                    f"expected the figures of {name}, got something else in {path}: remove it, or run it again with "
                    f"`graft lab {name} --out {folder}`"
                )
            return kept
    return None
