"""Runs every architecture in bfloat16 and channels_last, forward and one training step; times two beside torchvision's.

    python benchmarks/networks.py --device cuda

Prints one JSON document: for each network, whether logits, loss and gradients are finite, and the memory of the step
beside the figure of `graft.accounting.memory`; for ResNet-50 and EfficientNet-B0, the training steps per second of
graft's network divided by those of torchvision's (median over the rounds, taking turns in one process).
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from graft.accounting.memory import training_memory
from graft.models.catalog import CATALOG, build, default_config

TIMED = ("resnet50", "efficientnet_b0")


def step(network: nn.Module, x: torch.Tensor, y: torch.Tensor, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """Take one step in bfloat16 and return the loss, including that of auxiliary classifiers."""
    with torch.autocast(x.device.type, torch.bfloat16):
        if hasattr(network, "with_auxiliaries"):
            logits, others = network.with_auxiliaries(x)
        else:
            logits, others = network(x), {}
        loss = sum(F.cross_entropy(each.float(), y) for each in (logits, *others.values()))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def batch(name: str, count: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(count, *CATALOG[name].input_size, device=device).contiguous(memory_format=torch.channels_last)
    return x, torch.randint(CATALOG[name].classes, (count,), device=device)


def check(name: str, count: int, device: str) -> dict[str, object]:
    """Check that a forward pass and a training step of `name` give finite numbers."""
    torch.manual_seed(0)
    network = build(default_config(name)).to(device, memory_format=torch.channels_last)
    x, y = batch(name, count, device)
    with torch.no_grad(), torch.autocast(device, torch.bfloat16):
        forward = bool(network.eval()(x).isfinite().all())
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    network.train()
    loss = step(network, x, y, torch.optim.SGD(network.parameters(), lr=1e-3))
    gradients = all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())
    found: dict[str, object] = {
        "forward": forward,
        "loss": bool(loss.isfinite()),
        "gradients": gradients,
        "weights": all(bool(p.isfinite().all()) for p in network.parameters()),
    }
    if device == "cuda":
        found["peak_bytes"] = torch.cuda.max_memory_allocated()
        counted = training_memory(nn.Sequential(), network, CATALOG[name].input_size, count)
        found["counted_float32_bytes"] = counted.peak("sgd")
    return found


def rates(name: str, count: int, device: str, rounds: int, steps: int) -> Iterator[float]:
    """Steps per second of graft's network divided by those of torchvision's, for each round."""
    import torchvision

    networks = [build(default_config(name)), getattr(torchvision.models, name)()]
    x, y = batch(name, count, device)
    runs = []
    for network in networks:
        network.to(device, memory_format=torch.channels_last).train()
        runs.append((network, torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)))
    for round_ in range(rounds + 1):
        seconds = []
        for network, optimizer in runs:
            started = time.perf_counter()
            for _ in range(steps):
                loss = step(network, x, y, optimizer)
            float(loss)  # waits for the device
            seconds.append(time.perf_counter() - started)
        if round_:  # the first round warms up
            yield seconds[1] / seconds[0]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", default="cuda")
    arguments.add_argument("--batch-size", type=int, default=64, help="batch size of the timed steps")
    arguments.add_argument("--check-batch-size", type=int, default=4)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--steps", type=int, default=10)
    arguments.add_argument("--only", nargs="*", default=list(CATALOG))
    given = arguments.parse_args()
    checks = {name: check(name, given.check_batch_size, given.device) for name in given.only}
    ratios = {
        name: statistics.median(rates(name, given.batch_size, given.device, given.rounds, given.steps))
        for name in TIMED
        if name in given.only
    }
    print(json.dumps({"device": given.device, "checks": checks, "steps_per_second_over_torchvision": ratios}, indent=2))


if __name__ == "__main__":
    main()
