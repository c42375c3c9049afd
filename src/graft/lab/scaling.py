"""Four times the work of a small network, spent on depth, width, larger images, or all three by one rule.

Tan and Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", arXiv 1905.11946, compare
B0 at four times its multiply-adds: four times as deep; twice as wide; on images of twice the side; or scaled 1.4, 1.2
and 1.3 times along the three. Here the CIFAR experiments' residual networks learn letters, with the nearest integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft.accounting.counting import account
from graft.lab.drawn_images import LETTERS, letters
from graft.lab.experiment import Conditions, Experiment, Figure, Outcome, exactly, over_seeds
from graft.lab.fitting import Steps
from graft.lab.learning import ALPHABET
from graft.lab.networks import cifar_network
from graft.lab.trained import Images, accuracy_bars, paired, train_each

# Letters per class: to learn from, and to test on.
PER_LETTER, TEST_PER_LETTER = 40, 40


@dataclass(frozen=True)
class Size:
    """Residual blocks in each of three stages, maps in the first stage, and the side of the images in px."""

    blocks: int
    width: int
    side: int

    def build(self) -> nn.Module:
        """Build a network from images (N, 1, 28, 28), resized to this side, to logits (N, 10)."""
        return nn.Sequential(Resized(self.side), self.network())

    def network(self) -> nn.Module:
        widths = (self.width, 2 * self.width, 4 * self.width)
        return cifar_network(6 * self.blocks + 2, True, len(ALPHABET), widths)

    def macs(self) -> int:
        """Multiply-adds for one image."""
        with torch.device("meta"):
            return account(self.network(), (1, self.side, self.side)).macs


class Resized(nn.Module):
    """Resize images (N, C, H, W) to another side, each pixel the mean of what it covers."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, self.side, mode="bilinear", antialias=True)


BASE, COMPOUND = "small network", "all three"
ALONE = ("depth", "width", "resolution")
SIZES = {
    BASE: Size(2, 4, 14),
    "depth": Size(7, 4, 14),
    "width": Size(2, 8, 14),
    "resolution": Size(2, 4, 28),
    COMPOUND: Size(3, 5, 17),
}
# Integers cannot equalise the work exactly: the ratio of the most to the least of the four is below this.
ALIKE = 1.1
# Keyed by whether the form is quick.
RECIPE = {True: Steps(120, 0.05, batch=32), False: Steps(800, 0.05, batch=32)}


def data(seed: int) -> tuple[Images, Images]:
    return letters(ALPHABET, PER_LETTER, 2 * seed), letters(ALPHABET, TEST_PER_LETTER, 2 * seed + 1)


def run_scaling(conditions: Conditions) -> Outcome:
    """Train every size for equally many steps and compare the accuracy on other letters. N16."""
    seeds = conditions.seeds(5, 8)
    recipe = RECIPE[conditions.quick]
    macs = {name: size.macs() for name, size in SIZES.items()}
    found = train_each({name: size.build for name, size in SIZES.items()}, data, recipe, seeds, conditions)
    test = {name: [run.test for run in runs] for name, runs in found.items()}
    grown = [macs[name] for name in (*ALONE, COMPOUND)]
    return Outcome(
        f"After {recipe.steps} steps the small network names {mean(test[BASE]):.1%} of the test letters; with "
        f"{min(grown) / macs[BASE]:.1f} to {max(grown) / macs[BASE]:.1f} times its multiply-adds, spent on "
        + ", on ".join(f"{name} {mean(test[name]):.1%}" for name in (*ALONE, COMPOUND))
        + ".",
        (
            *(
                over_seeds(
                    f"test accuracy with all three less {name} alone",
                    paired(test[COMPOUND], test[name]),
                    "above",
                    percent=True,
                )
                for name in ALONE
            ),
            exactly("multiply-adds, the most of the four over the least", max(grown) / min(grown), "below", ALIKE),
        ),
        Figure("The same work, spent on one dimension or on all three", "", "accuracy, %", accuracy_bars(found)),
        LETTERS,
    )


SCALING = Experiment(
    "scaling",
    ("N16",),
    "A network that grows in depth, width and resolution together does more with its work than one that grows in one.",
    run_scaling,
    seconds=90,
    full_seconds=900,
)
