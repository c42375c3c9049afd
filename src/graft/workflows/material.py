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
        json_in(text_in(folder / "audit.json")),
        tuple(row for line in lines if (row := json_in(line))),
        read_labels(folder / SPLIT_FILE),
        kept,
        dataset,
        levels,
        json_in(text_in(folder / ROBUSTNESS_FILE)),
    )


def text_in(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def json_in(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
