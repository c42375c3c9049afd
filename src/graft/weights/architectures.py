"""Architectures by name: those of the catalogue, and timm's as `timm:NAME`."""

from graft.models import catalog
from graft.models.network import Config, Network
from graft.weights.timm_catalog import PREFIX, timm_config, timm_input_size
from graft.weights.timm_network import build_timm


def is_timm(name: str) -> bool:
    return name.startswith(PREFIX)


def default_config(name: str) -> Config:
    """The architecture as published, with its own input channels and number of classes. Raises InputError."""
    return timm_config(name) if is_timm(name) else catalog.default_config(name)


def build(config: Config) -> Network:
    """An untrained network, on the device and in the dtype that torch has as default. Raises InputError."""
    return build_timm(config) if is_timm(config.architecture) else catalog.build(config)


def family(name: str) -> str:
    """The module that builds it, or `timm`. Raises InputError."""
    return "timm" if is_timm(name) else catalog.entry(name).family


def input_size(name: str) -> tuple[int, int, int]:
    """(C, H, W) of the images that it was published for. Raises InputError."""
    return timm_input_size(name) if is_timm(name) else catalog.entry(name).input_size
