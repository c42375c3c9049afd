"""Early stages against late ones: how fast they learn, and how alike they are in networks trained on different data."""

from __future__ import annotations

from statistics import mean

import numpy as np
import torch
from torch import Tensor, nn

from graft.explanation.similarity import linear_cka
from graft.lab.digits import DIGITS
from graft.lab.drawn_images import LETTERS, letters
from graft.lab.experiment import Conditions, Experiment, Figure, Outcome, Series, over_seeds
from graft.lab.fitting import Steps, fit
from graft.lab.learning import ALPHABET
from graft.lab.networks import lenet
from graft.lab.trained import paired
from graft.models.network import Network
from graft.seeding import seeded

LAYERS = ("c1", "c3", "c5", "f6", "output")


def run_speed(conditions: Conditions) -> Outcome:
    """Train LeNet-5 from a random start: how far each layer moves, and the gradient it gets. T2."""
    seeds = conditions.seeds(4, 10)
    steps = 60 if conditions.quick else 400
    moves: list[list[float]] = []
    norms: list[list[float]] = []
    for number, seed in enumerate(seeds):
        images, labels = letters(ALPHABET, 20, 2 * seed)
        with seeded(seed):
            network = lenet(len(ALPHABET))
        weights = [_weight(network, layer) for layer in LAYERS]
        before = [weight.detach().clone() for weight in weights]
        sums = np.zeros(len(LAYERS))

        def after(step: int, loss: float, network: Network = network, sums: np.ndarray = sums) -> None:
            for place, layer in enumerate(LAYERS):
                gradient = _weight(network, layer).grad
                assert gradient is not None
                sums[place] += float(gradient.norm() / _weight(network, layer).detach().norm())

        fit(network, images, labels, Steps(steps, 0.05, batch=32), seed, after=after)
        moves.append(
            [float((new.detach() - old).norm() / old.norm()) for new, old in zip(weights, before, strict=True)]
        )
        norms.append((sums / steps).tolist())
        conditions.reporter.step("seeds", number + 1, len(seeds))
    first, last = [row[0] for row in moves], [row[-1] for row in moves]
    return Outcome(
        f"In {steps} steps the layers of LeNet-5 move by "
        + ", ".join(f"{layer} {mean(row[i] for row in moves):.2f}" for i, layer in enumerate(LAYERS))
        + " of the length of their weights.",
        (
            over_seeds("relative change of C1 less that of the output layer", paired(first, last), "below"),
            over_seeds(
                "relative change of C3 less that of F6", paired([r[1] for r in moves], [r[3] for r in moves]), "below"
            ),
            over_seeds(
                "relative gradient of C1 less that of the output layer",
                paired([r[0] for r in norms], [r[-1] for r in norms]),
                "below",
            ),
        ),
        Figure(
            "How far each layer of LeNet-5 moves",
            "layer, from the image on",
            "relative to its weights",
            (
                Series("change of the weights", LAYERS, tuple(map(mean, zip(*moves, strict=True)))),
                Series("mean gradient", LAYERS, tuple(map(mean, zip(*norms, strict=True)))),
            ),
        ),
        LETTERS,
    )


def run_alike(conditions: Conditions) -> Outcome:
    """Train networks on digits and on letters: centred kernel alignment of their stages on the same images. T1."""
    seeds = conditions.seeds(4, 10)
    recipe = Steps(80 if conditions.quick else 400, 0.05, batch=32)
    rows: list[list[float]] = []
    for number, seed in enumerate(seeds):
        looked_at = letters(ALPHABET, 20, 2 * seed + 1)[0]
        seen = []
        for turn, alphabet in enumerate((DIGITS, ALPHABET)):
            with seeded(2 * seed + turn):
                network = lenet(len(alphabet))
            fit(network, *letters(alphabet, 20, 2 * seed), recipe, seed)
            seen.append(_stage_means(network, looked_at))
        rows.append([linear_cka(one, other) for one, other in zip(*seen, strict=True)])
        conditions.reporter.step("pairs of networks", number + 1, len(seeds))
    stages = tuple(f"stage{number}" for number in range(1, len(rows[0]) + 1))
    return Outcome(
        "Two networks, one of digits and one of letters, see the same letters alike by "
        + ", ".join(f"{stage} {mean(row[i] for row in rows):.2f}" for i, stage in enumerate(stages))
        + " (linear CKA, 1 is the same).",
        (
            over_seeds("similarity of the first stages", [row[0] for row in rows]),
            over_seeds("similarity of the last stages", [row[-1] for row in rows]),
            over_seeds("first less last", [row[0] - row[-1] for row in rows], "above"),
        ),
        Figure(
            "How alike two networks of different data see",
            "stage",
            "linear CKA",
            (Series("digits against letters", stages, tuple(map(mean, zip(*rows, strict=True)))),),
        ),
        LETTERS,
    )


@torch.no_grad()
def _stage_means(network: Network, images: Tensor) -> list[np.ndarray]:
    network.eval()
    maps = network.feature_maps(images).values()
    return [(y.mean((2, 3)) if y.ndim == 4 else y).double().numpy() for y in maps]


def _weight(network: Network, layer: str) -> nn.Parameter:
    weight = network.get_submodule(layer).weight
    assert isinstance(weight, nn.Parameter)
    return weight


SPEED = Experiment(
    "speed",
    ("T2",),
    "Early layers train slowest and late ones fastest.",
    run_speed,
    seconds=5,
    full_seconds=40,
)
ALIKE = Experiment(
    "alike",
    ("T1",),
    "Early stages are general: networks of different data see more alike with their first stages than with their last.",
    run_alike,
    seconds=8,
    full_seconds=60,
)
