"""OpenVINO's two files, where the graph records a digest of its weights.

They are written one after the other, so a process that ends in between would leave a graph with the weights of another.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.errors import WeightsError

if TYPE_CHECKING:
    from graft.features.openvino_import import openvino

# The extension of the weights file beside that of the graph.
WEIGHTS_BESIDE = ".bin"
# The name under which the graph keeps the digest of the weights file.
DIGEST = "graft_weights_file"


def save_pair(model: openvino.Model, file: Path) -> None:
    """Write `file`, which ends in .xml or .XML, and its weights beside it."""
    from graft.features.openvino_import import openvino

    # OpenVINO writes no file that ends in capitals.
    written = file.with_suffix(".xml")
    openvino.save_model(model, str(written), compress_to_fp16=False)
    # Both writes give the same weights; only the graph gains the digest.
    model.set_rt_info(_digest(file.with_suffix(WEIGHTS_BESIDE).read_bytes()), DIGEST)
    openvino.save_model(model, str(written), compress_to_fp16=False)
    if written != file:
        written.replace(file)


def read_pair(file: Path) -> Any:
    """Return the model in `file` with the weights beside it; a graph of an earlier version has no digest to check.

    Both are read before either is checked, so that a file replaced in between cannot escape the check. Raises OSError,
    RuntimeError for what OpenVINO refuses, and WeightsError for weights of another graph.
    """
    from graft.features.openvino_import import core

    beside = file.with_suffix(WEIGHTS_BESIDE)
    if not beside.exists():
        raise WeightsError(
            f"expected {beside.name} beside {file.name}, as `graft export` writes them, got none: copy both, or "
            "export the run again"
        )
    graph, weights = file.read_bytes(), beside.read_bytes()
    model = core().read_model(graph, weights)
    if model.has_rt_info([DIGEST]) and model.get_rt_info([DIGEST]).astype(str) != _digest(weights):
        raise WeightsError(
            f"expected {beside.name} to hold the weights that {file.name} was written with, got others, as an "
            "interrupted copy or export leaves them: copy both again, or export the run again"
        )
    return model


def _digest(weights: bytes) -> str:
    return hashlib.blake2b(weights, digest_size=16).hexdigest()
