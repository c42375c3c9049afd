"""The loop in the open: a crown is trained from the top of `_train` to its bottom."""

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft.errors import GraftError, InputError
from graft.features.engine import Precision
from graft.images.mixing import cutmix, mixup
from graft.models.network import Section
from graft.training.allocator import keep_freed_memory
from graft.training.checkpoint import copy_state, keep, resume
from graft.training.inputs import Inputs
from graft.training.optimizer import average_into, build_optimizer, drop_out, weights_of_classes
from graft.training.recipe import Recipe, ResolvedRecipe
from graft.training.schedules import rate_at, stale_epochs

if TYPE_CHECKING:
    from accelerate import Accelerator

# Steps after which it is known whether an epoch fits into the time that there is.
STEPS_TO_JUDGE_BY = 5

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images came to; epoch 0 is the start, before any step.

    `seconds` are those since the training began, those before an interruption included.
    """

    epoch: int
    train_loss: float | None
    val_loss: float | None
    val_top1: float | None
    learning_rate: float
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Fit:
    """The epochs of a training and the one whose weights the crown now has."""

    history: tuple[Epoch, ...]
    kept: int


@dataclass(frozen=True)
class Budget:
    """Seconds for a training, of which enough are kept back to score the validation images `scorings` times."""

    seconds: float
    scorings: float = 1.5


@dataclass(frozen=True)
class Watcher:
    """Who is told how a training goes: the epochs so far after each, and steps done of all."""

    epoch: Callable[[tuple[Epoch, ...]], None] = lambda history: None
    step: Callable[[int, int], None] = lambda done, total: None


def fit_crown(
    crown: nn.Module,
    train: Inputs,
    val: Inputs | None,
    recipe: Recipe,
    *,
    seed: int = 0,
    device: str = "cpu",
    precision: Precision = "float32",
    budget: Budget | None = None,
    checkpoint: Path | None = None,
    watcher: Watcher = Watcher(),
) -> Fit:
    """Train every parameter of `crown` on `train` and leave it, in evaluation mode, at the epoch to keep.

    That is the latest one whose accuracy on `val` is at most a standard error below the highest. The highest itself is
    a matter of luck where `val` is small: over 37 trainings on 80 to 400 images, with 20 to 100 of them in `val`, it
    was 2.0 points worse on test images. Without `val` it is the last one.

    What `recipe` leaves open is what suits a random start. `precision` is that of layers and activations; weights,
    norms and losses stay in float32. A training that would exceed its `budget` runs its schedule through in that time,
    over fewer epochs, the last of which may be shorter. With `checkpoint`, the state after every epoch is kept there,
    and a training that finds one goes on from it, to the same result as if it had never stopped (unless it is short of
    time).

    Where memory runs out, the batch is halved and two of them make a step. Raises GraftError when the loss is no longer
    a number, InputError when the budget is too small for one epoch.
    """
    settings, start = recipe.resolved(), copy_state(crown)

    def attempt(parts: Parts) -> Fit:
        crown.load_state_dict(start)
        return _train(crown, train, val, settings, parts, seed, device, precision, budget, checkpoint, watcher)

    return as_memory_allows(settings, attempt)


@dataclass(frozen=True)
class Parts:
    """How many images run at once, and how many such batches make one step."""

    batch_size: int
    together: int


def as_memory_allows(settings: ResolvedRecipe, attempt: Callable[[Parts], Outcome]) -> Outcome:
    """What `attempt` returns with whole batches, or where memory runs out with the largest halves of them that fit."""
    from accelerate.utils.memory import should_reduce_batch_size

    batch_size = settings.batch_size
    while True:
        together = settings.accumulate_steps * -(-settings.batch_size // batch_size)
        try:
            return attempt(Parts(batch_size, together))
        except RuntimeError as error:
            # Batch norm needs two images.
            if batch_size < 4 or not should_reduce_batch_size(error):
                raise
        batch_size //= 2


def _train(
    crown: nn.Module,
    train: Inputs,
    val: Inputs | None,
    settings: ResolvedRecipe,
    parts: Parts,
    seed: int,
    device: str,
    precision: Precision,
    budget: Budget | None,
    checkpoint: Path | None,
    watcher: Watcher,
) -> Fit:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=device == "cpu")
    if device == "cpu":
        keep_freed_memory()
    # Channels last is the layout that convolutions are fastest in, on processors and on GPUs.
    crown.to(device).to(memory_format=torch.channels_last)
    # What is scored and kept: the crown, or the moving average of its weights.
    judged = copy.deepcopy(crown) if settings.ema_decay else crown
    modules = {"crown": crown, "average": judged} if settings.ema_decay else {"crown": crown}
    optimizer = build_optimizer(crown, settings)
    class_weights = weights_of_classes(train.labels, settings.class_weights, device)
    count, held_out = len(train.labels), 0 if val is None else len(val.labels)
    steps_per_epoch = -(-count // (parts.batch_size * parts.together))
    steps = settings.epochs * steps_per_epoch
    identity = {**asdict(settings), "seed": seed, "images": count}
    facts, kept = resume(checkpoint, modules, optimizer, identity)
    history = [Epoch(**epoch) for epoch in facts]
    began = time.perf_counter() - (history[-1].seconds if history else 0.0)

    def elapsed() -> float:
        return time.perf_counter() - began

    def scored(epoch: int, train_loss: float | None, rate: float) -> Epoch:
        loss, top1 = (None, None) if val is None else _score(judged, val, device, precision)
        return Epoch(epoch, train_loss, loss, top1, rate, elapsed())

    if not history:
        history, kept = [scored(0, None, 0.0)], copy_state(judged)
        watcher.epoch(tuple(history))
    # Scoring takes as long after every epoch as it took before the first.
    limit = None if budget is None else max(budget.seconds - budget.scorings * history[0].seconds, 1e-3)
    with drop_out(crown, settings.dropout):
        for epoch in range(len(history), settings.epochs + 1):
            scores = [_rank(each) for each in history]
            if limit is not None and elapsed() >= limit:
                if epoch == 1:
                    raise _too_late(0.0)
                break
            if settings.patience is not None and stale_epochs(scores) >= settings.patience:
                break
            # Seeded by epoch, so that a resumed training sees the images, and drops the units, that it would have.
            torch.manual_seed(seed * 100_003 + epoch)
            generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
            crown.train()
            losses, seen, step, started = [], 0, (epoch - 1) * steps_per_epoch, elapsed()
            for number, group in enumerate(groups_of(train, parts, settings.sampling, seed, epoch)):
                done = step / steps if limit is None else max(step / steps, elapsed() / limit)
                if done >= 1:
                    break
                if limit is not None and epoch == 1 and number == STEPS_TO_JUDGE_BY:
                    needed = (elapsed() - started) / number * steps_per_epoch
                    if needed > limit - started:
                        raise _too_late(limit - started, f", about {needed:.0f} s")
                rate = rate_at(settings, done, epoch, scores)
                loss, images = take_step(
                    crown, group, rate, optimizer, settings, class_weights, generator, accelerator, precision
                )
                losses.append(loss * images)
                step, seen = step + 1, seen + images
                if settings.ema_decay is not None:
                    average_into(judged, crown, settings.ema_decay, step)
                watcher.step(step, steps)
            train_loss = float(torch.stack(losses).sum()) / seen
            if not math.isfinite(train_loss):
                raise GraftError(
                    f"expected a finite loss, got {train_loss} in epoch {epoch} at a rate of {rate:.2g}: lower --lr; "
                    "the state of the epoch before is kept"
                )
            history.append(scored(epoch, train_loss, rate))
            if epoch_to_keep(history, held_out) == epoch:
                kept = copy_state(judged)
            if checkpoint is not None:
                keep(checkpoint, modules, optimizer, [asdict(each) for each in history], kept, identity)
            watcher.epoch(tuple(history))
    crown.load_state_dict(kept)
    crown.to(memory_format=torch.contiguous_format).eval()
    return Fit(tuple(history), epoch_to_keep(history, held_out))


def epoch_to_keep(history: Sequence[Epoch], count: int) -> int:
    """The latest epoch whose accuracy on `count` images is at most a standard error below the highest."""
    top1 = {epoch.epoch: epoch.val_top1 for epoch in history if epoch.val_top1 is not None}
    if not top1:
        return history[-1].epoch
    highest = max(top1.values())
    error = math.sqrt(highest * (1 - highest) / count)
    return max(epoch for epoch, value in top1.items() if value >= highest - error)


def _too_late(left: float, needed: str = "") -> InputError:
    return InputError(
        f"expected --time for one epoch at least{needed}, got {left:.0f} s left for it: raise it, or choose a level "
        "that keeps more of the base"
    )


def take_step(
    crown: nn.Module,
    group: Sequence[tuple[Tensor, Tensor]],
    learning_rate: float,
    optimizer: torch.optim.Optimizer,
    settings: ResolvedRecipe,
    class_weights: Tensor | None,
    generator: torch.Generator,
    accelerator: "Accelerator",
    precision: Precision,
) -> tuple[Tensor, int]:
    """Move `crown` one step on the batches of `group`: their loss before it, float32 (), and how many images."""
    device = accelerator.device
    for parameters in optimizer.param_groups:
        parameters["lr"] = learning_rate * parameters["share"]
    optimizer.zero_grad()
    images, losses = sum(len(y) for _, y in group), []
    for x, y in mixed(group, settings, crown, generator):
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            loss = loss_of(crown, _placed(x, device), y.to(device), settings.label_smoothing, class_weights)
        part = loss * (len(y) / images)
        accelerator.backward(part)
        losses.append(part.detach())
    if settings.clip_grad_norm is not None:
        accelerator.clip_grad_norm_(crown.parameters(), settings.clip_grad_norm)
    optimizer.step()
    return torch.stack(losses).sum(), images


def mixed(
    group: Iterable[tuple[Tensor, Tensor]], settings: ResolvedRecipe, crown: nn.Module, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches with their images mixed two by two, by turns of chance where both ways are asked for.

    Labels int64 (n,) become parts of classes, float32 (n, classes).
    """
    ways = [(way, alpha) for way, alpha in ((mixup, settings.mixup), (cutmix, settings.cutmix)) if alpha]
    for x, y in group:
        if not ways or not isinstance(crown, Section):
            yield x, y
            continue
        way, alpha = ways[int(torch.randint(len(ways), (), generator=generator))]
        yield way(x, y, crown.stages[-1].channels, alpha, generator)


