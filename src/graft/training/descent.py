"""Gradient descent on a crown: its batches, its loss and its steps."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft.features.engine import Precision
from graft.images.mixing import cutmix, mixup
from graft.models.network import Section
from graft.seeding import draw_from, generator
from graft.sending import sent
from graft.training.inputs import Inputs
from graft.training.memory import Batching
from graft.training.optimizer import build_optimizer, weights_of_classes
from graft.training.recipe import ResolvedRecipe

# One batch: what the crown takes, float32 (n, …), and labels int64 (n,).
LabelledBatch = tuple[Tensor, Tensor]


class GradientDescent:
    """A crown with its optimizer, and the batches of its training images that make each step.

    `precision` is that of layers and activations; weights, norms and losses stay in float32.
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
    ) -> None:
        # Channels last is the layout that convolutions are fastest in, on processors and on GPUs.
        self.crown = crown.to(device).to(memory_format=torch.channels_last)
        self.optimizer = build_optimizer(self.crown, recipe)
        self.train, self.recipe, self.seed, self.device, self.precision = train, recipe, seed, device, precision
        self.steps_per_epoch = -(-len(train.labels) // (batching.batch_size * batching.batches_per_step))
        self._batching = batching
        # Labels that are a matrix are several for each image.
        self._several = train.labels.ndim == 2
        self._class_weights = weights_of_classes(train.labels, recipe.class_weights, device)
        self._generator = torch.Generator()

    def example(self) -> Tensor:
        """One input of the crown, float32 (1, …)."""
        x, _ = next(iter(self.train.batches(np.zeros(1, dtype=np.int64), 1)))
        return placed(x, self.device)

    def steps(
        self, epoch: int, skip: int = 0, random: dict[str, Tensor] | None = None
    ) -> Iterator[list[LabelledBatch]]:
        """The batches of each step of an epoch, counted from 1; the last step may have fewer.

        In the middle of an epoch, `skip` of its images have been seen, and `random` is what `random_state` was then.
        """
        # Seeded by epoch, so that a resumed training sees the images, and drops the units, that it would have.
        draw_from(self.seed * 100_003 + epoch, self.device)
        self._generator.manual_seed(self.seed * 100_003 + epoch)
        order = shuffled(self.train, self.recipe.sampling, self.seed, epoch)
        if random is not None:
            self._draw_on_from(random)
        batches = self._batches(order[skip:], epoch)
        while together := list(islice(batches, self._batching.batches_per_step)):
            yield together

    def _batches(self, order: np.ndarray, epoch: int) -> Iterator[LabelledBatch]:
        return self.train.batches(order, self._batching.batch_size, epoch)

    def random_state(self) -> dict[str, Tensor]:
        """Where the generators of random numbers stand, uint8 (bytes,) by what each is for."""
        state = {"cpu": generator().get_state(), "mixing": self._generator.get_state()}
        return state if self.device == "cpu" else {**state, "device": torch.cuda.get_rng_state(self.device)}

    def _draw_on_from(self, random: dict[str, Tensor]) -> None:
        generator().set_state(random["cpu"])
        self._generator.set_state(random["mixing"])
        if self.device != "cpu" and "device" in random:
            torch.cuda.set_rng_state(random["device"], self.device)

    def step(self, batches: Sequence[LabelledBatch], learning_rate: float) -> tuple[Tensor, int]:
        """Move the crown one step down the gradient of its loss on `batches`.

        That loss before it, on average over the images, float32 (), and the number of images.
        """
        self._begin_step(learning_rate)
        loss, images = torch.zeros((), device=self.device), sum(len(y) for _, y in batches)
        for x, y in mixed(batches, self.recipe, self.crown, self._generator):
            loss += self._backward(x, y, len(y) / images)
        self._end_step()
        return loss, images

    def _begin_step(self, learning_rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["share"]
        self.optimizer.zero_grad()

    def _backward(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        """Add this `share` of the gradient of the mean loss on a batch to what there is: that share of the loss."""
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            part = self._loss(placed(x, self.device), sent(y, self.device)) * share
        part.backward()
        return part.detach()

    def _end_step(self) -> None:
        if self.recipe.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.crown.parameters(), self.recipe.clip_grad_norm)
        self.optimizer.step()

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        return loss_of(self.crown, x, y, self.recipe.label_smoothing, self._class_weights, self._several)


def loss_of(
    crown: nn.Module,
    x: Tensor,
    y: Tensor,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    several: bool = False,
) -> Tensor:
    """Cross-entropy of the logits, and that of each auxiliary classifier by its weight, on average over the images.

    Labels are classes, int64 (n,), or parts of classes, float32 (n, classes). With `several` labels for each image it
    is the binary cross-entropy of each, summed over the labels; smoothing then draws each halfway to 1/2.

    `class_weights` (classes,) is how much an image of each class counts. Label smoothing: Szegedy et al. 2015, arXiv
    1512.00567, section 7.
    """

    def entropy(logits: Tensor) -> Tensor:
        if not len(y):
            # A process may have no part in a batch, and yet a part in the pass; the mean of nothing is no number.
            return logits.sum()
        if several:
            targets = y * (1 - label_smoothing) + label_smoothing / 2
            return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1).mean()
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


def mixed(
    batches: Iterable[LabelledBatch], recipe: ResolvedRecipe, crown: nn.Module, generator: torch.Generator
) -> Iterator[LabelledBatch]:
    """The batches with their images mixed in pairs; where both mixup and CutMix are asked for, one of them by chance.

    Labels int64 (n,) become parts of classes, float32 (n, classes).
    """
    ways = [(way, alpha) for way, alpha in ((mixup, recipe.mixup), (cutmix, recipe.cutmix)) if alpha]
    for x, y in batches:
        if not ways or not isinstance(crown, Section):
            yield x, y
            continue
        way, alpha = ways[int(torch.randint(len(ways), (), generator=generator))]
        yield way(x, y, crown.stages[-1].channels, alpha, generator)


def placed(x: Tensor, device: str) -> Tensor:
    """`x` on `device`; maps (n, C, H, W) in the layout channels last."""
    layout = torch.channels_last if x.ndim == 4 else torch.contiguous_format
    return sent(x, device, layout)


def shuffled(train: Inputs, sampling: str, seed: int, epoch: int) -> np.ndarray:
    """The images of an epoch in a random order, int64 (n,).

    With `balanced` sampling they are drawn so that every class is as likely, and where images have weights so that one
    of twice the weight is twice as likely.
    """
    random, count = np.random.default_rng((seed, epoch)), len(train.labels)
    if sampling != "balanced" and train.weights is None:
        return random.permutation(count)
    chances = np.ones(count) if train.weights is None else train.weights.astype(np.float64)
    if sampling == "balanced":
        chances /= np.bincount(train.labels, chances)[train.labels]
    return random.choice(count, count, p=chances / chances.sum())
