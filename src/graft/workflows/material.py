"""What a run left in its folder, from which its page is made."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graft.data.dataset import Dataset
from graft.data.split_file import read_labels
from graft.images.levels import Levels
from graft.workflows.kept_answers import KeptAnswers
from graft.workflows.run import PLAN_FILE, SPLIT_FILE, Run

ROBUSTNESS_FILE = "robustness.json"
# The fields that the page uses of each finding, and of each corruption at each severity.
_OF_FINDING = ("kind", "severity", "paths", "message")
_OF_ROBUSTNESS = ("corruption", "severity", "top1", "calibration_error")


@dataclass(frozen=True)
class Material:
    """What a run left: its result, decisions, findings and epochs, and its images.

    The images are listed by split with their labels and answers; the images themselves are included if still there.
    """

    folder: Path
    run: Run
    plan: dict[str, Any]
    audit: dict[str, Any]
    history: tuple[dict[str, Any], ...]
    labels: dict[str, list[tuple[str, str]]]
    kept: KeptAnswers
    dataset: Dataset | None
    levels: Levels = ()
    # The values that `graft evaluate --robustness` prints, measured for the report; empty if they were not.
    robustness: dict[str, Any] = field(default_factory=dict)


def read_material(folder: Path, run: Run, kept: KeptAnswers, dataset: Dataset | None, levels: Levels) -> Material:
    """Read the files of the run in `folder`. Raises DataError if the split file is of another kind."""
    lines = text_in(folder / "metrics.jsonl").splitlines()
    return Material(
        folder,
        run,
        json_in(text_in(folder / PLAN_FILE)),
        _if_each(json_in(text_in(folder / "audit.json")), "findings", _OF_FINDING),
        tuple(row for line in lines if (row := json_in(line))),
        read_labels(folder / SPLIT_FILE),
        kept,
        dataset,
        levels,
        _robustness(json_in(text_in(folder / ROBUSTNESS_FILE))),
    )


def _robustness(found: dict[str, Any]) -> dict[str, Any]:
    figures = all(isinstance(found.get(name), int | float) for name in ("mean", "clean", "n"))
    whole = figures and isinstance(found.get("by_corruption"), dict)
    return _if_each(found, "rows", _OF_ROBUSTNESS) if whole else {}


def _if_each(found: dict[str, Any], name: str, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return `found` if its `name` is a list of mappings with these keys, else {}: an edited file counts as none."""
    rows = found.get(name)
    whole = isinstance(rows, list) and all(isinstance(row, dict) and all(key in row for key in keys) for row in rows)
    return found if whole else {}


def text_in(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def json_in(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
