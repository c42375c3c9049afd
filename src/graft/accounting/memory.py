"""Peak memory of a forward pass and of a training step, in bytes, found without computing either.

The pass runs on the meta device, including autograd, and every operation is observed. The rules:

- A tensor occupies the bytes of its storage from the operation that makes it until nothing refers to it any more, as in
  torch without a compiler: its last user has run, autograd does not need it, and no variable of a running block holds
  it. Views share a storage, and writing in place needs no new one.
- The batch is held from beginning to end. Training uses cross-entropy, with labels of eight bytes.
- Not counted: what a kernel allocates for itself while it runs (oneDNN's copies in its own layout, cuDNN's workspace),
  what an allocator rounds up or keeps for later, and the temporaries of an optimizer's update.

Without the kernels' own allocations, real runs on a CPU agree (ResNet-18, MobileNetV2, VGG-11, DenseNet-121, GoogLeNet,
EfficientNet-B0, at 64 and 96 pixels, batches of 2 to 16): the forward pass within 0.05 %, and training between exact
and 2 % too high, because where branches meet torch sums gradients in place only while they are not observed. With
oneDNN's copies real runs need more: about 10 % in the forward pass, or a few MB where weights outweigh activations, as
they do in small batches; and 0 to 4 % in training.
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

# Numbers that each optimizer keeps per trained parameter: none; a momentum; the means of gradients and of their
# squares. AdamW's count of steps, four bytes per tensor, is not counted.
_REMEMBERED: dict[Optimizer, int] = {"sgd": 0, "momentum": 1, "adamw": 2}


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of a training step by purpose. They are not all held at once: for the maximum see `peak`."""

    parameters: int  # of trunk and crown, including buffers such as running means
    gradients: int  # of the parameters that train, all held when the backward pass ends
    trunk: int  # peak of the trunk's forward pass, including the batch
    saved: int  # held when the crown's forward pass ends: batch, trunk's output, logits, everything autograd keeps
    activations: int  # peak of everything but parameters and their gradients
    working: int  # peak of everything but parameters; gradients arrive while activations are freed

    def optimizer_state(self, optimizer: Optimizer) -> int:
        """Bytes that the optimizer keeps between steps."""
        return _REMEMBERED[optimizer] * self.gradients

    def peak(self, optimizer: Optimizer) -> int:
        """The most bytes held at once, from the second step on, if gradients are deleted between steps."""
        return self.parameters + self.optimizer_state(optimizer) + self.working


def forward_memory(module: nn.Module, input_shape: tuple[int, ...], batch_size: int = 1) -> int:
    """Return the most bytes that `module` holds at once in evaluation: batch and activations, without its parameters.

    `input_shape` is the shape of one input, without the batch. Works on any module, on any device, and leaves it
    unchanged. Raises InputError if the module cannot take such a batch.
    """
    network = without_data(module).eval()
    batch = empty_batch(network, input_shape, batch_size)
    with _Ledger([*network.parameters(), *network.buffers()], batch) as ledger, torch.no_grad():
        network(batch)
    return ledger.peak()


def training_memory(
    trunk: nn.Module, crown: nn.Module, input_shape: tuple[int, ...], batch_size: int
) -> TrainingMemory:
    """Measure a training step: `trunk` in evaluation without gradients, `crown` in training mode on its output.

    Either may be empty (`nn.Sequential()`). Without a trunk, `input_shape` is the shape that the crown takes, as when
    the trunk's outputs come from a cache. All outputs of the crown are taken as logits (N, classes, ...), so auxiliary
    classifiers are counted if the crown runs them. Parameters that require gradients train. Works on any modules, on
    any device, and leaves them unchanged. Raises InputError if they cannot take such a batch.
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
    """Records when every storage is allocated and freed, except those of the `resident` tensors."""

    def __init__(self, resident: Iterable[Tensor], batch: Tensor) -> None:
        super().__init__()
        self._batch = batch
        self._bookings: list[tuple[int, int]] = []  # number of a storage, bytes allocated or (negative) freed
        # By address: the number of a storage, and the weak reference that reports when it is freed.
        self._present: dict[int, tuple[int, Any]] = {_address(tensor): (-1, None) for tensor in resident}
        self.book(batch)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)
        # An InputError is the network's own account of what it accepts.
        if isinstance(error, Exception) and not isinstance(error, InputError):
            raise InputError(
                f"expected a batch that the network accepts, got {tuple(self._batch.shape)} ({reason(error)}): give "
                "the shape of the inputs that it was built for"
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
        """Bytes held now."""
        return sum(size for _, size in self._bookings)

    def peak(self, without: Collection[Tensor] = ()) -> int:
        """The most bytes held at once so far, without the storages of some tensors that are still alive."""
        apart = {self._present[_address(tensor)][0] for tensor in without}
        return max(accumulate((size for number, size in self._bookings if number not in apart), initial=0))


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
