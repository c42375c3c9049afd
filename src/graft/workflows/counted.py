"""The figures of the gallery, computed with graft's accounting and cached."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import torch
from torch import nn

from graft.accounting.counting import Account, Layer, account
from graft.accounting.graph import Graph, trace
from graft.models import catalog
from graft.models.network import Network


@cache
def network(name: str, auxiliary: bool | None = None) -> Network:
    """Return a network of the catalogue without data; `auxiliary` overrides whether it has auxiliary classifiers."""
    config = catalog.default_config(name)
    with torch.device("meta"):
        return catalog.build(config if auxiliary is None else replace(config, auxiliary=auxiliary))


@cache
def table(name: str, auxiliary: bool | None = None) -> Account:
    """Return the account of a network of the catalogue at its usual input."""
    built = network(name) if auxiliary is None else network(name, auxiliary)
    return account(built, catalog.entry(name).input_size)


@cache
def graph(name: str) -> Graph:
    """Return the dataflow graph of a network of the catalogue at its usual input."""
    return trace(network(name), catalog.entry(name).input_size)


def depth(name: str) -> int:
    """Count the convolutions and linear layers on the longest path from the image to the classes."""
    depths: list[int] = []  # up to and including each node
    for node in graph(name).nodes:
        depths.append(max((depths[index] for index in node.inputs), default=0) + (node.macs > 0))
    return depths[-1]


def stages(name: str) -> Mapping[str, tuple[str, ...]]:
    """Return the module paths of every stage."""
    return {stage.name: stage.parts for stage in network(name).stages}


def layer(name: str, path: str) -> Layer:
    """Return a layer of a network of the catalogue by its path."""
    return next(each for each in table(name).layers if each.name == path)


def weight_layers(counted: Account) -> list[Layer]:
    """Return the convolutions and linear layers, in the order in which they run."""
    return [each for each in counted.layers if each.macs]


def shape(module: nn.Module, channels: int, height: int, width: int) -> tuple[int, ...]:
    """Return the output shape of `module`, (C, H, W) or (D,), for one input of the given size."""
    return account(module, (channels, height, width)).outputs[""].shape


def dense(inputs: int, outputs: int, bias: bool = True) -> int:
    """Count the parameters of a linear layer."""
    with torch.device("meta"):
        linear = nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs, bias))
    return account(linear, (inputs, 1, 1)).params


def convolution(inputs: int, outputs: int, kernel: int, bias: bool = False) -> int:
    """Count the parameters of a convolution."""
    return account(nn.Conv2d(inputs, outputs, kernel, bias=bias), (inputs, kernel, kernel)).params
