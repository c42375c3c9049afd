"""Measures what each part of the recipe for pretrained networks is worth, by changing one at a time on small tasks.

    python benchmarks/recipe.py SHARED --out docs/recipe_runs.jsonl [--variants plain,usual] [--seeds 0,1]

Meant for an accelerator, where a training run takes seconds: images are squeezed to one size once, kept on the device
and augmented there. Networks, heads, cuts and weights are graft's; the loop is written out here, so that it can change
parts for which graft has no option. Every line of the output is one training run: the test accuracy of the head that it
started with, of the final weights, and of weights between the two. `plain` is what most practitioners run (see
`peers/plain.py`); all other variants start with a solved head and keep batch norm at its stored statistics unless they
say otherwise. The tasks are those with `development` in benchmarks/accuracy.py, and a few more of the same data sets.
"""

import argparse
import copy
import json
import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accuracy import BASES, Task, images_of
from graft.data.loading import load_image
from graft.images.preprocessing import normalise, with_choices
from graft.models.network import Network
from graft.training.heads import put_head
from graft.transfer.head import fit_head
from graft.transfer.levels import plan_level
from graft.weights.base import Base, load_base

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Images are kept larger than the network's input by this factor, so that crops have detail.
MARGIN = 1.4
# Shares of the final weights in the interpolated weights that are scored; the rest comes from the start.
SHARES = (0.3, 0.5, 0.7, 0.85, 1.0)

TASKS = (
    Task("ants_bees", None, "mobilenet_v1_025", 128, True),
    Task("ants_bees", 30, "mobilenet_v1_025", 128, True),
    Task("pacs_sketch", 20, "mobilenet_v1_025", 128, True),
    Task("pacs_sketch", None, "mobilenet_v1_025", 128, True),
    Task("textures", 10, "mobilenet_v1_025", 128, True),
    Task("textures", 40, "mobilenet_v1_025", 128, True),
    Task("blood_cells", None, "mobilenet_v1_025", 128, True),
    Task("cifar10", 20, "mobilenet_v1_025", 96, True),
    Task("cifar10", 100, "mobilenet_v1_025", 96, True),
    Task("mnist", 10, "mobilenet_v1_025", 96, True),
    Task("ants_bees", None, "mobilenet_v2", 128, True),
    Task("pacs_sketch", 20, "mobilenet_v2", 128, True),
    Task("textures", 20, "mobilenet_v2", 128, True),
    Task("blood_cells", 20, "mobilenet_v2", 128, True),
    Task("cifar10", 50, "mobilenet_v2", 96, True),
)


@dataclass(frozen=True)
class Variant:
    """A recipe: its epochs, or as many as make up at least `steps`, and what is special about it."""

    learning_rate: float = 1e-3
    epochs: int = 20
    steps: int = 0
    batch_norm: str = "stored"
    # Share of the training images' statistics in those that batch norm starts with.
    own_statistics: float = 0.0
    solved: bool = True
    level: str = "all"
    layer_decay: float = 1.0
    label_smoothing: float = 0.1
    ema_decay: float = 0.0
    least_area: float = 0.5
    jitter: float = 0.2
    flip: bool = True
    mixup: float = 0.0


USUAL = Variant(learning_rate=5e-4)
VARIANTS = {
    "plain": Variant(batch_norm="batch", solved=False),
    "plain, stored statistics": Variant(solved=False),
    "solved head, batch statistics": Variant(batch_norm="batch"),
    "rate 0.002": Variant(learning_rate=2e-3),
    "rate 0.001": Variant(),
    "rate 0.0005": USUAL,
    "rate 0.0003": Variant(learning_rate=3e-4),
    "600 steps": replace(USUAL, steps=600),
    "layer decay 0.8": Variant(layer_decay=0.8),
    "average of weights 0.98": replace(USUAL, ema_decay=0.98),
    "no label smoothing": replace(USUAL, label_smoothing=0.0),
    "crops of a third, jitter 0.4": replace(USUAL, least_area=0.35, jitter=0.4),
    "no augmentation": replace(USUAL, least_area=1.0, jitter=0.0, flip=False),
    "mixup 0.2": replace(USUAL, mixup=0.2),
    "own statistics": replace(USUAL, own_statistics=1.0),
    "half own statistics": replace(USUAL, own_statistics=0.5),
    "own statistics, batch statistics": Variant(batch_norm="batch", own_statistics=1.0),
    "own statistics, batch statistics, 400 steps": Variant(batch_norm="batch", own_statistics=1.0, steps=400),
    "stages:2": Variant(level="stages:2"),
    "frozen:0.4": Variant(level="frozen:0.4"),
}


