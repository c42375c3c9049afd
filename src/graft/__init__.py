"""graft: measure how much of a pretrained CNN to keep, and do no more work than that.

    run = graft.train("photos/")
    classifier = graft.load("runs/photos")
    classifier.predict(["a.jpg"])

The names below are the whole public API. Each is imported on first use, so `import graft` costs nothing.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graft.accounting.counting import account
    from graft.audit.auditing import Audit
    from graft.audit.findings import Finding
    from graft.data.dataset import Dataset
    from graft.data.table_options import TableOptions
    from graft.errors import CutError, DataError, FetchError, GraftError, ImageError, InputError, WeightsError
    from graft.explanation.explaining import MapOptions
    from graft.models.catalog import list_models
    from graft.models.network import Network
    from graft.progress import Reporter
    from graft.serving.prediction import Prediction
    from graft.serving.predictor import Classifier
    from graft.training.comparison import Comparison
    from graft.training.recipe import Recipe
    from graft.training.tuning import Tuning
    from graft.transfer.advisor import Advice
    from graft.transfer.levels import Plan
    from graft.weights.creating import create
    from graft.workflows.advise import advise
    from graft.workflows.audit import audit
    from graft.workflows.compare import compare
    from graft.workflows.evaluate import Evaluation, evaluate
    from graft.workflows.explain import Explanations, explain
    from graft.workflows.explain_network import NetworkExplanation, explain_network
    from graft.workflows.export import Export, export
    from graft.workflows.features import Features, features
    from graft.workflows.load import load
    from graft.workflows.prepare import BaseOptions, DataOptions
    from graft.workflows.report import report
    from graft.workflows.run import Accuracy, Expected, Run
    from graft.workflows.train import train
    from graft.workflows.tune import tune

__version__ = "0.1.0"

# Every public name and the module that defines it.
_HOMES = {
    "Accuracy": "graft.workflows.run",
    "Advice": "graft.transfer.advisor",
    "Audit": "graft.audit.auditing",
    "BaseOptions": "graft.workflows.prepare",
    "Classifier": "graft.serving.predictor",
    "Comparison": "graft.training.comparison",
    "CutError": "graft.errors",
    "DataError": "graft.errors",
    "DataOptions": "graft.workflows.prepare",
    "Dataset": "graft.data.dataset",
    "Evaluation": "graft.workflows.evaluate",
    "Expected": "graft.workflows.run",
    "Explanations": "graft.workflows.explain",
    "Export": "graft.workflows.export",
    "Features": "graft.workflows.features",
    "FetchError": "graft.errors",
    "Finding": "graft.audit.findings",
    "GraftError": "graft.errors",
    "ImageError": "graft.errors",
    "InputError": "graft.errors",
    "MapOptions": "graft.explanation.explaining",
    "Network": "graft.models.network",
    "NetworkExplanation": "graft.workflows.explain_network",
    "Plan": "graft.transfer.levels",
    "Prediction": "graft.serving.prediction",
    "Recipe": "graft.training.recipe",
    "Reporter": "graft.progress",
    "Run": "graft.workflows.run",
    "TableOptions": "graft.data.table_options",
    "Tuning": "graft.training.tuning",
    "WeightsError": "graft.errors",
    "account": "graft.accounting.counting",
    "advise": "graft.workflows.advise",
    "audit": "graft.workflows.audit",
    "compare": "graft.workflows.compare",
    "create": "graft.weights.creating",
    "evaluate": "graft.workflows.evaluate",
    "explain": "graft.workflows.explain",
    "explain_network": "graft.workflows.explain_network",
    "export": "graft.workflows.export",
    "features": "graft.workflows.features",
    "list_models": "graft.models.catalog",
    "load": "graft.workflows.load",
    "report": "graft.workflows.report",
    "train": "graft.workflows.train",
    "tune": "graft.workflows.tune",
}

__all__ = [
    "Accuracy",
    "Advice",
    "Audit",
    "BaseOptions",
    "Classifier",
    "Comparison",
    "CutError",
    "DataError",
    "DataOptions",
    "Dataset",
    "Evaluation",
    "Expected",
    "Explanations",
    "Export",
    "Features",
    "FetchError",
    "Finding",
    "GraftError",
    "ImageError",
    "InputError",
    "MapOptions",
    "Network",
    "NetworkExplanation",
    "Plan",
    "Prediction",
    "Recipe",
    "Reporter",
    "Run",
    "TableOptions",
    "Tuning",
    "WeightsError",
    "__version__",
    "account",
    "advise",
    "audit",
    "compare",
    "create",
    "evaluate",
    "explain",
    "explain_network",
    "export",
    "features",
    "list_models",
    "load",
    "report",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'graft' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


class _Door(ModuleType):
    """The package's own class: `graft.audit` stays the function when the room of that name is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Door
# Imported now because it records which process graft was imported in.
import_module("graft.forking")
