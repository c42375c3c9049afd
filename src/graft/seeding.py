"""Random numbers by seed, without a trace in the generators that the rest of the process draws from."""

from collections.abc import Iterator
from contextlib import contextmanager

from graft.given import whole_number

# Small enough that numpy and torch take it, and what is derived from it: a seed of every epoch.
LARGEST_SEED = 2**32 - 1


def check_seed(seed: int) -> int:
    """`seed` as Python's own number. Raises InputError for one that is negative or too large, and for anything else."""
    return whole_number(seed, "--seed", 0, LARGEST_SEED, "choose another")


@contextmanager
def seeded(seed: int, device: str = "cpu") -> Iterator[None]:
    """While the block runs, torch's own generators of the CPU and of `device` start from `seed`.

    Afterwards they go on from where they stood before.
    """
    import torch

    with torch.random.fork_rng([] if device == "cpu" else [torch.device(device)]):
        draw_from(seed, device)
        yield


def draw_from(seed: int, device: str = "cpu") -> None:
    """Start torch's own generators of the CPU and of `device` from `seed`; for use within `seeded`.

    Unlike `torch.manual_seed`, which reaches every other device too, even those that are not in use yet.
    """
    import torch

    torch.default_generator.manual_seed(seed)
    if device != "cpu":
        with torch.cuda.device(torch.device(device)):
            torch.cuda.manual_seed(seed)
