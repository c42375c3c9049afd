"""The networks by name, and their building blocks.

    graft.models.list_models("resnet")      # ['plain18', 'plain34', 'resnet18', ...]
    graft.models.Bottleneck(256, 64)

Each name below is imported when it is first used, so importing this package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graft.models.blocks import LocalResponseNorm
    from graft.models.catalog import list_models
    from graft.models.densenet import DenseLayer
    from graft.models.googlenet import Inception, NaiveInception
    from graft.models.mobilenet_v1 import DepthwiseSeparable
    from graft.models.network import Network
    from graft.models.resnet import BasicBlock, Bottleneck
    from graft.models.vgg import stacked_convolutions

_HOMES = {
    "BasicBlock": "graft.models.resnet",
    "Bottleneck": "graft.models.resnet",
    "DenseLayer": "graft.models.densenet",
    "DepthwiseSeparable": "graft.models.mobilenet_v1",
    "Inception": "graft.models.googlenet",
    "LocalResponseNorm": "graft.models.blocks",
    "NaiveInception": "graft.models.googlenet",
    "Network": "graft.models.network",
    "list_models": "graft.models.catalog",
    "stacked_convolutions": "graft.models.vgg",
}

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "DenseLayer",
    "DepthwiseSeparable",
    "Inception",
    "LocalResponseNorm",
    "NaiveInception",
    "Network",
    "list_models",
    "stacked_convolutions",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'graft.models' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
