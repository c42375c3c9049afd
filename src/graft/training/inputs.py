"""What a crown is trained on: activations from the cache, pixels in memory, or pictures read again every epoch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from graft.data.dataset import Pictures
from graft.data.loading import batches
from graft.images.preprocessing import Preprocessing, normalise


class Inputs(Protocol):
    """Examples in a fixed order: `labels` int64 (n,), and batches of the crown's input in any order asked for."""

    @property
    def labels(self) -> np.ndarray: ...

    def batches(self, order: np.ndarray, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Crown inputs float32 (b, …) and labels int64 (b,), every index in `order` once."""
        ...


@dataclass(frozen=True)
class ActivationInputs:
    """Activations at the cut (n, …), float32 or bfloat16, in memory or mapped from disk."""

    values: Tensor
    labels: np.ndarray

    def batches(self, order: np.ndarray, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        labels = torch.from_numpy(self.labels)
        for chosen in _groups(order, batch_size):
            index = torch.from_numpy(chosen)
            yield self.values[index].float(), labels[index]


@dataclass(frozen=True)
class PixelInputs:
    """Pixels uint8 (n, C, size, size) in memory, normalised as they are used: the cut before the first stage."""

    pixels: Tensor
    labels: np.ndarray
    preprocessing: Preprocessing

    def batches(self, order: np.ndarray, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        labels = torch.from_numpy(self.labels)
        for chosen in _groups(order, batch_size):
            index = torch.from_numpy(chosen)
            yield normalise(self.pixels[index], self.preprocessing), labels[index]


@dataclass(frozen=True)
class PictureInputs:
    """Pictures decoded every epoch, and run through the frozen trunk: for what fits neither memory nor the cache."""

    pictures: Pictures
    preprocessing: Preprocessing
    trunk: nn.Module
    device: torch.device

    @property
    def labels(self) -> np.ndarray:
        return self.pictures.labels

    def batches(self, order: np.ndarray, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        # The trunk is frozen: batch norm by its running statistics, whatever mode the crown is in.
        self.trunk.eval()
        for batch in batches(self.pictures, self.preprocessing, batch_size, order=order):
            if len(batch.indices):
                with torch.no_grad():
                    values = self.trunk(normalise(batch.pixels.to(self.device), self.preprocessing))
                yield values.float(), torch.from_numpy(self.labels[batch.indices])


def _groups(order: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    return (order[start : start + batch_size] for start in range(0, len(order), batch_size))
