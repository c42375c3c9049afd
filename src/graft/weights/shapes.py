"""The shapes of an architecture's tensors, from networks that are built once, without data."""

from functools import lru_cache
from math import prod

import torch

from graft.models.network import Config, Network, state_shapes
from graft.weights.architectures import Architecture


@lru_cache(maxsize=128)
def without_data(architecture: Architecture, config: Config) -> Network:
    """Return the network with shapes only; callers share it and must not change it."""
    with torch.device("meta"):
        return architecture.build(config)


@lru_cache(maxsize=256)
def own_shapes(architecture: Architecture, config: Config) -> dict[str, torch.Size]:
    """Return the shapes of the network's tensors by name; callers share them and must not change them."""
    return state_shapes(without_data(architecture, config))


@lru_cache(maxsize=256)
def body_shapes(architecture: Architecture, config: Config) -> dict[str, torch.Size]:
    """Return the shapes of the tensors that must be present with exactly that shape."""
    heads = without_data(architecture, config).head_names
    return {name: shape for name, shape in own_shapes(architecture, config).items() if not is_free(name, heads)}


def same_numbers(theirs: torch.Size, ours: torch.Size) -> bool:
    """Whether one shape can be viewed as the other: equal, or one linear layer as a matrix and as a convolution."""
    if theirs == ours:
        return True
    return {len(theirs), len(ours)} == {2, 4} and theirs[0] == ours[0] and prod(theirs) == prod(ours)


def is_free(name: str, heads: tuple[str, ...]) -> bool:
    """Whether a tensor may be absent or differ in size: one of the `heads`, which get replaced, or a batch counter."""
    return name.rpartition(".")[0] in heads or name.endswith("num_batches_tracked")