@dataclass(frozen=True)
class Pixels:
    """Images squeezed to squares of one size, float32 (n, 3, s, s) from 0 to 255, with labels int64 (n,)."""

    values: Tensor
    labels: Tensor


def pixels_of(images, base: Base, device: str = DEVICE) -> Pixels:
    side = round(MARGIN * base.preprocessing.size)
    squeezed = replace(base.preprocessing, size=side, resize_mode="squash")
    values = torch.stack([load_image(images, index, squeezed) for index in range(len(images))])
    return Pixels(values.to(device).float(), torch.from_numpy(images.labels).to(device))


def looked_at(x: Tensor, centre: Tensor, half: Tensor, size: int) -> Tensor:
    """Resample a rectangle of each image, given its centre and half extent, (n, 2) from -1 to 1, right and down."""
    line = (torch.arange(2 * size, device=x.device) + 0.5) / size - 1
    across = (centre[:, :1] + half[:, :1] * line)[:, None, :].expand(-1, 2 * size, -1)
    down = (centre[:, 1:] + half[:, 1:] * line)[:, :, None].expand(-1, -1, 2 * size)
    seen = F.grid_sample(x, torch.stack([across, down], -1), padding_mode="reflection", align_corners=False)
    return F.avg_pool2d(seen, 2)


def central(x: Tensor, share: float, size: int) -> Tensor:
    return looked_at(x, x.new_zeros(len(x), 2), x.new_full((len(x), 2), share), size)


def augmented(x: Tensor, variant: Variant, size: int) -> Tensor:
    count = len(x)
    if variant.least_area == 1.0:
        return central(x, 0.875, size)
    area = variant.least_area + (1 - variant.least_area) * torch.rand(count, device=x.device)
    ratio = torch.exp((2 * torch.rand(count, device=x.device) - 1) * math.log(4 / 3))
    half = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], 1).clamp(max=1)
    centre = (2 * torch.rand(count, 2, device=x.device) - 1) * (1 - half)
    if variant.flip:
        half[:, 0] *= torch.where(torch.rand(count, device=x.device) < 0.5, -1.0, 1.0)
    seen = looked_at(x, centre, half, size)
    luma = seen.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    factors = 1 + variant.jitter * (2 * torch.rand(3, count, 1, 1, 1, device=x.device) - 1)
    seen = (seen * factors[0]).clamp(0, 255)
    grey = (seen * luma).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    seen = (grey + (seen - grey) * factors[1]).clamp(0, 255)
    grey = (seen * luma).sum(1, keepdim=True)
    return (grey + (seen - grey) * factors[2]).clamp(0, 255)


@torch.no_grad()
def outputs(module: nn.Module, pixels: Pixels, base: Base, share: float = 0.875) -> Tensor:
    module.eval()
    size = base.preprocessing.size
    parts = [module(normalise(central(part, share, size), base.preprocessing)) for part in pixels.values.split(128)]
    return torch.cat(parts)


def accuracy(network: Network, pixels: Pixels, base: Base) -> float:
    return float((outputs(network, pixels, base).argmax(1) == pixels.labels).float().mean())


