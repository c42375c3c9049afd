"""The epochs of a training run: their figures, which is better, and which one's weights are kept."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Epoch:
    """The outcome of one pass over the training images; epoch 0 is the start, before any step.

    `seconds` count from when training began, including time before an interruption. Where images have several labels,
    `val_mean_average_precision` takes the place of an accuracy.
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
        """The figure that epochs are compared by, 1 at best; None without validation images."""
        return self.val_top1 if self.val_mean_average_precision is None else self.val_mean_average_precision

    def row(self) -> dict[str, Any]:
        """Return a line of `metrics.jsonl`, with mean average precision only where it was measured."""
        values = asdict(self)
        if self.val_mean_average_precision is None:
            del values["val_mean_average_precision"]
        return values


def epoch_to_keep(history: Sequence[Epoch], count: int) -> int:
    """Return the latest epoch whose score on `count` images is at most one standard error below the highest.

    The standard error is that of an accuracy; that of a mean average precision on as many images is about as large, or
    smaller. Without scores, return the last epoch.
    """
    scores = {epoch.epoch: epoch.score for epoch in history if epoch.score is not None}
    if not scores:
        return history[-1].epoch
    highest = max(scores.values())
    error = math.sqrt(highest * (1 - highest) / count)
    return max(epoch for epoch, value in scores.items() if value >= highest - error)


def rank(epoch: Epoch) -> tuple[float, float]:
    """Return a sort key, higher is better: the score, then the lower loss; without val, the training loss."""
    if epoch.score is None or epoch.val_loss is None:
        return (0.0, -math.inf if epoch.train_loss is None else -epoch.train_loss)
    return (epoch.score, -epoch.val_loss)
