"""A run's answers for the images it was measured on, kept in its folder as tensors and JSON, without pickle.

For each split, `answers.safetensors` holds the rows of its images (counted through the split in `split.csv`), their
labels, their logits, float32 (n, classes), and which of them have no copy in the training images. `folds` are images
that a head was finally fitted on, each answered by another head that had not seen it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from graft.evaluation.answers import Answers
from graft.evaluation.calibration import softmax
from graft.files import write_aside
from graft.weights.tensor_file import write_tensors

ANSWERS_FILE = "answers.safetensors"


@dataclass(frozen=True)
class KeptSplit:
    """Answers for one split: rows int64 (n,), labels int64 (n,), logits float32 (n, classes), unseen bool (n,).

    `groups`, int64 (n,), are present where images belong together; see `Answers`.
    """

    rows: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    unseen: np.ndarray
    groups: np.ndarray | None = None

    def answers(self, temperature: float, names: Mapping[int, str]) -> Answers:
        """Return the calibrated answers; `names` maps rows of the split to images."""
        called = tuple(names.get(row, f"row {row}") for row in self.rows.tolist())
        return Answers(called, self.labels, softmax(self.logits, temperature), self.unseen)


@dataclass(frozen=True)
class KeptAnswers:
    """Answers by split, and image measures by split and name, float32 (n,), in the order of the rows."""

    classes: tuple[str, ...]
    temperature: float
    splits: dict[str, KeptSplit]
    measures: dict[str, dict[str, np.ndarray]]
    # Keys of training images in their split, with labels and the logits of a head that had not seen them.
    folds: tuple[tuple[str, ...], np.ndarray, np.ndarray] | None = None
    # For multi-label images, the probability from which each label is answered. Labels are then (n, classes).
    thresholds: tuple[float, ...] | None = None
    # Names of groups by their numbers, of those that have any.
    group_names: Mapping[int, str] = field(default_factory=dict)


def write_answers(folder: Path, kept: KeptAnswers) -> None:
    import torch

    tensors: dict[str, np.ndarray] = {}
    for name, split in kept.splits.items():
        tensors |= {f"rows/{name}": split.rows, f"labels/{name}": split.labels.astype(np.int64)}
        tensors |= {f"logits/{name}": split.logits.astype(np.float32), f"unseen/{name}": split.unseen}
        if split.groups is not None:
            tensors[f"groups/{name}"] = split.groups
        for measure, values in kept.measures.get(name, {}).items():
            tensors[f"measure.{measure}/{name}"] = values.astype(np.float32)
    facts = {"classes": kept.classes, "temperature": kept.temperature, "splits": list(kept.splits)}
    if kept.thresholds is not None:
        facts["thresholds"] = kept.thresholds
    if kept.group_names:
        facts["group_names"] = {str(number): called for number, called in kept.group_names.items()}
    if kept.folds is not None:
        keys, labels, logits = kept.folds
        tensors |= {"labels-of-folds": labels.astype(np.int64), "logits-of-folds": logits.astype(np.float32)}
        facts["folds"] = keys
    arrays = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in tensors.items()}
    metadata = {"facts": json.dumps(facts)}
    write_aside(folder / ANSWERS_FILE, lambda file: write_tensors(file, arrays, metadata))


def read_answers(folder: Path) -> KeptAnswers | None:
    """Return what `write_answers` wrote; None if it is missing, as in runs of earlier versions, or damaged."""
    from safetensors import SafetensorError, safe_open

    path = folder / ANSWERS_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="np") as file:
            facts = json.loads(file.metadata()["facts"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        splits = {
            name: KeptSplit(
                tensors[f"rows/{name}"],
                tensors[f"labels/{name}"],
                tensors[f"logits/{name}"],
                tensors[f"unseen/{name}"],
                tensors.get(f"groups/{name}"),
            )
            for name in facts["splits"]
        }
        measures: dict[str, dict[str, np.ndarray]] = {name: {} for name in splits}
        for name, values in tensors.items():
            if name.startswith("measure."):
                measure, _, split = name.removeprefix("measure.").partition("/")
                measures[split][measure] = values
        folds = None
        if "folds" in facts:
            folds = (tuple(facts["folds"]), tensors["labels-of-folds"], tensors["logits-of-folds"])
        thresholds = tuple(facts["thresholds"]) if "thresholds" in facts else None
        names = {int(number): str(called) for number, called in facts.get("group_names", {}).items()}
        return KeptAnswers(
            tuple(facts["classes"]), float(facts["temperature"]), splits, measures, folds, thresholds, names
        )
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
