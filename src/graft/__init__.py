"""graft: how much of a pretrained CNN to keep, measured, and no more work than that.

    run = graft.train("photos/", base="mobilenet_v2")
    classifier = graft.load("runs/photos")
    classifier.predict(["a.jpg"])

The names below are all there is. Each is imported when it is first used, so `import graft` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graft.accounting.counting import account
    from graft.errors import GraftError, ImageError, InputError
    from graft.models.blocks import LocalResponseNorm
    from graft.models.densenet import DenseLayer
    from graft.models.googlenet import Inception, NaiveInception
    from graft.models.mobilenet_v1 import DepthwiseSeparable
    from graft.models.network import Network
    from graft.models.resnet import BasicBlock, Bottleneck
    from graft.models.vgg import stacked_convolutions
    from graft.serving.predictor import Classifier, Prediction, load
    from graft.training.advising import advise
    from graft.training.auditing import Audit, audit
    from graft.training.comparing import compare
    from graft.training.comparison import Comparison
    from graft.training.evaluating import Evaluation, evaluate
    from graft.training.optimisation import Recipe
    from graft.training.run import Run
    from graft.training.training import train
    from graft.weights.creating import create

__version__ = "0.1.0"

_HOMES = {
    "Audit": "graft.training.auditing",
    "BasicBlock": "graft.models.resnet",
    "Bottleneck": "graft.models.resnet",
    "Classifier": "graft.serving.predictor",
    "Comparison": "graft.training.comparison",
    "DenseLayer": "graft.models.densenet",
    "DepthwiseSeparable": "graft.models.mobilenet_v1",
    "Evaluation": "graft.training.evaluating",
    "GraftError": "graft.errors",
    "ImageError": "graft.errors",
    "Inception": "graft.models.googlenet",
    "InputError": "graft.errors",
    "LocalResponseNorm": "graft.models.blocks",
    "NaiveInception": "graft.models.googlenet",
    "Network": "graft.models.network",
    "Prediction": "graft.serving.predictor",
    "Recipe": "graft.training.optimisation",
    "Run": "graft.training.run",
    "account": "graft.accounting.counting",
    "advise": "graft.training.advising",
    "audit": "graft.training.auditing",
    "compare": "graft.training.comparing",
    "create": "graft.weights.creating",
    "evaluate": "graft.training.evaluating",
    "load": "graft.serving.predictor",
    "stacked_convolutions": "graft.models.vgg",
    "train": "graft.training.training",
}

__all__ = [
    "Audit",
    "BasicBlock",
    "Bottleneck",
    "Classifier",
    "Comparison",
    "DenseLayer",
    "DepthwiseSeparable",
    "Evaluation",
    "GraftError",
    "ImageError",
    "Inception",
    "InputError",
    "LocalResponseNorm",
    "NaiveInception",
    "Network",
    "Prediction",
    "Recipe",
    "Run",
    "__version__",
    "account",
    "advise",
    "audit",
    "compare",
    "create",
    "evaluate",
    "load",
    "stacked_convolutions",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'graft' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
