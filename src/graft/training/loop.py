"""The training loop, laid out in `_train` to be read from top to bottom; one step of it is `GradientDescent.step`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from graft.errors import GraftError, InputError
from graft.evaluation.label_scores import mean_average_precision
from graft.features.engine import Precision
from graft.seeding import seeded
from graft.training.checkpoint import Checkpoint, CheckpointFile, TrainingState, Within, copy_state
from graft.training.cores import Cores, own_cores
from graft.training.descent import GradientDescent, placed
from graft.training.history import Epoch, epoch_to_keep, rank
from graft.training.inputs import Inputs
from graft.training.memory import Batching, as_memory_allows
from graft.training.optimizer import Interpolation, MovingAverage
from graft.training.processes import ALONE, Processes
from graft.training.recipe import ResolvedRecipe
from graft.training.schedules import learning_rate_at, stale_epochs
from graft.training.shared_descent import SharedDescent, logits_together
from graft.training.time_budget import STEPS_TO_JUDGE_BY, Budget, Clock, too_short
from graft.training.training_mode import put_in_training_mode, training_mode
from graft.transfer.label_head import log_loss_of_labels


@dataclass(frozen=True)
class CrownFit:
    """The epochs of a training run, and the epoch whose weights the crown now has."""

    history: tuple[Epoch, ...]
    kept: int


@dataclass(frozen=True)
class Watcher:
    """Callbacks for training: `epoch` gets the epochs so far after each one, `step` the steps done and their total."""

    epoch: Callable[[tuple[Epoch, ...]], None] = lambda history: None
    step: Callable[[int, int], None] = lambda done, total: None


def fit_crown(
    crown: nn.Module,
    train: Inputs,
    val: Inputs | None,
    recipe: ResolvedRecipe,
    *,
    seed: int = 0,
    device: str = "cpu",
    precision: Precision = "float32",
    budget: Budget | None = None,
    checkpoint: CheckpointFile | None = None,
    watcher: Watcher = Watcher(),
    keep_last: bool = False,
    processes: Processes = ALONE,
) -> CrownFit:
    """Train every parameter of `crown`, the stages after the cut, and leave it in evaluation mode at the best epoch.

    The best epoch is the latest one whose accuracy on `val`, or mean average precision where images have several
    labels, is at most one standard error below the highest. The highest itself is a matter of luck when `val` is small:
    over 37 runs on 80 to 400 images, with 20 to 100 of them in `val`, it was 2.0 points worse on test images. Without
    `val`, or with `keep_last`, it is the last epoch. Each epoch is scored and kept as `start_share` of the initial
    crown plus the rest of the current crown or its moving average.

    `precision` applies to layers and activations; weights, norms and losses stay in float32. Training that would exceed
    its `budget` runs its whole schedule in that time, over fewer epochs, the last of which may be shorter. With
    `checkpoint`, the state is written there during training. A later call that finds it resumes, with the same result
    as without the interruption (unless time runs short). The random state of the process is left unchanged.

    With several `processes`, each makes this call with the same images and a crown of the same shape. The recipe,
    weights, clock and checkpoint are those of the first, and all end with the same crown, to the bit, however many they
    are.

    When memory runs out, the batch is halved and two halves make a step, though not with several processes. Raises
    GraftError when the loss is no longer finite, InputError when the budget is too small for one epoch, and TypeError
    for a recipe with open settings.
    """
    if not isinstance(recipe, ResolvedRecipe):
        raise TypeError(f"expected a recipe with nothing left open, got a {type(recipe).__name__}: call its `resolve`")
    start, said = processes.of_first(copy_state(crown), {"recipe": asdict(recipe), "images": len(train.labels)})
    if said["images"] != len(train.labels):
        raise InputError(
            f"expected the {said['images']:,} images that the first process trains on, got {len(train.labels):,}: let "
            "all machines read the same"
        )
    recipe = recipe if processes.alone else ResolvedRecipe(**said["recipe"])
    judges, in_pieces = None if keep_last or val is None else len(val.labels), processes.in_pieces(device)

    def attempt(batching: Batching, cores: Cores | None) -> CrownFit:
        crown.load_state_dict(start)
        if cores is None:
            descent = GradientDescent(crown, train, recipe, batching, seed, device, precision)
        else:
            descent = SharedDescent(crown, train, recipe, batching, seed, device, precision, processes, cores)
        return _train(descent, val, budget, checkpoint, watcher, judges, processes)

    if not in_pieces:
        return as_memory_allows(recipe, partial(attempt, cores=None))
    # A process that runs out of memory fails: if it halved its batches, the others would go on with whole ones.
    with own_cores(processes, device) as cores:
        return attempt(Batching(recipe.batch_size, recipe.accumulate_steps), cores)


def _train(
    descent: GradientDescent,
    val: Inputs | None,
    budget: Budget | None,
    checkpoint: CheckpointFile | None,
    watcher: Watcher,
    judges: int | None,
    processes: Processes,
) -> CrownFit:
    """Train as `fit_crown` does; `judges` images choose the epoch to keep, or None keeps the last one."""
    crown, recipe, steps_per_epoch = descent.crown, descent.recipe, descent.steps_per_epoch
    # If a share of the start is kept, the start belongs in the average too.
    from_start = recipe.start_share > 0
    average = MovingAverage(crown, recipe.ema_decay, from_start=from_start) if recipe.ema_decay else None
    # The weights that are scored and kept: the crown or its moving average, mixed with a share of the start.
    judged = Interpolation(crown, recipe.start_share)
    modules = {"crown": crown} if average is None else {"crown": crown, "average": average}
    state = TrainingState(modules, descent.optimizer)
    identity = {**asdict(recipe), "seed": descent.seed, "images": len(descent.train.labels)}
    kept_on_disk = Checkpoint(checkpoint, state, identity, processes)
    kept_on_disk.resume()
    history, within = state.history, state.within
    clock = Clock.start(before=within.seconds if within else history[-1].seconds if history else 0.0)

    several = descent.train.labels.ndim == 2

    def scored(epoch: int, train_loss: float | None, learning_rate: float) -> Epoch:
        judged.follow(crown if average is None else average.module)
        loss, score = (None, None) if val is None else _score(judged.module, val, descent)
        if loss is not None and not math.isfinite(loss):
            raise _not_finite(f"val loss of {loss}", epoch, learning_rate)
        top1, precision = (None, score) if several else (score, None)
        return Epoch(epoch, train_loss, loss, top1, learning_rate, clock.elapsed(), precision)

    if not history:
        history.append(scored(0, None, 0.0))
        state.kept = copy_state(judged.module)
        watcher.epoch(tuple(history))
    # Scoring takes as long after every epoch as it did before the first.
    clock = clock.within(budget, scoring=history[0].seconds)
    steps = recipe.epochs * steps_per_epoch
    with (
        seeded(descent.seed, descent.device),
        training_mode(crown, recipe, descent.example(), processes.in_pieces(descent.device)),
    ):
        for epoch in range(len(history), recipe.epochs + 1):
            scores = [rank(each) for each in history]
            if recipe.patience is not None and stale_epochs(scores) >= recipe.patience:
                break
            put_in_training_mode(crown, recipe.batch_norm)
            losses, images, random = [], 0, None
            if within is not None:
                # An interruption fell within this epoch.
                losses, images, random = within.losses, within.images, within.random
            first, within, began = len(losses), None, clock.elapsed()
            step, learning_rate = (epoch - 1) * steps_per_epoch + first, history[-1].learning_rate
            for number, batches in enumerate(descent.steps(epoch, images, random), first):
                # With a budget, all processes must agree on the time, so the first one's clock decides.
                share = clock.share() if budget is None else processes.number_of_first(clock.share())
                # While there is time for every step, the time that they take has no part in the result.
                done = share if share >= (step + 1) / steps else step / steps
                if done >= 1:
                    break
                if epoch == 1 and number == STEPS_TO_JUDGE_BY and not first and processes.first:
                    clock.check_epoch_fits(began, number / steps_per_epoch)
                learning_rate = learning_rate_at(recipe, done, epoch, scores)
                loss, of_step = descent.step(batches, learning_rate)
                if average is not None:
                    average.update_parameters(crown)
                losses.append(loss * of_step)
                images, step = images + of_step, step + 1
                watcher.step(step, steps)
                if number + 1 < steps_per_epoch and kept_on_disk.within_due():
                    kept_on_disk.keep_within(Within(images, clock.elapsed(), losses, descent.random_state()))
            if not losses:
                # There was no time left for a single step.
                break
            train_loss = float(torch.stack([each.to(descent.device) for each in losses]).sum()) / images
            if not math.isfinite(train_loss):
                raise _not_finite(f"training loss of {train_loss}", epoch, learning_rate)
            history.append(scored(epoch, train_loss, learning_rate))
            if _kept(history, judges) == epoch:
                state.kept = copy_state(judged.module)
            kept_on_disk.keep()
            watcher.epoch(tuple(history))
    if recipe.epochs and len(history) == 1:
        raise too_short(left=0.0)
    kept_on_disk.keep(last=True)
    crown.load_state_dict(state.kept)
    crown.to(memory_format=torch.contiguous_format).eval()
    return CrownFit(tuple(history), _kept(history, judges))


def _kept(history: Sequence[Epoch], judges: int | None) -> int:
    return history[-1].epoch if judges is None else epoch_to_keep(history, judges)


@torch.inference_mode()
def crown_logits(
    crown: nn.Module, inputs: Inputs, device: str = "cpu", precision: Precision = "float32", batch_size: int = 64
) -> np.ndarray:
    """Return the logits of all inputs in order, float32 (n, classes), in evaluation mode."""
    crown.eval()
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bfloat16"):
        everything = np.arange(len(inputs.labels))
        parts = [crown(placed(x, device)).float().cpu() for x, _ in inputs.batches(everything, batch_size)]
    return torch.cat(parts).numpy()


def _score(crown: nn.Module, val: Inputs, descent: GradientDescent) -> tuple[float, float]:
    """Return the mean log loss on `val`, and the accuracy, or mean average precision with several labels."""
    if isinstance(descent, SharedDescent):
        found = logits_together(descent, crown, val)
    else:
        found = crown_logits(crown, val, descent.device, descent.precision)
    if val.labels.ndim == 2:
        loss = float(log_loss_of_labels(found, val.labels).sum(1).mean())
        return loss, mean_average_precision(found, val.labels) or 0.0
    logits, labels = torch.from_numpy(found), torch.from_numpy(val.labels)
    return float(F.cross_entropy(logits, labels)), float((logits.argmax(1) == labels).float().mean())


def _not_finite(loss: str, epoch: int, learning_rate: float) -> GraftError:
    if epoch == 0:
        return GraftError(f"expected a finite loss, got a {loss} before training: check the weights of the base")
    return GraftError(
        f"expected a finite loss, got a {loss} in epoch {epoch} at a learning rate of {learning_rate:.2g}: lower --lr; "
        "the state of the epoch before is kept"
    )