def loss_of(
    crown: nn.Module, x: Tensor, y: Tensor, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of the logits, and that of each auxiliary classifier by its weight, on average over the images.

    Labels are classes, int64 (n,), or parts of classes, float32 (n, classes).

    `class_weights` (classes,) is how much an image of each class counts. Label smoothing: Szegedy et al. 2015, arXiv
    1512.00567, section 7.
    """

    def entropy(logits: Tensor) -> Tensor:
        if class_weights is None:
            return F.cross_entropy(logits, y, label_smoothing=label_smoothing)
        # Not torch's own weights: it divides by their sum over the batch, so that batches would not add up.
        weights = (class_weights * y).sum(1) if y.is_floating_point() else class_weights[y]
        return (weights * F.cross_entropy(logits, y, label_smoothing=label_smoothing, reduction="none")).mean()

    if not isinstance(crown, Section) or not crown.auxiliaries:
        return entropy(crown(x))
    logits, others = crown.with_auxiliaries(x)
    loss = entropy(logits)
    for each in crown.auxiliaries:
        loss = loss + each.weight * entropy(others[each.part])
    return loss


@torch.inference_mode()
def crown_logits(
    crown: nn.Module, inputs: Inputs, device: str = "cpu", precision: Precision = "float32", batch_size: int = 64
) -> np.ndarray:
    """Logits float32 (n, classes) of all inputs in order, in evaluation mode."""
    crown.eval()
    everything = np.arange(len(inputs.labels))
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bfloat16"):
        parts = [crown(_placed(x, device)).float().cpu() for x, _ in inputs.batches(everything, batch_size)]
    return torch.cat(parts).numpy()


def _placed(x: Tensor, device: str | torch.device) -> Tensor:
    layout = torch.channels_last if x.ndim == 4 else torch.contiguous_format
    return x.to(device, memory_format=layout)


def groups_of(
    train: Inputs, parts: Parts, sampling: str, seed: int, epoch: int
) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """The batches of an epoch, as many in a list as make a step; the last may be shorter."""
    batches = train.batches(_order(train, parts.batch_size, sampling, seed, epoch), parts.batch_size, epoch)
    while group := list(islice(batches, parts.together)):
        yield group


def _order(train: Inputs, batch_size: int, sampling: str, seed: int, epoch: int) -> np.ndarray:
    """The images of an epoch, shuffled; with `balanced` sampling drawn so that every class is as likely, and where
    images have weights so that one of twice the weight is twice as likely."""
    random, count = np.random.default_rng((seed, epoch)), len(train.labels)
    if sampling != "balanced" and train.weights is None:
        return evenly(random.permutation(count), batch_size)
    chances = np.ones(count) if train.weights is None else train.weights.astype(np.float64)
    if sampling == "balanced":
        chances /= np.bincount(train.labels, chances)[train.labels]
    return evenly(random.choice(count, count, p=chances / chances.sum()), batch_size)


def evenly(order: np.ndarray, batch_size: int) -> np.ndarray:
    """`order` without one image left over for a last batch: batch norm cannot normalise it; it sits out this time."""
    return order[:-1] if len(order) > batch_size and len(order) % batch_size == 1 else order


def _score(crown: nn.Module, val: Inputs, device: str, precision: Precision) -> tuple[float, float]:
    """Mean log loss and accuracy on `val`."""
    logits, labels = torch.from_numpy(crown_logits(crown, val, device, precision)), torch.from_numpy(val.labels)
    return float(F.cross_entropy(logits, labels)), float((logits.argmax(1) == labels).float().mean())


def _rank(epoch: Epoch) -> tuple[float, float]:
    """Higher is better: by accuracy, among equals by loss, and where nothing is held out by the loss in training."""
    if epoch.val_top1 is None or epoch.val_loss is None:
        return (0.0, -math.inf if epoch.train_loss is None else -epoch.train_loss)
    return (epoch.val_top1, -epoch.val_loss)
