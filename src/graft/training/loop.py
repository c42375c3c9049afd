"""The loop in the open: a crown is trained from the top of `fit_crown` to its bottom."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft.errors import GraftError
from graft.features.cache import write_aside
from graft.models.network import Section
from graft.training.inputs import Inputs


@dataclass(frozen=True)
class Recipe:
    """Settings of a training. `rate` is the peak of AdamW's learning rate: warmed up, then lowered along a cosine.

    `weight_decay` is not applied to biases and norms.
    """

    epochs: int = 20
    batch_size: int = 32
    rate: float = 1e-3
    weight_decay: float = 1e-2
    warmup: float = 0.1  # of all steps


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training pictures came to; epoch 0 is the start, before any step."""

    epoch: int
    train_loss: float | None
    val_loss: float
    val_top1: float
    rate: float


@dataclass(frozen=True)
class Fit:
    """The epochs of a training and the one whose weights the crown now has."""

    history: tuple[Epoch, ...]
    best: int


def fit_crown(
    crown: nn.Module,
    train: Inputs,
    val: Inputs,
    recipe: Recipe,
    *,
    seed: int = 0,
    device: str = "cpu",
    checkpoint: Path | None = None,
    told: Callable[[tuple[Epoch, ...]], None] = lambda history: None,
) -> Fit:
    """Train every parameter of `crown` on `train` and leave it, in evaluation mode, at its best epoch on `val`.

    The best epoch has the highest accuracy, and among equals the least loss. With `checkpoint`, the state after every
    epoch is kept there (tensors and JSON, written aside and renamed), and a training that finds one goes on from it,
    to the same result as if it had never stopped. `told` gets the epochs so far after each. Raises GraftError when the
    loss is no longer a number.
    """
    crown.to(device)
    optimiser = torch.optim.AdamW(_groups(crown, recipe.weight_decay), lr=recipe.rate)
    count = len(train.labels)
    steps_per_epoch = -(-count // recipe.batch_size)
    steps = recipe.epochs * steps_per_epoch
    history, best = _resume(checkpoint, crown, optimiser, recipe, seed, count)
    if not history:
        history = [_evaluate(crown, val, device, Epoch(0, None, 0.0, 0.0, 0.0))]
        best = _copy(crown)
        told(tuple(history))
    for epoch in range(len(history), recipe.epochs + 1):
        # Seeded by epoch, so that a resumed training sees the pictures, and drops the units, that it would have seen.
        torch.manual_seed(seed * 100_003 + epoch)
        order = np.random.default_rng((seed, epoch)).permutation(count)
        if count > recipe.batch_size and count % recipe.batch_size == 1:
            # Batch norm cannot normalise one picture; another one sits out next time.
            order = order[:-1]
        crown.train()
        losses, step = [], (epoch - 1) * steps_per_epoch
        for x, y in train.batches(order, recipe.batch_size):
            rate = rate_at(step / steps, recipe)
            for group in optimiser.param_groups:
                group["lr"] = rate
            loss = loss_of(crown, x.to(device), y.to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.detach() * len(y))
            step += 1
        train_loss = float(torch.stack(losses).sum()) / len(order)
        if not math.isfinite(train_loss):
            raise GraftError(
                f"expected a finite loss, got {train_loss} in epoch {epoch} at a rate of {rate:.2g}: lower --rate; the "
                "state of the epoch before is kept"
            )
        history.append(_evaluate(crown, val, device, Epoch(epoch, train_loss, 0.0, 0.0, rate)))
        if _rank(history[-1]) == max(map(_rank, history)):
            best = _copy(crown)
        if checkpoint is not None:
            _keep(checkpoint, crown, optimiser, history, best, recipe, seed, count)
        told(tuple(history))
    crown.load_state_dict(best)
    crown.eval()
    return Fit(tuple(history), max(history, key=_rank).epoch)


def loss_of(crown: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of the logits, and that of each auxiliary classifier by its weight."""
    if not isinstance(crown, Section) or not crown.auxiliaries:
        return F.cross_entropy(crown(x), y)
    logits, others = crown.with_auxiliaries(x)
    loss = F.cross_entropy(logits, y)
    for each in crown.auxiliaries:
        loss = loss + each.weight * F.cross_entropy(others[each.part], y)
    return loss


def rate_at(done: float, recipe: Recipe) -> float:
    """The learning rate when `done` of all steps, 0 to 1, are behind: linear up to the peak, then a cosine to zero."""
    if done < recipe.warmup:
        return recipe.rate * (done + 0.01) / (recipe.warmup + 0.01)
    return recipe.rate * 0.5 * (1 + math.cos(math.pi * (done - recipe.warmup) / (1 - recipe.warmup)))


@torch.inference_mode()
def crown_logits(crown: nn.Module, inputs: Inputs, device: str = "cpu", batch_size: int = 64) -> np.ndarray:
    """Logits float32 (n, classes) of all inputs in order, in evaluation mode."""
    crown.eval()
    everything = np.arange(len(inputs.labels))
    return torch.cat([crown(x.to(device)).float().cpu() for x, _ in inputs.batches(everything, batch_size)]).numpy()


def _groups(crown: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    matrices = [parameter for parameter in crown.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in crown.parameters() if parameter.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def _evaluate(crown: nn.Module, val: Inputs, device: str, epoch: Epoch) -> Epoch:
    logits, labels = torch.from_numpy(crown_logits(crown, val, device)), torch.from_numpy(val.labels)
    loss, top1 = F.cross_entropy(logits, labels), (logits.argmax(1) == labels).float().mean()
    return Epoch(epoch.epoch, epoch.train_loss, float(loss), float(top1), epoch.rate)


def _rank(epoch: Epoch) -> tuple[float, float]:
    return (epoch.val_top1, -epoch.val_loss)


def _copy(crown: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in crown.state_dict().items()}


def _keep(
    path: Path,
    crown: nn.Module,
    optimiser: torch.optim.Optimizer,
    history: list[Epoch],
    best: dict[str, Tensor],
    recipe: Recipe,
    seed: int,
    count: int,
) -> None:
    from safetensors.torch import save

    tensors = {f"crown/{name}": tensor for name, tensor in _copy(crown).items()}
    tensors |= {f"best/{name}": tensor for name, tensor in best.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": torch.as_tensor(value).cpu() for name, value in state.items()}
    facts = {"history": [asdict(epoch) for epoch in history], "of": _identity(recipe, seed, count)}
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"facts": json.dumps(facts)})
    write_aside(path, lambda file: file.write(data))


def _resume(
    path: Path | None, crown: nn.Module, optimiser: torch.optim.Optimizer, recipe: Recipe, seed: int, count: int
) -> tuple[list[Epoch], dict[str, Tensor]]:
    """Put back the state that `_keep` wrote and return its history and best weights; nothing where there is none."""
    from safetensors import safe_open

    if path is None or not path.exists():
        return [], {}
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        facts = json.loads(file.metadata()["facts"])
    if facts["of"] != _identity(recipe, seed, count):
        raise GraftError(
            f"expected a checkpoint of this training, got one of other settings in {path} ({facts['of']}): resume with "
            "the same arguments, or train into another folder"
        )
    parts: dict[str, dict[str, Tensor]] = {"crown": {}, "best": {}, "optimiser": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts[part][rest] = tensor
    crown.load_state_dict(parts["crown"])
    state = optimiser.state_dict()
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimiser"].items():
        index, _, what = name.partition("/")
        states.setdefault(int(index), {})[what] = tensor
    optimiser.load_state_dict({**state, "state": states})
    return [Epoch(**epoch) for epoch in facts["history"]], parts["best"]


def _identity(recipe: Recipe, seed: int, count: int) -> dict[str, Any]:
    return {**asdict(recipe), "seed": seed, "pictures": count}
