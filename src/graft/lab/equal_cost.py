"""What learns more for equal work: small or large kernels, reduced or whole branches, separable or full convolutions.

Each saves weights and multiply-adds at the same width (`graft.lab.arithmetic`), and the savings buy width. Simonyan and
Zisserman 2014 (arXiv 1409.1556, section 2.3), Szegedy et al. 2014 (arXiv 1409.4842, section 4) and Howard et al. 2017
(arXiv 1704.04861, table 4) make this argument for VGG, GoogLeNet and MobileNet. Here, networks of three small stages
learn letters, with widths that equalise their multiply-adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import mean

import torch
from torch import Tensor, nn

from graft.accounting.counting import account
from graft.lab.drawn_images import LETTERS, SIDE, letters
from graft.lab.experiment import Conditions, Experiment, Figure, Measure, Outcome, exactly, over_seeds
from graft.lab.fitting import Steps
from graft.lab.learning import ALPHABET
from graft.lab.networks import stack
from graft.lab.trained import Images, accuracy_bars, paired, train_each

# Letters per class: to learn from, and to test on.
PER_LETTER, TEST_PER_LETTER = 40, 40
# Integer widths cannot equalise the work exactly: the ratio of the most to the least is below this.
ALIKE = 1.1
# Keyed by whether the form is quick.
RECIPE = {True: Steps(100, 0.05, batch=32), False: Steps(800, 0.05, batch=32)}
# Every other pixel is used, which suffices for letters and takes a quarter of the work.
STRIDE = 2

Build = Callable[[], nn.Module]


def data(seed: int) -> tuple[Images, Images]:
    return letters(ALPHABET, PER_LETTER, 2 * seed), letters(ALPHABET, TEST_PER_LETTER, 2 * seed + 1)


def multiply_adds(build: Build) -> int:
    """Return the multiply-adds for one image."""
    with torch.device("meta"):
        return account(build(), (1, SIDE, SIDE)).macs


def of_kernels(side: int, count: int, width: int) -> nn.Module:
    """Build two stages of `count` convolutions of `side` x `side` each, the second stage twice as wide as the first."""

    def convolution(inputs: int, outputs: int) -> nn.Module:
        return nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=False)

    widths = (width,) * count + (2 * width,) * count
    return stack(widths, len(ALPHABET), convolution=convolution, norm=nn.BatchNorm2d, pool_every=count, stride=STRIDE)


def of_separable(separable: bool, width: int) -> nn.Module:
    """Build three stages of one 3 x 3 convolution each, full or split into a depthwise and a pointwise one."""

    def convolution(inputs: int, outputs: int) -> nn.Module:
        # A one-channel image leaves nothing to split.
        if not separable or inputs == 1:
            return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        return nn.Sequential(depthwise, nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False))

    widths = (width, 2 * width, 4 * width)
    return stack(widths, len(ALPHABET), convolution=convolution, norm=nn.BatchNorm2d, stride=STRIDE)


class Inception(nn.Module):
    """Branches of 1 x 1, 3 x 3, 5 x 5 and a pool, side by side (Szegedy et al. 2014, figure 2).

    (N, inputs, H, W) to (N, C, H, W). `widths` are the channels of the four branches. Where `reduced`, 1 x 1
    convolutions to half of a branch's channels precede 3 x 3 and 5 x 5, and one follows the pool, which otherwise
    passes on all channels.
    """

    def __init__(self, inputs: int, widths: tuple[int, int, int, int], reduced: bool) -> None:
        super().__init__()
        one, three, five, pool = widths
        self.channels = one + three + five + (pool if reduced else inputs)
        pooled = nn.MaxPool2d(3, stride=1, padding=1)
        self.branches = nn.ModuleList(
            [
                nn.Conv2d(inputs, one, 1, bias=False),
                _spatial(inputs, three, 3, three // 2 if reduced else None),
                _spatial(inputs, five, 5, five // 2 if reduced else None),
                nn.Sequential(pooled, nn.Conv2d(inputs, pool, 1, bias=False)) if reduced else pooled,
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def _spatial(inputs: int, outputs: int, side: int, reduced: int | None) -> nn.Module:
    if reduced is None:
        return nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=False)
    return nn.Sequential(
        nn.Conv2d(inputs, reduced, 1, bias=False),
        nn.BatchNorm2d(reduced),
        nn.ReLU(),
        nn.Conv2d(reduced, outputs, side, padding=side // 2, bias=False),
    )


def of_inception(reduced: bool, width: int) -> nn.Module:
    """Build a stem of `width` maps and two inception modules, with 3 x 3 branches twice as wide, and a pool between."""
    widths = (width, 2 * width, width, width)
    first = Inception(width, widths, reduced)
    second = Inception(first.channels, widths, reduced)
    network = nn.Sequential(
        nn.AvgPool2d(STRIDE),
        nn.Conv2d(1, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        first,
        nn.BatchNorm2d(first.channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
        second,
        nn.BatchNorm2d(second.channels),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(second.channels, len(ALPHABET)),
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network


@dataclass(frozen=True)
class Pair:
    """Two networks of equal work, by name; `better` is the one expected to learn more."""

    better: str
    other: str


ONE_5, TWO_3, ONE_7, THREE_3 = "one 5 × 5", "two 3 × 3", "one 7 × 7", "three 3 × 3"
KERNEL_NETWORKS: dict[str, Build] = {
    ONE_5: lambda: of_kernels(5, 1, 15),
    TWO_3: lambda: of_kernels(3, 2, 12),
    ONE_7: lambda: of_kernels(7, 1, 12),
    THREE_3: lambda: of_kernels(3, 3, 10),
}
WHOLE, REDUCED = "naive modules", "reduced modules"
INCEPTION_NETWORKS: dict[str, Build] = {
    WHOLE: lambda: of_inception(False, 6),
    REDUCED: lambda: of_inception(True, 9),
}
FULL, PARTED = "full convolutions", "separable ones"
SEPARABLE_NETWORKS: dict[str, Build] = {
    FULL: lambda: of_separable(False, 12),
    PARTED: lambda: of_separable(True, 31),
}


def _compared(networks: Mapping[str, Build], pairs: tuple[Pair, ...], title: str, conditions: Conditions) -> Outcome:
    """Train every network for equally many steps and compare the accuracy on other letters within each pair."""
    recipe, seeds = RECIPE[conditions.quick], conditions.seeds(5, 10)
    macs = {name: multiply_adds(build) for name, build in networks.items()}
    found = train_each(networks, data, recipe, seeds, conditions)
    test = {name: [run.test for run in runs] for name, runs in found.items()}
    measures: list[Measure] = []
    for pair in pairs:
        name = f"test accuracy of {pair.better} less {pair.other}"
        measures.append(over_seeds(name, paired(test[pair.better], test[pair.other]), "above", percent=True))
        works = (macs[pair.better], macs[pair.other])
        measures.append(
            exactly(f"multiply-adds of {pair.better} and {pair.other}, the more over the less", max(works) / min(works))
        )
    told = ", ".join(f"{name} ({macs[name] / 1e6:.2f} million) {mean(test[name]):.1%}" for name in networks)
    return Outcome(
        f"Accuracy on other letters after {recipe.steps} steps, by what the multiply-adds are spent on: {told}.",
        tuple(measures),
        Figure(title, "", "accuracy, %", accuracy_bars(found)),
        LETTERS,
    )


def run_kernels(conditions: Conditions) -> Outcome:
    """Compare stacks of 3 x 3 with single larger kernels. N7."""
    pairs = (Pair(TWO_3, ONE_5), Pair(THREE_3, ONE_7))
    return _compared(KERNEL_NETWORKS, pairs, "The same work in small and in large kernels", conditions)


def run_reduction(conditions: Conditions) -> Outcome:
    """Compare inception modules with and without 1 x 1 reductions. N9."""
    return _compared(
        INCEPTION_NETWORKS, (Pair(REDUCED, WHOLE),), "The same work in inception modules of two kinds", conditions
    )


def run_separation(conditions: Conditions) -> Outcome:
    """Compare depthwise separable convolutions with full ones. N15."""
    return _compared(
        SEPARABLE_NETWORKS, (Pair(PARTED, FULL),), "The same work in full and in separable convolutions", conditions
    )


KERNELS = Experiment(
    "kernels",
    ("N7",),
    "For the same work, stacks of 3 × 3 convolutions learn more than single ones of 5 × 5 or 7 × 7.",
    run_kernels,
    seconds=40,
    full_seconds=700,
)
REDUCTION = Experiment(
    "reduction",
    ("N9",),
    "For the same work, inception modules with 1 × 1 reductions learn more than naive ones.",
    run_reduction,
    seconds=50,
    full_seconds=900,
)
SEPARATION = Experiment(
    "separation",
    ("N15",),
    "For the same work, depthwise separable convolutions learn more than full ones.",
    run_separation,
    seconds=12,
    full_seconds=200,
)
