"""Inputs of a crown: activations from the cache, pixels in memory, or images read again in every epoch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from graft.data.dataset import Dataset, Images
from graft.data.loading import batches
from graft.images.augmenting import STRENGTHS, Augmentation, View
from graft.images.preprocessing import Preprocessing, normalise
from graft.sending import sent


class Inputs(Protocol):
    """Examples in a fixed order: `labels` int64 (n,), and batches of crown inputs in any requested order.

    `weights`, float32 (n,), say how much each example counts; None if all count the same. Where images have several
    labels, `labels` and those of the batches are float32 (n, C) of 0 and 1.
    """

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def weights(self) -> np.ndarray | None: ...

    def batches(self, order: np.ndarray, batch_size: int, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield crown inputs float32 (b, …) and labels int64 (b,), covering every index in `order` once.

        Epochs count from 1, and each may show other views of the images; 0 shows them as they are.
        """
        ...


@dataclass(frozen=True)
class ActivationInputs:
    """Activations at the cut (n, …), float32 or bfloat16, in memory or mapped from disk; epochs cycle through `views`.

    Batches move to `device` in the dtype they are kept in, and become float32 there.
    """

    views: tuple[Tensor, ...]
    labels: np.ndarray
    weights: np.ndarray | None = None
    device: str = "cpu"

    def batches(self, order: np.ndarray, batch_size: int, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        values, labels = _shown(self.views, epoch), torch.from_numpy(self.labels)
        for chosen in _groups(order, batch_size):
            index = torch.from_numpy(chosen)
            rows = values[index]
            # Half the bytes to move while they are still bfloat16.
            layout = torch.channels_last if rows.ndim == 4 else torch.contiguous_format
            yield sent(rows.contiguous(memory_format=layout), self.device).float(), labels[index]


@dataclass(frozen=True)
class PixelInputs:
    """Pixels uint8 (n, C, size, size) in memory, for the cut before the first stage.

    Epochs cycle through the views. Batches are normalised on `device` as they are used.
    """

    views: tuple[Tensor, ...]
    labels: np.ndarray
    preprocessing: Preprocessing
    weights: np.ndarray | None = None
    device: str = "cpu"

    def batches(self, order: np.ndarray, batch_size: int, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        pixels, labels = _shown(self.views, epoch), torch.from_numpy(self.labels)
        for chosen in _groups(order, batch_size):
            index = torch.from_numpy(chosen)
            yield normalise(sent(pixels[index], self.device), self.preprocessing), labels[index]


@dataclass(frozen=True)
class ImageInputs:
    """Images decoded and run through the frozen trunk in every epoch, for what fits neither memory nor the cache.

    With `augmentation`, every epoch shows its own view, drawn by `seed`.
    """

    images: Images
    preprocessing: Preprocessing
    trunk: nn.Module
    device: torch.device
    augmentation: Augmentation = STRENGTHS["none"]
    seed: int = 0

    @property
    def labels(self) -> np.ndarray:
        return self.images.labels

    @property
    def weights(self) -> np.ndarray | None:
        return self.images.weights

    def batches(self, order: np.ndarray, batch_size: int, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        # The trunk is frozen, so its batch norm uses running statistics, whatever mode the crown is in.
        self.trunk.eval()
        view = view_of(self.augmentation, self.seed, epoch)
        for batch in batches(self.images, self.preprocessing, batch_size, order=order, view=view):
            if len(batch.indices):
                with torch.no_grad():
                    values = self.trunk(normalise(sent(batch.pixels, self.device), self.preprocessing))
                yield values.float(), torch.from_numpy(self.labels[batch.indices])


@dataclass(frozen=True)
class SomeInputs:
    """The examples at `rows`, int (n,), of other inputs."""

    inputs: Inputs
    rows: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        return self.inputs.labels[self.rows]

    @property
    def weights(self) -> np.ndarray | None:
        return None if self.inputs.weights is None else self.inputs.weights[self.rows]

    def batches(self, order: np.ndarray, batch_size: int, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        return self.inputs.batches(self.rows[order], batch_size, epoch)


@dataclass(frozen=True)
class SetInputs:
    """Other inputs whose labels are indices of label sets, replaced by the rows of `table` (S, C)."""

    inputs: Inputs
    table: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        return self.table[self.inputs.labels]

    @property
    def weights(self) -> np.ndarray | None:
        return self.inputs.weights

    def batches(self, order: np.ndarray, batch_size: int, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        table = torch.from_numpy(self.table)
        return ((x, table[y]) for x, y in self.inputs.batches(order, batch_size, epoch))


def with_targets(inputs: Inputs, dataset: Dataset) -> Inputs:
    """Return the inputs, made of images of `dataset`, with labels in the form that a crown is trained on."""
    if dataset.label_sets is None:
        return inputs
    return SetInputs(inputs, dataset.label_matrix(np.arange(len(dataset.label_sets))))


def view_of(augmentation: Augmentation, seed: int, number: int) -> View | None:
    """Return view `number`, from 1; None, the image as it is, for 0 or without augmentation."""
    return None if number == 0 or augmentation == STRENGTHS["none"] else View(augmentation, seed, number)


def _shown(views: tuple[Tensor, ...], epoch: int) -> Tensor:
    """Return the view for an epoch: epoch 1 shows the first view, and after the last the first comes again."""
    return views[max(epoch - 1, 0) % len(views)]


def _groups(order: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    return (order[start : start + batch_size] for start in range(0, len(order), batch_size))
