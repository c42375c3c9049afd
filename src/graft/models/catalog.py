"""Every architecture by name.

The rows are literal so that listing them needs no torch; tests hold each figure to the built network. Parameters and
multiply-adds are those of the network with its usual number of classes at `input_size` (C, H, W), batch 1; a
multiply-add is one use of a weight in a convolution or linear layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from graft.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from graft.models.network import Config, Network


@dataclass(frozen=True)
class Entry:
    """What is known of an architecture without building it; `family` is the module that builds it."""

    family: str
    year: int
    paper: str
    input_size: tuple[int, int, int]
    classes: int
    params: int
    macs: int
    stages: tuple[str, ...]


_LENET = ("stage1", "stage2", "stage3", "stage4", "head")
_RESNET = ("stem", "stage1", "stage2", "stage3", "stage4", "pool", "head")
_CIFAR = ("stem", "stage1", "stage2", "stage3", "pool", "head")
_MOBILENET_V1 = ("stem", "stage1", "stage2", "stage3", "stage4", "stage5", "pool", "head")
_MOBILENET_V2 = ("stem", *(f"stage{number}" for number in range(1, 9)), "pool", "head")

_LENET_PAPER = "LeCun et al. 1998, Proceedings of the IEEE 86(11)"
_RESNET_PAPER = "He et al. 2015, arXiv 1512.03385"
_MOBILENET_V1_PAPER = "Howard et al. 2017, arXiv 1704.04861"
_MOBILENET_V2_PAPER = "Sandler et al. 2018, arXiv 1801.04381"

_IMAGENET_INPUT = (3, 224, 224)
_CIFAR_INPUT = (3, 32, 32)

CATALOG: dict[str, Entry] = {
    "lenet5": Entry("lenet", 1998, _LENET_PAPER, (1, 28, 28), 10, 61_706, 416_520, _LENET),
    "resnet18": Entry("resnet", 2015, _RESNET_PAPER, _IMAGENET_INPUT, 1000, 11_689_512, 1_814_073_344, _RESNET),
    "resnet34": Entry("resnet", 2015, _RESNET_PAPER, _IMAGENET_INPUT, 1000, 21_797_672, 3_663_761_408, _RESNET),
    "resnet50": Entry("resnet", 2015, _RESNET_PAPER, _IMAGENET_INPUT, 1000, 25_557_032, 4_089_184_256, _RESNET),
    "resnet101": Entry("resnet", 2015, _RESNET_PAPER, _IMAGENET_INPUT, 1000, 44_549_160, 7_801_405_440, _RESNET),
    "resnet152": Entry("resnet", 2015, _RESNET_PAPER, _IMAGENET_INPUT, 1000, 60_192_808, 11_513_626_624, _RESNET),
    "resnet20": Entry("resnet", 2015, _RESNET_PAPER, _CIFAR_INPUT, 10, 269_722, 40_551_040, _CIFAR),
    "resnet32": Entry("resnet", 2015, _RESNET_PAPER, _CIFAR_INPUT, 10, 464_154, 68_862_592, _CIFAR),
    "resnet44": Entry("resnet", 2015, _RESNET_PAPER, _CIFAR_INPUT, 10, 658_586, 97_174_144, _CIFAR),
    "resnet56": Entry("resnet", 2015, _RESNET_PAPER, _CIFAR_INPUT, 10, 853_018, 125_485_696, _CIFAR),
    "resnet110": Entry("resnet", 2015, _RESNET_PAPER, _CIFAR_INPUT, 10, 1_727_962, 252_887_680, _CIFAR),
    "mobilenet_v1": Entry(
        "mobilenet_v1", 2017, _MOBILENET_V1_PAPER, _IMAGENET_INPUT, 1000, 4_231_976, 568_740_352, _MOBILENET_V1
    ),
    "mobilenet_v1_075": Entry(
        "mobilenet_v1", 2017, _MOBILENET_V1_PAPER, _IMAGENET_INPUT, 1000, 2_585_560, 325_400_448, _MOBILENET_V1
    ),
    "mobilenet_v1_050": Entry(
        "mobilenet_v1", 2017, _MOBILENET_V1_PAPER, _IMAGENET_INPUT, 1000, 1_331_592, 149_497_088, _MOBILENET_V1
    ),
    "mobilenet_v1_025": Entry(
        "mobilenet_v1", 2017, _MOBILENET_V1_PAPER, _IMAGENET_INPUT, 1000, 470_072, 41_030_272, _MOBILENET_V1
    ),
    "mobilenet_v2": Entry(
        "mobilenet_v2", 2018, _MOBILENET_V2_PAPER, _IMAGENET_INPUT, 1000, 3_504_872, 300_774_272, _MOBILENET_V2
    ),
}


def entry(name: str) -> Entry:
    """The row of `name`; InputError with the nearest name when there is none."""
    if name not in CATALOG:
        raise InputError(
            f"expected the name of an architecture, got {name!r}{did_you_mean(name, CATALOG)}: "
            "`graft models` lists them all"
        )
    return CATALOG[name]


def build(config: Config) -> Network:
    """An untrained network, on the device and in the dtype that torch has as default."""
    family = import_module(f"graft.models.{entry(config.architecture).family}")
    network: Network = family.build(config)
    return network


def default_config(name: str) -> Config:
    """The architecture as its paper has it: its own input channels and number of classes."""
    from graft.models.network import Config

    row = entry(name)
    return Config(name, classes=row.classes, channels=row.input_size[0])
