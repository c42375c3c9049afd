"""Tensors on their way to the device that computes, and back, while it is at other work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")


def sent(x: Tensor, device: str | torch.device, memory_format: torch.memory_format | None = None) -> Tensor:
    """`x` on `device`, in `memory_format` if there is one; on a GPU without waiting for what that has yet to compute.

    A plain copy to a GPU waits until all before it is done, so that nobody prepares the next batch meanwhile. One from
    memory that is pinned, which the system cannot move, is queued like any computation. PyTorch gives such memory to
    nobody else before the copy is done.
    """
    import torch

    there = torch.device(device)
    layout = torch.preserve_format if memory_format is None else memory_format
    if there.type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(there, non_blocking=True, memory_format=layout)
    return x.to(there, memory_format=layout)


def fetching(x: Tensor) -> Callable[[], Tensor]:
    """Begin to bring `x` to the CPU; what is returned waits for it, and only for what was queued before it."""
    import torch

    if x.device.type != "cuda":
        return x.cpu
    # To memory that is pinned, as PyTorch takes it for a copy that nobody waits for.
    there = x.to("cpu", non_blocking=True)
    done = torch.cuda.Event()
    done.record(torch.cuda.current_stream(x.device))

    def fetched() -> Tensor:
        done.synchronize()
        # In common memory: whoever collects many would pin all of it.
        return there.clone()

    return fetched


def one_behind(begun: Iterable[tuple[T, Callable[[], Tensor]]]) -> Iterator[tuple[T, Tensor]]:
    """What was begun and what it comes to, in order, each waited for once the next has been begun as well."""
    before: tuple[T, Callable[[], Tensor]] | None = None
    for each in begun:
        if before is not None:
            yield before[0], before[1]()
        before = each
    if before is not None:
        yield before[0], before[1]()
