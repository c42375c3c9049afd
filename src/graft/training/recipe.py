"""Recipes for training stages, the defaults that suit the network and the images, and the limits of each setting.

A recipe applies only to the stages after the cut. A head alone is solved to its optimum and takes no recipe.
"""

import math
from dataclasses import asdict, dataclass, field, replace
from numbers import Integral, Real
from typing import Any

from graft.errors import InputError, did_you_mean
from graft.given import native, truth
from graft.images.augmenting import STRENGTHS, Augmentation
from graft.models.cuts import ALL_STAGES, LAST


@dataclass(frozen=True)
class Usual:
    """An optimizer's defaults: peak learning rates for a pretrained network of `RATED_PARAMETERS` parameters and for
    random layers, and the weight decay."""

    pretrained_rate: float
    random_rate: float
    weight_decay: float


# Pretrained layers move less than random ones, and for a shorter time. The decay of 0.0005 is from AlexNet and VGG,
# 0.00004 from MobileNetV2. Momentum makes RMSprop's steps ten times as long, so its learning rate is a tenth of
# AdamW's.
USUAL = {
    "adamw": Usual(1.8e-4, 2e-3, 1e-2),
    "sgd": Usual(4.5e-3, 5e-2, 5e-4),
    "rmsprop": Usual(1.8e-5, 2e-4, 4e-5),
}
# The size of ResNet-50. Small networks tolerate higher learning rates: of 0.0003, 0.0005, 0.001 and 0.002, the first
# was best for MobileNetV2 (3.5 million parameters) and the second for MobileNet 0.25 (0.47 million), which matches the
# fourth root of the size (docs/recipe.md). The square root, which keeps the length of Adam's steps independent of the
# network, gave rates at which both fell below the head they started from.
RATED_PARAMETERS = 25_000_000
RATE_EXPONENT = 0.25
# With two and three thousand images, 20 epochs from 40 % of the layers on were one and two points better than ten, and
# with a thousand no worse. Two such fits take about as long as one of all layers (docs/recipe.md).
EPOCHS_PRETRAINED, EPOCHS_RANDOM = 20, 30
# Small data sets get more epochs, enough for about this many steps, up to this many epochs.
STEPS_PRETRAINED, MOST_EPOCHS_PRETRAINED = 400, 60
# Defaults for a pretrained network; docs/recipe.md says what each part is worth.
AUGMENT_PRETRAINED, LABEL_SMOOTHING_PRETRAINED, START_SHARE_PRETRAINED = "medium", 0.1, 0.2
# The share of all steps over which the learning rate rises, and the share over which the kept weights are averaged, so
# that what was solved at the start survives the peak learning rate (docs/recipe.md, "The fall in the first epochs").
WARMUP_PRETRAINED, AVERAGED_SHARE_PRETRAINED = 0.3, 0.25
# Views kept of all images together, and of each image: with 150 images, 32 views instead of 8 gained two points (blood
# cells, sketches), and take as much time and room as 8 views of 600 images.
VIEWS_OF_ALL, FEWEST_VIEWS, MOST_VIEWS = 16_000, 8, 32
SCHEDULES = ("cosine", "one-cycle", "step", "plateau", "constant", "lenet")
CLASS_WEIGHTS = ("none", "balanced")
SAMPLINGS = ("uniform", "balanced")
BATCH_NORMS = ("stored", "batch")
HEADS = (LAST, ALL_STAGES)


