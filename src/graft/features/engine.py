"""Which engine runs a frozen trunk, and in which precision."""

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
# More threads than so many per core, or on a small machine in all, take its memory and compute nothing sooner.
MOST_THREADS_PER_CORE, MOST_THREADS = 8, 64

# What drivers of accelerators put in /dev: of NVIDIA, of NVIDIA's small boards, of AMD, of Windows around Linux.
DEVICES = ("nvidiactl", "nvidia0", "nvhost-gpu", "nvmap", "kfd", "dxg")


def _threads() -> int:
    import torch

    return torch.get_num_threads()


@dataclass(frozen=True)
class Choice:
    """An engine, its precision, its device and its threads, and in a few words why.

    `threads` is how many PyTorch computes with on a processor. OpenVINO takes as many as it finds best unless the
    choice is `deterministic`: then it takes as many as PyTorch, and what is computed within `repeatable(choice)` is the
    same to the bit on another day.
    """

    engine: EngineName
    precision: Precision
    device: str
    reason: str
    threads: int = field(default_factory=_threads)
    deterministic: bool = False
    # Whether images come one at a time rather than many together, as they come to a service.
    singles: bool = False

    def __str__(self) -> str:
        threads = f" with {self.threads} thread{'' if self.threads == 1 else 's'}" if self.device == "cpu" else ""
        return f"{self.engine} {self.precision} on {self.device}{threads}{', deterministic' * self.deterministic}"

    @property
    def arithmetic(self) -> str:
        """What of the choice but the precision decides the numbers, for the key of what is kept of them."""
        if self.deterministic:
            return f"{self.engine} with {self.threads} threads"
        # With how many images a request has, float32 is added up in another order.
        return "openvino by maps" if (self.engine, self.precision) == ("openvino", "float32") else self.engine


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


def choose(
    engine: str = "auto", precision: str = "auto", *, deterministic: bool = False, threads: int | None = None
) -> Choice:
    """The engine to use on this machine: torch on an accelerator, else OpenVINO where it is installed, else torch.

    `auto` precision is bfloat16 where the processor has instructions for it. A `deterministic` choice has `threads`, as
    many as PyTorch has by default, so that it can be made again on a machine with more cores or fewer. Raises
    InputError for what is not there, and for a number of threads that is none or far beyond the cores.
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
        return Choice("torch", "bfloat16" if bfloat16 else "float32", "cuda", "an accelerator is at hand")
    bfloat16 = precision == "bfloat16" or (precision == "auto" and processor_has_bfloat16())
    chosen: Precision = "bfloat16" if bfloat16 else "float32"
    if engine == "openvino" or (engine == "auto" and openvino_installed()):
        return Choice("openvino", chosen, "cpu", "the fastest on this processor" if engine == "auto" else "as asked")
    return Choice("torch", chosen, "cpu", "OpenVINO is not installed" if engine == "auto" else "as asked")


def for_answers(choice: Choice, network: nn.Module, asked: str) -> Choice:
    """`choice` for the answers of a trained network: where `asked` leaves the precision open, one that keeps them.

    Depthwise convolutions on a processor answer in float32. In bfloat16 a MobileNet 0.25 gave its first class another
    probability, by 0.03 on average and 0.27 at most, and 1.3 % of images another label. With AMX it is 1.7 times as
    fast there, MobileNetV2 1.9 times, without decoding; whoever wants that can ask for it.
    """
    return replace(choice, precision=precision_for(network, choice)) if asked == "auto" else choice


def precision_for(module: nn.Module, choice: Choice) -> Precision:
    """That of the engine; but float32 for depthwise convolutions on a processor, which do not train faster in bfloat16.

    On two cores with AMX, steps per second over those in float32: ResNet-50 1.8, CIFAR ResNet-20 1.3, MobileNetV2 from
    its middle on 0.9, MobileNet 0.25 from its middle on 0.8.
    """
    return "float32" if choice.device == "cpu" and has_depthwise(module) else choice.precision


def has_depthwise(module: nn.Module) -> bool:
    """Whether any convolution has a kernel of its own for every channel."""
    from torch import nn

    return any(isinstance(each, nn.Conv2d) and each.groups == each.in_channels > 1 for each in module.modules())


def open_engine(choice: Choice, section: Section, preprocessing: Preprocessing, reporter: Reporter = NOBODY) -> Engine:
    """The engine of `choice`, ready to run `section` (in evaluation mode) on pixels uint8 (n, C, size, size).

    `reporter` is told of a cache that is damaged or cannot be written, and of a slower way that had to be taken. Raises
    GraftError where the engine cannot run the section, or cannot work because this process was forked.
    """
    work_alone_when_forked()
    if choice.engine == "openvino":
        from graft.features.openvino_engine import OpenVINOEngine

        threads = choice.threads if choice.deterministic else None
        return OpenVINOEngine(section, preprocessing, choice.precision, reporter, threads, choice.singles)
    from graft.features.torch_engine import TorchEngine

    return TorchEngine(section, preprocessing, choice.precision, choice.device)


def accelerator_is_possible() -> bool:
    """Whether PyTorch could find an accelerator here; False only where it is certain that it could not."""
    if sys.platform == "darwin":
        # Apple's is none that graft computes with.
        return False
    if sys.platform != "linux":
        return True
    return any(Path("/dev", name).exists() for name in DEVICES)


def openvino_installed() -> bool:
    return find_spec("openvino") is not None


def processor_has_bfloat16() -> bool:
    """Whether convolutions in bfloat16 run in hardware (AVX-512 BF16 or AMX on x86, BF16 on Arm)."""
    import torch

    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) if torch.backends.mkldnn.is_available() else False
