"""Seeded random numbers that leave no trace in the generators that the rest of the process draws from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from graft.given import whole_number

if TYPE_CHECKING:
    import torch

# Small enough that numpy and torch accept it, and the seeds derived from it for every epoch as well.
LARGEST_SEED = 2**32 - 1

# Replaces torch's own CPU generator where several threads would draw from that one.
_OWN: ContextVar[torch.Generator | None] = ContextVar("own generator", default=None)


def check_seed(seed: int) -> int:
    """Return `seed` as a Python int. Raises InputError if it is negative, too large, or anything else."""
    return whole_number(seed, "--seed", 0, LARGEST_SEED, "choose another")


@contextmanager
def seeded(seed: int, device: str = "cpu") -> Iterator[None]:
    """Seed torch's own generators of the CPU and of `device` for the duration of the block.

    Afterwards they continue from their earlier state. Within `drawing_apart`, its generator is seeded in place of the
    CPU's.
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
    """Seed torch's own generators of the CPU and of `device`; for use within `seeded`.

    `torch.manual_seed`, by contrast, seeds every other device too, even those not in use yet.
    """
    import torch

    (_OWN.get() or torch.default_generator).manual_seed(seed)
    if device != "cpu":
        with torch.cuda.device(torch.device(device)):
            torch.cuda.manual_seed(seed)


@contextmanager
def drawing_apart() -> Iterator[torch.Generator]:
    """Within the block, seed a generator of this thread alone, which all code in the block has to draw from.

    With the same seed, it gives the numbers that torch's own CPU generator gives.
    """
    import torch

    own = torch.Generator()
    token = _OWN.set(own)
    try:
        yield own
    finally:
        _OWN.reset(token)


def generator() -> torch.Generator:
    """Return the CPU generator that `seeded` has seeded."""
    import torch

    return _OWN.get() or torch.default_generator
