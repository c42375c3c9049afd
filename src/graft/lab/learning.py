"""What makes a network learn, and what holds it back: activations, the variance of the start, normalisation."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from statistics import mean

import torch
from torch import nn

from graft.lab.drawn_images import LETTERS, letters
from graft.lab.experiment import Conditions, Experiment, Figure, Measure, Outcome, Series, over_seeds
from graft.lab.fitting import Steps
from graft.lab.lenet import distorted
from graft.lab.networks import lenet, stack
from graft.lab.trained import Images, accuracy_bars, loss_lines, paired, train_each
from graft.models.blocks import LocalResponseNorm
from graft.models.network import Network
from graft.seeding import seeded

# Ten Cyrillic letters, several of which differ by a single stroke.
ALPHABET = tuple("БВЗИЙОШЩЪЬ")
ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "ReLU": nn.ReLU}
RATES = (0.02, 0.1)
SATURATED = 0.1  # of the steepest slope of the activation
DEPTH, UNITS = 20, 256


def data(per_letter: int, test_per_letter: int, seed: int) -> tuple[Images, Images]:
    return letters(ALPHABET, per_letter, 2 * seed), letters(ALPHABET, test_per_letter, 2 * seed + 1)


def run_activations(conditions: Conditions) -> Outcome:
    """Train LeNet-5 with each activation, at the better of two rates for each. N4."""
    seeds = conditions.seeds(3, 8)
    steps = 60 if conditions.quick else 400
    networks = {f"{name} {rate:g}": partial(_started, name) for name in ACTIVATIONS for rate in RATES}
    recipes = {f"{name} {rate:g}": Steps(steps, rate, batch=32, decays=False) for name in ACTIVATIONS for rate in RATES}
    found = train_each(networks, partial(data, 20, 10), recipes, seeds, conditions)
    level = {name: [mean(run.losses) for run in runs] for name, runs in found.items()}
    best = {
        name: min((f"{name} {rate:g}" for rate in RATES), key=lambda each: mean(level[each])) for name in ACTIVATIONS
    }
    shares = {
        name: [_saturated(run.network, name, seed) for run, seed in zip(found[best[name]], seeds, strict=True)]
        for name in ("tanh", "sigmoid")
    }
    measures = (
        over_seeds("loss of tanh less that of sigmoid", paired(level[best["tanh"]], level[best["sigmoid"]]), "below"),
        over_seeds("loss of ReLU less that of tanh", paired(level[best["ReLU"]], level[best["tanh"]]), "below"),
        over_seeds("loss of ReLU less that of sigmoid", paired(level[best["ReLU"]], level[best["sigmoid"]]), "below"),
        over_seeds("saturated units of F6, tanh", shares["tanh"], "above", percent=True),
        over_seeds("saturated units of F6, sigmoid", shares["sigmoid"], percent=True),
    )
    lines = loss_lines({name: found[best[name]] for name in ACTIVATIONS})
    return Outcome(
        f"Mean training loss of LeNet-5 over {steps} steps, each activation at its better rate of {RATES}: "
        + ", ".join(f"{name} {mean(level[best[name]]):.2f}" for name in ACTIVATIONS)
        + f". At the end {mean(shares['tanh']):.0%} of the answers of F6 are where tanh has less than a tenth of its "
        "slope.",
        measures,
        Figure("LeNet-5 with three activations", "steps", "training loss", lines),
        LETTERS,
    )


def _saturated(network: nn.Module, activation: str, seed: int) -> float:
    """Return the share of F6's outputs where the activation's slope is below a tenth of its steepest."""
    assert isinstance(network, Network)
    with torch.no_grad():
        y = network.feature_maps(data(20, 10, seed)[0][0])["stage4"]
    slope = y * (1 - y) * 4 if activation == "sigmoid" else 1 - y.square()
    return float((slope < SATURATED).float().mean())


def _started(activation: str) -> nn.Module:
    """Build LeNet-5 with initial weights of the variance that suits the activation: He's for ReLU, else Glorot's."""
    network = lenet(len(ALPHABET), ACTIVATIONS[activation])
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if activation == "ReLU":
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            else:
                nn.init.xavier_normal_(module.weight)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    return network


def run_variance(conditions: Conditions) -> Outcome:
    """Measure activations after twenty dense layers, by the variance of the initial weights. N4."""
    starts = {
        "0.01, tanh": (0.01, torch.tanh),
        "0.1, tanh": (0.1, torch.tanh),
        "Glorot, tanh": (math.sqrt(1 / UNITS), torch.tanh),
        "Glorot, ReLU": (math.sqrt(1 / UNITS), torch.relu),
        "He, ReLU": (math.sqrt(2 / UNITS), torch.relu),
    }
    seeds = conditions.seeds(5, 20)
    sizes: dict[str, list[list[float]]] = {name: [] for name in starts}
    for seed in seeds:
        for name, (deviation, activation) in starts.items():
            with seeded(seed):
                x, own = torch.randn(64, UNITS), []
                for _ in range(DEPTH):
                    x = activation(x @ (torch.randn(UNITS, UNITS) * deviation))
                    own.append(float(x.square().mean().sqrt()))
            sizes[name].append(own)
    change = {name: [math.log10(own[-1] / own[0]) for own in each] for name, each in sizes.items()}
    measures = (
        over_seeds("powers of ten lost in 20 layers, 0.01 and tanh", [-v for v in change["0.01, tanh"]], "above", 3),
        over_seeds("the same, Glorot and tanh", [-v for v in change["Glorot, tanh"]], "below", 1),
        over_seeds("the same, Glorot and ReLU", [-v for v in change["Glorot, ReLU"]], "above", 1),
        over_seeds("the same, He and ReLU", [abs(v) for v in change["He, ReLU"]], "below", 1),
    )
    return Outcome(
        f"With weights of deviation 0.01 activations are 10^{-measures[0].value:.0f} of what they were after {DEPTH} "
        f"layers of {UNITS} units; with Glorot's variance 1 / n those of tanh and with He's 2 / n those of ReLU keep "
        "their size.",
        measures,
        Figure(
            "Size of the activations by layer",
            "layer",
            "root mean square",
            tuple(
                Series(
                    name,
                    tuple(map(float, range(1, DEPTH + 1))),
                    tuple(float(torch.tensor(values).mean()) for values in zip(*each, strict=True)),
                )
                for name, each in sizes.items()
            ),
            logarithmic=True,
        ),
        "normal random vectors",
    )


def run_normalisation(conditions: Conditions) -> Outcome:
    """Train the same small network with local response norm, with batch norm, and without either. N18."""
    seeds = conditions.seeds(3, 8)
    steps = 60 if conditions.quick else 300
    widths = (8, 8, 16, 16)
    networks = {
        name: partial(stack, widths, len(ALPHABET), norm=norm, pool_every=2, stride=2)
        for name, norm in (
            ("none", lambda channels: nn.Identity()),
            ("local response norm", lambda channels: LocalResponseNorm()),
            ("batch norm", nn.BatchNorm2d),
        )
    }
    found = train_each(networks, partial(data, 20, 10), Steps(steps, 0.05, batch=32), seeds, conditions)
    level = {name: [mean(run.losses) for run in runs] for name, runs in found.items()}
    test = {name: [run.test for run in runs] for name, runs in found.items()}
    lrn, batch = "local response norm", "batch norm"
    return Outcome(
        f"Four convolutions reach a mean training loss over {steps} steps of {mean(level['none']):.2f} without "
        f"normalisation, {mean(level[lrn]):.2f} with local response norm and {mean(level[batch]):.2f} with batch norm.",
        (
            over_seeds("loss with batch norm less that with LRN", paired(level[batch], level[lrn]), "below"),
            over_seeds("loss with LRN less that without", paired(level[lrn], level["none"])),
            over_seeds(
                "test accuracy with batch norm less that with LRN", paired(test[batch], test[lrn]), percent=True
            ),
        ),
        Figure("Local response norm and batch norm", "steps", "training loss", loss_lines(found)),
        LETTERS,
    )


def run_overfitting(conditions: Conditions) -> Outcome:
    """Train on few images, and measure what narrows the gap between training and test images. N18."""
    seeds = conditions.seeds(3, 8)
    steps = 80 if conditions.quick else 600
    plain = Steps(steps, 0.002, batch=32, optimizer="adam")
    kinds = {
        "nothing": (partial(_with_dropout, 0.0), plain),
        "dropout": (partial(_with_dropout, 0.5), plain),
        "weight decay": (
            partial(_with_dropout, 0.0),
            replace(plain, weight_decay=0.5),
        ),
        "augmentation": (partial(_with_dropout, 0.0), plain),
    }
    found = train_each(
        {name: build for name, (build, _) in kinds.items()},
        partial(data, 6, 20),
        {name: recipe for name, (_, recipe) in kinds.items()},
        seeds,
        conditions,
        {"augmentation": distorted},
    )
    gap = {name: [run.train - run.test for run in runs] for name, runs in found.items()}
    slow = {name: [mean(run.losses[: steps // 4]) for run in runs] for name, runs in found.items()}
    measures: tuple[Measure, ...] = tuple(
        over_seeds(f"gap with {name} less that without", paired(gap[name], gap["nothing"]), "below", percent=True)
        for name in ("dropout", "weight decay", "augmentation")
    )
    return Outcome(
        "From 6 images of each letter training and test accuracy differ by "
        + ", ".join(
            f"{mean(gap[name]):.1%} with {name}" if name != "nothing" else f"{mean(gap[name]):.1%}" for name in kinds
        )
        + ".",
        (
            *measures,
            over_seeds("early loss with dropout less that without", paired(slow["dropout"], slow["nothing"]), "above"),
        ),
        Figure("Sixty images to learn from", "", "accuracy, %", accuracy_bars(found)),
        LETTERS,
    )


def _with_dropout(share: float) -> nn.Module:
    """Build LeNet-5 with ReLU and dropout of this share of F6's outputs."""
    network = lenet(len(ALPHABET), nn.ReLU)
    network.attach("f6_out", nn.Sequential(nn.ReLU(), nn.Dropout(share)))
    return network


ACTIVATION = Experiment(
    "activations",
    ("N4",),
    "tanh learns faster than sigmoid and ReLU faster than both; sigmoid and tanh saturate.",
    run_activations,
    seconds=18,
    full_seconds=120,
)
VARIANCE = Experiment(
    "variance",
    ("N4",),
    "The variance of the first weights decides whether a signal passes twenty layers: 1 / n for tanh, 2 / n for ReLU.",
    run_variance,
    seconds=2,
    full_seconds=4,
)
NORMALISATION = Experiment(
    "normalisation",
    ("N5", "N18"),
    "Batch norm learns faster than the local response normalisation that it replaced.",
    run_normalisation,
    seconds=12,
    full_seconds=80,
)
OVERFITTING = Experiment(
    "overfitting",
    ("N18",),
    "Dropout, weight decay and augmentation narrow the gap between training and test images; dropout learns slower.",
    run_overfitting,
    seconds=18,
    full_seconds=100,
)
