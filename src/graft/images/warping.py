"""Shearing, scaling, turning and shifting an image in one step."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def warp(
    image: Tensor,
    angle: float = 0.0,
    scale: float = 1.0,
    shift: tuple[float, float] = (0.0, 0.0),
    shear: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Shear, scale and turn uint8 (C, S, S) counter-clockwise by `angle` degrees about its centre, then shift it right
    and down by `shift`, as shares of its side.

    Beyond its border the image is reflected, which adds neither edges nor colours foreign to the data, for example grey
    corners on white paper.
    """
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    # x goes right and y down, from -1 to 1.
    forward = scale * np.array([[cosine, sine], [-sine, cosine]]) @ np.array([[1.0, shear[0]], [shear[1], 1.0]])
    back = np.linalg.inv(forward)
    matrix = torch.from_numpy(np.column_stack([back, -back @ (2 * np.array(shift))])).float()
    grid = F.affine_grid(matrix[None], [1, *image.shape], align_corners=False)  # (1, S, S, 2)
    warped = F.grid_sample(image[None].float(), grid, padding_mode="reflection", align_corners=False)[0]
    return warped.round_().to(torch.uint8)
