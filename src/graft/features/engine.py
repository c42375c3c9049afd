"""Choose the engine that runs a frozen trunk, and its precision."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from graft.data.loading import available_cores
from graft.errors import InputError
from graft.forking import work_alone_when_forked
from graft.given import truth, whole_number
from graft.progress import NOBODY, Reporter

if TYPE_CHECKING:
    from torch import Tensor, nn

    from graft.data.loading import Batch
    from graft.images.preprocessing import Preprocessing
    from graft.models.network import Section

EngineName = Literal["torch", "openvino"]
Precision = Literal["float32", "bfloat16"]

ENGINES = ("auto", "torch", "openvino")
PRECISIONS = ("auto", "float32", "bfloat16")
# More threads than this per core, or in all on a small machine, only cost memory.
MOST_THREADS_PER_CORE, MOST_THREADS = 8, 64

# Entries in /dev of accelerator drivers: NVIDIA, NVIDIA's small boards, AMD, and Linux under Windows.
DEVICES = ("nvidiactl", "nvidia0", "nvhost-gpu", "nvmap", "kfd", "dxg")


def _threads() -> int:
    import torch

    return torch.get_num_threads()


@dataclass(frozen=True)
class Choice:
    """An engine, its precision, its device and its threads, with the reason in a few words.

    `threads` is the number of threads that PyTorch uses on a CPU. OpenVINO uses as many as it finds best, unless the
    choice is `deterministic`: then it uses as many as PyTorch, and computations within `repeatable(choice)` can be
    repeated to the bit on another day.
    """

    engine: EngineName
    precision: Precision
    device: str
    reason: str
    threads: int = field(default_factory=_threads)
    deterministic: bool = False
    # Whether images arrive one at a time, as in a service, rather than many together.
    singles: bool = False

    def __str__(self) -> str:
        threads = f" with {self.threads} thread{'' if self.threads == 1 else 's'}" if self.device == "cpu" else ""
        return f"{self.engine} {self.precision} on {self.device}{threads}{', deterministic' * self.deterministic}"

    @property
    def arithmetic(self) -> str:
        """The part of the choice, besides precision, that decides the numbers: part of their cache key."""
        if self.deterministic:
            return f"{self.engine} with {self.threads} threads"
        # The number of images per request changes the order of float32 sums.
        return "openvino by maps" if (self.engine, self.precision) == ("openvino", "float32") else self.engine


class Engine(Protocol):
    """A section ready to run on images, in one thread or in many, in the process that opened it."""

    output_shape: tuple[int, ...]

    def run(self, batches: Iterable[Batch]) -> Generator[tuple[Batch, Tensor], None, None]:
        """Yield each batch with its activations (n, …), on the CPU in the engine's precision, in the order given.

        Concurrent runs are independent, and closing one releases its resources. The activations of an image depend on
        no other image. On OpenVINO, they do not depend on the size of the batch either; PyTorch sums in another order
        for another batch size, which shows in the last bits of float32.
        """
        ...


def choose(
    engine: str = "auto", precision: str = "auto", *, deterministic: bool = False, threads: int | None = None
) -> Choice:
    """Choose the engine for this machine: torch on an accelerator, else OpenVINO if installed, else torch.

    `auto` precision is bfloat16 where the hardware supports it. A `deterministic` choice uses `threads` threads, by
    default as many as PyTorch does, so that it can be repeated on a machine with more or fewer cores. Raises InputError
    for an unknown or unavailable engine or precision, and for an invalid number of threads or one far beyond the cores.
    """
    if engine not in ENGINES or precision not in PRECISIONS:
        of_engine = engine not in ENGINES
        option, word, known = ("engine", engine, ENGINES) if of_engine else ("precision", precision, PRECISIONS)
        raise InputError(f"expected one of {', '.join(known)} for --{option}, got {word!r}: choose one of them")
    deterministic = truth(deterministic, "--deterministic")
    if threads is not None:
        most = max(MOST_THREADS, MOST_THREADS_PER_CORE * available_cores())
        threads = whole_number(threads, "--threads", 1, most, "the number of cores is usual")
        if not deterministic:
            raise InputError(
                f"expected --deterministic with --threads, got --threads {threads} without it: add --deterministic"
            )
    choice = _choose(engine, precision)
    return replace(choice, threads=threads or choice.threads, deterministic=deterministic)


def _choose(engine: str, precision: str) -> Choice:
    import torch

    if engine == "openvino" and not openvino_installed():
        raise InputError(
            "expected OpenVINO for --engine openvino, got none installed: install it (`pip install openvino`) or "
            "use --engine torch"
        )
    if engine != "openvino" and torch.cuda.is_available():
        bfloat16 = precision == "bfloat16" or (precision == "auto" and torch.cuda.is_bf16_supported())
        return Choice("torch", "bfloat16" if bfloat16 else "float32", "cuda", "an accelerator is available")
    bfloat16 = precision == "bfloat16" or (precision == "auto" and processor_has_bfloat16())
    chosen: Precision = "bfloat16" if bfloat16 else "float32"
    if engine == "openvino" or (engine == "auto" and openvino_installed()):
        return Choice("openvino", chosen, "cpu", "the fastest on this processor" if engine == "auto" else "as asked")
    return Choice("torch", chosen, "cpu", "OpenVINO is not installed" if engine == "auto" else "as asked")


def for_answers(choice: Choice, network: nn.Module, asked: str) -> Choice:
    """Return `choice` for predicting with a trained network; if `asked` is `auto`, in a precision that is safe for it.

    Networks with depthwise convolutions predict in float32 on a CPU. In bfloat16, the probability that a MobileNet 0.25
    gave its first class changed by 0.03 on average and 0.27 at most, and the label of 1.3 % of images changed. With
    AMX, bfloat16 is 1.7 times as fast for it and 1.9 times for MobileNetV2, without decoding; it is used on request.
    """
    return replace(choice, precision=precision_for(network, choice)) if asked == "auto" else choice


def precision_for(module: nn.Module, choice: Choice) -> Precision:
    """Return the engine's precision, or float32 for depthwise convolutions on a CPU, which bfloat16 does not speed up.

    Training steps per second relative to float32, on two cores with AMX: ResNet-50 1.8, CIFAR ResNet-20 1.3,
    MobileNetV2 from its middle on 0.9, MobileNet 0.25 from its middle on 0.8.
    """
    return "float32" if choice.device == "cpu" and has_depthwise(module) else choice.precision


def has_depthwise(module: nn.Module) -> bool:
    """Return whether any convolution has a separate kernel for every channel."""
    from torch import nn

    return any(isinstance(each, nn.Conv2d) and each.groups == each.in_channels > 1 for each in module.modules())


def open_engine(choice: Choice, section: Section, preprocessing: Preprocessing, reporter: Reporter = NOBODY) -> Engine:
    """Open the engine of `choice`, ready to run `section` (in evaluation mode) on pixels uint8 (n, C, size, size).

    `reporter` receives notes on a cache that is damaged or cannot be written, and on a fallback to a slower path.
    Raises GraftError if the engine cannot run the section, or cannot work because this process was forked.
    """
    work_alone_when_forked()
    if choice.engine == "openvino":
        from graft.features.openvino_engine import OpenVINOEngine

        threads = choice.threads if choice.deterministic else None
        return OpenVINOEngine(section, preprocessing, choice.precision, reporter, threads, choice.singles)
    from graft.features.torch_engine import TorchEngine

    return TorchEngine(section, preprocessing, choice.precision, choice.device)


def accelerator_is_possible() -> bool:
    """Return whether PyTorch might find an accelerator here; False only if it certainly cannot."""
    if sys.platform == "darwin":
        # graft does not use Apple's accelerator.
        return False
    if sys.platform != "linux":
        return True
    return any(Path("/dev", name).exists() for name in DEVICES)


def openvino_installed() -> bool:
    return find_spec("openvino") is not None


def processor_has_bfloat16() -> bool:
    """Return whether bfloat16 convolutions run in hardware (AVX-512 BF16 or AMX on x86, BF16 on Arm)."""
    import torch

    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) if torch.backends.mkldnn.is_available() else False
