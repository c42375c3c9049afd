"""What one step of a training does: the recipe, its optimisers, schedules of the rate, and rates by stage."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from graft.errors import InputError, did_you_mean
from graft.images.augmenting import STRENGTHS, Augmentation
from graft.models.network import HEAD, Section


@dataclass(frozen=True)
class Usual:
    """What suits an optimiser: its peak rate for a pretrained network of `RATED_PARAMETERS` parameters and for random
    layers, and its weight decay."""

    pretrained_rate: float
    random_rate: float
    weight_decay: float


# Pretrained layers move less, and for a shorter time, than random ones. Decay: 0.0005 is that of AlexNet and VGG,
# 0.00004 that of MobileNetV2. Momentum makes a step of RMSprop ten times as long, so its rate is a tenth of AdamW's.
USUAL = {
    "adamw": Usual(2e-4, 2e-3, 1e-2),
    "sgd": Usual(5e-3, 5e-2, 5e-4),
    "rmsprop": Usual(2e-5, 2e-4, 4e-5),
}
# The size of ResNet-50. Adam moves every weight by about the rate, so a step is about rate x sqrt(parameters) long: at
# the rates above its length is one whatever the network. Searched over a factor of ten, the rate so scaled was the best
# or next to it for ResNet-20 (0.27 million), MobileNet 0.25 (0.47) and MobileNetV2 (3.5).
RATED_PARAMETERS = 25_000_000
EPOCHS_PRETRAINED, EPOCHS_RANDOM = 10, 30
# Few pictures are seen more often, so that a training has about so many steps, but not beyond so many epochs.
STEPS_PRETRAINED, MOST_EPOCHS_PRETRAINED = 300, 30
SCHEDULES = ("cosine", "one-cycle", "step", "plateau", "constant", "lenet")
CLASS_WEIGHTS = ("none", "balanced")
SAMPLINGS = ("uniform", "balanced")
# Passes without a better one, after which `plateau` lowers the rate.
PLATEAU_EPOCHS = 3
# LeCun, Bottou, Bengio and Haffner 1998, section III-B: passes and their rate; the last one holds to the end.
LENET_PASSES = ((2, 5e-4), (3, 2e-4), (3, 1e-4), (4, 5e-5), (math.inf, 1e-5))


@dataclass(frozen=True)
class Recipe:
    """How stages are trained. None for `epochs`, `rate` and `weight_decay` is what suits the optimiser and the start.

    `rate` is the peak of the head's learning rate, and each earlier stage has `rate_decay` times that of the next one.
    `weight_decay` is not applied to biases and norms. `accumulate` batches make one step, whose gradient is at most
    `clip` long. `patience` is how many epochs may pass without a better one, `ema` the decay of a moving average of the
    weights, which is then scored and kept instead of them. `dropout` is the part of the head's inputs that is left out
    in training, None for what the network has; `sampling` draws pictures so that every class is as likely, if balanced.

    `augment` is the strength of the augmentation, whose flips are wrong for digits and text. At most `views` of a
    picture are kept at the cut, and the epochs show them in turn: training is equal to that without keeping where
    nothing is augmented, or where there are as many views as epochs. `mixup` and `cutmix` are the alpha of pictures
    (activations) mixed two by two, 0 for none.
    """

    epochs: int | None = None
    batch_size: int = 32
    rate: float | None = None
    weight_decay: float | None = None
    warmup: float = 0.1  # of all steps, with the cosine
    optimiser: str = "adamw"
    schedule: str = "cosine"
    rate_decay: float = 1.0
    label_smoothing: float = 0.0
    class_weights: str = "none"
    clip: float | None = None
    accumulate: int = 1
    patience: int | None = None
    ema: float | None = None
    dropout: float | None = None
    sampling: str = "uniform"
    augment: str = "none"
    flip: bool = True
    views: int = 8
    mixup: float = 0.0
    cutmix: float = 0.0

    def augmentation(self) -> Augmentation:
        """What happens to the pictures of an epoch."""
        strength = STRENGTHS[self.augment]
        return strength if self.flip else replace(strength, flip=0.0)

    def settled(
        self, pretrained: bool = False, *, parameters: int = RATED_PARAMETERS, pictures: int | None = None
    ) -> "Settled":
        """The same with nothing left open, for a network of `parameters` and so many `pictures` to train on."""
        usual = USUAL[self.optimiser]
        suitable = {"epochs": EPOCHS_RANDOM, "rate": usual.random_rate, "weight_decay": usual.weight_decay}
        if pretrained:
            suitable["rate"] = usual.pretrained_rate * math.sqrt(RATED_PARAMETERS / parameters)
            steps_per_epoch = math.ceil((pictures or STEPS_PRETRAINED * self.batch_size) / self.batch_size)
            enough = math.ceil(STEPS_PRETRAINED / steps_per_epoch)
            suitable["epochs"] = min(max(enough, EPOCHS_PRETRAINED), MOST_EPOCHS_PRETRAINED)
        return Settled(**{**suitable, **{name: value for name, value in asdict(self).items() if value is not None}})


@dataclass(frozen=True)
class Settled(Recipe):
    """A recipe that leaves nothing open."""

    epochs: int = EPOCHS_RANDOM
    rate: float = USUAL["adamw"].random_rate
    weight_decay: float = USUAL["adamw"].weight_decay


CHOICES = {
    "optimiser": tuple(USUAL),
    "schedule": SCHEDULES,
    "class_weights": CLASS_WEIGHTS,
    "sampling": SAMPLINGS,
    "augment": tuple(STRENGTHS),
}
# What a number must hold, what was expected, and what to do, by field.
LIMITS: dict[str, tuple[Callable[[float], bool], str, str]] = {
    "epochs": (lambda value: value >= 0, "0 or more", "raise it"),
    "batch_size": (lambda value: value >= 1, "1 or more", "raise it"),
    "rate": (lambda value: 0 < value < 10, "a rate above 0 and below 10", "0.0002 to 0.05 is usual"),
    "weight_decay": (lambda value: 0 <= value < 1, "0 or more and less than 1", "0.0005 to 0.05 is usual"),
    "warmup": (lambda value: 0 <= value < 1, "0 or more and less than 1", "0.1 is usual"),
    "rate_decay": (lambda value: 0 < value <= 1, "above 0 and up to 1", "0.5 to 0.9 is usual, 1 turns it off"),
    "label_smoothing": (lambda value: 0 <= value < 1, "0 or more and less than 1", "0.1 is usual"),
    "clip": (lambda value: value > 0, "a length above 0", "1 is usual, and without it nothing is clipped"),
    "accumulate": (lambda value: value >= 1, "1 or more", "raise it"),
    "patience": (lambda value: value >= 1, "1 epoch or more", "raise it"),
    "ema": (lambda value: 0 < value < 1, "above 0 and below 1", "0.99 to 0.9999 is usual"),
    "views": (lambda value: value >= 1, "1 or more", "8 is usual"),
    "mixup": (lambda value: value >= 0, "0 or more", "0.2 is usual, 0 turns it off"),
    "cutmix": (lambda value: value >= 0, "0 or more", "1 is usual, 0 turns it off"),
    "dropout": (lambda value: 0 <= value < 1, "0 or more and less than 1", "0.2 to 0.5 is usual"),
}


def check_recipe(recipe: Recipe) -> Recipe:
    """`recipe` if every setting in it makes sense. Raises InputError that names the option."""
    values = asdict(recipe)
    for name, known in CHOICES.items():
        if values[name] not in known:
            raise InputError(
                f"expected {', '.join(known[:-1])} or {known[-1]} for {_option(name)}, got {values[name]!r}"
                f"{did_you_mean(str(values[name]), known)}: choose one of them"
            )
    for name, (holds, expected, advice) in LIMITS.items():
        if values[name] is not None and not holds(values[name]):
            raise InputError(f"expected {expected} for {_option(name)}, got {values[name]}: {advice}")
    return recipe


def build_optimiser(crown: nn.Module, recipe: Settled) -> torch.optim.Optimizer:
    """The optimiser of the trainable parameters of `crown`, in groups whose `share` of the rate is that of the stage.

    SGD has Nesterov's momentum of 0.9. RMSprop has a decay and a momentum of 0.9, as MobileNetV2 (Sandler et al. 2018,
    section 6.1).
    """
    groups = parameter_groups(crown, recipe.weight_decay, recipe.rate_decay)
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=recipe.rate, momentum=0.9, nesterov=True)
    if recipe.optimiser == "rmsprop":
        return torch.optim.RMSprop(groups, lr=recipe.rate, alpha=0.9, momentum=0.9)
    return torch.optim.AdamW(groups, lr=recipe.rate)


def parameter_groups(crown: nn.Module, weight_decay: float, rate_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters by stage, and in every stage those that decay (matrices, kernels) and those that do not."""
    groups = []
    shares = stage_shares(crown, rate_decay)
    for stage, parameters in _by_stage(crown).items():
        for decay, members in (
            (weight_decay, [parameter for parameter in parameters if parameter.ndim > 1]),
            (0.0, [parameter for parameter in parameters if parameter.ndim <= 1]),
        ):
            if members:
                groups.append({"params": members, "weight_decay": decay, "share": shares[stage], "stage": stage})
    return groups


