"""The evidence of one pass over the target images: shift, probe and transferability of every stage of a base."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graft.errors import DataError
from graft.models.network import Network
from graft.transfer.probe import StageProbe, probe
from graft.transfer.shift import Shift, ShiftMeter
from graft.transfer.transferability import StageTransferability, h_score, logme


@dataclass(frozen=True)
class Evidence:
    """Measurements on `n` images, by stage; `notes` say what could not be measured, and why."""

    n: int
    shift: Shift
    probe: tuple[StageProbe, ...]
    transferability: tuple[StageTransferability, ...]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        shift = "None" if self.shift.mean is None else f"{self.shift.mean:.3f}"
        best = max(self.probe, key=lambda row: row.accuracy, default=None)
        probe = "" if best is None else f", best probe {best.accuracy:.3f} on {best.stage!r}"
        return f"Evidence(n={self.n}, mean shift={shift}{probe})"

    def to_dict(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "shift": self.shift.to_dict(),
            "probe": [row.to_dict() for row in self.probe],
            "transferability": [row.to_dict() for row in self.transferability],
            "notes": list(self.notes),
        }


def gather_evidence(
    network: Network, batches: Iterable[tuple[Tensor, np.ndarray, np.ndarray | None]], seed: int = 0
) -> Evidence:
    """Measure `network` on `batches` of (images, labels, groups).

    Images are float (N, C, H, W), normalised as the weights expect, and on the network's device. Labels and groups are
    int (N,); groups may be None. The network is left as it was. With too few images to probe, `probe` and
    `transferability` are empty and a note says so. Raises ValueError if there are no images at all.
    """
    features: dict[str, list[np.ndarray]] = {}
    labels: list[np.ndarray] = []
    groups: list[np.ndarray] = []
    with ShiftMeter(network).reading() as meter, torch.inference_mode():
        for images, batch_labels, batch_groups in batches:
            for stage, maps in network.feature_maps(images).items():
                features.setdefault(stage, []).append(pool_maps(maps))
            labels.append(batch_labels)
            groups += [] if batch_groups is None else [batch_groups]
    if not labels:
        raise ValueError("expected images to measure, got none")
    joined, targets = {stage: np.concatenate(parts) for stage, parts in features.items()}, np.concatenate(labels)
    shift = meter.shift()
    notes = [shift.reason] if shift.reason else []
    try:
        rows = probe(joined, targets, seed, groups=np.concatenate(groups) if groups else None)
    except DataError as error:
        return Evidence(len(targets), shift, (), (), (*notes, str(error)))
    scores = (StageTransferability(stage, logme(x, targets), h_score(x, targets)) for stage, x in joined.items())
    return Evidence(len(targets), shift, rows, tuple(scores), tuple(notes))


def pool_maps(maps: Tensor) -> np.ndarray:
    """Maps (N, C, H, W) averaged over their pixels, or vectors (N, C) unchanged, as float32 (N, C)."""
    return (maps.mean((2, 3)) if maps.ndim == 4 else maps).float().cpu().numpy()
