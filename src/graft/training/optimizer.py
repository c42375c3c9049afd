"""Everything that updates the weights: optimizers, parameter groups with per-stage rates, class weights, averages."""

import copy
import inspect
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from graft.models.cuts import HEAD
from graft.models.network import Section
from graft.training.recipe import ResolvedRecipe
from graft.transfer.head import loss_weights


class _Uncompiled(torch.optim.Optimizer):
    """The methods of a torch optimizer without the wrappers that keep them from torch's compiler.

    To tell the compiler that, the wrappers import it, which takes 1.8 s and 150 MB; nothing here is compiled.
    """

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)


class AdamW(_Uncompiled, torch.optim.AdamW):
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class SGD(_Uncompiled, torch.optim.SGD):
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class RMSprop(_Uncompiled, torch.optim.RMSprop):
    step = torch.no_grad()(inspect.unwrap(torch.optim.RMSprop.step))


def build_optimizer(crown: nn.Module, recipe: ResolvedRecipe) -> torch.optim.Optimizer:
    """Build the optimizer of the trainable parameters of `crown`, in groups with their stage's `share` of the rate.

    SGD uses Nesterov momentum of 0.9. RMSprop uses a decay and a momentum of 0.9, as MobileNetV2 does (Sandler et al.
    2018, section 6.1).
    """
    groups = parameter_groups(crown, recipe.weight_decay, recipe.layer_decay)
    if recipe.optimizer == "sgd":
        return SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True)
    if recipe.optimizer == "rmsprop":
        return RMSprop(groups, lr=recipe.learning_rate, alpha=0.9, momentum=0.9)
    return AdamW(groups, lr=recipe.learning_rate, fused=True)


def parameter_groups(crown: nn.Module, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """Group trainable parameters by stage, and within each by whether they decay (matrices, kernels) or not."""
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
    """Return each stage's share of the learning rate, in order: 1 for the last one that trains, less for earlier ones.

    Discriminative rates: Howard and Ruder 2018, arXiv 1801.06146, section 3.2.
    """
    stages = list(_by_stage(crown))
    return {stage: layer_decay**behind for stage, behind in zip(stages, reversed(range(len(stages))), strict=True)}


def _by_stage(crown: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Return the trainable parameters of every stage that has any; auxiliary classifiers belong to the head."""
    stages = crown.stages if isinstance(crown, Section) else ()
    members: dict[str, list[nn.Parameter]] = {stage.name: [] for stage in stages} or {HEAD: []}
    for name, parameter in crown.named_parameters():
        owners = (stage.name for stage in stages if any(name.startswith(f"{part}.") for part in stage.parts))
        if parameter.requires_grad:
            members[next(owners, HEAD)].append(parameter)
    return {stage: parameters for stage, parameters in members.items() if parameters}


def weights_of_classes(
    labels: np.ndarray, kind: str, device: str = "cpu", weights: np.ndarray | None = None
) -> Tensor | None:
    """Return the weight of an image by class, float32 (classes,), averaging one over `labels`; None if all are equal.

    `balanced` gives every class the same total weight, counting each image by its own of `weights` (n,), if given.
    """
    if kind == "none":
        return None
    counts = np.bincount(labels, None if weights is None else loss_weights(weights, len(labels)))
    balanced = len(labels) / (np.count_nonzero(counts) * np.where(counts > 0, counts, 1.0))
    return torch.from_numpy(balanced).float().to(device)


class Interpolation:
    """A crown interpolated between its start and its current weights.

    `module` is `share` of the start plus the rest of the crown that `follow` was last called with (Wortsman et al.
    2022, "Robust fine-tuning of zero-shot models", arXiv 2109.01903, section 3). With a share of 0, `module` is that
    crown. Buffers are always those of that crown.
    """

    def __init__(self, start: nn.Module, share: float) -> None:
        self.module = start
        self._start = copy.deepcopy(start).requires_grad_(False) if share else None
        self._between = copy.deepcopy(start).requires_grad_(False) if share else None
        self._share = share

    @torch.no_grad()
    def follow(self, now: nn.Module) -> None:
        if self._start is None or self._between is None:
            self.module = now
            return
        self.module = self._between
        self._between.load_state_dict(now.state_dict())
        torch._foreach_lerp_(list(self._between.parameters()), list(self._start.parameters()), self._share)


class MovingAverage(AveragedModel):
    """A copy of a crown that `update_parameters`, called after every step, moves towards the crown.

    This covers weights and running statistics alike. Unless the average is `from_start`, early steps count more, so
    that a random start does not linger: after step k the decay is at most (1 + k) / (10 + k).
    """

    def __init__(self, crown: nn.Module, decay: float, *, from_start: bool = False) -> None:
        super().__init__(crown, use_buffers=True)
        self._decay, self._from_start = decay, from_start
        # The copy itself counts as the first, so steps are counted from 1.
        self.n_averaged += 1

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        # Replaces torch's own, which asks the device for the number of steps and so waits for each of them.
        step = 0 if self._from_start else int(self.n_averaged)
        weight = 1 - (self._decay if self._from_start else min(self._decay, (1 + step) / (10 + step)))
        averages, currents = (list(chain(each.parameters(), each.buffers())) for each in (self.module, model))
        pairs = list(zip(averages, currents, strict=True))
        moving = [pair for pair in pairs if pair[0].is_floating_point()]
        if moving:
            torch._foreach_lerp_([average for average, _ in moving], [current for _, current in moving], weight)
        for average, current in pairs:
            if not average.is_floating_point():
                average.copy_(current)
        self.n_averaged += 1
