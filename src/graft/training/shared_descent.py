"""Gradient descent by several processes, each with part of every batch, bit-identical to that of a single process.

The order of the images of an epoch, and how it is cut into batches and steps, is that of one process. Each batch is
then cut into pieces, in the same way for any number of processes, and each process has some of them. The results of the
pieces are added up in order, whichever process computed them, and nothing else depends on the number of processes. So
every image counts once: nothing is padded, dropped or repeated, and a process may have no piece.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from graft.features.engine import Precision
from graft.sending import sent
from graft.training.cores import Cores
from graft.training.descent import GradientDescent, mixed, placed
from graft.training.inputs import Inputs
from graft.training.lockstep import Lockstep
from graft.training.memory import Batching
from graft.training.processes import Processes
from graft.training.recipe import ResolvedRecipe
from graft.training.shared_layers import OwnDropout, Rows, normalised_by_batch, rows_of

# Pieces of a batch: evenly divisible among 1, 2, 3, 4, 6 and 12 processes. On one core, steps of EfficientNet-Lite0 and
# MobileNetV2 on 32 images of 224 px take as long in 12 pieces as in one, as maps of fewer images stay in the caches.
PIECES = 12


@dataclass(frozen=True)
class Piece:
    """One piece of a batch: crown inputs float32 (n, …), labels as `mixed` gives them, and its rows in the batch."""

    x: Tensor
    y: Tensor
    rows: Rows


@dataclass(frozen=True)
class Share:
    """The pieces that a process has of one batch of `whole` images."""

    pieces: list[Piece]
    whole: int


def own_order(order: np.ndarray, batch_size: int, piece: int, pieces: int) -> np.ndarray:
    """Return one piece's share of every batch of an order, int64 (n,), concatenated."""
    parts = []
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        rows = rows_of(piece, pieces, len(batch))
        parts.append(batch[rows.first : rows.first + rows.count])
    return np.concatenate(parts) if parts else order[:0]


def pieces_of(batch_size: int, count: int, device: str) -> int:
    """Return how many pieces a batch is cut into.

    On GPUs that is one for each of `count` processes: more pieces would take longer, and GPUs do not add in a fixed
    order anyway.
    """
    return min(PIECES, batch_size) if device == "cpu" else count


