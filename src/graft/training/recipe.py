"""How stages are trained: a recipe, what suits the network and the images where it leaves something open, its
limits."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace

from graft.errors import InputError, did_you_mean
from graft.images.augmenting import STRENGTHS, Augmentation


@dataclass(frozen=True)
class Usual:
    """What suits an optimizer: its peak rate for a pretrained network of `RATED_PARAMETERS` parameters and for random
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
# Few images are seen more often, so that a training has about so many steps, but not beyond so many epochs.
STEPS_PRETRAINED, MOST_EPOCHS_PRETRAINED = 300, 30
SCHEDULES = ("cosine", "one-cycle", "step", "plateau", "constant", "lenet")
CLASS_WEIGHTS = ("none", "balanced")
SAMPLINGS = ("uniform", "balanced")


@dataclass(frozen=True)
class Recipe:
    """How stages are trained. None for `epochs`, `learning_rate` and `weight_decay` is what suits the optimizer and the
    start.

    `learning_rate` is the peak of the head's learning rate, and each earlier stage has `layer_decay` times that of the
    next one. `weight_decay` is not applied to biases and norms. `accumulate_steps` batches make one step, whose
    gradient is at most `clip_grad_norm` long. `patience` is how many epochs may pass without a better one, `ema_decay`
    the decay of a moving average of the weights, which is then scored and kept instead of them. `dropout` is the part
    of the head's inputs that is left out in training, None for what the network has; `sampling` draws images so that
    every class is as likely, if balanced.

    `augment` is the strength of the augmentation, whose flips are wrong for digits and text. At most `views` of an
    image are kept at the cut, and the epochs show them in turn: training is equal to that without keeping where
    nothing is augmented, or where there are as many views as epochs. `mixup` and `cutmix` are the alpha of images
    (activations) mixed two by two, 0 for none. With `find_learning_rate` the rate is what a range test suggests.
    """

    epochs: int | None = None
    batch_size: int = 32
    learning_rate: float | None = None
    weight_decay: float | None = None
    warmup: float = 0.1  # of all steps, with the cosine
    optimizer: str = "adamw"
    schedule: str = "cosine"
    layer_decay: float = 1.0
    label_smoothing: float = 0.0
    class_weights: str = "none"
    clip_grad_norm: float | None = None
    accumulate_steps: int = 1
    patience: int | None = None
    ema_decay: float | None = None
    dropout: float | None = None
    sampling: str = "uniform"
    augment: str = "none"
    flip: bool = True
    views: int = 8
    mixup: float = 0.0
    cutmix: float = 0.0
    find_learning_rate: bool = False

    def augmentation(self) -> Augmentation:
        """What happens to the images of an epoch."""
        strength = STRENGTHS[self.augment]
        return strength if self.flip else replace(strength, flip=0.0)

    def resolve(
        self, pretrained: bool = False, *, parameters: int = RATED_PARAMETERS, images: int | None = None
    ) -> "ResolvedRecipe":
        """The same with nothing left open, for a network of `parameters` and so many `images` to train on."""
        usual = USUAL[self.optimizer]
        suitable = {"epochs": EPOCHS_RANDOM, "learning_rate": usual.random_rate, "weight_decay": usual.weight_decay}
        if pretrained:
            suitable["learning_rate"] = usual.pretrained_rate * math.sqrt(RATED_PARAMETERS / parameters)
            steps_per_epoch = math.ceil((images or STEPS_PRETRAINED * self.batch_size) / self.batch_size)
            enough = math.ceil(STEPS_PRETRAINED / steps_per_epoch)
            suitable["epochs"] = min(max(enough, EPOCHS_PRETRAINED), MOST_EPOCHS_PRETRAINED)
        return ResolvedRecipe(
            **{**suitable, **{name: value for name, value in asdict(self).items() if value is not None}}
        )


@dataclass(frozen=True)
class ResolvedRecipe(Recipe):
    """A recipe that leaves nothing open: what training takes. `Recipe.resolve` makes one."""

    epochs: int = field(kw_only=True)
    learning_rate: float = field(kw_only=True)
    weight_decay: float = field(kw_only=True)


CHOICES = {
    "optimizer": tuple(USUAL),
    "schedule": SCHEDULES,
    "class_weights": CLASS_WEIGHTS,
    "sampling": SAMPLINGS,
    "augment": tuple(STRENGTHS),
}
# What a number must hold, what was expected, and what to do, by field.
LIMITS: dict[str, tuple[Callable[[float], bool], str, str]] = {
    "epochs": (lambda value: value >= 0, "0 or more", "raise it"),
    "batch_size": (lambda value: value >= 1, "1 or more", "raise it"),
    "learning_rate": (lambda value: 0 < value < 10, "a rate above 0 and below 10", "0.0002 to 0.05 is usual"),
    "weight_decay": (lambda value: 0 <= value < 1, "0 or more and less than 1", "0.0005 to 0.05 is usual"),
    "warmup": (lambda value: 0 <= value < 1, "0 or more and less than 1", "0.1 is usual"),
    "layer_decay": (lambda value: 0 < value <= 1, "above 0 and up to 1", "0.5 to 0.9 is usual, 1 turns it off"),
    "label_smoothing": (lambda value: 0 <= value < 1, "0 or more and less than 1", "0.1 is usual"),
    "clip_grad_norm": (lambda value: value > 0, "a length above 0", "1 is usual, and without it nothing is clipped"),
    "accumulate_steps": (lambda value: value >= 1, "1 or more", "raise it"),
    "patience": (lambda value: value >= 1, "1 epoch or more", "raise it"),
    "ema_decay": (lambda value: 0 < value < 1, "above 0 and below 1", "0.99 to 0.9999 is usual"),
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
    if recipe.find_learning_rate and recipe.learning_rate is not None:
        raise InputError(f"expected --lr or --find-lr, got both (--lr {recipe.learning_rate:g}): leave one of them out")
    return recipe


def _option(name: str) -> str:
    return "--lr" if name == "learning_rate" else "--" + name.replace("_", "-")
