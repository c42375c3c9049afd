"""Deep networks with and without shortcuts: what degrades, and whether vanishing gradients are the cause."""

from __future__ import annotations

import math
from functools import partial
from statistics import mean

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft.lab.drawn_images import LETTERS
from graft.lab.experiment import Conditions, Experiment, Figure, Outcome, Series, over_seeds
from graft.lab.fitting import Steps
from graft.lab.learning import ALPHABET, data
from graft.lab.networks import Joined, cifar_network, without_batch_norm
from graft.lab.trained import Images, loss_lines, paired, train_each
from graft.seeding import seeded

# The paper's CIFAR-10 networks at half their width, on 14 px images: a twentieth of the work.
WIDTHS = (8, 16, 32)
SHALLOW, DEEP = 20, 56


def run_gradients(conditions: Conditions) -> Outcome:
    """Compare the gradient of the first convolution with that of the last, before any step is taken. N12."""
    seeds = conditions.seeds(4, 20)
    ratios: dict[str, list[float]] = {}
    lines: dict[str, list[list[float]]] = {}
    kinds = [(kind, norm) for kind in ("plain", "residual") for norm in (True, False)]
    for number, seed in enumerate(seeds):
        images, labels = halved(seed)[0]
        chosen = torch.arange(0, len(images), len(images) // 16)[:16]
        for kind, norm in kinds:
            name = f"{kind}-{DEEP} {'with' if norm else 'without'} batch norm"
            with seeded(seed):
                network: nn.Module = cifar_network(DEEP, kind == "residual", len(ALPHABET), WIDTHS)
            network = network if norm else without_batch_norm(network)
            norms = _gradients(network.train(), images[chosen], labels[chosen])
            ratios.setdefault(name, []).append(math.log10(max(norms[0], 1e-45) / max(norms[-1], 1e-45)))
            lines.setdefault(name, []).append(norms)
        conditions.reporter.step("gradients", number + 1, len(seeds))
    with_norm, residual = f"plain-{DEEP} with batch norm", f"residual-{DEEP} with batch norm"
    bare = f"plain-{DEEP} without batch norm"
    return Outcome(
        f"At the start the first convolution of plain-{DEEP} with batch norm has 10^{mean(ratios[with_norm]):+.1f} "
        f"times the gradient of the last, without 10^{mean(ratios[bare]):+.1f}: it does not vanish, as the paper says "
        "and the textbook does not.",
        (
            over_seeds("powers of ten from last to first gradient, plain with batch norm", ratios[with_norm], "below"),
            over_seeds("the same, plain without", ratios[bare]),
            over_seeds("the same, residual with batch norm", ratios[residual]),
            over_seeds("the same, residual without", ratios[f"residual-{DEEP} without batch norm"]),
        ),
        Figure(
            "Gradient of each convolution before the first step",
            "convolution, from the image on",
            "norm of the gradient",
            tuple(
                Series(
                    name,
                    tuple(map(float, range(1, len(own[0]) + 1))),
                    tuple(float(torch.tensor(values).mean()) for values in zip(*own, strict=True)),
                )
                for name, own in lines.items()
            ),
            logarithmic=True,
        ),
        LETTERS,
    )


def run_degradation(conditions: Conditions) -> Outcome:
    """Compare twenty and 56 layers, plain and residual, on the images that they were trained on. N12."""
    seeds = conditions.seeds(3, 3)
    steps = 30 if conditions.quick else 400
    networks = {
        f"{kind}-{depth}": partial(cifar_network, depth, kind == "residual", len(ALPHABET), WIDTHS)
        for kind in ("plain", "residual")
        for depth in (SHALLOW, DEEP)
    }
    found = train_each(networks, halved, Steps(steps, 0.05, batch=32), seeds, conditions)
    last = {name: [mean(run.losses[-steps // 3 :]) for run in runs] for name, runs in found.items()}
    plain = paired(last[f"plain-{DEEP}"], last[f"plain-{SHALLOW}"])
    residual = paired(last[f"residual-{DEEP}"], last[f"residual-{SHALLOW}"])
    return Outcome(
        f"Training loss over the last third of {steps} steps: "
        + ", ".join(f"{name} {mean(values):.2f}" for name, values in last.items())
        + ".",
        (
            over_seeds(f"training loss of plain-{DEEP} less that of plain-{SHALLOW}", plain, "above"),
            over_seeds("the same of the residual networks", residual),
            over_seeds("what shortcuts take off that difference", paired(plain, residual), "above"),
        ),
        Figure("Deeper and worse, on the training images", "steps", "training loss", loss_lines(found, 5)),
        LETTERS,
    )


def run_joining(conditions: Conditions) -> Outcome:
    """Compare sixteen blocks whose input is added to their output, concatenated with it, or left out. N13."""
    seeds = conditions.seeds(3, 8)
    steps = 40 if conditions.quick else 300
    networks = {how: partial(Joined, how, 16, 8, len(ALPHABET)) for how in ("nothing", "sum", "concatenation")}
    found = train_each(networks, halved, Steps(steps, 0.05, batch=32), seeds, conditions)
    level = {name: [mean(run.losses[-steps // 3 :]) for run in runs] for name, runs in found.items()}
    return Outcome(
        f"Training loss of sixteen blocks over the last third of {steps} steps: "
        + ", ".join(f"{name} {mean(values):.2f}" for name, values in level.items())
        + ".",
        (
            over_seeds("loss with a sum less that with nothing", paired(level["sum"], level["nothing"]), "below"),
            over_seeds(
                "loss with concatenation less that with nothing",
                paired(level["concatenation"], level["nothing"]),
                "below",
            ),
            over_seeds("loss with concatenation less that with a sum", paired(level["concatenation"], level["sum"])),
        ),
        Figure("What becomes of a block's input", "steps", "training loss", loss_lines(found, 5)),
        LETTERS,
    )


def halved(seed: int) -> tuple[Images, Images]:
    """Return training and test images of letters at 14 px."""
    (images, labels), (others, other_labels) = data(20, 10, seed)
    return (F.avg_pool2d(images, 2), labels), (F.avg_pool2d(others, 2), other_labels)


def _gradients(network: nn.Module, images: Tensor, labels: Tensor) -> list[float]:
    """Return each 3 x 3 convolution's gradient norm relative to the norm of its weights, in order."""
    F.cross_entropy(network(images), labels).backward()
    found = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.grad is not None
            found.append(float(module.weight.grad.norm() / module.weight.detach().norm()))
    return found


GRADIENTS = Experiment(
    "gradients",
    ("N12",),
    "The textbook: a plain network of 56 layers cannot be trained because its gradients vanish.",
    run_gradients,
    seconds=8,
    full_seconds=30,
)
DEGRADATION = Experiment(
    "degradation",
    ("N12",),
    "A plain network of 56 layers is worse on its training images than one of 20; shortcuts remove the difference.",
    run_degradation,
    seconds=20,
    full_seconds=300,
)
JOINING = Experiment(
    "joining",
    ("N13",),
    "A shortcut may concatenate instead of add: both train what a plain chain of blocks does not.",
    run_joining,
    seconds=10,
    full_seconds=120,
)
