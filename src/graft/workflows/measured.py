"""The result of a level on val, kept in the run folder while the level is fitted again on all images."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from graft.evaluation.domain import FittedDomain
from graft.files import write_aside
from graft.training.fitting import Measured
from graft.training.history import Epoch
from graft.training.task import Trained
from graft.weights.tensor_file import write_tensors

MEASURED_FILE = Path("checkpoints") / "measured.safetensors"
METRICS_FILE = "metrics.jsonl"


def write_measured(folder: Path, measured: Measured) -> None:
    """Write the figures, and the epochs that led to them as `metrics.jsonl`."""
    import torch

    trained = measured.trained
    tensors = {f"logits/{name}": torch.from_numpy(values) for name, values in trained.logits.items()}
    tensors |= {f"labels/{name}": torch.from_numpy(values) for name, values in trained.labels.items()}
    if trained.domain is not None:
        tensors["domain/bank"] = torch.from_numpy(trained.domain.bank)
    facts = {
        "temperature": trained.temperature,
        "skipped": trained.skipped,
        "seconds": (trained.feature_seconds, trained.training_seconds),
        "history": [asdict(epoch) for epoch in trained.history],
        "notes": trained.notes,
        "domain": trained.domain and {"threshold": trained.domain.threshold, "n": trained.domain.n},
        "thresholds": None if trained.thresholds is None else trained.thresholds.tolist(),
    }
    lines = "".join(json.dumps(epoch.row()) + "\n" for epoch in trained.history)
    if lines:
        write_aside(folder / METRICS_FILE, lambda file: file.write(lines.encode()))
    write_aside(folder / MEASURED_FILE, lambda file: write_tensors(file, tensors, {"facts": json.dumps(facts)}))


def read_measured(folder: Path) -> Measured | None:
    """Return what `write_measured` wrote; None if the run did not get that far."""
    from safetensors import safe_open

    path = folder / MEASURED_FILE
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118
        facts = json.loads(file.metadata()["facts"])
    parts: dict[str, dict] = {"logits": {}, "labels": {}, "domain": {}}
    for name, values in tensors.items():
        part, _, split = name.partition("/")
        parts[part][split] = values
    return Measured(
        Trained(
            parts["logits"],
            parts["labels"],
            facts["temperature"],
            facts["skipped"],
            facts["seconds"][0],
            facts["seconds"][1],
            history=tuple(Epoch(**epoch) for epoch in facts["history"]),
            notes=tuple(facts["notes"]),
            domain=FittedDomain(parts["domain"]["bank"], **facts["domain"]) if facts.get("domain") else None,
            thresholds=None if facts.get("thresholds") is None else np.array(facts["thresholds"]),
        )
    )
