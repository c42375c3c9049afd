"""Sending tensors to a device: what goes where, from which memory, and the order of waiting.

Only a CPU is needed: calls for a GPU are recorded instead of made.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from graft.images.preprocessing import Preprocessing
from graft.sending import fetching, one_behind, sent
from graft.training.inputs import ActivationInputs, PixelInputs

PREPROCESSING = Preprocessing(size=8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


class OnTheCPU:
    """Stands in for a tensor on the CPU, and records its calls."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def pin_memory(self) -> "OnTheCPU":
        self.asked.append(("pin_memory", (), {}))
        return self

    def to(self, *places: Any, **how: Any) -> "OnTheCPU":
        self.asked.append(("to", places, how))
        return self


def test_what_goes_to_a_gpu_is_pinned_and_queued() -> None:
    x = OnTheCPU()
    sent(x, "cuda", torch.channels_last)  # type: ignore[arg-type]
    how = {"non_blocking": True, "memory_format": torch.channels_last}
    assert x.asked == [("pin_memory", (), {}), ("to", (torch.device("cuda"),), how)]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_goes_elsewhere_is_neither_pinned_nor_queued(device: str) -> None:
    x = OnTheCPU()
    sent(x, device)  # type: ignore[arg-type]
    assert x.asked == [("to", (torch.device(device),), {"memory_format": torch.preserve_format})]


def test_what_stays_on_the_cpu_is_the_tensor_itself() -> None:
    x = torch.rand(2, 3, 4, 4)
    assert sent(x, "cpu") is x and fetching(x)() is x
    there = sent(x, "cpu", torch.channels_last)
    assert torch.equal(there, x) and there.is_contiguous(memory_format=torch.channels_last)


def test_each_is_waited_for_once_the_next_was_begun() -> None:
    order: list[str] = []

    def begun() -> Iterator[tuple[int, Callable[[], Tensor]]]:
        for number in range(3):
            order.append(f"begin {number}")

            def finish(number: int = number) -> Tensor:
                order.append(f"finish {number}")
                return torch.tensor(10 * number)

            yield number, finish

    made = [(number, int(value)) for number, value in one_behind(begun())]
    assert made == [(0, 0), (1, 10), (2, 20)]
    assert order == ["begin 0", "begin 1", "finish 0", "begin 2", "finish 1", "finish 2"]
    assert list(one_behind([])) == []


def test_batches_come_to_their_device_with_labels_beside_them() -> None:
    labels = np.arange(5)
    pixels = torch.zeros((5, 3, 8, 8), dtype=torch.uint8)
    maps = torch.zeros((5, 4, 2, 2), dtype=torch.bfloat16)
    for inputs, shape in (
        (PixelInputs((pixels,), labels, PREPROCESSING, device="meta"), (2, 3, 8, 8)),
        (ActivationInputs((maps,), labels, device="meta"), (2, 4, 2, 2)),
    ):
        x, y = next(inputs.batches(np.array([4, 1, 0]), 2))
        assert (x.device.type, x.dtype, tuple(x.shape)) == ("meta", torch.float32, shape)
        assert y.tolist() == [4, 1]
    assert x.is_contiguous(memory_format=torch.channels_last)
