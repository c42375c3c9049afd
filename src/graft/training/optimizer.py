"""What moves the weights: optimizers, parameter groups with rates by stage, class weights, averages, dropout."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from graft.models.network import HEAD, Section
from graft.training.recipe import ResolvedRecipe


def build_optimizer(crown: nn.Module, recipe: ResolvedRecipe) -> torch.optim.Optimizer:
    """The optimizer of the trainable parameters of `crown`, in groups whose `share` of the rate is that of the stage.

    SGD has Nesterov's momentum of 0.9. RMSprop has a decay and a momentum of 0.9, as MobileNetV2 (Sandler et al. 2018,
    section 6.1).
    """
    groups = parameter_groups(crown, recipe.weight_decay, recipe.layer_decay)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True)
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=recipe.learning_rate, alpha=0.9, momentum=0.9)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


def parameter_groups(crown: nn.Module, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters by stage, and in every stage those that decay (matrices, kernels) and those that do not."""
    groups = []
    shares = stage_shares(crown, layer_decay)
    for stage, parameters in _by_stage(crown).items():
        for decay, members in (
            (weight_decay, [parameter for parameter in parameters if parameter.ndim > 1]),
            (0.0, [parameter for parameter in parameters if parameter.ndim <= 1]),
        ):
            if members:
                groups.append({"params": members, "weight_decay": decay, "share": shares[stage], "stage": stage})
    return groups


def stage_shares(crown: nn.Module, layer_decay: float) -> dict[str, float]:
    """Share of the learning rate by stage, in order: 1 for the last one that trains, less before it.

    Discriminative rates: Howard and Ruder 2018, arXiv 1801.06146, section 3.2.
    """
    stages = list(_by_stage(crown))
    return {stage: layer_decay**behind for stage, behind in zip(stages, reversed(range(len(stages))), strict=True)}


def _by_stage(crown: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Trainable parameters of every stage that has any; auxiliary classifiers belong to the head."""
    stages = crown.stages if isinstance(crown, Section) else ()
    members: dict[str, list[nn.Parameter]] = {stage.name: [] for stage in stages} or {HEAD: []}
    for name, parameter in crown.named_parameters():
        owners = (stage.name for stage in stages if any(name.startswith(f"{part}.") for part in stage.parts))
        if parameter.requires_grad:
            members[next(owners, HEAD)].append(parameter)
    return {stage: parameters for stage, parameters in members.items() if parameters}


def weights_of_classes(labels: np.ndarray, kind: str, device: str = "cpu") -> Tensor | None:
    """Weight of an image by its class, float32 (classes,), one on average over `labels`; None where all are equal.

    `balanced` gives every class the same sum.
    """
    if kind == "none":
        return None
    counts = np.bincount(labels)
    balanced = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return torch.from_numpy(balanced).float().to(device)


@torch.no_grad()
def average_into(average: nn.Module, crown: nn.Module, decay: float, steps: int) -> None:
    """Move the state of `average` towards that of `crown`, running statistics included, after step `steps`, from 1.

    Early steps count more, so that the random start does not linger: the decay is at most (1 + steps) / (10 + steps).
    """
    weight = 1 - min(decay, (1 + steps) / (10 + steps))
    for mean, value in zip(average.state_dict().values(), crown.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, weight)
        else:
            mean.copy_(value)


@contextmanager
def drop_out(crown: nn.Module, part: float | None) -> Iterator[None]:
    """While the block trains `crown`, leave out this part of the head's inputs; None leaves it to the network.

    Srivastava et al. 2014, JMLR 15. Layers of dropout that the crown has get the new value, for good; without any, the
    inputs of its last linear layer are dropped, and the network is left as it was.
    """
    layers = [module for module in crown.modules() if isinstance(module, nn.Dropout)]
    linear = [module for module in crown.modules() if isinstance(module, nn.Linear)]
    if part is None or not (layers or linear):
        yield
        return
    for layer in layers:
        layer.p = part
    if layers:
        yield
        return
    head = linear[-1]
    hook = head.register_forward_pre_hook(lambda _, inputs: (functional.dropout(inputs[0], part, head.training),))
    try:
        yield
    finally:
        hook.remove()
