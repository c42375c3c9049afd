"""Asynchronous copies of tensors to the computing device and back, while it does other work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")


def sent(x: Tensor, device: str | torch.device, memory_format: torch.memory_format | None = None) -> Tensor:
    """Return `x` on `device`, in `memory_format` if given; a copy to a GPU does not wait for its pending work.

    A plain copy to a GPU waits for everything before it, so the next batch cannot be prepared meanwhile. A copy from
    pinned memory, which the system cannot move, is queued like any computation. PyTorch does not reuse such memory
    until the copy is done.
    """
    import torch

    there = torch.device(device)
    layout = torch.preserve_format if memory_format is None else memory_format
    if there.type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(there, non_blocking=True, memory_format=layout)
    return x.to(there, memory_format=layout)


def fetching(x: Tensor) -> Callable[[], Tensor]:
    """Start copying `x` to the CPU; the returned function waits for the copy, and only for work queued before it."""
    import torch

    if x.device.type != "cuda":
        return x.cpu
    # Into pinned memory, which PyTorch requires for an asynchronous copy.
    there = x.to("cpu", non_blocking=True)
    done = torch.cuda.Event()
    done.record(torch.cuda.current_stream(x.device))

    def fetched() -> Tensor:
        done.synchronize()
        # Into pageable memory: a caller that collects many results would otherwise pin all of them.
        return there.clone()

    return fetched


def one_behind(begun: Iterable[tuple[T, Callable[[], Tensor]]]) -> Iterator[tuple[T, Tensor]]:
    """Yield each item and its result in order, waiting for one only after the next has been started."""
    before: tuple[T, Callable[[], Tensor]] | None = None
    for each in begun:
        if before is not None:
            yield before[0], before[1]()
        before = each
    if before is not None:
        yield before[0], before[1]()
