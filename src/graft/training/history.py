"""The epochs of a training: what each came to, which is better, and which one's weights are kept."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images came to; epoch 0 is the start, before any step.

    `seconds` are those since training began, those before an interruption included.
    """

    epoch: int
    train_loss: float | None
    val_loss: float | None
    val_top1: float | None
    learning_rate: float
    seconds: float = field(default=0.0, compare=False)


def epoch_to_keep(history: Sequence[Epoch], count: int) -> int:
    """The latest epoch whose accuracy on `count` images is at most a standard error below the highest.

    Without accuracies it is the last one.
    """
    top1 = {epoch.epoch: epoch.val_top1 for epoch in history if epoch.val_top1 is not None}
    if not top1:
        return history[-1].epoch
    highest = max(top1.values())
    error = math.sqrt(highest * (1 - highest) / count)
    return max(epoch for epoch, value in top1.items() if value >= highest - error)


def rank(epoch: Epoch) -> tuple[float, float]:
    """Higher is better: by accuracy, among equals by loss, and without validation images by the loss in training."""
    if epoch.val_top1 is None or epoch.val_loss is None:
        return (0.0, -math.inf if epoch.train_loss is None else -epoch.train_loss)
    return (epoch.val_top1, -epoch.val_loss)
