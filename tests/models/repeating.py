"""A cheap random start, for networks whose outputs are only compared within one test."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from torch import Tensor

# The length of the drawn block; larger tensors repeat it.
BLOCK = 1 << 18


@contextmanager
def repeating_draws() -> Iterator[None]:
    """While the block runs, a large tensor is filled with one block of random numbers over and over.

    Each tensor keeps its distribution, so a network starts as it does otherwise, only without the seconds that the
    hundred million weights of VGG's first dense layer take.
    """
    with pytest.MonkeyPatch.context() as monkeypatch:
        for draw in ("normal_", "uniform_"):
            monkeypatch.setattr(Tensor, draw, _repeated(getattr(Tensor, draw)))
        yield


def _repeated(draw):
    def fill(tensor, *args, **kwargs):
        if tensor.is_meta or tensor.numel() <= BLOCK or not tensor.is_contiguous():
            return draw(tensor, *args, **kwargs)
        flat = tensor.view(-1)
        block = draw(flat[:BLOCK], *args, **kwargs)
        whole = flat.numel() // BLOCK
        flat[BLOCK : whole * BLOCK].view(whole - 1, BLOCK).copy_(block.expand(whole - 1, BLOCK))
        flat[whole * BLOCK :].copy_(block[: flat.numel() % BLOCK])
        return tensor

    return fill