class SharedDescent(GradientDescent):
    """Gradient descent whose batches are shared among `processes`, each of which computes on its `cores`.

    Gradients are added up by `Processes.sum_in_order`. DistributedDataParallel would add up the results of whole
    processes, which depend on the images that each has.
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
        cores: Cores,
    ) -> None:
        super().__init__(crown, train, recipe, batching, seed, device, precision)
        self.processes, self.cores = processes, cores
        self._pieces = pieces_of(batching.batch_size, processes.count, device)
        # Layers that normalise by the batch need all pieces in every pass, and every process, even one without a piece.
        self._all_take_part = bool(normalised_by_batch(self.crown, recipe.batch_norm))
        self._trained = [each for each in self.crown.parameters() if each.requires_grad]
        nothing = self.example()[:0], torch.from_numpy(train.labels[:0])
        self._nothing = Piece(*nothing, Rows(0, 0, 1))
        # The gradients and a row of facts beside them: the loss, the number of images, and which parameters have a
        # gradient.
        self._like = torch.empty(sum(each.numel() for each in self._trained) + 2 + len(self._trained), device=device)

    def _of(self, rank: int, whole: int) -> list[int]:
        """Return the non-empty pieces that a process has of a batch of `whole` images."""
        shares = rows_of(rank, self.processes.count, self._pieces)
        return list(range(shares.first, min(shares.first + shares.count, whole)))

    def _batches(self, order: np.ndarray, epoch: int) -> Iterator[Share]:  # type: ignore[override]
        size = self._batching.batch_size
        # Pairs are drawn within the whole batch, so each process reads all of it.
        mixes = bool(self.recipe.mixup or self.recipe.cutmix)
        if mixes:
            batches = mixed(self.train.batches(order, size, epoch), self.recipe, self.crown, self._generator)
        else:
            readers = {piece: self._read(piece, order, epoch) for piece in self._of(self.processes.rank, size)}
        for start in range(0, len(order), size):
            whole = min(size, len(order) - start)
            every = next(batches) if mixes else None
            pieces = []
            for piece in self._of(self.processes.rank, whole):
                rows = rows_of(piece, self._pieces, whole)
                if every is None:
                    # A reader runs out when images that could be read before training are gone.
                    x, y = next(readers[piece], (self._nothing.x, self._nothing.y))
                else:
                    x, y = (each[rows.first : rows.first + rows.count] for each in every)
                pieces.append(Piece(x, y, rows))
            yield Share(pieces, whole)

    def _read(self, piece: int, order: np.ndarray, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        size = self._batching.batch_size
        own = own_order(order, size, piece, self._pieces)
        return self.train.batches(own, rows_of(piece, self._pieces, size).count, epoch)

    def step(self, batches: Sequence[Share], learning_rate: float) -> tuple[Tensor, int]:  # type: ignore[override]
        self._begin_step(learning_rate)
        whole = sum(each.whole for each in batches)
        flat = torch.zeros_like(self._like)
        for each in batches:
            flat += self._computed(each, whole)
        sizes = [each.numel() for each in self._trained]
        *gradients, loss, count, used = flat.split([*sizes, 1, 1, len(sizes)])
        images = int(count)
        # Images that could be read before training may be gone.
        share = 1.0 if images == whole else whole / max(images, 1)
        # A parameter without a gradient must keep None, or the optimizer would let it decay.
        for parameter, gradient, times in zip(self._trained, gradients, used.tolist(), strict=True):
            parameter.grad = gradient.view_as(parameter) * share if times else None
        self._end_step()
        return loss.squeeze(0) * share, images

    def _computed(self, batch: Share, whole: int) -> Tensor:
        """Return the sum of the results of all pieces of a batch, in order, whichever process has them."""
        processes, rows = self.processes, list[Tensor]()
        counts = [len(self._of(rank, batch.whole)) for rank in range(processes.count)]
        lockstep = Lockstep(processes, counts, self.cores.count)
        pieces, at_once = batch.pieces, self.cores.count
        if self._all_take_part:
            pieces = pieces or [self._nothing]
            at_once = len(pieces)
        drawn = torch.get_rng_state()
        generators = [torch.Generator() if self.device == "cpu" else None for _ in pieces]
        for generator in generators:
            if generator is not None:
                generator.set_state(drawn)
        try:
            compute = partial(self._compute, lockstep, whole)
            for found in self.cores.in_order(compute, enumerate(zip(pieces, generators, strict=True)), at_once):
                if rows and processes.first:
                    # The first process has the first pieces, so it can add as it goes instead of keeping them all until
                    # the others arrive.
                    rows[0] += found
                else:
                    rows.append(found)
        except BaseException as error:
            lockstep.stop(error)
            raise
        if generators and generators[0] is not None:
            torch.set_rng_state(generators[0].get_state())
        if not batch.pieces:
            rows = []
        return processes.sum_in_order(rows, [min(1, counts[0]), *counts[1:]], self._like)

    def _compute(
        self, lockstep: Lockstep, whole: int, numbered: tuple[int, tuple[Piece, torch.Generator | None]]
    ) -> Tensor:
        """Return one piece's part of the gradients and facts of a step on `whole` images, float32 (n,)."""
        number, (piece, generator) = numbered
        x, y, kind = piece.x, piece.y, torch.device(self.device).type
        with lockstep.piece(number), OwnDropout(generator, piece.rows):
            # The autocast cache is off, as threads would share it.
            with torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bfloat16", cache_enabled=False):
                loss = self._loss(placed(x, self.device), sent(y, self.device)) * (len(y) / whole)
            found = torch.autograd.grad(loss, self._trained, allow_unused=True)
        gradients = (
            torch.zeros_like(each) if gradient is None else gradient
            for gradient, each in zip(found, self._trained, strict=True)
        )
        facts = torch.tensor([float(len(y)), *(float(each is not None) for each in found)], device=loss.device)
        return torch.cat([*(each.flatten().float() for each in gradients), loss.detach().view(1), facts])


def logits_together(descent: SharedDescent, crown: nn.Module, inputs: Inputs, batch_size: int = 64) -> np.ndarray:
    """Return the logits of all inputs in order, float32 (n, classes), in evaluation mode; processes share batches."""
    crown.eval()
    processes, device, kind = descent.processes, descent.device, torch.device(descent.device).type
    count = len(inputs.labels)
    own = np.flatnonzero(np.arange(count) // batch_size % processes.count == processes.rank)

    def compute(batch: tuple[Tensor, Tensor]) -> Tensor:
        lower = descent.precision == "bfloat16"
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=lower, cache_enabled=False):
            return crown(placed(batch[0], device)).float().cpu()

    found = list(descent.cores.in_order(compute, inputs.batches(own, batch_size))) if len(own) else []
    # The first process has the first batch, so it knows how many classes there are.
    classes = int(processes.number_of_first(found[0].shape[1] if found else 0))
    whole = torch.zeros(count, classes)
    if found:
        whole[own] = torch.cat(found)
    processes.add(whole)
    return whole.numpy()
