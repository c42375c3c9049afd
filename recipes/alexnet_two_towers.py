"""AlexNet on two devices, as it was trained in 2012: each has half of the maps, and they meet in a few layers only.

    python recipes/alexnet_two_towers.py [--images N] [--steps N]
    torchrun --nproc-per-node 2 recipes/alexnet_two_towers.py

Krizhevsky, Sutskever and Hinton 2012, section 3.2, "Training on multiple GPUs": conv2, conv4 and conv5 see the maps of
their own device, which is what their two groups are; conv3 and the dense layers see those of both. Differs from the
paper: response normalization reaches over the border between the devices, as in graft's `alexnet_2012`, for which each
lends the other two maps; theirs ended there.

Here are two processes of one machine with gloo. On two GPUs `DEVICE` is the process's own and the backend NCCL;
nothing else differs.

Outcome: logits and gradients of both towers are those of the grouped network on one device to 1.2e-6 of the largest of
each tensor. Each process has half of the 56.9 million weights, and sends 0.17 MiB an image on the way forwards, half of
it before conv3.
"""

import argparse
import multiprocessing
import os
import tempfile
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from graft.models.catalog import build
from graft.models.network import Config

DEVICE = "cpu"
TOWERS = 2
CLASSES = 10
# What a gradient or a logit may differ by, as a share of the largest of its tensor.
TOLERANCE = 1e-5


class Meeting(torch.autograd.Function):
    """The maps of both towers, side by side; what each tower makes of them is felt by the one that they come from."""

    crossed = 0

    @staticmethod
    def forward(context: Any, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own) for _ in range(TOWERS)]
        distributed.all_gather(parts, own.contiguous())
        Meeting.crossed += own.numel() * own.element_size()
        return torch.cat(parts, 1)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        whole = gradient.contiguous().clone()
        distributed.all_reduce(whole)
        return half(whole)


def half(whole: Tensor, dim: int = 1) -> Tensor:
    """What of a tensor's channels, or of a layer's outputs, is this tower's."""
    return whole.chunk(TOWERS, dim)[distributed.get_rank()]


class Tower(nn.Module):
    """Half of an `alexnet_2012`: images (N, 3, 227, 227) to the logits (N, classes) of both halves."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.norm = network.conv1_out[1]
        self.weights = nn.ParameterDict()
        for name, layer in network.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                self.weights[f"{name}_weight"] = half(layer.weight.detach(), 0).clone()
                self.weights[f"{name}_bias"] = half(layer.bias.detach(), 0).clone()

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self._normalised(self._convolved("conv1", x, stride=4)), 3, 2)
        x = F.max_pool2d(self._normalised(self._convolved("conv2", x, padding=2)), 3, 2)
        x = self._convolved("conv3", Meeting.apply(x), padding=1)
        x = self._convolved("conv4", x, padding=1)
        x = F.max_pool2d(self._convolved("conv5", x, padding=1), 3, 2)
        x = Meeting.apply(x).flatten(1)
        x = Meeting.apply(self._dense("fc6", x).relu())
        x = Meeting.apply(self._dense("fc7", x).relu())
        return Meeting.apply(self._dense("fc8", x))

    def _convolved(self, name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        return F.conv2d(x, self.weights[f"{name}_weight"], self.weights[f"{name}_bias"], stride, padding).relu()

    def _dense(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}_weight"], self.weights[f"{name}_bias"])

    def _normalised(self, x: Tensor) -> Tensor:
        """Normalised as one network would: the maps at the border see two of the other tower's."""
        first, reach = distributed.get_rank() == 0, 2
        # Both ends are sent, as both towers have to send as much; each uses the end that is next to it.
        ends = Meeting.apply(torch.cat([x[:, :reach], x[:, -reach:]], 1))
        lent = ends[:, 2 * reach : 3 * reach] if first else ends[:, reach : 2 * reach]
        known = self.norm(torch.cat([x, lent] if first else [lent, x], 1))
        return known[:, : x.shape[1]] if first else known[:, reach:]


def compare(images: int, steps: int) -> None:
    """Train a grouped network and its two towers side by side, and say how far they are from each other."""
    torch.manual_seed(0)
    network = build(Config("alexnet_2012", classes=CLASSES)).eval()
    tower = Tower(network).to(DEVICE)
    ways = [torch.optim.SGD(each.parameters(), 1e-3, momentum=0.9) for each in (network, tower)]
    x, y = torch.randn(images, 3, 227, 227), torch.arange(images) % CLASSES
    names = [name for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for step in range(steps):
        for way in ways:
            way.zero_grad()
        whole = network(x)
        F.cross_entropy(whole, y).backward()
        Meeting.crossed = 0
        halves = tower(x.to(DEVICE))
        # Both towers compute the loss, and each stands for its half.
        (F.cross_entropy(halves, y.to(DEVICE)) / TOWERS).backward()
        found = [apart(halves, whole)]
        for name in names:
            for kind in ("weight", "bias"):
                grouped = half(getattr(network.get_submodule(name), kind).grad, 0)
                found.append(apart(tower.weights[f"{name}_{kind}"].grad, grouped))
        if distributed.get_rank() == 0:
            print(f"step {step + 1}: logits and gradients differ by {max(found):.1e} of the largest")
        assert max(found) <= TOLERANCE, found
        for way in ways:
            way.step()
    if distributed.get_rank() == 0:
        own, all_of_them = (sum(each.numel() for each in one.parameters()) for one in (tower, network))
        print(
            f"{own:,} of {all_of_them:,} weights in each process; {Meeting.crossed / images / 2**20:.2f} MiB an image"
        )


def apart(one: Tensor, other: Tensor) -> float:
    return float((one.detach().cpu() - other.detach()).abs().max() / other.detach().abs().max())


def member(rank: int, store: str, images: int, steps: int) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=TOWERS)
    compare(images, steps)
    distributed.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2)
    given = parser.parse_args()
    if "RANK" in os.environ:
        distributed.init_process_group("gloo")
        compare(given.images, given.steps)
        distributed.destroy_process_group()
        return
    with tempfile.TemporaryDirectory() as folder:
        arguments = (f"{folder}/store", given.images, given.steps)
        spawn = multiprocessing.get_context("spawn")
        towers = [spawn.Process(target=member, args=(rank, *arguments)) for rank in range(TOWERS)]
        for each in towers:
            each.start()
        for each in towers:
            each.join()
        if any(each.exitcode for each in towers):
            raise SystemExit("expected both towers to agree with the grouped network, got one that did not: see above")


if __name__ == "__main__":
    main()
