"""graft: how much of a pretrained CNN to keep, measured, and no more work than that.

    run = graft.train("photos/", base="mobilenet_v2")
    classifier = graft.load("runs/photos")
    classifier.predict(["a.jpg"])

The names below are all there is. Each is imported when it is first used, so `import graft` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graft.errors import GraftError, ImageError, InputError
    from graft.models.network import Network
    from graft.serving.predictor import Classifier, Prediction, load
    from graft.training.evaluating import Evaluation, evaluate
    from graft.training.run import Run
    from graft.training.training import train
    from graft.weights.creating import create

__version__ = "0.1.0"

_HOMES = {
    "Classifier": "graft.serving.predictor",
    "Evaluation": "graft.training.evaluating",
    "GraftError": "graft.errors",
    "ImageError": "graft.errors",
    "InputError": "graft.errors",
    "Network": "graft.models.network",
    "Prediction": "graft.serving.predictor",
    "Run": "graft.training.run",
    "create": "graft.weights.creating",
    "evaluate": "graft.training.evaluating",
    "load": "graft.serving.predictor",
    "train": "graft.training.training",
}

__all__ = [
    "Classifier",
    "Evaluation",
    "GraftError",
    "ImageError",
    "InputError",
    "Network",
    "Prediction",
    "Run",
    "__version__",
    "create",
    "evaluate",
    "load",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'graft' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
