"""Where in an image the evidence for its class lies: class maps of any network, frozen or not.

Which layer to look at is known from the stages. Where the head classifies means (and, over all stages, maxima) of maps,
the evidence adds up over positions: the map is exact (Zhou, Khosla, Lapedriza, Oliva and Torralba 2016, "Learning Deep
Features for Discriminative Localization", arXiv 1512.04150, section 2). Elsewhere it is Grad-CAM (Selvaraju et al.
2017, arXiv 1610.02391, section 3), whose gradient begins at the map, so that no parameter needs one. Differs: without
the last ReLU, so that what speaks against the class is seen as well.

Both explain the log-odds of the class, log p / (1 - p), of which its logit is one part: what speaks for all classes
alike is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from graft.errors import InputError, did_you_mean
from graft.explanation.model import Model, as_input, class_scores, log_odds
from graft.features.engine import Precision
from graft.models.cuts import INPUT, LAST, cut_before
from graft.models.network import Network, Section, mean_and_maximum

Method = Literal["exact", "grad-cam", "rise"]

# A map with fewer positions along a side says too little about where: an earlier stage is looked at.
LEAST_SIDE = 4
# How far, as a part of all that was added up, the sum over positions may be from what the network computed.
TOLERANCES = {"float32": 1e-4, "bfloat16": 1e-2}


@dataclass(frozen=True)
class ClassMap:
    """How much each position, `values` float32 (h, w), speaks for the class that is explained.

    The values of an "exact" map and the `constant` add up to the log-odds of the class; those of other methods, whose
    constant is None, are in no unit. `stage` is the one looked at, or "all" or "after …" where the head sees several,
    or None where only answers were.
    """

    values: np.ndarray
    method: Method
    stage: str | None
    constant: float | None = None


def exact_maps(
    model: Model, pixels: Tensor, classes: Sequence[int], precision: Precision = "float32"
) -> list[ClassMap] | None:
    """For each image, uint8 (n, C, size, size), the map of one of the `classes`, an index each; None where the head
    does not classify a mean over positions, or that has fewer than LEAST_SIDE of them along a side.

    The first is found by comparing, on these images, the sum over positions with what the network computed. With
    `precision` "bfloat16" the maps of the network are computed in that, which is enough to be looked at.
    """
    network = model.network
    with torch.inference_mode(False), torch.no_grad():
        x = as_input(model, pixels)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            outputs = {name: each.to(x.dtype) for name, each in network.feature_maps(x).items()}
        logits = Section(network, network.stages[-1:])(_vector(network, outputs))
    if min(_last_map(outputs).shape[-2:]) < LEAST_SIDE:
        return None
    odds, slope = _slope_of_odds(model, logits, classes)
    parts = _parts(network, outputs, slope @ network.head.weight.detach(), TOLERANCES[precision])
    if parts is None:
        return None
    bias = network.head.bias
    found = sum(part.sum((1, 2)) for part in parts) + (0 if bias is None else slope @ bias.detach())
    added = sum(part.abs().sum((1, 2)) for part in parts) + slope.abs().sum(1)
    if ((found - (slope * logits).sum(1)).abs() > TOLERANCES[precision] * added).any():
        return None
    finest = max((part.shape[-2:] for part in parts), key=lambda shape: shape[0] * shape[1])
    values = torch.stack([_finer(part, finest) for part in parts]).sum(0)
    constants = odds - values.sum((1, 2))
    cut = cut_before(network.config.head)
    stage = list(outputs)[-2] if cut is None else "all" if cut == INPUT else f"after {cut}"
    return [
        ClassMap(own.float().cpu().numpy(), "exact", stage, float(constant))
        for own, constant in zip(values, constants, strict=True)
    ]


def gradient_maps(model: Model, pixels: Tensor, classes: Sequence[int], stage: str | None = None) -> list[ClassMap]:
    """Grad-CAM of one class for each image, uint8 (n, C, size, size), at a stage: by default the last that has a map of
    LEAST_SIDE positions or more along each side. Raises InputError for a stage without a map."""
    network = model.network
    with torch.inference_mode(False), torch.no_grad():
        x = as_input(model, pixels)
        outputs = network.feature_maps(x)
    at = _choose_stage(network, outputs, stage)
    name = network.stages[at].name
    with torch.inference_mode(False), torch.enable_grad():
        maps = outputs[name].detach().clone().requires_grad_()
        odds = log_odds(class_scores(model, _logits_from(network, outputs, at, maps)), classes)
        (gradient,) = torch.autograd.grad(odds.sum(), maps)
    with torch.no_grad():
        weights = gradient.mean((2, 3), keepdim=True)
        values = (weights * maps).sum(1)
    return [ClassMap(own.float().cpu().numpy(), "grad-cam", name) for own in values]


def stages_with_maps(network: Network) -> tuple[str, ...]:
    """The names of the stages that hand on maps."""
    return tuple(stage.name for stage in network.stages if stage.stride is not None)


def resized(values: np.ndarray, size: int) -> np.ndarray:
    """A map (h, w) at the side of an image, (size, size), between its positions linearly."""
    enlarged = F.interpolate(torch.from_numpy(values)[None, None], (size, size), mode="bilinear", align_corners=False)
    return enlarged[0, 0].numpy()


def _slope_of_odds(model: Model, logits: Tensor, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The log-odds (n,), and how much each output adds to them, (n, outputs)."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = logits.detach().clone().requires_grad_()
        odds = log_odds(class_scores(model, leaf), classes)
        (slope,) = torch.autograd.grad(odds.sum(), leaf)
    return odds.detach(), slope


def _last_map(outputs: dict[str, Tensor]) -> Tensor:
    return [each for each in outputs.values() if each.ndim == 4][-1]


def _vector(network: Network, outputs: dict[str, Tensor]) -> Tensor:
    """What the head classifies, from the outputs of all stages before it."""
    if network.config.head == LAST:
        return list(outputs.values())[-1]
    seen = (outputs[stage.name] for stage in network.gathered(network.config.head))
    return torch.cat([mean_and_maximum(each) for each in seen], 1)


def _parts(network: Network, outputs: dict[str, Tensor], slope: Tensor, tolerance: float) -> list[Tensor] | None:
    """What every position of every map that the head sees adds to the log-odds, (n, h, w) each.

    `slope` (n, D) is that of the vector which the head classifies. None where a vector is no mean of the last map.
    """
    last = _last_map(outputs)
    if network.config.head == LAST:
        return [_of_mean(last, slope)] if last.shape[1] == slope.shape[1] else None
    starts = np.cumsum([0, *network.head_blocks(network.config.head)]).tolist()
    pieces = iter(slope[:, start:end] for start, end in pairwise(starts))
    parts = []
    for output in (outputs[stage.name] for stage in network.gathered(network.config.head)):
        if output.ndim == 4:
            parts += [_of_mean(output, next(pieces)), _of_maximum(output, next(pieces))]
            continue
        if output.shape != last.shape[:2] or not torch.allclose(
            output, last.mean((2, 3)), rtol=10 * tolerance, atol=tolerance
        ):
            return None
        parts.append(_of_mean(last, next(pieces)))
    return parts


def _of_mean(maps: Tensor, slope: Tensor) -> Tensor:
    """(n, C, h, w) and the slope of their means (n, C) to (n, h, w)."""
    return torch.einsum("nchw,nc->nhw", maps, slope) / (maps.shape[2] * maps.shape[3])


def _of_maximum(maps: Tensor, slope: Tensor) -> Tensor:
    """The same for maxima: each goes to where it is, and is divided among equals."""
    there = (maps == maps.amax((2, 3), keepdim=True)).to(maps.dtype)
    return torch.einsum("nchw,nc->nhw", maps * there / there.sum((2, 3), keepdim=True), slope)


def _finer(values: Tensor, shape: torch.Size) -> Tensor:
    """Values (n, h, w) shared out over the positions (H, W) of a finer map, so that their sum stays."""
    rows, columns = (
        torch.arange(fine, device=values.device) * coarse // fine
        for fine, coarse in zip(shape, values.shape[1:], strict=True)
    )
    count = rows.bincount()[rows][:, None] * columns.bincount()[columns]
    return values[:, rows][:, :, columns] / count


def _choose_stage(network: Network, outputs: dict[str, Tensor], asked: str | None) -> int:
    """The number of the stage asked for, or of the last with a map of some positions, or of the one with the most."""
    names = [stage.name for stage in network.stages]
    maps = {name: output for name, output in outputs.items() if output.ndim == 4}
    if asked is not None:
        if asked not in maps:
            raise InputError(
                f"expected a stage of {network.config.architecture} that has maps ({', '.join(maps)}), got {asked!r}"
                f"{did_you_mean(asked, maps)}: choose one of them"
            )
        return names.index(asked)
    wide = [name for name, output in maps.items() if min(output.shape[2:]) >= LEAST_SIDE]
    return names.index(wide[-1] if wide else max(maps, key=lambda name: maps[name][0, 0].numel()))


def _logits_from(network: Network, outputs: dict[str, Tensor], at: int, maps: Tensor) -> Tensor:
    """The logits, with `maps` as what the stage numbered `at` puts out."""

    gathered, later = network.gathered(network.config.head), network.stages[at + 1 : -1]
    if not gathered:
        # A copy, since what comes next may write over its input.
        return Section(network, network.stages[at + 1 :])(maps.clone())
    before = [stage for stage in gathered if stage not in later]
    vectors = [mean_and_maximum(maps if stage is network.stages[at] else outputs[stage.name]) for stage in before]
    if later:
        vectors.append(Section(network, later, gathers=gathered)(maps.clone()))
    return Section(network, network.stages[-1:])(torch.cat(vectors, 1))
