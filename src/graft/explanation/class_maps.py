"""Class maps of any network, frozen or not: where in an image the evidence for its class lies.

The stages tell which layer to look at. When the head classifies means (and, over all stages, maxima) of maps, the
evidence adds up over positions, so the map is exact (Zhou, Khosla, Lapedriza, Oliva and Torralba 2016, "Learning Deep
Features for Discriminative Localization", arXiv 1512.04150, section 2). Otherwise it is Grad-CAM (Selvaraju et al.
2017, arXiv 1610.02391, section 3), whose gradient begins at the map, so that no parameter needs one. Unlike the paper,
the last ReLU is omitted, so that evidence against the class shows as well.

Both explain the log-odds of the class, log p / (1 - p), rather than its logit, so that evidence for all classes alike
is left out.
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

# A map with fewer positions along a side localises too poorly: an earlier stage is used instead.
LEAST_SIDE = 4
# The most that the sum over positions may differ from the network's own result, relative to everything that was summed.
TOLERANCES = {"float32": 1e-4, "bfloat16": 1e-2}


@dataclass(frozen=True)
class ClassMap:
    """The evidence at each position for the class that is explained, `values` float32 (h, w).

    The values of an "exact" map and the `constant` add up to the log-odds of the class; the values of other methods,
    whose constant is None, have no unit. `stage` is the one used, "all" or "after …" when the head sees several, or
    None when only answers were used.
    """

    values: np.ndarray
    method: Method
    stage: str | None
    constant: float | None = None


def exact_maps(
    model: Model, pixels: Tensor, classes: Sequence[int], precision: Precision = "float32"
) -> list[ClassMap] | None:
    """Return for each image, uint8 (n, C, size, size), the map of its class, given by index in `classes`.

    Returns None where the head does not classify a mean over positions, or where there are fewer than LEAST_SIDE
    positions along a side. The former is detected by comparing, on these images, the sum over positions with the
    network's own result. With `precision` "bfloat16", the network's maps are computed in it, which is enough for
    viewing.
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
    """Return Grad-CAM of one class for each image, uint8 (n, C, size, size), at a stage.

    The default is the last stage whose map has LEAST_SIDE or more positions along each side. Raises InputError for a
    stage without a map.
    """
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
    """Return the names of the stages that output maps."""
    return tuple(stage.name for stage in network.stages if stage.stride is not None)


def resized(values: np.ndarray, size: int) -> np.ndarray:
    """Resize a map (h, w) to an image's side, (size, size), by linear interpolation."""
    enlarged = F.interpolate(torch.from_numpy(values)[None, None], (size, size), mode="bilinear", align_corners=False)
    return enlarged[0, 0].numpy()


def _slope_of_odds(model: Model, logits: Tensor, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the log-odds (n,), and their gradient with respect to each output, (n, outputs)."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = logits.detach().clone().requires_grad_()
        odds = log_odds(class_scores(model, leaf), classes)
        (slope,) = torch.autograd.grad(odds.sum(), leaf)
    return odds.detach(), slope


def _last_map(outputs: dict[str, Tensor]) -> Tensor:
    return [each for each in outputs.values() if each.ndim == 4][-1]


def _vector(network: Network, outputs: dict[str, Tensor]) -> Tensor:
    """Return the vector that the head classifies, from the outputs of all stages before it."""
    if network.config.head == LAST:
        return list(outputs.values())[-1]
    seen = (outputs[stage.name] for stage in network.gathered(network.config.head))
    return torch.cat([mean_and_maximum(each) for each in seen], 1)


def _parts(network: Network, outputs: dict[str, Tensor], slope: Tensor, tolerance: float) -> list[Tensor] | None:
    """Return what every position of every map that the head sees adds to the log-odds, (n, h, w) each.

    `slope` (n, D) is the gradient for the vector that the head classifies. Returns None where that vector is not a mean
    of the last map.
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
    """Map (n, C, h, w) and the gradient for their means (n, C) to (n, h, w)."""
    return torch.einsum("nchw,nc->nhw", maps, slope) / (maps.shape[2] * maps.shape[3])


def _of_maximum(maps: Tensor, slope: Tensor) -> Tensor:
    """Do the same for maxima: each contribution goes to where the maximum is, divided among ties."""
    there = (maps == maps.amax((2, 3), keepdim=True)).to(maps.dtype)
    return torch.einsum("nchw,nc->nhw", maps * there / there.sum((2, 3), keepdim=True), slope)


def _finer(values: Tensor, shape: torch.Size) -> Tensor:
    """Distribute values (n, h, w) over the positions (H, W) of a finer map, keeping their sum."""
    rows, columns = (
        torch.arange(fine, device=values.device) * coarse // fine
        for fine, coarse in zip(shape, values.shape[1:], strict=True)
    )
    count = rows.bincount()[rows][:, None] * columns.bincount()[columns]
    return values[:, rows][:, :, columns] / count


def _choose_stage(network: Network, outputs: dict[str, Tensor], asked: str | None) -> int:
    """Return the number of the stage asked for, else the last with a large enough map, else that with the largest."""
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
    """Return the logits with `maps` in place of the output of stage number `at`."""

    gathered, later = network.gathered(network.config.head), network.stages[at + 1 : -1]
    if not gathered:
        # A copy, since the next stage may write over its input.
        return Section(network, network.stages[at + 1 :])(maps.clone())
    before = [stage for stage in gathered if stage not in later]
    vectors = [mean_and_maximum(maps if stage is network.stages[at] else outputs[stage.name]) for stage in before]
    if later:
        vectors.append(Section(network, later, gathers=gathered)(maps.clone()))
    return Section(network, network.stages[-1:])(torch.cat(vectors, 1))
