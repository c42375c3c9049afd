"""Whether a map depends on what the network has learned: the cascade of randomised weights.

Adebayo et al. 2018, "Sanity Checks for Saliency Maps", arXiv 1810.03292, section 3.1: from the head down, one stage
after another loses what it learned, and the map is recomputed each time. A map that stays much the same shows the
image, as an edge detector would, and not the network. Unlike the paper, the weights of a layer are permuted, which
keeps their scale, instead of drawn anew.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from graft.explanation.class_maps import ClassMap
from graft.explanation.faithfulness import in_cells, without_noise
from graft.explanation.model import Model
from graft.images.preprocessing import Preprocessing
from graft.models.network import Network

# A map whose rank correlation with the maps of randomised networks exceeds this depends too little on what was learned.
MOST_ALIKE = 0.5


@dataclass(frozen=True)
class Randomised:
    """A model with a network of its own."""

    network: Network
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    temperature: float
    outputs: tuple[tuple[int, ...], ...] | None


@dataclass(frozen=True)
class Sensitivity:
    """How similar a map stays, as the magnitude of Spearman's rank correlation over cells, from 0 to 1.

    `cascade` lists the stages in the order in which they were randomised, each with the similarity from then on.
    """

    cascade: tuple[tuple[str, float], ...]

    @property
    def alike(self) -> float:
        """The mean over the cascade."""
        return float(np.mean([alike for _, alike in self.cascade])) if self.cascade else 1.0

    @property
    def passed(self) -> bool:
        return self.alike <= MOST_ALIKE


def cascade(
    model: Model,
    maps: Sequence[ClassMap],
    again: Callable[[Model], Sequence[ClassMap]],
    stages: Sequence[str] | None = None,
    seed: int = 0,
) -> list[Sensitivity]:
    """For each of `maps`, return how similar it stays when `again` remakes it as more and more stages are randomised.

    The maps are compared after the randomisation of each of `stages`, by default of all stages with weights.
    """
    own = [in_cells(each.values).ravel() for each in maps]
    rows: list[tuple[str, list[float]]] = []
    for stage, randomised in cascaded(model, seed):
        if stages is None or stage in stages:
            others = [in_cells(each.values).ravel() for each in again(randomised)]
            rows.append((stage, [_alike(one, other) for one, other in zip(own, others, strict=True)]))
    return [Sensitivity(tuple((stage, alike[number]) for stage, alike in rows)) for number in range(len(maps))]


def cascaded(model: Model, seed: int = 0) -> Iterator[tuple[str, Randomised]]:
    """Yield each stage with weights, from the head down, with a model in which it and all later stages are randomised.

    It is always the same model; the next stage is randomised when it is asked for.
    """
    network = copy.deepcopy(model.network)
    randomised = Randomised(network, model.preprocessing, model.classes, model.temperature, model.outputs)
    random = torch.Generator().manual_seed(seed)
    for stage in reversed(network.stages):
        tensors = [tensor for part in stage.parts for tensor in _learned(network.get_submodule(part))]
        if not tensors:
            continue
        for tensor in tensors:
            order = torch.randperm(tensor.numel(), generator=random).to(tensor.device)
            tensor.copy_(tensor.flatten()[order].view_as(tensor))
        yield stage.name, randomised


def _learned(module: torch.nn.Module) -> list[torch.Tensor]:
    # The codes of LeNet's radial basis functions are a buffer.
    buffers = [buffer for name, buffer in module.named_buffers() if name.rpartition(".")[2] == "weight"]
    return [tensor.detach() for tensor in [*module.parameters(), *buffers]]


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    """Return the magnitude of Spearman's rank correlation; a constant map is similar to no other."""
    if not np.isfinite(other).all():
        return 0.0
    first, second = (without_noise(values) for values in (one, other))
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(abs(np.corrcoef(_ranks(first), _ranks(second))[0, 1]))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value, (n,). Equal ones share their mean rank: in their order they would seem alike."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[index])
