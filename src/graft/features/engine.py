"""Which engine runs a frozen trunk, and in which precision."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, Protocol

import torch

from graft.errors import InputError
from graft.progress import NOBODY, Reporter

if TYPE_CHECKING:
    from torch import Tensor

    from graft.data.loading import Batch
    from graft.images.preprocessing import Preprocessing
    from graft.models.network import Section

EngineName = Literal["torch", "openvino"]
Precision = Literal["float32", "bfloat16"]

ENGINES = ("auto", "torch", "openvino")
PRECISIONS = ("auto", "float32", "bfloat16")

# The process that read this file; any other that sees it was forked from it.
_PROCESS = os.getpid()


@dataclass(frozen=True)
class Choice:
    """An engine, its precision and its device, and in a few words why."""

    engine: EngineName
    precision: Precision
    device: str
    reason: str

    def __str__(self) -> str:
        return f"{self.engine} {self.precision} on {self.device}"


class Engine(Protocol):
    """A section ready to run on images, in one thread or in many, in the process that opened it."""

    output_shape: tuple[int, ...]

    def run(self, batches: Iterable[Batch]) -> Generator[tuple[Batch, Tensor], None, None]:
        """Each batch with its activations (n, …), on the CPU in the engine's precision, in the order given.

        Runs under way at the same time do not touch each other, and closing one frees what it holds. What is made of an
        image depends on no other image. On OpenVINO it does not depend on the size of the batch either; PyTorch adds
        up in another order where a batch is of another size, which shows in the last bits of float32.
        """
        ...


def choose(engine: str = "auto", precision: str = "auto") -> Choice:
    """The engine to use on this machine: torch on an accelerator, else OpenVINO where it is installed, else torch.

    `auto` precision is bfloat16 where the processor has instructions for it. Raises InputError for what is not there.
    """
    if engine not in ENGINES or precision not in PRECISIONS:
        word, known = (engine, ENGINES) if engine not in ENGINES else (precision, PRECISIONS)
        raise InputError(f"expected one of {', '.join(known)}, got {word!r}: choose one of them")
    if engine == "openvino" and not openvino_installed():
        raise InputError(
            "expected OpenVINO for --engine openvino, got none installed: `pip install openvino`, or torch"
        )
    if engine != "openvino" and torch.cuda.is_available():
        bfloat16 = precision == "bfloat16" or (precision == "auto" and torch.cuda.is_bf16_supported())
        return Choice("torch", "bfloat16" if bfloat16 else "float32", "cuda", "an accelerator is at hand")
    bfloat16 = precision == "bfloat16" or (precision == "auto" and processor_has_bfloat16())
    chosen: Precision = "bfloat16" if bfloat16 else "float32"
    if engine == "openvino" or (engine == "auto" and openvino_installed()):
        return Choice("openvino", chosen, "cpu", "the fastest on this processor" if engine == "auto" else "as asked")
    return Choice("torch", chosen, "cpu", "OpenVINO is not installed" if engine == "auto" else "as asked")


def open_engine(choice: Choice, section: Section, preprocessing: Preprocessing, reporter: Reporter = NOBODY) -> Engine:
    """The engine of `choice`, ready to run `section` (in evaluation mode) on pixels uint8 (n, C, size, size).

    `reporter` is told of a cache that is damaged or cannot be written. Raises GraftError in a forked process where the
    engine cannot work.
    """
    work_alone_when_forked()
    if choice.engine == "openvino":
        from graft.features.openvino_engine import OpenVINOEngine

        return OpenVINOEngine(section, preprocessing, choice.precision, reporter)
    from graft.features.torch_engine import TorchEngine

    return TorchEngine(section, preprocessing, choice.precision, choice.device)


def work_alone_when_forked() -> None:
    """In a forked process, let PyTorch compute with one thread: it would wait for ever for the others of its parent."""
    if os.getpid() != _PROCESS:
        torch.set_num_threads(1)


def openvino_installed() -> bool:
    return find_spec("openvino") is not None


def processor_has_bfloat16() -> bool:
    """Whether convolutions in bfloat16 run in hardware (AVX-512 BF16 or AMX on x86, BF16 on Arm)."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) if torch.backends.mkldnn.is_available() else False
