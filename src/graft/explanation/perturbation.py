"""A class map from answers alone: the network's confidence with random parts of the image hidden."""

import torch
import torch.nn.functional as F
from torch import Tensor

from graft.explanation.class_maps import ClassMap
from graft.explanation.model import Answers, Model, class_scores, log_odds

# Masks drawn, positions along a side of each before upsampling, and the share of them that stays visible.
MASKS, CELLS, VISIBLE = 256, 7, 0.5
# Masked images answered together.
TOGETHER = 64


def rise_map(model: Model, pixels: Tensor, index: int, answers: Answers, seed: int = 0, masks: int = MASKS) -> ClassMap:
    """Return the RISE map of one class, given by index, for one image uint8 (C, size, size); values (size, size).

    Petsiuk, Das and Saenko 2018, arXiv 1806.07421, section 3: the covariance of visibility and log-odds, over `masks`
    masks drawn with `seed`. Unlike the paper, hidden parts get the mean colour of the image.
    """
    size = pixels.shape[-1]
    visible = _masks(size, masks, seed)
    hidden = mean_colour_of(pixels)
    odds = []
    for part in visible.split(TOGETHER):
        mixed = hidden + part[:, None] * (pixels.float() - hidden)
        scores = class_scores(model, answers(mixed.round().to(torch.uint8)).float())
        odds.append(log_odds(scores, [index] * len(part)).cpu())
    centred = torch.cat(odds) - torch.cat(odds).mean()
    values = torch.einsum("m,mhw->hw", centred, visible - visible.mean(0)) / len(visible)
    return ClassMap(values.numpy(), "rise", None)


def mean_colour_of(pixels: Tensor) -> Tensor:
    """Return the colour that hides parts of an image uint8 (C, size, size): its mean, float32 (C, 1, 1)."""
    return pixels.float().mean((1, 2), keepdim=True)


def _masks(size: int, count: int, seed: int) -> Tensor:
    """Return smooth random masks, float32 (count, size, size), 1 where an image stays visible."""
    random = torch.Generator().manual_seed(seed)
    cell = -(-size // CELLS)
    grid = (torch.rand((count, 1, CELLS + 1, CELLS + 1), generator=random) < VISIBLE).float()
    large = F.interpolate(grid, ((CELLS + 1) * cell,) * 2, mode="bilinear", align_corners=False)[:, 0]
    tops, lefts = torch.randint(0, cell, (2, count), generator=random).tolist()
    return torch.stack(
        [mask[top : top + size, left : left + size] for mask, top, left in zip(large, tops, lefts, strict=True)]
    )
