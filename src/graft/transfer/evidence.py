"""The evidence of the target images: shift, probe and transferability of every stage of a base."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.errors import DataError
from graft.models.cuts import ALL_STAGES
from graft.models.network import Network
from graft.transfer.probe import StageProbe, probe
from graft.transfer.shift import Shift
from graft.transfer.transferability import StageTransferability, h_score, logme


@dataclass(frozen=True)
class Evidence:
    """Measurements by stage on `n` images, fewer for the shift; `notes` say what could not be measured."""

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
    shift: Shift,
    features: Mapping[str, np.ndarray],
    labels: np.ndarray,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> Evidence:
    """Measure the `features` (N, D) of every stage, by name, to go with the `shift`; labels and groups are int (N,).

    D may differ between stages. With too few images to probe, `probe` and `transferability` are empty and a note says
    so.
    """
    notes = [shift.reason] if shift.reason else []
    try:
        rows = probe(features, labels, seed, groups=groups)
    except DataError as error:
        return Evidence(len(labels), shift, (), (), (*notes, f"no level was tried on the images: {error}"))
    scores = (StageTransferability(stage, logme(x, labels), h_score(x, labels)) for stage, x in features.items())
    return Evidence(len(labels), shift, rows, tuple(scores), tuple(notes))


def means_by_stage(network: Network, vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Split vectors (N, D) over all stages, as a head sees them, into the mean of each stage's maps (N, channels)."""
    found, start = {}, 0
    for stage in network.gathered(ALL_STAGES):
        found[stage.name] = vectors[:, start : start + stage.channels]
        # The maxima follow the means; a stage without maps has only its vector.
        start += stage.channels * (1 if stage.stride is None else 2)
    return found
