"""AlexNet on two devices, as it was trained in 2012: each has half of the maps, and they exchange them in a few layers.

Krizhevsky, Sutskever and Hinton 2012, section 3.2, "Training on multiple GPUs": conv2, conv4 and conv5 see the maps of
their own device, hence their two groups; conv3 and the dense layers see the maps of both. Differs from the paper:
response normalization reaches across the border between the devices, as in graft's `alexnet_2012`, so each lends the
other two maps; in the paper it ends at the border. Here the devices are two processes that exchange tensors over gloo;
`recipes/alexnet_two_towers.py` has the same for two GPUs.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from graft.errors import GraftError
from graft.lab.experiment import Conditions, Experiment, Figure, Outcome, Series, exactly
from graft.lab.fitting import one_thread
from graft.models import catalog
from graft.models.network import Config
from graft.seeding import seeded

TOWERS = 2
CLASSES, SIDE = 10, 227
LENT = 2  # maps on either side of its own that response normalization sums over
# Standard deviation of the images: with 1, response normalization would hardly change anything.
BRIGHT = 10
LEARNING_RATE = 1e-5
# The most that a logit or gradient may differ by, as a share of its tensor's largest: sums run in another order.
TOLERANCE = 1e-5
PATIENCE = timedelta(minutes=5)


@dataclass(frozen=True)
class Compared:
    """How far a tower is from its half of the grouped network, and what it holds and sends.

    `apart` has the largest difference of the logits, and of each layer's gradients, as a share of the tensor's largest
    value. `share` is the share of weights held. `sent` has the bytes sent per image, by the layer before which they
    cross.
    """

    apart: dict[str, float]
    share: float
    sent: dict[str, float]


class Meeting(torch.autograd.Function):
    """Concatenate the maps of both towers; backwards, each tower gets both towers' gradients for its own maps."""

    @staticmethod
    def forward(context: Any, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own) for _ in range(TOWERS)]
        distributed.all_gather(parts, own.contiguous())
        return torch.cat(parts, 1)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        whole = gradient.contiguous().clone()
        distributed.all_reduce(whole)
        return half(whole)


def half(whole: Tensor, dim: int = 1) -> Tensor:
    """Return this tower's half of a tensor's channels, or of a layer's outputs."""
    return whole.chunk(TOWERS, dim)[distributed.get_rank()]


class Tower(nn.Module):
    """Half of an `alexnet_2012`: images (N, 3, 227, 227) to the logits (N, classes) of both halves.

    `sent` has the bytes that the last pass sent forwards, by the layer before which they cross. Dropout is left out.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.norm = network.get_submodule("conv1_out.1")
        self.weights = nn.ParameterDict()
        self.sent: dict[str, int] = {}
        for name, layer in weighted(network).items():
            for kind in ("weight", "bias"):
                self.weights[f"{name}_{kind}"] = half(getattr(layer, kind).detach(), 0).clone()

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self._normalized("norm1", self._convolved("conv1", x, stride=4)), 3, 2)
        x = F.max_pool2d(self._normalized("norm2", self._convolved("conv2", x, padding=2)), 3, 2)
        x = self._convolved("conv3", self._met("conv3", x), padding=1)
        x = self._convolved("conv4", x, padding=1)
        x = F.max_pool2d(self._convolved("conv5", x, padding=1), 3, 2)
        x = self._dense("fc6", self._met("fc6", x).flatten(1)).relu()
        x = self._dense("fc7", self._met("fc7", x)).relu()
        return self._met("logits", self._dense("fc8", self._met("fc8", x)))

    def _met(self, before: str, own: Tensor) -> Tensor:
        self.sent[before] = own.numel() * own.element_size()
        met: Tensor = Meeting.apply(own)
        return met

    def _convolved(self, name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        return F.conv2d(x, self.weights[f"{name}_weight"], self.weights[f"{name}_bias"], stride, padding).relu()

    def _dense(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}_weight"], self.weights[f"{name}_bias"])

    def _normalized(self, name: str, x: Tensor) -> Tensor:
        """Normalize as one network would: maps at the border see those that the other tower lends."""
        first = distributed.get_rank() == 0
        # Both ends are sent because both towers must send equally much; each uses the end next to it.
        ends = self._met(name, torch.cat([x[:, :LENT], x[:, -LENT:]], 1))
        lent = ends[:, 2 * LENT : 3 * LENT] if first else ends[:, LENT : 2 * LENT]
        known: Tensor = self.norm(torch.cat([x, lent] if first else [lent, x], 1))
        return known[:, : x.shape[1]] if first else known[:, LENT:]


def weighted(network: nn.Module) -> dict[str, nn.Module]:
    """Return a network's convolutions and dense layers by name."""
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}


