"""Random numbers by seed, without a trace in the generators that the rest of the process draws from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from graft.given import whole_number

if TYPE_CHECKING:
    import torch

# Small enough that numpy and torch take it, and what is derived from it: a seed of every epoch.
LARGEST_SEED = 2**32 - 1

# What is drawn from in place of torch's own generator of the CPU, where several threads would draw from that.
_OWN: ContextVar[torch.Generator | None] = ContextVar("own generator", default=None)


def check_seed(seed: int) -> int:
    """`seed` as Python's own number. Raises InputError for one that is negative or too large, and for anything else."""
    return whole_number(seed, "--seed", 0, LARGEST_SEED, "choose another")


@contextmanager
def seeded(seed: int, device: str = "cpu") -> Iterator[None]:
    """While the block runs, torch's own generators of the CPU and of `device` start from `seed`.

    Afterwards they go on from where they stood before. Within `drawing_apart` it is the generator of that.
    """
    import torch

    if _OWN.get() is not None:
        draw_from(seed)
        yield
        return
    with torch.random.fork_rng([] if device == "cpu" else [torch.device(device)]):
        draw_from(seed, device)
        yield


def draw_from(seed: int, device: str = "cpu") -> None:
    """Start torch's own generators of the CPU and of `device` from `seed`; for use within `seeded`.

    Unlike `torch.manual_seed`, which reaches every other device too, even those that are not in use yet.
    """
    import torch

    (_OWN.get() or torch.default_generator).manual_seed(seed)
    if device != "cpu":
        with torch.cuda.device(torch.device(device)):
            torch.cuda.manual_seed(seed)


@contextmanager
def drawing_apart() -> Iterator[torch.Generator]:
    """Within the block, what is seeded is a generator of this thread alone: whoever draws in the block has to use it.

    Seeded alike, it gives what torch's own of the CPU gives.
    """
    import torch

    own = torch.Generator()
    token = _OWN.set(own)
    try:
        yield own
    finally:
        _OWN.reset(token)


def generator() -> torch.Generator:
    """What `seeded` has seeded for the CPU."""
    import torch

    return _OWN.get() or torch.default_generator
