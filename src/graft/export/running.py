"""Run exported files, each in its own runtime: pixels in, probabilities out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graft.errors import InputError, WeightsError
from graft.export.facts import KEY, Facts
from graft.export.openvino_pair import read_pair

# uint8 (N, H, W, 3) to float32 (N, classes).
Runtime = Callable[[np.ndarray], np.ndarray]
# Number formats by OpenVINO's names.
NUMBER_FORMATS = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}


@dataclass(frozen=True)
class Exported:
    """An opened file: its facts, and its runtime, which threads may share."""

    path: Path
    facts: Facts
    run: Runtime


def open_exported(path: Path) -> Exported:
    """Open the file at `path`, which ends in .onnx or .xml. Raises WeightsError for one that graft did not write."""
    if not path.is_file():
        raise InputError(f"expected an ONNX or OpenVINO file, got {str(path)!r}, which does not exist: check the path")
    return _OPENERS[path.suffix.lower()](path)


def is_exported(path: Path) -> bool:
    """Whether a path has the name of a file that `open_exported` opens."""
    return path.suffix.lower() in _OPENERS and not path.is_dir()


def _open_onnx(path: Path) -> Exported:
    try:
        import onnxruntime
    except ImportError:
        raise InputError(
            f"expected the package onnxruntime to run {path.name}, got none: pip install 'graft-vision[onnx]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
    except Exception as error:  # its errors have no base class of their own
        raise _unreadable(path, error) from None
    facts = Facts.from_json(session.get_modelmeta().custom_metadata_map.get(KEY), path.name)
    return Exported(path, facts, lambda images: session.run(None, {name: images})[0])


def _open_openvino(path: Path) -> Exported:
    from graft.features.openvino_import import core

    try:
        model = read_pair(path)
        facts = Facts.from_json(
            str(model.get_rt_info([KEY]).astype(str)) if model.has_rt_info([KEY]) else None, path.name
        )
        compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except (OSError, RuntimeError) as error:
        raise _unreadable(path, error) from None
    return Exported(path, facts, _runtime(compiled))


def _runtime(compiled: Any) -> Runtime:
    """Return the runtime of a compiled model of OpenVINO's."""
    # Each call gets its own request, so that threads neither wait for each other nor mix up answers.
    return lambda images: np.array(compiled.create_infer_request().infer([images])[0])


def as_openvino_chooses(path: Path) -> tuple[str, Runtime]:
    """Return the number format in which OpenVINO computes `path` here unless it is told one, and the runtime for it."""
    from graft.features.openvino_import import core

    compiled = core().compile_model(read_pair(path), "CPU")
    format = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    return NUMBER_FORMATS.get(format, format), _runtime(compiled)


def open_torch(path: Path) -> Exported:
    """Open an archive that this process itself wrote: `torch.export.load` is unsafe for files from others."""
    import torch

    kept: dict[str, Any] = {KEY: ""}
    module = torch.export.load(str(path), extra_files=kept).module()

    def run(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(module(torch.from_numpy(np.array(images))).numpy())

    return Exported(path, Facts.from_json(kept[KEY], path.name), run)


def _unreadable(path: Path, error: Exception) -> WeightsError:
    first = str(error).strip().splitlines()
    return WeightsError(
        f"expected a file that `graft export` wrote, got {path.name}, which its runtime refuses "
        f"({first[0][:200] if first else type(error).__name__}): export the run again"
    )


_OPENERS: dict[str, Callable[[Path], Exported]] = {".onnx": _open_onnx, ".xml": _open_openvino}
