"""The loop in the open: a crown is trained from the top of `fit_crown` to its bottom."""

import copy
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
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
from graft.training.optimisation import (
    Recipe,
    average_into,
    build_optimiser,
    rate_at,
    stale_epochs,
    weights_of_classes,
)


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

    The best epoch has the highest accuracy, and among equals the least loss. What `recipe` leaves open is what suits a
    random start. With `checkpoint`, the state after every epoch is kept there (tensors and JSON, written aside and
    renamed), and a training that finds one goes on from it, to the same result as if it had never stopped. `told` gets
    the epochs so far after each. Raises GraftError when the loss is no longer a number.
    """
    settings = recipe.settled()
    crown.to(device)
    # What is scored and kept: the crown, or the moving average of its weights.
    judged = copy.deepcopy(crown) if settings.ema else crown
    modules = {"crown": crown, "average": judged} if settings.ema else {"crown": crown}
    optimiser = build_optimiser(crown, settings)
    class_weights = weights_of_classes(train.labels, settings.class_weights, device)
    count = len(train.labels)
    steps_per_epoch = -(-count // (settings.batch_size * settings.accumulate))
    steps = settings.epochs * steps_per_epoch
    identity = {**asdict(settings), "seed": seed, "pictures": count}
    history, best = _resume(checkpoint, modules, optimiser, identity)
    if not history:
        history = [_evaluate(judged, val, device, Epoch(0, None, 0.0, 0.0, 0.0))]
        best = _copy(judged)
        told(tuple(history))
    for epoch in range(len(history), settings.epochs + 1):
        scores = [_rank(each) for each in history]
        if settings.patience is not None and stale_epochs(scores) >= settings.patience:
            break
        # Seeded by epoch, so that a resumed training sees the pictures, and drops the units, that it would have seen.
        torch.manual_seed(seed * 100_003 + epoch)
        order = _order(count, settings.batch_size, seed, epoch)
        crown.train()
        losses, step = [], (epoch - 1) * steps_per_epoch
        for group in _together(train.batches(order, settings.batch_size), settings.accumulate):
            rate = rate_at(settings, step / steps, epoch, scores)
            for parameters in optimiser.param_groups:
                parameters["lr"] = rate * parameters["share"]
            optimiser.zero_grad()
            pictures = sum(len(y) for _, y in group)
            for x, y in group:
                loss = loss_of(crown, x.to(device), y.to(device), settings.label_smoothing, class_weights)
                (loss * (len(y) / pictures)).backward()
                losses.append(loss.detach() * len(y))
            if settings.clip is not None:
                nn.utils.clip_grad_norm_(crown.parameters(), settings.clip)
            optimiser.step()
            step += 1
            if settings.ema is not None:
                average_into(judged, crown, settings.ema, step)
        train_loss = float(torch.stack(losses).sum()) / len(order)
        if not math.isfinite(train_loss):
            raise GraftError(
                f"expected a finite loss, got {train_loss} in epoch {epoch} at a rate of {rate:.2g}: lower --rate; the "
                "state of the epoch before is kept"
            )
        history.append(_evaluate(judged, val, device, Epoch(epoch, train_loss, 0.0, 0.0, rate)))
        if _rank(history[-1]) == max(map(_rank, history)):
            best = _copy(judged)
        if checkpoint is not None:
            _keep(checkpoint, modules, optimiser, history, best, identity)
        told(tuple(history))
    crown.load_state_dict(best)
    crown.eval()
    return Fit(tuple(history), max(history, key=_rank).epoch)


def loss_of(
    crown: nn.Module, x: Tensor, y: Tensor, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of the logits, and that of each auxiliary classifier by its weight, on average over the pictures.

    `class_weights` (classes,) is how much a picture of each class counts. Label smoothing: Szegedy et al. 2015, arXiv
    1512.00567, section 7.
    """

    def entropy(logits: Tensor) -> Tensor:
        if class_weights is None:
            return F.cross_entropy(logits, y, label_smoothing=label_smoothing)
        # Not torch's own weights: it divides by their sum over the batch, so that batches would not add up.
        return (class_weights[y] * F.cross_entropy(logits, y, label_smoothing=label_smoothing, reduction="none")).mean()

    if not isinstance(crown, Section) or not crown.auxiliaries:
        return entropy(crown(x))
    logits, others = crown.with_auxiliaries(x)
    loss = entropy(logits)
    for each in crown.auxiliaries:
        loss = loss + each.weight * entropy(others[each.part])
    return loss


@torch.inference_mode()
def crown_logits(crown: nn.Module, inputs: Inputs, device: str = "cpu", batch_size: int = 64) -> np.ndarray:
    """Logits float32 (n, classes) of all inputs in order, in evaluation mode."""
    crown.eval()
    everything = np.arange(len(inputs.labels))
    return torch.cat([crown(x.to(device)).float().cpu() for x, _ in inputs.batches(everything, batch_size)]).numpy()


def _order(count: int, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """The pictures of an epoch, shuffled."""
    order = np.random.default_rng((seed, epoch)).permutation(count)
    # Batch norm cannot normalise one picture left over; another one sits out next time.
    return order[:-1] if count > batch_size and count % batch_size == 1 else order


def _together(batches: Iterator[tuple[Tensor, Tensor]], count: int) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Every `count` batches in a row as one list; the last may be shorter."""
    while group := list(islice(batches, count)):
        yield group


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
    modules: dict[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    history: list[Epoch],
    best: dict[str, Tensor],
    identity: dict[str, Any],
) -> None:
    from safetensors.torch import save

    tensors = {f"best/{name}": tensor for name, tensor in best.items()}
    for part, module in modules.items():
        tensors |= {f"{part}/{name}": tensor for name, tensor in _copy(module).items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": torch.as_tensor(value).cpu() for name, value in state.items()}
    # The schedule and the patience follow from the history: nothing else needs keeping.
    facts = {"history": [asdict(epoch) for epoch in history], "of": identity}
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"facts": json.dumps(facts)})
    write_aside(path, lambda file: file.write(data))


def _resume(
    path: Path | None, modules: dict[str, nn.Module], optimiser: torch.optim.Optimizer, identity: dict[str, Any]
) -> tuple[list[Epoch], dict[str, Tensor]]:
    """Put back the state that `_keep` wrote and return its history and best weights; nothing where there is none."""
    from safetensors import safe_open

    if path is None or not path.exists():
        return [], {}
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        facts = json.loads(file.metadata()["facts"])
    if facts["of"] != identity:
        raise GraftError(
            f"expected a checkpoint of this training, got one of other settings in {path} ({facts['of']}): resume with "
            "the same arguments, or train into another folder"
        )
    parts: dict[str, dict[str, Tensor]] = {"best": {}, "optimiser": {}, **{part: {} for part in modules}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts[part][rest] = tensor
    for part, module in modules.items():
        module.load_state_dict(parts[part])
    state = optimiser.state_dict()
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimiser"].items():
        index, _, what = name.partition("/")
        states.setdefault(int(index), {})[what] = tensor
    optimiser.load_state_dict({**state, "state": states})
    return [Epoch(**epoch) for epoch in facts["history"]], parts["best"]
