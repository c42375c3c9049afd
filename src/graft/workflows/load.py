"""A run as a classifier that can also be scored."""

from functools import partial
from pathlib import Path
from typing import Any

from graft.export.running import is_exported
from graft.given import with_hints
from graft.serving.predictor import Classifier
from graft.serving.predictor import load as load_classifier
from graft.torch_modes import in_own_modes


@with_hints()
@in_own_modes
def load(run: str | Path, *, engine: str = "auto", precision: str = "auto", singles: bool = False) -> Classifier:
    """The classifier in a run folder or its `model/`, or in a file that was exported from one (.onnx, .xml).

    Args:
        run: The folder or the file.
        engine: What computes: `auto`, `torch` or `openvino`. An exported file has its own.
        precision: Its numbers: `auto`, `float32` or `bfloat16`. An exported file has its own.
        singles: Whether images will come one at a time rather than many together: each then has its answer sooner, and
            the first one later.

    Raises:
        InputError: There is no run, or an engine that is not there.
        WeightsError: The model in it is damaged.
    """
    classifier = load_classifier(run, engine=engine, precision=precision, singles=singles)
    if not is_exported(Path(run).expanduser()):
        classifier.scored_by = partial(_scored, Path(run).expanduser(), engine=engine, precision=precision)
    return classifier


def _scored(run: Path, data: Any, **options: Any) -> Any:
    # Imported where it is asked for: it takes PyTorch, which answers may do without.
    from graft.workflows.evaluate import evaluate

    return evaluate(run, data, **options)