def stage_shares(crown: nn.Module, rate_decay: float) -> dict[str, float]:
    """Share of the learning rate by stage, in order: 1 for the last one that trains, less before it.

    Discriminative rates: Howard and Ruder 2018, arXiv 1801.06146, section 3.2.
    """
    stages = list(_by_stage(crown))
    return {stage: rate_decay**behind for stage, behind in zip(stages, reversed(range(len(stages))), strict=True)}


def _by_stage(crown: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Trainable parameters of every stage that has any; auxiliary classifiers belong to the head."""
    stages = crown.stages if isinstance(crown, Section) else ()
    members: dict[str, list[nn.Parameter]] = {stage.name: [] for stage in stages} or {HEAD: []}
    for name, parameter in crown.named_parameters():
        owners = (stage.name for stage in stages if any(name.startswith(f"{part}.") for part in stage.parts))
        if parameter.requires_grad:
            members[next(owners, HEAD)].append(parameter)
    return {stage: parameters for stage, parameters in members.items() if parameters}


def rate_at(recipe: Settled, done: float, epoch: int, scores: Sequence[Any] = ()) -> float:
    """The head's learning rate in pass `epoch`, from 1, when `done` of all steps, 0 to 1, are behind.

    `scores` are those of the passes so far on the validation pictures, the start first, higher ones being better.
    """
    match recipe.schedule:
        case "cosine":
            return cosine(recipe.rate, done, recipe.warmup)
        case "one-cycle":
            return one_cycle(recipe.rate, done)
        case "step":
            return step(recipe.rate, done)
        case "plateau":
            return plateau(recipe.rate, scores)
        case "lenet":
            return lenet(recipe.rate, epoch)
    return recipe.rate


def cosine(rate: float, done: float, warmup: float) -> float:
    """Linear up to the peak, then half a cosine to zero."""
    if done < warmup:
        return rate * (done + 0.01) / (warmup + 0.01)
    return rate * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def one_cycle(rate: float, done: float) -> float:
    """From a twenty-fifth up to the peak in the first 30 %, then down to a ten-thousandth, each along half a cosine.

    Smith and Topin 2017, arXiv 1708.07120; in the form that fast.ai gave it, with constant momentum.
    """
    if done < 0.3:
        start, end, part = rate / 25, rate, done / 0.3
    else:
        start, end, part = rate, rate / 10_000, (done - 0.3) / 0.7
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * part))


def step(rate: float, done: float) -> float:
    """A tenth after half of the training and a hundredth after three quarters: He et al. 2015, section 4.2."""
    return rate * 0.1 ** ((done >= 0.5) + (done >= 0.75))


def plateau(rate: float, scores: Sequence[Any]) -> float:
    """A tenth each time that `PLATEAU_EPOCHS` passes in a row were not better than the best before them.

    Simonyan and Zisserman 2014, arXiv 1409.1556, section 3.1: "decreased by a factor of 10 when the validation set
    accuracy stopped improving", without saying after how long.
    """
    drops = waited = 0
    for pass_, score in enumerate(scores[1:], 1):
        waited = 0 if score > max(scores[:pass_]) else waited + 1
        if waited == PLATEAU_EPOCHS:
            drops, waited = drops + 1, 0
    return rate * 0.1**drops


def lenet(rate: float, epoch: int) -> float:
    """LeNet-5's published table by pass, relative to its first rate, so that a `rate` of 0.0005 gives it in full.

    LeCun, Bottou, Bengio and Haffner 1998, section III-B: 0.0005 for two passes, 0.0002 for three, 0.0001 for three,
    0.00005 for four, then 0.00001. Passes count from 1: with the same limits on passes that count from 0, as in
    textbook code for Keras, the first rate lasts three and every later one comes a pass late; and such code often
    leaves out the passes at 0.0001. In the paper the rates are factors of a diagonal second-order method, hence small.
    """
    ends = accumulate(passes for passes, _ in LENET_PASSES)
    rates = (value for _, value in LENET_PASSES)
    current = next(value for end, value in zip(ends, rates, strict=True) if epoch <= end)
    return rate * (current / LENET_PASSES[0][1])


def stale_epochs(scores: Sequence[Any]) -> int:
    """Passes since the best one."""
    return len(scores) - 1 - scores.index(max(scores))


def weights_of_classes(labels: np.ndarray, kind: str, device: str = "cpu") -> Tensor | None:
    """Weight of a picture by its class, float32 (classes,), one on average over `labels`; None where all are equal.

    `balanced` gives every class the same sum.
    """
    if kind == "none":
        return None
    counts = np.bincount(labels)
    balanced = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return torch.from_numpy(balanced).float().to(device)


@torch.no_grad()
def average_into(average: nn.Module, crown: nn.Module, decay: float, steps: int) -> None:
    """Move the state of `average` towards that of `crown`, running statistics included, after step `steps`, from 1.

    Early steps count more, so that the random start does not linger: the decay is at most (1 + steps) / (10 + steps).
    """
    weight = 1 - min(decay, (1 + steps) / (10 + steps))
    for mean, value in zip(average.state_dict().values(), crown.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, weight)
        else:
            mean.copy_(value)


@contextmanager
def drop_out(crown: nn.Module, part: float | None) -> Iterator[None]:
    """While the block trains `crown`, leave out this part of the head's inputs; None leaves it to the network.

    Srivastava et al. 2014, JMLR 15. Layers of dropout that the crown has get the new value, for good; without any, the
    inputs of its last linear layer are dropped, and the network is left as it was.
    """
    layers = [module for module in crown.modules() if isinstance(module, nn.Dropout)]
    linear = [module for module in crown.modules() if isinstance(module, nn.Linear)]
    if part is None or not (layers or linear):
        yield
        return
    for layer in layers:
        layer.p = part
    if layers:
        yield
        return
    head = linear[-1]
    hook = head.register_forward_pre_hook(lambda _, inputs: (functional.dropout(inputs[0], part, head.training),))
    try:
        yield
    finally:
        hook.remove()


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
