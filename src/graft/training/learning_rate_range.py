"""The learning-rate range test: find a learning rate that suits a crown by taking steps at ever larger ones.

Smith 2017, "Cyclical learning rates for training neural networks", arXiv 1506.01186, section 3.3. As in fast.ai, the
learning rate grows by a factor from step to step instead of by an amount, and the loss is watched instead of the
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
# Half of the training steps, within the first two limits; when time is short fewer, but no fewer than the last.
MOST_STEPS, USUAL_LEAST_STEPS, LEAST_STEPS = 100, 50, 20
# From a hundredth to a hundred times the recipe's learning rate, or to the largest that a recipe takes.
SPAN, LARGEST_RATE = 100.0, 10.0
# The weight of the previous losses in the running average, and the steps at the smallest learning rate before there is
# an average to compare with.
SMOOTHING, SETTLING_STEPS = 0.9, 10
# The test ends when the loss exceeds its minimum by this factor.
DIVERGED = 4.0
# How far the loss may rise above its minimum by chance, in median moves from step to step: four standard deviations.
TOLERANCE = 13.6
# The suggested share of the largest harmless learning rate.
SHARE = 0.2


@dataclass(frozen=True)
class RateRange:
    """Learning rates of the head in the order they were tried, the smoothed loss at each, and the suggested one."""

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

    The rates lie around that of `recipe`, whose optimizer, batches, regularisation and shares by stage are used.
    `crown` and torch's random state are left unchanged. With `seconds`, the learning rate grows with the elapsed time
    if that is faster. `step` gets the steps done and their total. Raises InputError when there is time for too few
    steps, and GraftError when the loss is not finite from the start.
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
        f"expected a --time that allows at least {LEAST_STEPS} steps of --find-lr, got {steps} done in the "
        f"{seconds:.1f} s for it: raise it, or give --lr"
    )


def suggest(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Return a fifth of the largest learning rate at which the smoothed loss is at its minimum, within chance.

    fast.ai looks for the steepest descent. That is a matter of luck when the head was solved to its optimum before: the
    loss then falls little, and batches differ by more. Over 13 short runs with two seeds each (LeNet-5, ResNet-20 and
    MobileNet 0.25; AdamW, SGD and RMSprop), the mean validation accuracy was 0.845 with this method, 0.736 with
    fast.ai's, and 0.794 with the recipe's own learning rates. It was no better than those rates for pretrained networks
    with AdamW (0.817 and 0.814), which they were made for. The fifth was chosen with the scores of eight of the runs in
    view.
    """
    highest = min(losses) + TOLERANCE * float(np.median(np.abs(np.diff(losses))))
    harmless = max(rate for rate, loss in zip(rates, losses, strict=True) if loss <= highest)
    return max(SHARE * harmless, min(rates))
