"""What the textbook reads off a learning curve: where it starts, how steeply it rises, and where it ends."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CurveShape:
    """Of an accuracy by epoch, 0 to 1, `slope` per epoch: Torrey and Shavlik 2010, Transfer Learning, figure 2."""

    start: float
    slope: float
    asymptote: float


def describe_curve(curve: np.ndarray) -> CurveShape:
    """Of `curve` (epochs + 1,), whose first value is that before any step; one epoch or more.

    The asymptote is the mean of the last quarter of the epochs. The slope is the mean gain per epoch until half of the
    way from start to asymptote is made, the curve taken as straight between epochs; below zero where it falls.
    """
    epochs = len(curve) - 1
    start, asymptote = float(curve[0]), float(curve[-math.ceil(epochs / 4) :].mean())
    half = (asymptote - start) / 2
    if half == 0:
        return CurveShape(start, 0.0, asymptote)
    # As a part of half the way. The last quarter is on average at 2, so 1 is reached.
    made = (curve - start) / half
    reached = int(np.argmax(made >= 1))
    before, after = float(made[reached - 1]), float(made[reached])
    return CurveShape(start, half / (reached - 1 + (1 - before) / (after - before)), asymptote)
