"""How stages are trained: a recipe, what suits the network and the images where it leaves something open, its limits.

Only stages after the cut are trained by it. A head alone is solved to its optimum and takes no recipe.
"""

import math
from dataclasses import asdict, dataclass, field, replace
from numbers import Integral, Real
from typing import Any

from graft.errors import InputError, did_you_mean
from graft.images.augmenting import STRENGTHS, Augmentation


@dataclass(frozen=True)
class Usual:
    """What suits an optimizer: a peak learning rate for a pretrained network of `RATED_PARAMETERS` parameters, one for
    random layers, and a weight decay."""

    pretrained_rate: float
    random_rate: float
    weight_decay: float


# Pretrained layers move less, and for a shorter time, than random ones. Decay: 0.0005 is that of AlexNet and VGG,
# 0.00004 that of MobileNetV2. Momentum makes a step of RMSprop ten times as long, so its learning rate is a tenth of
# AdamW's.
USUAL = {
    "adamw": Usual(2e-4, 2e-3, 1e-2),
    "sgd": Usual(5e-3, 5e-2, 5e-4),
    "rmsprop": Usual(2e-5, 2e-4, 4e-5),
}
# The size of ResNet-50. Adam moves every weight by about the learning rate, so a step is about learning rate x
# sqrt(parameters) long: with those above its length is one whatever the network. Searched over a factor of ten, the
# learning rate so scaled was the best or next to it for ResNet-20 (0.27 million), MobileNet 0.25 (0.47) and MobileNetV2
# (3.5).
RATED_PARAMETERS = 25_000_000
EPOCHS_PRETRAINED, EPOCHS_RANDOM = 10, 30
# Few images are seen more often, so that training has about so many steps, but not beyond so many epochs.
STEPS_PRETRAINED, MOST_EPOCHS_PRETRAINED = 300, 30
SCHEDULES = ("cosine", "one-cycle", "step", "plateau", "constant", "lenet")
CLASS_WEIGHTS = ("none", "balanced")
SAMPLINGS = ("uniform", "balanced")


@dataclass(frozen=True)
class Recipe:
    """How stages are trained. None for `epochs`, `learning_rate` and `weight_decay` means what suits the optimizer and
    the start.

    `learning_rate` is the peak of the head's learning rate, and each earlier stage has `layer_decay` times that of the
    next one. `weight_decay` is not applied to biases and norms. `accumulate_steps` batches make one step, whose
    gradient is clipped to a norm of `clip_grad_norm`. `patience` is how many epochs may pass without a better one,
    `ema_decay` the decay of a moving average of the weights, which is then scored and kept instead of them. `dropout`
    is the part of the head's inputs that is dropped out, None for what the network has. With `sampling` balanced,
    images are drawn so that every class is equally likely.

    `augment` is the strength of the augmentation; its flips are wrong for digits and text. At most `views` of an image
    are kept at the cut, and the epochs show them in turn: the result is the same as without keeping them where nothing
    is augmented, or where there are as many views as epochs. `mixup` and `cutmix` are the alpha with which images, or
    their activations at the cut, are mixed in pairs, 0 for none. With `find_learning_rate` a range test chooses the
    learning rate.
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


@dataclass(frozen=True)
class Limits:
    """The numbers that a setting may be, from `least` to `most`; `above` and `below` say that the end is not one."""

    least: float
    most: float
    advice: str
    above: bool = False
    below: bool = False
    whole: bool = False

    def allow(self, value: Any) -> bool:
        """Whether `value` is such a number. Infinity is beyond any end, and NaN compares to none."""
        of_kind = isinstance(value, Integral if self.whole else Real) and not isinstance(value, bool)
        return (
            of_kind
            and (self.least < value if self.above else self.least <= value)
            and (value < self.most if self.below else value <= self.most)
        )

    def __str__(self) -> str:
        lower = f"{'above' if self.above else 'from'} {self.least:,.7g}"
        upper = f"{'and below' if self.below else 'and up to' if self.above else 'to'} {self.most:,.7g}"
        return f"a {'whole ' if self.whole else ''}number {lower} {upper}"


LIMITS = {
    # Beyond the last, seeds of one run's epochs would be those of another's.
    "epochs": Limits(0, 100_000, "10 to 100 is usual", whole=True),
    "batch_size": Limits(1, 65_536, "16 to 256 is usual", whole=True),
    "learning_rate": Limits(0, 10, "0.0002 to 0.05 is usual", above=True, below=True),
    "weight_decay": Limits(0, 1, "0.0005 to 0.05 is usual", below=True),
    "warmup": Limits(0, 1, "0.1 is usual", below=True),
    "layer_decay": Limits(0, 1, "0.5 to 0.9 is usual, 1 turns it off", above=True),
    "label_smoothing": Limits(0, 1, "0.1 is usual", below=True),
    "clip_grad_norm": Limits(0, 1_000_000, "1 is usual, and without it nothing is clipped", above=True),
    "accumulate_steps": Limits(1, 65_536, "1 is usual, more where a batch does not fit in memory", whole=True),
    "patience": Limits(1, 100_000, "3 to 10 is usual", whole=True),
    "ema_decay": Limits(0, 1, "0.99 to 0.9999 is usual", above=True, below=True),
    "views": Limits(1, 100_000, "8 is usual", whole=True),
    "mixup": Limits(0, 100, "0.2 is usual, 0 turns it off"),
    "cutmix": Limits(0, 100, "1 is usual, 0 turns it off"),
    "dropout": Limits(0, 1, "0.2 to 0.5 is usual", below=True),
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
    for name, limits in LIMITS.items():
        if values[name] is not None and not limits.allow(values[name]):
            raise InputError(f"expected {limits} for {_option(name)}, got {values[name]}: {limits.advice}")
    if recipe.find_learning_rate and recipe.learning_rate is not None:
        raise InputError(f"expected --lr or --find-lr, got both (--lr {recipe.learning_rate:g}): leave one of them out")
    return recipe


def _option(name: str) -> str:
    return "--lr" if name == "learning_rate" else "--" + name.replace("_", "-")
