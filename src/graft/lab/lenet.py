"""LeNet-5 on digits, as in 1998 and as today.

LeCun, Bottou, Bengio and Haffner 1998, "Gradient-Based Learning Applied to Document Recognition". Section III-B gives
the rates: 0.0005 for two passes, 0.0002 for three, 0.0001 for three, 0.00005 for four, then 0.00001, twenty in all.
Appendix C divides the rate of each weight by its second derivative, estimated anew before each pass, plus 0.02. The
textbook's table leaves 0.0001 out: its nine passes are followed by eleven at 0.00001. This file follows that table.
Differs from the paper: weights start within 1 / sqrt(fan-in), torch's default, because from the paper's 2.4 / fan-in a
thousand images lead nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft.lab.digits import BACKGROUND, Digits, drawn_digits, mnist
from graft.lab.experiment import Conditions, Experiment, Figure, Outcome, Series, Side, over_seeds
from graft.lab.fitting import accuracy
from graft.models import catalog
from graft.models.network import Network
from graft.seeding import seeded

# The textbook's table: the rate, and how many passes it lasts.
RATES_1998 = ((0.0005, 2), (0.0002, 3), (0.00005, 4), (0.00001, 11))
DAMPING, ESTIMATED_ON = 0.02, 500
# The paper steps after each image. Here this many gradients are summed at the first rate, where summing 40 diverges; at
# smaller rates, more are summed so that a step is as long.
TOGETHER = 10
EPOCHS = 20
EPOCHS_TODAY, BATCH, BATCH_OF_FEW, LEARNING_RATE, WEIGHT_DECAY = 5, 128, 32, 0.005, 0.01
FEW = 10_000
Learn = Callable[[Digits, int, list[float], int, Callable[[], None]], None]


def learn_1998(digits: Digits, seed: int, curve: list[float], epochs: int, told: Callable[[], None]) -> None:
    """Train by the 1998 recipe; after every epoch `curve` gets the test accuracy, and `told` is called."""
    with seeded(seed):
        network = catalog.build(catalog.default_config("lenet5"))
        rates = [rate for rate, count in RATES_1998 for _ in range(count)][:epochs]
        for rate in rates:
            own_rates = [rate / (DAMPING + each) for each in _second_derivatives(network, digits.train)]
            network.train()
            together = round(TOGETHER * RATES_1998[0][0] / rate)
            for rows in torch.randperm(len(digits.train)).split(together):
                network.zero_grad()
                F.cross_entropy(network(digits.train[rows]), digits.train_labels[rows], reduction="sum").backward()
                with torch.no_grad():
                    for parameter, own in zip(network.parameters(), own_rates, strict=True):
                        assert parameter.grad is not None
                        parameter.addcmul_(parameter.grad, own, value=-1)
            curve.append(accuracy(network, digits.test, digits.test_labels))
            told()


def learn_today(digits: Digits, seed: int, curve: list[float], epochs: int, told: Callable[[], None]) -> None:
    """Train by a recipe of today: ReLU, max pooling, batch norm, distorted images, AdamW, one cycle."""
    with seeded(seed):
        network = modern()
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
        batch = BATCH_OF_FEW if len(digits.train) < FEW else BATCH
        steps = epochs * math.ceil(len(digits.train) / batch)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
        for _ in range(epochs):
            network.train()
            for rows in torch.randperm(len(digits.train)).split(batch):
                optimizer.zero_grad()
                F.cross_entropy(network(distorted(digits.train[rows])), digits.train_labels[rows]).backward()
                optimizer.step()
                cycle.step()
            curve.append(accuracy(network, digits.test, digits.test_labels))
            told()


def modern() -> Network:
    """Build LeNet-5 with the layers of today between its own: batch norm, ReLU, max pooling."""
    network = catalog.build(catalog.default_config("lenet5"))
    for part, channels in (("c1_out", 6), ("c3_out", 16)):
        network.attach(part, nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU()))
    network.attach("s2", nn.MaxPool2d(2))
    network.attach("s4", nn.MaxPool2d(2))
    network.attach("c5_out", nn.Sequential(nn.BatchNorm2d(120), nn.ReLU(), nn.Flatten()))
    network.attach("f6_out", nn.ReLU())
    return network


def distorted(images: Tensor) -> Tensor:
    """Rotate images (N, 1, H, W) by up to 12 degrees, shear by 0.15, scale by 12 % and shift by 2 px."""
    amount = torch.rand(5, len(images)) * 2 - 1
    angle, shear, scale = amount[0] * math.radians(12), amount[1] * 0.15, 1 + amount[2] * 0.12
    right, down = amount[3:] * (2 * 2 / images.shape[-1])
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = torch.stack(
        [torch.stack([cosine, shear - sine, right], 1), torch.stack([sine, cosine, down], 1)], 1
    )  # (N, 2, 3)
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    # Whatever moves in from outside is background.
    return F.grid_sample(images - BACKGROUND, grid, align_corners=False) + BACKGROUND


def run_1998(conditions: Conditions) -> Outcome:
    return _run(conditions, "as in 1998", learn_1998, EPOCHS, 0.985)


def run_today(conditions: Conditions) -> Outcome:
    return _run(conditions, "with a recipe of today", learn_today, EPOCHS_TODAY, 0.992)


def _run(conditions: Conditions, how: str, learn: Learn, epochs: int, expected: float) -> Outcome:
    """Train with several seeds; the expected accuracy applies only to the whole of MNIST."""
    seeds = conditions.seeds(2, 3)
    curves: list[list[float]] = []
    for number, seed in enumerate(seeds):
        if conditions.data is None:
            digits = drawn_digits(100 if conditions.quick else 1000, 50 if conditions.quick else 200, seed)
        else:
            digits = _first(mnist(conditions.data), 1000 if conditions.quick else 60_000)
        curves.append([])

        def told(number: int = number) -> None:
            conditions.reporter.step("LeNet-5", number * epochs + len(curves[-1]), len(seeds) * epochs)

        learn(digits, seed, curves[-1], epochs, told)
    whole = conditions.data is not None and not conditions.quick
    ends = [curve[-1] for curve in curves]
    # Other digits, or fewer, do not test a claim about MNIST.
    side: tuple[Side | None, float] = ("above", expected) if whole else (None, 0.0)
    measure = over_seeds("test accuracy", ends, *side, percent=True)
    lines = tuple(
        Series(f"seed {seed}", tuple(map(float, range(1, epochs + 1))), tuple(100 * (1 - value) for value in curve))
        for seed, curve in zip(seeds, curves, strict=True)
    )
    return Outcome(
        f"LeNet-5 names {measure.shown()} of the test digits after {epochs} epochs {how}, over {len(seeds)} seeds.",
        (measure,),
        Figure(f"LeNet-5 {how}", "epochs", "test error, %", lines, logarithmic=True),
        digits.source,
    )


def _first(digits: Digits, count: int) -> Digits:
    return Digits(digits.train[:count], digits.train_labels[:count], digits.test, digits.test_labels, digits.source)


def _second_derivatives(network: Network, images: Tensor) -> list[Tensor]:
    """Estimate the diagonal of the Gauss-Newton matrix, averaged over some images: one tensor per parameter.

    It is the expectation of the squared gradient of the loss at a class drawn from the network's own output.
    """
    from torch.func import functional_call, grad, vmap

    network.eval()
    parameters = {name: parameter.detach() for name, parameter in network.named_parameters()}
    chosen = images[torch.randperm(len(images))[: min(ESTIMATED_ON, len(images) // 5)]]
    with torch.no_grad():
        drawn = torch.multinomial(network(chosen).softmax(1), 1).squeeze(1)

    def loss(own: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(network, own, (image[None],))
        return F.cross_entropy(logits, label[None])

    sums = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for part, labels in zip(chosen.split(100), drawn.split(100), strict=True):
        for name, gradients in vmap(grad(loss), (None, 0, 0))(parameters, part, labels).items():
            sums[name] += gradients.square().sum(0)
    return [sums[name] / len(chosen) for name in parameters]


LENET_1998 = Experiment(
    "lenet-1998",
    ("N2", "N3"),
    "LeNet-5 learns MNIST to 98.5 % with tanh, average pooling and the published rates, in twenty epochs.",
    run_1998,
    seconds=10,
    full_seconds=2400,
    data="a folder of MNIST's IDX files",
)
LENET_TODAY = Experiment(
    "lenet-today",
    ("N2", "N18"),
    "With a recipe of today the layers of LeNet-5 learn MNIST to 99.2 %, in five epochs.",
    run_today,
    seconds=10,
    full_seconds=1200,
    data="a folder of MNIST's IDX files",
)
