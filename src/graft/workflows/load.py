"""Load a run as a classifier that can also be evaluated."""

from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from graft.export.running import is_exported
from graft.given import with_hints
from graft.serving.predictor import Classifier
from graft.serving.predictor import load as load_classifier
from graft.torch_modes import in_own_modes


@with_hints()
@in_own_modes
def load(
    run: str | PathLike[str], *, engine: str = "auto", precision: str = "auto", singles: bool = False
) -> Classifier:
    """Load the classifier of a run folder or its `model/`, or of a file exported from one (.onnx, .xml).

    Args:
        run: The folder or file.
        engine: What computes: `auto`, `torch` or `openvino`. An exported file has its own.
        precision: Number format of the engine: `auto`, `float32` or `bfloat16`. An exported file has its own.
        singles: Whether images will come one at a time rather than many together. Each is then answered sooner, except
            the first, which takes longer.

    Raises:
        InputError: There is no run, or the engine is not available.
        WeightsError: The model in it is damaged.
    """
    classifier = load_classifier(run, engine=engine, precision=precision, singles=singles)
    if not is_exported(Path(run).expanduser()):
        classifier.scored_by = partial(_scored, Path(run).expanduser(), engine=engine, precision=precision)
    return classifier


def _scored(run: Path, data: Any, **options: Any) -> Any:
    # Imported on demand: it needs PyTorch, which prediction can do without.
    from graft.workflows.evaluate import evaluate

    return evaluate(run, data, **options)
