"""RandAugment: a few operations in sequence, drawn from fourteen, all at one magnitude.

Cubuk et al. 2019, "RandAugment: practical automated data augmentation with a reduced search space", arXiv 1909.13719.
As in torchvision, except that the image is reflected at its border (see `warp`).
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
from torch import Tensor

from graft.images.warping import warp

# The largest magnitude on the paper's scale; effects are proportional to it.
MAGNITUDES = 30

# Each takes an image x, torchvision's functions f and an amount a from -1 to 1. The ranges are those of AutoAugment
# (Cubuk et al. 2018, arXiv 1805.09501, table 6).
OPERATIONS: dict[str, Callable[[Tensor, ModuleType, float], Tensor]] = {
    "identity": lambda x, f, a: x,
    "autocontrast": lambda x, f, a: f.autocontrast(x),
    "equalize": lambda x, f, a: f.equalize(x),
    "rotate": lambda x, f, a: warp(x, angle=30 * a),
    "solarize": lambda x, f, a: f.solarize(x, 255 * (1 - abs(a))),
    "colour": lambda x, f, a: f.adjust_saturation(x, 1 + 0.9 * a),
    "posterize": lambda x, f, a: f.posterize(x, 8 - round(4 * abs(a))),
    "contrast": lambda x, f, a: f.adjust_contrast(x, 1 + 0.9 * a),
    "brightness": lambda x, f, a: f.adjust_brightness(x, 1 + 0.9 * a),
    "sharpness": lambda x, f, a: f.adjust_sharpness(x, 1 + 0.9 * a),
    "shear_x": lambda x, f, a: warp(x, shear=(0.3 * a, 0.0)),
    "shear_y": lambda x, f, a: warp(x, shear=(0.0, 0.3 * a)),
    "translate_x": lambda x, f, a: warp(x, shift=(150 / 331 * a, 0.0)),
    "translate_y": lambda x, f, a: warp(x, shift=(0.0, 150 / 331 * a)),
}


def randaugment(
    image: Tensor, operations: int, magnitude: float, random: np.random.Generator, functional: ModuleType
) -> Tensor:
    """Apply this many random `operations` to uint8 (C, S, S), each in either direction.

    `functional` is torchvision's module of that name. `magnitude` is from 0 to MAGNITUDES.
    """
    names = list(OPERATIONS)
    for _ in range(operations):
        name, sign = names[random.integers(len(names))], random.choice((-1, 1))
        image = OPERATIONS[name](image, functional, float(sign * magnitude / MAGNITUDES))
    return image
