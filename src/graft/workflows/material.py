"""What a run left in its folder, as the page of it is made from."""

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
# What the page takes of each finding, and of each corruption at each severity.
_OF_FINDING = ("kind", "severity", "paths", "message")
_OF_ROBUSTNESS = ("corruption", "severity", "top1", "calibration_error")


@dataclass(frozen=True)
class Material:
    """What a run left: its result, what was decided and found, the epochs, its images by split with their labels, its
    answers, and the images themselves where they are still there."""

    folder: Path
    run: Run
    plan: dict[str, Any]
    audit: dict[str, Any]
    history: tuple[dict[str, Any], ...]
    labels: dict[str, list[tuple[str, str]]]
    kept: KeptAnswers
    dataset: Dataset | None
    levels: Levels = ()
    # As `graft evaluate --robustness` measured it for the report; empty where it did not.
    robustness: dict[str, Any] = field(default_factory=dict)


def read_material(folder: Path, run: Run, kept: KeptAnswers, dataset: Dataset | None, levels: Levels) -> Material:
    """What the files of the run in `folder` say. Raises DataError for a split file of another kind."""
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
    """What was found, if under `name` is a list of what has these keys; a file that was edited is as good as none."""
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
