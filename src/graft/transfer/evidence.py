"""All that one pass over the target images tells about a base: shift, probe and transferability, by stage."""

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
    """Measurements on `n` images; `notes` say what could not be measured and why."""

    n: int
    shift: Shift
    probe: tuple[StageProbe, ...]
    transferability: tuple[StageTransferability, ...]
    notes: tuple[str, ...] = ()

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
    """Measure `batches` of images (N, C, H, W), float, normalised as the weights want them, with labels and, if they
    have any, groups, int (N,) both.

    Images are on the network's device; the network is left as it was. Too few images to probe leave `probe` and
    `transferability` empty. Raises ValueError when there are no images at all.
    """
    features: dict[str, list[np.ndarray]] = {}
    labels: list[np.ndarray] = []
    groups: list[np.ndarray] = []
    with ShiftMeter(network).reading() as meter, torch.inference_mode():
        for images, of_batch, groups_of_batch in batches:
            for stage, maps in network.feature_maps(images).items():
                features.setdefault(stage, []).append(pool_maps(maps))
            labels.append(of_batch)
            groups += [] if groups_of_batch is None else [groups_of_batch]
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
    """The mean over space of (N, C, H, W), or vectors (N, C) as they are, as float32 (N, C)."""
    return (maps.mean((2, 3)) if maps.ndim == 4 else maps).float().cpu().numpy()
