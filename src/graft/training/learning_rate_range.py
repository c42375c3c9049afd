"""The learning-rate range test: which learning rate suits a crown, found by taking steps at ever larger ones.

Smith 2017, "Cyclical learning rates for training neural networks", arXiv 1506.01186, section 3.3. Differs, as in
fast.ai: from step to step the learning rate grows by a factor, not by an amount, and the loss is watched, not the
accuracy.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, count

import numpy as np
from torch import nn

from graft.errors import GraftError, InputError
from graft.features.engine import Precision
from graft.seeding import seeded
from graft.training.descent import GradientDescent
from graft.training.inputs import Inputs
from graft.training.memory import Batching, as_memory_allows
from graft.training.recipe import ResolvedRecipe
from graft.training.time_budget import Clock
from graft.training.training_mode import put_in_training_mode, training_mode

RATE_RANGE_FILE = "rate_range.json"
# Half of the steps of the training, within these limits; in a hurry fewer, but no less than the last.
MOST_STEPS, USUAL_LEAST_STEPS, LEAST_STEPS = 100, 50, 20
# From a hundredth to a hundred times the learning rate of the recipe, or to the largest that a recipe takes.
SPAN, LARGEST_RATE = 100.0, 10.0
# Of the average of the losses before, in the next one; and steps at the smallest learning rate until there is one to
# compare with.
SMOOTHING, SETTLING_STEPS = 0.9, 10
# The test ends when the loss is this many times its least.
DIVERGED = 4.0
# How far above its least the loss may be by chance, in its median move from step to step: four standard deviations.
TOLERANCE = 13.6
# The part of the largest harmless learning rate that is suggested.
SHARE = 0.2


@dataclass(frozen=True)
class RateRange:
    """Learning rates of the head in the order they were tried, the smoothed loss at each, and the one to train with."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggested: float


def find_learning_rate(
    crown: nn.Module,
    train: Inputs,
    recipe: ResolvedRecipe,
    *,
    seed: int = 0,
    device: str = "cpu",
    precision: Precision = "float32",
    seconds: float = math.inf,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> RateRange:
    """Train a copy of `crown` for up to 110 steps at ever larger learning rates, until the loss is fourfold.

    These are around that of `recipe`, whose optimizer, batches, regularisation and shares by stage are used. `crown`
    and torch's random state are left as they were. With `seconds`, the learning rate grows with the time that has
    passed where that is faster. `step` is told of steps done of all. Raises InputError when there is time for too few
    steps, GraftError when the loss is not finite from the start.
    """

    def attempt(batching: Batching) -> RateRange:
        descent = GradientDescent(copy.deepcopy(crown), train, recipe, batching, seed, device, precision)
        return _try_rates(descent, seconds, step)

    return as_memory_allows(recipe, attempt)


def _try_rates(descent: GradientDescent, seconds: float, step: Callable[[int, int], None]) -> RateRange:
    crown, recipe = descent.crown, descent.recipe
    steps = min(max(recipe.epochs * descent.steps_per_epoch // 2, USUAL_LEAST_STEPS), MOST_STEPS)
    smallest, largest = recipe.learning_rate / SPAN, min(recipe.learning_rate * SPAN, LARGEST_RATE)
    rates: list[float] = []
    losses: list[float] = []
    average, clock = 0.0, Clock.start(limit=max(seconds, 1e-3))
    with seeded(descent.seed, descent.device), training_mode(crown, recipe, descent.example()):
        put_in_training_mode(crown, recipe.batch_norm)
        every_epoch = chain.from_iterable(descent.steps(epoch) for epoch in count(1))
        for number, batches in zip(range(-SETTLING_STEPS, steps), every_epoch, strict=False):
            passed = clock.share()
            if passed >= 1:
                if number < LEAST_STEPS:
                    raise _too_late(max(0, number), seconds)
                break
            rate = smallest * (largest / smallest) ** max(0.0, number / (steps - 1), passed)
            average = SMOOTHING * average + (1 - SMOOTHING) * float(descent.step(batches, rate)[0])
            smoothed = average / (1 - SMOOTHING ** (number + 1 + SETTLING_STEPS))
            if not math.isfinite(smoothed):
                break
            if number < 0:
                continue
            rates.append(rate)
            losses.append(smoothed)
            step(number + 1, steps)
            if smoothed > DIVERGED * min(losses):
                break
    if len(rates) < 2:
        raise GraftError(
            f"expected a finite loss at a learning rate of {smallest:.1g}, got none: check the weights of the base"
        )
    return RateRange(tuple(rates), tuple(losses), suggest(rates, losses))


def _too_late(steps: int, seconds: float) -> InputError:
    return InputError(
        f"expected --time for {LEAST_STEPS} steps of --find-lr at least, got {steps} done in the {seconds:.1f} s for "
        "it: raise it, or give --lr"
    )


def suggest(rates: Sequence[float], losses: Sequence[float]) -> float:
    """A fifth of the largest learning rate at which the smoothed loss is still at its least, as far as chance shows.

    fast.ai looks for the steepest descent, which is a matter of luck where a head was solved to its optimum before: the
    loss falls little then, and batches differ by more. Over 13 short runs, two seeds each (LeNet-5, ResNet-20 and
    MobileNet 0.25; AdamW, SGD and RMSprop), the mean validation accuracy was 0.845 with this, 0.736 with that, and
    0.794 with the recipe's own learning rates: no better than these for pretrained networks with AdamW (0.817 and
    0.814), which they were made for. The fifth was chosen with the scores of eight of the runs in view.
    """
    highest = min(losses) + TOLERANCE * float(np.median(np.abs(np.diff(losses))))
    harmless = max(rate for rate, loss in zip(rates, losses, strict=True) if loss <= highest)
    return max(SHARE * harmless, min(rates))
