"""Resize an image of any size to the square that a network takes, as a tensor."""

import numpy as np
import torch
from torch import Tensor

from graft.images.preprocessing import Preprocessing
from graft.images.squares import matched, mean_bytes, square


def to_square(pixels: np.ndarray, preprocessing: Preprocessing) -> Tensor:
    """Resize uint8 (H, W, 3), (H, W, 1) or (H, W) to uint8 (C, size, size); see `graft.images.squares.square`."""
    return torch.from_numpy(square(pixels, preprocessing))


def mean_colour(preprocessing: Preprocessing) -> Tensor:
    """Return the colour that becomes zero when normalised, uint8 (C,)."""
    return torch.from_numpy(mean_bytes(preprocessing))


def match_channels(image: Tensor, channels: int) -> Tensor:
    """Convert uint8 (1 or 3, H, W) to uint8 (channels, H, W); channels beyond color get the middle of the range."""
    return image if len(image) == channels else torch.from_numpy(matched(image.numpy(), channels))