@torch.no_grad()
def adapt_statistics(network: Network, pixels: Pixels, base: Base, share: float) -> None:
    """Move batch norm's statistics by `share` towards those of the images, each layer after the ones before it."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(norm.running_mean.clone(), norm.running_var.clone(), norm.momentum) for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    for part in pixels.values.split(256):
        network(normalise(central(part, 0.875, base.preprocessing.size), base.preprocessing))
    for norm, (mean, variance, momentum) in zip(norms, before, strict=True):
        norm.running_mean.lerp_(mean, 1 - share)
        norm.running_var.lerp_(variance, 1 - share)
        norm.momentum = momentum
    network.eval()


def put_solved_head(network: Network, train: Pixels, base: Base, seed: int) -> None:
    """Give the network the head that graft solves: on three crops of up to 500 images, else on one."""
    trunk, _ = network.split(network.cuts[-2])
    crops = (0.875, 0.7, 1.0) if len(train.labels) <= 500 else (0.875,)
    features = [outputs(trunk, train, base, crop).cpu().numpy() for crop in crops]
    labels = np.tile(train.labels.cpu().numpy(), len(crops))
    put_head(network, fit_head(np.concatenate(features), labels, int(labels.max()) + 1, seed, len(crops)))


def train_steps(network: Network, train: Pixels, base: Base, variant: Variant, groups: list[dict], epochs: int) -> dict:
    """Train with one-cycle AdamW over `groups`, and return the final moving average of the weights."""
    steps_per_epoch = max(1, round(len(train.labels) / 32))
    steps = max(variant.steps, epochs * steps_per_epoch)
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    peaks = [group["lr"] for group in optimizer.param_groups]
    network.train()
    if variant.batch_norm == "stored":
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    average = {name: tensor.clone().float() for name, tensor in network.state_dict().items()}
    for step in range(steps):
        if step % steps_per_epoch == 0:
            order = torch.randperm(len(train.labels), device=DEVICE)
        chosen = order[step % steps_per_epoch :: steps_per_epoch]
        done = step / steps
        rise = 0.02 + 0.49 * (1 - math.cos(math.pi * done / 0.25))
        share = rise if done < 0.25 else 0.5 + 0.5 * math.cos(math.pi * (done - 0.25) / 0.75)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * share
        x = normalise(augmented(train.values[chosen], variant, base.preprocessing.size), base.preprocessing)
        y = F.one_hot(train.labels[chosen], network.config.classes).float()
        if variant.mixup:
            part, other = float(np.random.beta(variant.mixup, variant.mixup)), torch.randperm(len(x), device=DEVICE)
            x, y = part * x + (1 - part) * x[other], part * y + (1 - part) * y[other]
        loss = F.cross_entropy(network(x), y, label_smoothing=variant.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            kept = min(variant.ema_decay, (1 + step) / (10 + step))
            for name, tensor in network.state_dict().items():
                average[name].lerp_(tensor.float(), 1 - kept)
    return average


def groups_of(network: Network, variant: Variant) -> list[dict]:
    """Parameter groups of the stages after the level's cut, the last at full rate; biases and norms do not decay."""
    cut = network.cuts.index(plan_level(variant.level, network, True).cut)
    groups = []
    for behind, stage in enumerate(reversed(network.stages[cut:])):
        parameters = [each for part in stage.parts for each in network.get_submodule(part).parameters()]
        rate = variant.learning_rate * variant.layer_decay**behind
        groups.append({"params": [each for each in parameters if each.ndim > 1], "lr": rate})
        groups.append({"params": [each for each in parameters if each.ndim <= 1], "lr": rate, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def run(task: Task, seed: int, variant: Variant, shared: Path) -> dict[str, float]:
    _, images, test_images = images_of(task, shared, seed)
    base = load_base(str(shared / "weights" / BASES[task.base]))
    base = replace(base, preprocessing=with_choices(base.preprocessing, task.size, None))
    train, test = pixels_of(images, base), pixels_of(test_images, base)
    torch.manual_seed(seed)
    np.random.seed(seed)
    network = copy.deepcopy(base.network).to(DEVICE)
    if variant.own_statistics:
        adapt_statistics(network, train, base, variant.own_statistics)
    put_solved_head(network, train, base, seed)
    network.to(DEVICE)
    found = {"head": accuracy(network, test, base)}
    if not variant.solved:
        network.new_head(network.config.classes).to(DEVICE)
        network.requires_grad_(False)
        network.head.requires_grad_(True)
        train_steps(network, train, base, variant, [{"params": list(network.head.parameters()), "lr": 1e-2}], 3)
    network.requires_grad_(True)
    start = copy.deepcopy(network.state_dict())
    average = train_steps(network, train, base, variant, groups_of(network, variant), variant.epochs)
    ends = {"end": network.state_dict()} | ({"average": average} if variant.ema_decay else {})
    for name, end in copy.deepcopy(ends).items():
        for share in SHARES if variant.batch_norm == "stored" else SHARES[-1:]:
            between = {
                key: (start[key].float().lerp(value.float(), share) if value.is_floating_point() else value)
                for key, value in end.items()
            }
            network.load_state_dict(between)
            found[f"{name} {share}"] = accuracy(network, test, base)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="What each part of the recipe is worth.")
    parser.add_argument("shared", type=Path, help="the folder with datasets/ and weights/")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, a line per training; existing ones stay")
    parser.add_argument("--variants", default=";".join(VARIANTS), help="separated by semicolons")
    parser.add_argument("--tasks", default="", help="only tasks whose name contains this")
    parser.add_argument("--seeds", default="0,1")
    given = parser.parse_args()
    lines = [json.loads(row) for row in given.out.read_text().splitlines()] if given.out.is_file() else []
    done = {(line["task"], line["seed"], line["variant"]) for line in lines}
    for seed in map(int, given.seeds.split(",")):
        for name in given.variants.split(";"):
            for task in TASKS:
                if given.tasks not in task.name or (task.name, seed, name) in done:
                    continue
                started = time.perf_counter()
                found = run(task, seed, VARIANTS[name], given.shared)
                seconds = time.perf_counter() - started
                line = {"task": task.name, "seed": seed, "variant": name, "top1": found, "seconds": seconds}
                with given.out.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(f"{task.name}, seed {seed}, {name}: {found}", file=sys.stderr)


if __name__ == "__main__":
    main()
