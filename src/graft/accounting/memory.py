"""Bytes that a forward pass and a training step hold at once, found without computing either.

The pass runs on the meta device, autograd included, and every operation is watched. The rules:

- A tensor takes the bytes of its storage from the operation that makes it until nothing refers to it any more, as when
  torch runs without a compiler: its last user has run, autograd does not need it, and no variable of a block that is
  still running holds it. Views share a storage, and what is written in place takes no new one.
- The batch is there from beginning to end. What trains does so on cross-entropy, with labels of eight bytes.
- Left out: what a kernel takes for itself while it runs (oneDNN's copies in a layout of its own, cuDNN's workspace),
  what an allocator rounds up or keeps for later, and what an optimizer's update needs for a moment.

With the first of these left out of the measurement too, real runs on a CPU agree (ResNet-18, MobileNet v2, VGG-11,
DenseNet-121, GoogLeNet, EfficientNet-B0, at 64 and 96 pixels, batches of 2 to 16): within 0.05 % forwards, and in
training from exactly to 2 % too much: where branches meet, torch sums gradients in place only while nobody watches.
With oneDNN's copies real runs take more: forwards some 10 %, or some MB where weights outweigh activations, as they do
in small batches; in training 0 to 4 %.
"""

import weakref
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft.accounting.dry_run import DryRun, empty_batch, reason, tensors, without_data
from graft.errors import InputError

Optimizer = Literal["sgd", "momentum", "adamw"]

# What each optimizer remembers of every parameter that trains: nothing; a momentum; the means of gradients and of their
# squares. AdamW's count of steps, four bytes a tensor, is left out.
_REMEMBERED: dict[Optimizer, int] = {"sgd": 0, "momentum": 1, "adamw": 2}


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of a training step by what they are for. They are not all there at once: for that see `peak`."""

    parameters: int  # of trunk and crown, with buffers such as running means
    gradients: int  # of the parameters that train, all there when the backward pass ends
    trunk: int  # the most that the trunk's forward pass holds, the batch included
    saved: int  # held when the crown's forward pass ends: batch, trunk's output, logits, all that autograd keeps
    activations: int  # the most there ever is besides parameters and their gradients
    working: int  # the same with those gradients, which come as activations go

    def optimizer_state(self, optimizer: Optimizer) -> int:
        """What the optimizer keeps from step to step."""
        return _REMEMBERED[optimizer] * self.gradients

    def peak(self, optimizer: Optimizer) -> int:
        """The most there is at once, from the second step on, if gradients are deleted between steps."""
        return self.parameters + self.optimizer_state(optimizer) + self.working


def forward_memory(module: nn.Module, input_shape: tuple[int, ...], batch_size: int = 1) -> int:
    """The most bytes that `module` holds at once in evaluation: the batch and activations, not its parameters.

    `input_shape` is that of one input, without the batch. Works on any module, on any device, and leaves it alone.
    Raises InputError if the module cannot take such a batch.
    """
    network = without_data(module).eval()
    batch = empty_batch(network, input_shape, batch_size)
    with _Ledger([*network.parameters(), *network.buffers()], batch) as ledger, torch.no_grad():
        network(batch)
    return ledger.peak()


def training_memory(
    trunk: nn.Module, crown: nn.Module, input_shape: tuple[int, ...], batch_size: int
) -> TrainingMemory:
    """The memory of a training step: `trunk` in evaluation without gradients, `crown` in training mode on its output.

    Either may be empty (`nn.Sequential()`): without a trunk `input_shape` is what the crown takes, as when the trunk's
    outputs come from a cache. All outputs of the crown are logits (N, classes, ...), so one that runs auxiliary
    classifiers too is counted with them; of its parameters those train that require gradients. Works on any modules, on
    any device, and leaves them alone. Raises InputError if they cannot take such a batch.
    """
    both = without_data(nn.ModuleList([trunk, crown]))
    frozen, trained = both.get_submodule("0").eval(), both.get_submodule("1").train()
    resident = [*both.parameters(), *both.buffers()]
    batch = empty_batch(both, input_shape, batch_size)
    with _Ledger(resident, batch) as ledger:
        with torch.no_grad():
            boundary = frozen(batch)
        trunk_peak = ledger.peak()
        logits = trained(boundary)
        if any(parameter.requires_grad for parameter in trained.parameters()):
            loss = _loss(logits)
            saved = ledger.held()
            loss.backward()
        else:
            saved = ledger.held()
    gradients = [parameter.grad for parameter in both.parameters() if parameter.grad is not None]
    return TrainingMemory(
        parameters=sum(tensor.nbytes for tensor in resident),
        gradients=sum(tensor.nbytes for tensor in gradients),
        trunk=trunk_peak,
        saved=saved,
        activations=ledger.peak(without=gradients),
        working=ledger.peak(),
    )


def _loss(logits: Any) -> Tensor:
    losses = []
    for each in tensors(logits):
        labels = each.new_empty((len(each), *each.shape[2:]), dtype=torch.int64)
        losses.append(F.cross_entropy(each, labels))
    return torch.stack(losses).sum()


class _Ledger(DryRun):
    """Books every storage when it comes and when it goes; those of `resident` tensors are there anyway."""

    def __init__(self, resident: Iterable[Tensor], batch: Tensor) -> None:
        super().__init__()
        self._batch = batch
        self._bookings: list[tuple[int, int]] = []  # number of a storage, bytes that came or (negative) went
        # By address: the number of a storage and the reference that tells when it goes.
        self._present: dict[int, tuple[int, Any]] = {_address(tensor): (-1, None) for tensor in resident}
        self.book(batch)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)
        if isinstance(error, Exception) and not isinstance(error, InputError):  # a network may know what it can take
            raise InputError(
                f"expected a batch that the network can take, got {tuple(self._batch.shape)} ({reason(error)}): give "
                "the shape of the inputs it was made for"
            ) from error

    def saw(self, func: Any, arguments: dict[str, Any], result: Any) -> None:
        for tensor in tensors(result):
            self.book(tensor)

    def book(self, tensor: Tensor) -> None:
        address, storage = _address(tensor), tensor.untyped_storage()
        if address in self._present:
            return
        number, size = len(self._bookings), storage.nbytes()

        def gone(_: object) -> None:
            del self._present[address]
            self._bookings.append((number, -size))

        self._bookings.append((number, size))
        self._present[address] = (number, weakref.ref(storage, gone))

    def held(self) -> int:
        """Bytes there now."""
        return sum(size for _, size in self._bookings)

    def peak(self, without: Collection[Tensor] = ()) -> int:
        """The most bytes there were at once, not counting the storages of some tensors that are still there."""
        apart = {self._present[_address(tensor)][0] for tensor in without}
        return max(accumulate((size for number, size in self._bookings if number not in apart), initial=0))


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
