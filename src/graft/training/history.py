"""The epochs of a training: what each came to, which is better, and which one's weights are kept."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images came to; epoch 0 is the start, before any step.

    `seconds` are those since training began, those before an interruption included. Where images have several labels,
    `val_mean_average_precision` stands in place of an accuracy.
    """

    epoch: int
    train_loss: float | None
    val_loss: float | None
    val_top1: float | None
    learning_rate: float
    seconds: float = field(default=0.0, compare=False)
    val_mean_average_precision: float | None = None

    @property
    def score(self) -> float | None:
        """What epochs are compared by, 1 at best; None without validation images."""
        return self.val_top1 if self.val_mean_average_precision is None else self.val_mean_average_precision

    def row(self) -> dict[str, Any]:
        """A line of `metrics.jsonl`: mean average precision is there where it was measured."""
        values = asdict(self)
        if self.val_mean_average_precision is None:
            del values["val_mean_average_precision"]
        return values


def epoch_to_keep(history: Sequence[Epoch], count: int) -> int:
    """The latest epoch whose score on `count` images is at most a standard error below the highest.

    The error is that of an accuracy; a mean average precision of so many images has about as large a one, or a smaller.
    Without scores it is the last one.
    """
    scores = {epoch.epoch: epoch.score for epoch in history if epoch.score is not None}
    if not scores:
        return history[-1].epoch
    highest = max(scores.values())
    error = math.sqrt(highest * (1 - highest) / count)
    return max(epoch for epoch, value in scores.items() if value >= highest - error)


def rank(epoch: Epoch) -> tuple[float, float]:
    """Higher is better: by score, among equals by loss, and without validation images by the loss in training."""
    if epoch.score is None or epoch.val_loss is None:
        return (0.0, -math.inf if epoch.train_loss is None else -epoch.train_loss)
    return (epoch.score, -epoch.val_loss)
