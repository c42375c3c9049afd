"""The plain training loop of the experiments' small networks, and their evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft.seeding import seeded


@dataclass(frozen=True)
class Steps:
    """Length and rate of training: `steps` of `batch` images at `learning_rate`, constant unless `decays`.

    With `decays`, the rate falls to zero along a half cosine.
    """

    steps: int
    learning_rate: float
    batch: int = 64
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    decays: bool = True


def fit(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: Steps,
    seed: int,
    *,
    change: Callable[[Tensor], Tensor] = lambda images: images,
    after: Callable[[int, float], None] = lambda step, loss: None,
) -> list[float]:
    """Train in place on images (N, C, H, W) of classes int64 (N,); return the training loss of every step.

    `change` augments a batch. `after` is called with each step, from 1, and its loss, before the next one.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "adam":
        optimizer = torch.optim.AdamW(trained, recipe.learning_rate, weight_decay=recipe.weight_decay)
    else:
        optimizer = torch.optim.SGD(
            trained, recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps) if recipe.decays else None
    network.train()
    losses = []
    with seeded(seed):
        for step, rows in enumerate(_batches(len(images), recipe), start=1):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(change(images[rows])), labels[rows])
            loss.backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
            losses.append(float(loss.detach()))
            after(step, losses[-1])
    return losses


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of images (N, C, H, W) classified as int64 (N,); leaves the network in evaluation mode."""
    network.eval()
    answers = torch.cat([network(part).argmax(1) for part in images.split(500)])
    return float((answers == labels).float().mean())


@contextmanager
def one_thread() -> Iterator[None]:
    """Make torch add in a fixed order within the block: the same seed gives the same figures on every machine.

    The steps of these networks are too small to share between threads anyway.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _batches(count: int, recipe: Steps) -> Iterator[Tensor]:
    """Yield `recipe.steps` batches of rows, reshuffled for each pass over the images."""
    done = 0
    while True:
        order = torch.randperm(count)
        for rows in order.split(recipe.batch):
            if len(rows) == recipe.batch or count < recipe.batch:
                yield rows
                done += 1
                if done == recipe.steps:
                    return
