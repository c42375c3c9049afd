"""Layers that look beyond one image, dropout and batch norm, for batches computed in pieces.

Both treat the pieces as they would treat the whole batch, whichever process has them.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from graft.training.lockstep import PLACE, Place


@dataclass(frozen=True)
class Rows:
    """The rows of a batch of `whole` that a piece has: `count` of them from `first` on."""

    first: int
    count: int
    whole: int


def rows_of(piece: int, pieces: int, whole: int) -> Rows:
    """Return the rows that piece number `piece` of `pieces` has of a batch of `whole`.

    Piece sizes differ by at most one, earlier pieces are never smaller than later ones, and no piece shrinks when the
    batch grows. So in a short batch at the end of an epoch, no piece has more than usual.
    """
    least, more = divmod(whole, pieces)
    return Rows(piece * least + min(piece, more), least + (piece < more), whole)


class OwnDropout(TorchFunctionMode):
    """Within the block, dropout draws from its own `generator`; None means that of the device.

    With `rows` of a batch, it draws for the whole batch, as one process would, and uses the part for those rows, so
    that every piece draws the same.
    """

    def __init__(self, generator: torch.Generator | None, rows: Rows | None = None) -> None:
        super().__init__()
        self._generator, self._rows = generator, rows

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is F.dropout:
            return self._drop(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))

    def _drop(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0:
            return x
        rows = self._rows or Rows(0, len(x), len(x))
        like_batch = x.new_empty((rows.whole, *x.shape[1:]))
        if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
            like_batch = like_batch.contiguous(memory_format=torch.channels_last)
        kept = like_batch.bernoulli_(1 - p, generator=self._generator).div_(1 - p)
        return x * kept[rows.first : rows.first + len(x)]


def normalised_by_batch(crown: nn.Module, batch_norm: str) -> list[_BatchNorm]:
    """Return the norms that take their statistics from the batch: see `training_mode.put_in_training_mode`."""
    norms = [module for module in crown.modules() if isinstance(module, _BatchNorm)]
    return [norm for norm in norms if batch_norm == "batch" or norm.running_mean is None]


@contextmanager
def norms_shared(crown: nn.Module, batch_norm: str) -> Iterator[None]:
    """While the block trains `crown`, norms that use batch statistics take them over all pieces of the batch.

    torch's own SyncBatchNorm does so on GPUs only. Every process must take part in each forward and backward pass, even
    without a piece of the batch: see `Lockstep`.
    """
    norms = normalised_by_batch(crown, batch_norm)
    for norm in norms:
        norm.forward = partial(_normalised, norm, type(norm).forward)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.__dict__["forward"]


class _Sum(torch.autograd.Function):
    """The sum over all pieces; every piece depends on it, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(context: Any, own: Tensor, place: Place) -> Tensor:
        context.place = place
        return place.sum(own)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return context.place.sum(gradient.contiguous()), None


def _normalised(norm: _BatchNorm, alone: Callable[..., Tensor], x: Tensor) -> Tensor:
    place = PLACE.get()
    if place is None or not norm.training:
        return alone(norm, x)
    values = x.float()
    axes = [axis for axis in range(x.ndim) if axis != 1]
    shape = [1, -1, *(1 for _ in axes[1:])]
    # One more number per piece: how many values each channel has.
    own = torch.cat([values.sum(axes), values.new_tensor([values.numel() / max(1, x.shape[1])])])
    sums = _Sum.apply(own, place)
    count = float(sums[-1].detach())
    if count == 1 and norm.running_mean is not None:
        # A single value has no variance: see `training_mode.single_values_normalised`.
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
    mean = sums[:-1] / count
    centred = values - mean.view(shape)
    variance = _Sum.apply((centred**2).sum(axes), place) / count
    if place.number == 0:
        # All pieces have the same statistics, which must be followed once.
        _follow(norm, mean.detach(), variance.detach() * count / max(count - 1, 1))
    result = centred * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        result = result * norm.weight.view(shape) + norm.bias.view(shape)
    return result.to(x.dtype)


@torch.no_grad()
def _follow(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Update the running statistics as torch does."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    share = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean, share)
    norm.running_var.lerp_(variance, share)
