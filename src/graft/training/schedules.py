"""Learning-rate schedules, each a function of how much of the training is done.

Each takes the peak learning rate and returns the current one.
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from graft.training.recipe import ResolvedRecipe

# Epochs without improvement after which `plateau` lowers the learning rate.
PLATEAU_EPOCHS = 3
# LeCun, Bottou, Bengio and Haffner 1998, section III-B: epochs and their learning rate; the last one holds to the end.
LENET_EPOCHS = ((2, 5e-4), (3, 2e-4), (3, 1e-4), (4, 5e-5), (math.inf, 1e-5))


def learning_rate_at(recipe: ResolvedRecipe, done: float, epoch: int, scores: Sequence[Any] = ()) -> float:
    """Return the head's learning rate in `epoch`, from 1, when the share `done` of all steps, 0 to 1, has passed.

    `scores` are those of the epochs so far on the validation images, the start first; higher is better.
    """
    match recipe.schedule:
        case "cosine":
            return cosine(recipe.learning_rate, done, recipe.warmup)
        case "one-cycle":
            return one_cycle(recipe.learning_rate, done)
        case "step":
            return step_decay(recipe.learning_rate, done)
        case "plateau":
            return plateau(recipe.learning_rate, scores)
        case "lenet":
            return lenet_table(recipe.learning_rate, epoch)
    return recipe.learning_rate


def cosine(peak: float, done: float, warmup: float) -> float:
    """Rise linearly to the peak, then fall to zero along half a cosine."""
    if done < warmup:
        return peak * (done + 0.01) / (warmup + 0.01)
    return peak * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def one_cycle(peak: float, done: float) -> float:
    """Rise from a twenty-fifth to the peak in the first 30 %, then fall to a ten-thousandth, each along half a cosine.

    Smith and Topin 2017, arXiv 1708.07120; in fast.ai's form, with constant momentum.
    """
    if done < 0.3:
        start, end, part = peak / 25, peak, done / 0.3
    else:
        start, end, part = peak, peak / 10_000, (done - 0.3) / 0.7
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * part))


def step_decay(peak: float, done: float) -> float:
    """Fall to a tenth after half of the training, to a hundredth after three quarters: He et al. 2015, section 4.2."""
    return peak * 0.1 ** ((done >= 0.5) + (done >= 0.75))


def plateau(peak: float, scores: Sequence[Any]) -> float:
    """Fall to a tenth each time that `PLATEAU_EPOCHS` epochs in a row do not improve on the best before them.

    Simonyan and Zisserman 2014, arXiv 1409.1556, section 3.1: "decreased by a factor of 10 when the validation set
    accuracy stopped improving", without saying after how long.
    """
    drops = waited = 0
    for epoch, score in enumerate(scores[1:], 1):
        waited = 0 if score > max(scores[:epoch]) else waited + 1
        if waited == PLATEAU_EPOCHS:
            drops, waited = drops + 1, 0
    return peak * 0.1**drops


def lenet_table(peak: float, epoch: int) -> float:
    """Follow LeNet-5's published table by epoch, relative to its first learning rate: with a `peak` of 0.0005 exactly.

    LeCun, Bottou, Bengio and Haffner 1998, section III-B: 0.0005 for two epochs, 0.0002 for three, 0.0001 for three,
    0.00005 for four, then 0.00001. Epochs count from 1. Textbook code for Keras often applies the same limits to epochs
    that count from 0, so the first learning rate lasts three epochs and every later one comes an epoch late; such code
    also often leaves out the epochs at 0.0001. In the paper the values are factors of a diagonal second-order method,
    hence small.
    """
    ends = accumulate(epochs for epochs, _ in LENET_EPOCHS)
    rates = (rate for _, rate in LENET_EPOCHS)
    current = next(rate for end, rate in zip(ends, rates, strict=True) if epoch <= end)
    return peak * (current / LENET_EPOCHS[0][1])


def stale_epochs(scores: Sequence[Any]) -> int:
    """Return the number of epochs since the best one."""
    return len(scores) - 1 - scores.index(max(scores))