def compare(images: int, steps: int, seed: int, device: str = "cpu") -> Compared:
    """Train a grouped network and this process's tower side by side, in an existing group of two processes.

    Both take `steps` steps on the same `images`; the grouped network runs on the CPU, the tower on `device`.
    """
    with seeded(seed):
        network = catalog.build(Config("alexnet_2012", classes=CLASSES)).eval()
        x, y = BRIGHT * torch.randn(images, 3, SIDE, SIDE), torch.arange(images) % CLASSES
    tower = Tower(network).to(device)
    ways = [torch.optim.SGD(each.parameters(), LEARNING_RATE, momentum=0.9) for each in (network, tower)]
    apart: dict[str, float] = {}
    for _ in range(steps):
        for way in ways:
            way.zero_grad()
        whole = network(x)
        F.cross_entropy(whole, y).backward()
        halves = tower(x.to(device))
        # Both towers compute the same loss, and each counts for its half.
        (F.cross_entropy(halves, y.to(device)) / TOWERS).backward()
        pairs = [("logits", halves, whole)]
        for name, layer in weighted(network).items():
            for kind in ("weight", "bias"):
                pairs.append((name, tower.weights[f"{name}_{kind}"].grad, half(getattr(layer, kind).grad, 0)))
        for name, own, grouped in pairs:
            apart[name] = max(apart.get(name, 0.0), _apart(own, grouped))
        for way in ways:
            way.step()
    own, all_of_them = (sum(each.numel() for each in one.parameters()) for one in (tower, network))
    return Compared(apart, own / all_of_them, {name: count / images for name, count in tower.sent.items()})


def both_towers(images: int, steps: int, seed: int) -> list[Compared]:
    """Run `compare` in two processes on this machine. Raises GraftError if one of them dies."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(TOWERS, spawn) as pool:
        try:
            return list(pool.map(partial(member, f"{folder}/store", images, steps, seed), range(TOWERS)))
        except BrokenProcessPool:
            raise GraftError(
                "expected two processes to hold a tower each, got one that died: each needs about 2 GiB of memory, so "
                "free some and run it again"
            ) from None


def member(store: str, images: int, steps: int, seed: int, rank: int) -> Compared:
    """Run `compare` as one of two processes that meet through the file `store`."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=TOWERS, timeout=PATIENCE
    )
    try:
        with one_thread():
            return compare(images, steps, seed)
    finally:
        distributed.destroy_process_group()


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one.detach().cpu() - other.detach()).abs().max() / other.detach().abs().max())


def run_towers(conditions: Conditions) -> Outcome:
    """Compare two processes holding half of the maps each with the grouped network: logits and gradients. N5."""
    images, steps = (2, 2) if conditions.quick else (8, 5)
    conditions.reporter.step("towers", 0, 1)
    towers = both_towers(images, steps, conditions.seed)
    conditions.reporter.step("towers", 1, 1)
    apart = {name: max(each.apart[name] for each in towers) for name in towers[0].apart}
    gradients = max(value for name, value in apart.items() if name != "logits")
    sent = {name: count / 2**20 for name, count in towers[0].sent.items()}
    return Outcome(
        f"Over {steps} steps the logits of two towers in two processes differ by {apart['logits']:.1e} of the largest "
        f"from those of the network with groups, and gradients by {gradients:.1e}. Each process has "
        f"{towers[0].share:.0%} of the weights, and sends {sum(sent.values()):.2f} MiB an image forwards, "
        f"{sent['conv3'] / sum(sent.values()):.0%} of it before conv3.",
        (
            exactly("largest difference of a logit, as a share of the largest", apart["logits"], "below", TOLERANCE),
            exactly("largest difference of a gradient, likewise", gradients, "below", TOLERANCE),
            exactly("share of the weights in each process", towers[0].share, "equal", 0.5),
            exactly("MiB an image that each sends forwards", sum(sent.values())),
        ),
        Figure(
            "What each tower sends forwards",
            "before",
            "MiB an image",
            (Series("sent", tuple(sent), tuple(sent.values())),),
        ),
        "random images",
    )


TOWERS_OF_2012 = Experiment(
    "towers",
    ("N5",),
    "AlexNet's two towers, each on a device of its own, are one network with two groups.",
    run_towers,
    seconds=15,
    full_seconds=40,
)
