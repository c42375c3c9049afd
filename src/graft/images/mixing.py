"""Mixing pairs of examples: mixup and CutMix, on a batch and its labels.

Both draw one share for the whole batch and pair it with a shuffled copy of itself, as the authors' code does. They
return targets as probabilities, which `torch.nn.functional.cross_entropy` takes in place of labels. Their labels may
already be targets (N, classes), for example where an image has several labels.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from graft.errors import InputError
from graft.sending import sent


def mixup(
    inputs: Tensor, labels: Tensor, classes: int, alpha: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mix each example with another: floating (N, …) and int64 (N,) to the same shape and targets (N, classes).

    The share kept of each is drawn from Beta(alpha, alpha): Zhang et al. 2017, arXiv 1710.09412, with alpha from 0.1 to
    0.4 on ImageNet. Inputs may be activations at a cut: manifold mixup (Verma et al. 2018, arXiv 1806.05236).
    `generator` is on the CPU. Raises InputError unless alpha is above zero.
    """
    kept = _draw_share(alpha, generator)
    partners = _pair(len(inputs), generator)
    others = inputs[sent(partners, inputs.device)]
    return torch.lerp(others, inputs, kept), _mix_targets(labels, partners, classes, kept)


def cutmix(
    inputs: Tensor, labels: Tensor, classes: int, alpha: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Replace a rectangle of each image by that of another: (N, C, H, W) and int64 (N,) to the same shape and targets
    (N, classes), weighted by area.

    The rectangle has the proportions of the image, an area of one minus a share drawn from Beta(alpha, alpha), and its
    centre anywhere. It is clipped at the border, and the targets follow the clipped area. Yun et al. 2019, arXiv
    1905.04899, section 3.1, with alpha 1. `generator` is on the CPU. Raises InputError unless alpha is above zero and
    inputs are images or maps.
    """
    if inputs.ndim != 4:
        raise InputError(
            f"expected images or maps of shape (N, C, H, W) for CutMix, got {tuple(inputs.shape)}: use mixup here"
        )
    height, width = inputs.shape[2:]
    side = (1 - _draw_share(alpha, generator)) ** 0.5
    middle = torch.rand(2, generator=generator).tolist()
    partners = _pair(len(inputs), generator)
    rows, columns = _span(height, side, middle[0]), _span(width, side, middle[1])
    mixed, others = inputs.clone(), inputs[sent(partners, inputs.device)]
    mixed[:, :, rows, columns] = others[:, :, rows, columns]
    pasted = (rows.stop - rows.start) * (columns.stop - columns.start)
    return mixed, _mix_targets(labels, partners, classes, 1 - pasted / (height * width))


def _draw_share(alpha: float, generator: torch.Generator) -> float:
    """Draw from Beta(alpha, alpha) with `generator`; torch would use its global one."""
    if not alpha > 0:
        raise InputError(f"expected an alpha above zero for mixing examples, got {alpha!r}: leave mixing out instead")
    seed = int(torch.randint(2**62, (), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def _pair(count: int, generator: torch.Generator) -> Tensor:
    """Return the partner of each example, int64 (N,), on the CPU: labels may be there while inputs are on a device."""
    return torch.randperm(count, generator=generator)


def _span(length: int, share: float, middle: float) -> slice:
    """Return a span of `share` of `length` around `middle`, in [0, 1], clipped to the length."""
    half, centre = share * length / 2, middle * length
    return slice(max(0, round(centre - half)), min(length, round(centre + half)))


def _mix_targets(labels: Tensor, partners: Tensor, classes: int, kept: float) -> Tensor:
    """Return probabilities, float32 (N, classes): `kept` for an example's own labels, the rest for its partner's."""
    own = labels if labels.is_floating_point() else F.one_hot(labels, classes).float()
    return torch.lerp(own[partners], own, kept)
