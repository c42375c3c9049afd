"""Gradient descent by several processes, each with a part of every batch, to the weights that one would come to.

The order of the images of an epoch, and how it is cut into batches and steps, is that of one process; only then is
each batch cut into a part for each process. So every image counts once, whatever their number: nothing is padded,
dropped or repeated, and a part may be empty.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from graft.features.engine import Precision
from graft.training.descent import GradientDescent, mixed
from graft.training.inputs import Inputs
from graft.training.memory import Batching
from graft.training.processes import Processes
from graft.training.recipe import ResolvedRecipe
from graft.training.shared_layers import DropoutOfBatch, Rows, normalised_by_batch, rows_of


@dataclass(frozen=True)
class Part:
    """What a process has of one batch: crown inputs float32 (n, …), labels as `mixed` gives them, and which rows."""

    x: Tensor
    y: Tensor
    rows: Rows


def own_order(order: np.ndarray, batch_size: int, rank: int, count: int) -> np.ndarray:
    """Of an order, int64 (n,), cut into batches, what process `rank` of `count` has of each, one after the other."""
    parts = []
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        rows = rows_of(rank, count, len(batch))
        parts.append(batch[rows.first : rows.first + rows.count])
    return np.concatenate(parts) if parts else order[:0]


class SharedDescent(GradientDescent):
    """Gradient descent whose batches are shared among `processes`.

    Gradients are added up by `Processes.add` and not by DistributedDataParallel, which averages over processes: with
    parts of different sizes that is not the average over images, and it has no word for a process without any.
    """

    def __init__(
        self,
        crown: nn.Module,
        train: Inputs,
        recipe: ResolvedRecipe,
        batching: Batching,
        seed: int,
        device: str,
        precision: Precision,
        processes: Processes,
    ) -> None:
        super().__init__(crown, train, recipe, batching, seed, device, precision)
        self._processes = processes
        # Layers that normalise by the batch need all processes in every pass, those with nothing to show too.
        self._all_take_part = bool(normalised_by_batch(self.crown, recipe.batch_norm))
        self._nothing = self.example()[:0], torch.from_numpy(train.labels[:0])

    def _batches(self, order: np.ndarray, epoch: int) -> Iterator[Part]:  # type: ignore[override]
        size, rank, count = self._batching.batch_size, self._processes.rank, self._processes.count
        # Pairs are drawn in the whole batch, so each process reads all of it.
        mixes = bool(self.recipe.mixup or self.recipe.cutmix)
        if mixes:
            read = mixed(self.train.batches(order, size, epoch), self.recipe, self.crown, self._generator)
        else:
            own = own_order(order, size, rank, count)
            read = self.train.batches(own, max(1, rows_of(rank, count, size).count), epoch)
        for start in range(0, len(order), size):
            rows = rows_of(rank, count, min(size, len(order) - start))
            x, y = next(read, self._nothing) if mixes or rows.count else self._nothing
            if mixes:
                x, y = x[rows.first : rows.first + rows.count], y[rows.first : rows.first + rows.count]
            yield Part(x, y, rows)

    def step(self, batches: Sequence[Part], learning_rate: float) -> tuple[Tensor, int]:  # type: ignore[override]
        self._begin_step(learning_rate)
        loss, whole = torch.zeros((), device=self.device), sum(part.rows.whole for part in batches)
        for part in batches:
            if len(part.y) or self._all_take_part:
                with DropoutOfBatch(part.rows):
                    loss += self._backward(part.x, part.y, len(part.y) / whole)
        loss, images = self._add_up(loss, sum(len(part.y) for part in batches), whole)
        self._end_step()
        return loss, images

    def _add_up(self, loss: Tensor, own: int, whole: int) -> tuple[Tensor, int]:
        """Make gradients and loss those of all processes, which have divided by `whole`; the images that they had."""
        parameters = [each for each in self.crown.parameters() if each.requires_grad]
        # In one tensor: the time of a sum is in the number of messages where a network is small. What has no gradient
        # anywhere is to have none after it, or the optimizer would let it decay.
        used = [float(each.grad is not None) for each in parameters]
        parts = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
        facts = torch.tensor([*used, float(own)], device=loss.device)
        flat = torch.cat([part.flatten().float() for part in parts] + [loss.view(1), facts])
        self._processes.add(flat)
        images = int(flat[-1])
        if images != whole:
            # Images that could be read before the training cannot be any more.
            flat *= whole / max(images, 1)
        sizes = [each.numel() for each in parameters]
        *gradients, loss, facts = flat.split([*sizes, 1, len(facts)])
        for parameter, gradient, times in zip(parameters, gradients, facts[:-1].tolist(), strict=True):
            parameter.grad = gradient.view_as(parameter).clone() if times else None
        return loss.squeeze(0).clone(), images
