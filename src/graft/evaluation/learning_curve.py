"""The shape of a learning curve: its start, slope and asymptote."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CurveShape:
    """Start, slope and asymptote of accuracy, 0 to 1, over epochs; `slope` is per epoch.

    Torrey and Shavlik 2010, "Transfer Learning", figure 2: the three ways in which transfer can improve learning.
    """

    start: float
    slope: float
    asymptote: float


def describe_curve(curve: np.ndarray) -> CurveShape:
    """Describe `curve` (epochs + 1,), whose first value is the accuracy before any step; one epoch or more.

    The asymptote is the mean over the last quarter of the epochs. The slope is the mean gain per epoch up to the point
    halfway between start and asymptote, with linear interpolation between epochs; it is negative if the curve falls.
    """
    epochs = len(curve) - 1
    start, asymptote = float(curve[0]), float(curve[-math.ceil(epochs / 4) :].mean())
    half = (asymptote - start) / 2
    if half == 0:
        return CurveShape(start, 0.0, asymptote)
    # Progress in units of half the way. The last quarter has a mean of 2, so 1 is reached.
    progress = (curve - start) / half
    reached = int(np.argmax(progress >= 1))
    before, after = float(progress[reached - 1]), float(progress[reached])
    return CurveShape(start, half / (reached - 1 + (1 - before) / (after - before)), asymptote)
