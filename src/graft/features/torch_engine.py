"""Frozen trunks on eager PyTorch: the reference, and the engine of accelerators."""

from collections.abc import Callable, Generator, Iterable

import torch
from torch import Tensor

from graft.data.loading import Batch
from graft.errors import GraftError
from graft.features.engine import Precision
from graft.images.preprocessing import Preprocessing, normalise
from graft.models.network import Section
from graft.models.placing import on_device
from graft.sending import fetching, one_behind, sent


class TorchEngine:
    """Run a section unchanged in float32, or under autocast with channels last in bfloat16."""

    def __init__(self, section: Section, preprocessing: Preprocessing, precision: Precision, device: str) -> None:
        if device == "cuda" and torch.cuda._is_in_bad_fork():
            raise GraftError(
                "expected a process that the accelerator can work for, got one forked from a process that has already "
                "used it: start processes with the `spawn` method, or fork before the first prediction"
            )
        self._section = on_device(section, device)
        self._preprocessing = preprocessing
        self._device = torch.device(device)
        self._bfloat16 = precision == "bfloat16"
        self._layout = torch.channels_last if self._bfloat16 else torch.contiguous_format
        sample = torch.zeros((1, preprocessing.channels, preprocessing.size, preprocessing.size), dtype=torch.uint8)
        self.output_shape = tuple(self._begun(sample)().shape[1:])

    def run(self, batches: Iterable[Batch]) -> Generator[tuple[Batch, Tensor], None, None]:
        begun = ((batch, self._begun(batch.pixels)) for batch in batches)
        if self._device.type == "cpu":
            # On the CPU, the work is done as soon as it has begun.
            yield from ((batch, finish()) for batch, finish in begun)
        else:
            yield from one_behind(begun)

    @torch.inference_mode()
    def _begun(self, pixels: Tensor) -> Callable[[], Tensor]:
        """Start computing the activations; return a function that waits for them and returns them."""
        if not len(pixels):
            nothing = torch.empty((0, *self.output_shape), dtype=torch.bfloat16 if self._bfloat16 else torch.float32)
            return nothing.cpu
        self._section.eval()
        x = normalise(sent(pixels, self._device), self._preprocessing).contiguous(memory_format=self._layout)
        # Without autocast's weight cache, which all threads share, including one that trains.
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16, cache_enabled=False):
            y = self._section(x)
        return fetching((y.bfloat16() if self._bfloat16 else y).contiguous())
