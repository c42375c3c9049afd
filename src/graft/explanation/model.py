"""What is explained: a network with its classes and preprocessing, and the confidence in a class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from graft.images.preprocessing import Preprocessing, normalise
from graft.models.network import Network

# Maps pixels, uint8 (n, C, size, size), to the logits of the network's outputs, (n, outputs).
Answers = Callable[[Tensor], Tensor]

# Images per forward pass.
BATCH = 16


class Seeing(Protocol):
    """A network in evaluation mode, and the preprocessing of its images."""

    @property
    def network(self) -> Network: ...
    @property
    def preprocessing(self) -> Preprocessing: ...


class Model(Seeing, Protocol):
    """A classifier as `graft.weights.saved.SavedModel` holds it.

    `outputs` lists the outputs of each class, None for one per class.

    Its parameters may all be frozen; none of them is changed.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def temperature(self) -> float: ...
    @property
    def outputs(self) -> tuple[tuple[int, ...], ...] | None: ...


def answers_of(model: Model) -> Answers:
    """Return the logits of a model's own network, computed by PyTorch a few images at a time."""

    @torch.no_grad()
    def answer(pixels: Tensor) -> Tensor:
        return torch.cat([model.network(as_input(model, part)) for part in pixels.split(BATCH)])

    return answer


def as_input(model: Seeing, pixels: Tensor) -> Tensor:
    """Prepare pixels, uint8 (n, C, size, size), as the network takes them, float32 on its device."""
    like = next(model.network.parameters(), torch.empty(0))
    normalised = normalise(pixels.to(like.device), model.preprocessing).to(like.dtype)
    # Depthwise convolutions take twice as long in the contiguous format.
    return normalised.to(memory_format=torch.channels_last)


def class_scores(model: Model, logits: Tensor) -> Tensor:
    """Return calibrated class logits, (n, classes), from output logits, (n, outputs).

    Their softmax gives probabilities.
    """
    if model.outputs is not None:
        logits = torch.stack([logits[:, list(own)].logsumexp(1) for own in model.outputs], 1)
    return logits / model.temperature


def log_odds(scores: Tensor, classes: Sequence[int] | Tensor) -> Tensor:
    """Return log p / (1 - p) of one class per row of `scores` (n, classes), (n,); its score if it is the only class.

    Evidence for all classes alike plays no part in it, just as in a probability.
    """
    of_class = torch.as_tensor(classes, device=scores.device)[:, None]
    own = scores.gather(1, of_class)[:, 0]
    if scores.shape[1] == 1:
        return own
    return own - scores.scatter(1, of_class, float("-inf")).logsumexp(1)
