"""Gradient descent on a crown: its batches, its loss and its steps."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft.data.dataset import are_equal
from graft.features.engine import Precision
from graft.images.mixing import cutmix, mixup
from graft.models.network import Section
from graft.seeding import draw_from, generator
from graft.sending import sent
from graft.training.inputs import Inputs
from graft.training.memory import Batching
from graft.training.optimizer import build_optimizer, weights_of_classes
from graft.training.recipe import ResolvedRecipe

# One batch: crown inputs, float32 (n, …), and labels int64 (n,).
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
        # Convolutions are fastest in the channels-last layout, on CPUs and on GPUs.
        self.crown = crown.to(device).to(memory_format=torch.channels_last)
        self.optimizer = build_optimizer(self.crown, recipe)
        self.train, self.recipe, self.seed, self.device, self.precision = train, recipe, seed, device, precision
        self.steps_per_epoch = -(-len(train.labels) // (batching.batch_size * batching.batches_per_step))
        self._batching = batching
        # A label matrix means several labels per image.
        self._several = train.labels.ndim == 2
        self._class_weights = weights_of_classes(train.labels, recipe.class_weights, device, train.weights)
        self._generator = torch.Generator()

    def example(self) -> Tensor:
        """One input of the crown, float32 (1, …)."""
        x, _ = next(iter(self.train.batches(np.zeros(1, dtype=np.int64), 1)))
        return placed(x, self.device)

    def steps(
        self, epoch: int, skip: int = 0, random: dict[str, Tensor] | None = None
    ) -> Iterator[list[LabelledBatch]]:
        """Yield the batches of each step of an epoch, counted from 1; the last step may have fewer.

        To continue in the middle of an epoch, `skip` is how many of its images have been seen, and `random` is the
        value of `random_state` at that point.
        """
        # Seeded by epoch, so that resumed training sees the same images, and drops the same units, as uninterrupted
        # training.
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
        """Return the states of the random generators by purpose, uint8 (bytes,)."""
        state = {"cpu": generator().get_state(), "mixing": self._generator.get_state()}
        return state if self.device == "cpu" else {**state, "device": torch.cuda.get_rng_state(self.device)}

    def _draw_on_from(self, random: dict[str, Tensor]) -> None:
        generator().set_state(random["cpu"])
        self._generator.set_state(random["mixing"])
        if self.device != "cpu" and "device" in random:
            torch.cuda.set_rng_state(random["device"], self.device)

    def step(self, batches: Sequence[LabelledBatch], learning_rate: float) -> tuple[Tensor, int]:
        """Move the crown one step down the gradient of its loss on `batches`.

        Return the loss before the step, averaged over the images, float32 (), and the number of images.
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
        """Add `share` of the gradient of a batch's mean loss to the accumulated one; return that share of the loss."""
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
    """Return the mean cross-entropy of the logits, plus that of each auxiliary classifier times its weight.

    Labels are classes, int64 (n,), or fractions of classes, float32 (n, classes). With `several` labels per image, the
    loss is the binary cross-entropy summed over the labels, and smoothing moves each target towards 1/2 by that
    fraction.

    `class_weights` (classes,) is how much an image of each class counts. Label smoothing: Szegedy et al. 2015, arXiv
    1512.00567, section 7.
    """

    def entropy(logits: Tensor) -> Tensor:
        if not len(y):
            # A process may have no piece of a batch and still take part in the pass; the mean of nothing is NaN.
            return logits.sum()
        if several:
            targets = y * (1 - label_smoothing) + label_smoothing / 2
            return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1).mean()
        if class_weights is None:
            return F.cross_entropy(logits, y, label_smoothing=label_smoothing)
        # Not torch's own weights: it divides by their sum over the batch, so batches would not add up.
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
    """Yield the batches with images mixed in pairs, by mixup or CutMix, or by one of them at random for each batch.

    Labels int64 (n,) become fractions of classes, float32 (n, classes).
    """
    ways = [(way, alpha) for way, alpha in ((mixup, recipe.mixup), (cutmix, recipe.cutmix)) if alpha]
    for x, y in batches:
        if not ways or not isinstance(crown, Section):
            yield x, y
            continue
        way, alpha = ways[int(torch.randint(len(ways), (), generator=generator))]
        yield way(x, y, crown.stages[-1].channels, alpha, generator)


def placed(x: Tensor, device: str) -> Tensor:
    """Return `x` on `device`, with maps (n, C, H, W) in the channels-last layout."""
    layout = torch.channels_last if x.ndim == 4 else torch.contiguous_format
    return sent(x, device, layout)


def shuffled(train: Inputs, sampling: str, seed: int, epoch: int) -> np.ndarray:
    """Return the images of an epoch in a random order, int64 (n,).

    With `balanced` sampling every class is equally likely, except one whose images all have weight 0, which is not
    drawn. Where images have weights, an image of twice the weight is twice as likely to be drawn. Images that are all
    equally likely come once each; drawn with replacement, a third of them would be missing.
    """
    random, count = np.random.default_rng((seed, epoch)), len(train.labels)
    chances = np.ones(count) if are_equal(train.weights) else np.asarray(train.weights, np.float64)
    if sampling == "balanced":
        of_class = np.bincount(train.labels, chances)[train.labels]
        chances = np.divide(chances, of_class, out=np.zeros(count), where=of_class > 0)
    return random.permutation(count) if are_equal(chances) else random.choice(count, count, p=chances / chances.sum())