@dataclass(frozen=True)
class Recipe:
    """How to train stages. None means the value that suits the optimizer and the start, pretrained or random.

    `learning_rate` is the peak learning rate of the head; each earlier stage has `layer_decay` times that of the next
    one. `weight_decay` does not apply to biases and norms. `accumulate_steps` batches make one step, whose gradient is
    clipped to a norm of `clip_grad_norm`. `patience` is the number of epochs that may pass without improvement.
    `ema_decay` is the decay of a moving average of the weights, which is then scored and kept instead of the weights
    themselves. `dropout` is the fraction of the head's inputs to drop; None keeps the network's own. Balanced
    `sampling` draws images so that every class is equally likely.

    `augment` is the strength of the augmentation. Its flips are wrong for digits and text: None for `flip` means that
    mirror images are tried on the frozen features first (`graft.training.mirroring`). At most `views` of an image are
    kept at the cut, and the epochs cycle through them; the result is the same as without keeping them when nothing is
    augmented, or when there are as many views as epochs. `mixup` and `cutmix` are the alpha with which images, or their
    activations at the cut, are mixed in pairs; 0 turns mixing off. With `find_learning_rate`, a range test chooses the
    learning rate.

    `batch_norm` says which statistics normalise the maps: `stored`, those that came with the weights and that the
    initial head was solved with, or `batch`, those of the images in a batch. The weights that are kept are
    `start_share` of the weights at the start plus the rest of those at the end (WiSE-FT: Wortsman et al. 2022, arXiv
    2109.01903).

    `head` says which of the trained stages the new head sees: the `last`, or all `stages`, which other tools have no
    place for. None means that both are tried on the frozen features first (`graft.training.reach`).
    """

    epochs: int | None = None
    batch_size: int = 32
    learning_rate: float | None = None
    weight_decay: float | None = None
    warmup: float | None = None  # share of all steps; cosine only
    optimizer: str = "adamw"
    schedule: str = "cosine"
    layer_decay: float = 1.0
    label_smoothing: float | None = None
    class_weights: str = "none"
    clip_grad_norm: float | None = None
    accumulate_steps: int = 1
    patience: int | None = None
    ema_decay: float | None = None
    dropout: float | None = None
    sampling: str = "uniform"
    augment: str | None = None
    flip: bool | None = None
    views: int | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    find_learning_rate: bool = False
    batch_norm: str | None = None
    start_share: float | None = None
    head: str | None = None

    def resolve(
        self, pretrained: bool = False, *, parameters: int = RATED_PARAMETERS, images: int | None = None
    ) -> "ResolvedRecipe":
        """Fill in every open setting, for a network of `parameters` and this many training `images`."""
        usual = USUAL[self.optimizer]
        suitable: dict[str, Any] = {
            "epochs": EPOCHS_RANDOM,
            "learning_rate": usual.random_rate,
            "warmup": 0.1,
            "weight_decay": usual.weight_decay,
            "label_smoothing": 0.0,
            "augment": "none",
            "flip": True,
            "batch_norm": "batch",
            "ema_decay": 0.0,
            "start_share": 0.0,
            "views": min(max(FEWEST_VIEWS, VIEWS_OF_ALL // max(1, images or VIEWS_OF_ALL)), MOST_VIEWS),
        }
        if pretrained:
            suitable |= {
                "learning_rate": usual.pretrained_rate * (RATED_PARAMETERS / parameters) ** RATE_EXPONENT,
                "label_smoothing": LABEL_SMOOTHING_PRETRAINED,
                "augment": AUGMENT_PRETRAINED,
                "batch_norm": "stored",
                "warmup": WARMUP_PRETRAINED,
                # Interpolated weights do not match the batch statistics of either end.
                "start_share": 0.0 if self.batch_norm == "batch" else START_SHARE_PRETRAINED,
            }
            images_per_step = self.batch_size * self.accumulate_steps
            steps_per_epoch = math.ceil((images or STEPS_PRETRAINED * images_per_step) / images_per_step)
            enough = math.ceil(STEPS_PRETRAINED / steps_per_epoch)
            suitable["epochs"] = min(max(enough, EPOCHS_PRETRAINED), MOST_EPOCHS_PRETRAINED)
            epochs = suitable["epochs"] if self.epochs is None else self.epochs
            steps = max(epochs * steps_per_epoch, 1)
            suitable["ema_decay"] = max(0.0, 1 - 1 / (AVERAGED_SHARE_PRETRAINED * steps))
        return ResolvedRecipe(
            **{**suitable, **{name: value for name, value in asdict(self).items() if value is not None}}
        )


@dataclass(frozen=True)
class ResolvedRecipe(Recipe):
    """A recipe with every setting filled in, as training requires. Made by `Recipe.resolve`."""

    epochs: int = field(kw_only=True)
    learning_rate: float = field(kw_only=True)
    weight_decay: float = field(kw_only=True)
    warmup: float = field(kw_only=True)
    label_smoothing: float = field(kw_only=True)
    augment: str = field(kw_only=True)
    flip: bool = field(kw_only=True)
    batch_norm: str = field(kw_only=True)
    ema_decay: float = field(kw_only=True)
    start_share: float = field(kw_only=True)
    views: int = field(kw_only=True)

    def augmentation(self) -> Augmentation:
        """Return the augmentation applied to the images of an epoch."""
        strength = STRENGTHS[self.augment]
        return strength if self.flip else replace(strength, flip=0.0)


CHOICES = {
    "optimizer": tuple(USUAL),
    "schedule": SCHEDULES,
    "class_weights": CLASS_WEIGHTS,
    "sampling": SAMPLINGS,
    "augment": tuple(STRENGTHS),
    "batch_norm": BATCH_NORMS,
    "head": HEADS,
}


@dataclass(frozen=True)
class Limits:
    """The range of a numeric setting, from `least` to `most`; `above` and `below` exclude the respective end."""

    least: float
    most: float
    advice: str
    above: bool = False
    below: bool = False
    whole: bool = False

    def allow(self, value: Any) -> bool:
        """Return whether `value` is a number within the limits. Infinity and NaN never are."""
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
    # With more epochs, one run's epoch seeds would overlap another's.
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
    "ema_decay": Limits(0, 1, "0.99 to 0.9999 is usual, 0 turns it off", below=True),
    "views": Limits(1, 100_000, "8 is usual", whole=True),
    "mixup": Limits(0, 100, "0.2 is usual, 0 turns it off"),
    "cutmix": Limits(0, 100, "1 is usual, 0 turns it off"),
    "start_share": Limits(0, 1, "0.2 is usual, 0 keeps the final weights", below=True),
    "dropout": Limits(0, 1, "0.2 to 0.5 is usual", below=True),
}


def check_recipe(recipe: Recipe) -> Recipe:
    """Return `recipe` in Python's own numbers if every setting is valid. Raises InputError naming the option."""
    if not isinstance(recipe, Recipe):
        raise InputError(f"expected a graft.Recipe for the recipe, got {recipe!r}: write Recipe(…)")
    recipe = replace(recipe, **{name: native(value) for name, value in asdict(recipe).items()})
    values = asdict(recipe)
    for name, known in CHOICES.items():
        if values[name] is not None and values[name] not in known:
            raise InputError(
                f"expected {', '.join(known[:-1])} or {known[-1]} for {_option(name)}, got {values[name]!r}"
                f"{did_you_mean(str(values[name]), known)}: choose one of them"
            )
    for name, limits in LIMITS.items():
        if values[name] is not None and not limits.allow(values[name]):
            raise InputError(f"expected {limits} for {_option(name)}, got {values[name]}: {limits.advice}")
    truth(recipe.find_learning_rate, "--find-lr")
    if recipe.flip is not None:
        truth(recipe.flip, "--flip")
    if recipe.find_learning_rate and recipe.learning_rate is not None:
        raise InputError(f"expected --lr or --find-lr, got both (--lr {recipe.learning_rate:g}): leave one of them out")
    return recipe


def _option(name: str) -> str:
    return "--lr" if name == "learning_rate" else "--" + name.replace("_", "-")
