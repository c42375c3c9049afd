"""Every architecture by name.

The rows are literal, so that listing them needs no torch; tests compare each figure with the built network. Parameters
and multiply-adds are those of the network with its usual number of classes, for one image of `input_size` (C, H, W); a
multiply-add is one use of a weight in a convolution or linear layer. Published errors are the papers', each under a
protocol of its own, and comparable only within one protocol.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from graft.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from graft.models.network import Config, Network


@dataclass(frozen=True)
class Published:
    """What the paper reports: errors in percent, None where it gives none, and how they were measured."""

    top1_error: float | None
    top5_error: float | None
    protocol: str


@dataclass(frozen=True)
class Entry:
    """What is known of an architecture without building it; `family` is the module that builds it.

    `input_size` is (C, H, W). `params` counts parameters and `macs` multiply-adds. `smallest_input` is the shortest
    side, in pixels, that runs. `auxiliary` says that the usual network has its auxiliary classifiers; `params` then
    counts them and `macs` does not.
    """

    family: str
    year: int
    paper: str
    input_size: tuple[int, int, int]
    classes: int
    stages: tuple[str, ...]
    params: int
    macs: int
    published: Published | None = None
    smallest_input: int = 1
    batch_norm_eps: float = 1e-5
    auxiliary: bool = False


def _stages(count: int, *between: str, stem: bool = True) -> tuple[str, ...]:
    return (*(("stem",) if stem else ()), *(f"stage{number}" for number in range(1, count + 1)), *between, "head")


_IMAGENET = (3, 224, 224)
_IMAGENET_299 = (3, 299, 299)
_CIFAR = (3, 32, 32)
_THREE, _FOUR, _FIVE, _EIGHT = (_stages(count, "pool") for count in (3, 4, 5, 8))
_FIVE_AND_DENSE = _stages(5, "pool", "fc6", "fc7", stem=False)

# How the published errors were measured. ImageNet figures are for one network on the validation images of ILSVRC-2012.
_MNIST = "MNIST test, no distortions"
_CIFAR_10 = "CIFAR-10 test"
_ONE_CROP = "one crop"
_ONE_CROP_320 = "one crop of 320 px"
_FEWER = "one crop, 48,238 of the 50,000 images"
_TEN_CROPS = "ten crops"
_DENSE_256 = "dense, trained and tested at 256 px"
_DENSE_384 = "dense, trained at 256 to 512 px, tested at 384 px"

_lenet = partial(Entry, "lenet", 1998, "LeCun et al. 1998, Proceedings of the IEEE 86(11)")
_alexnet_2012 = partial(
    Entry, "alexnet", 2012, "Krizhevsky et al. 2012, NIPS 25", (3, 227, 227), 1000, _FIVE_AND_DENSE, smallest_input=67
)
_alexnet = partial(
    Entry, "alexnet", 2014, "Krizhevsky 2014, arXiv 1404.5997", _IMAGENET, 1000, _FIVE_AND_DENSE, smallest_input=63
)
_VGG_PAPER = "Simonyan and Zisserman 2014, arXiv 1409.1556"
_vgg = partial(Entry, "vgg", 2014, _VGG_PAPER, _IMAGENET, 1000, _FIVE_AND_DENSE, smallest_input=32)
_vgg_bn = partial(Entry, "vgg", 2015, _VGG_PAPER, _IMAGENET, 1000, _FIVE_AND_DENSE, smallest_input=32)
_googlenet = partial(Entry, "googlenet", 2014, "Szegedy et al. 2014, arXiv 1409.4842", _IMAGENET, 1000, _THREE)
_inception_v3 = partial(
    Entry, "inception_v3", 2015, "Szegedy et al. 2015, arXiv 1512.00567", _IMAGENET_299, 1000, _THREE, smallest_input=75
)
_V4_PAPER = "Szegedy et al. 2016, arXiv 1602.07261"
_inception_v4 = partial(Entry, "inception_v4", 2016, _V4_PAPER, _IMAGENET_299, 1000, _THREE, smallest_input=75)
_inception_resnet_v2 = partial(
    Entry, "inception_resnet_v2", 2016, _V4_PAPER, _IMAGENET_299, 1000, _THREE, smallest_input=75
)
_RESNET_PAPER = "He et al. 2015, arXiv 1512.03385"
_resnet = partial(Entry, "resnet", 2015, _RESNET_PAPER, _IMAGENET, 1000, _FOUR)
_resnet_cifar = partial(Entry, "resnet", 2015, _RESNET_PAPER, _CIFAR, 10, _THREE)
_PREACT_PAPER = "He et al. 2016, arXiv 1603.05027"
_preact = partial(Entry, "preact_resnet", 2016, _PREACT_PAPER, _IMAGENET, 1000, _FOUR)
_preact_cifar = partial(Entry, "preact_resnet", 2016, _PREACT_PAPER, _CIFAR, 10, _THREE)
_densenet = partial(
    Entry, "densenet", 2016, "Huang et al. 2016, arXiv 1608.06993", _IMAGENET, 1000, _FOUR, smallest_input=29
)
_xception = partial(
    Entry, "xception", 2016, "Chollet 2016, arXiv 1610.02357", _IMAGENET_299, 1000, _FIVE, smallest_input=7
)
_mobilenet_v1 = partial(Entry, "mobilenet_v1", 2017, "Howard et al. 2017, arXiv 1704.04861", _IMAGENET, 1000, _FIVE)
_mobilenet_v2 = partial(Entry, "mobilenet_v2", 2018, "Sandler et al. 2018, arXiv 1801.04381", _IMAGENET, 1000, _EIGHT)
_mobilenet_v3 = partial(Entry, "mobilenet_v3", 2019, "Howard et al. 2019, arXiv 1905.02244", _IMAGENET, 1000)
_efficientnet = partial(Entry, "efficientnet", 2019, "Tan and Le 2019, arXiv 1905.11946")
_efficientnet_lite = partial(
    Entry, "efficientnet", 2020, "Liu 2020, TensorFlow's blog, EfficientNet-Lite", batch_norm_eps=1e-3
)

CATALOG: dict[str, Entry] = {
    "lenet5": _lenet((1, 28, 28), 10, _stages(4, stem=False), 61_706, 416_520, smallest_input=28),
    "lenet5_1998": _lenet(
        (1, 32, 32), 10, _stages(4, stem=False), 60_000, 326_520, Published(0.95, None, _MNIST), smallest_input=32
    ),
    "alexnet_2012": _alexnet_2012(60_965_224, 724_406_816, Published(40.7, 18.2, _TEN_CROPS)),
    "alexnet": _alexnet(61_100_840, 714_188_480),
    "vgg11": _vgg(132_863_336, 7_609_090_048, Published(29.6, 10.4, _DENSE_256)),
    "vgg11_lrn": _vgg(132_863_336, 7_609_090_048, Published(29.7, 10.5, _DENSE_256)),
    "vgg13": _vgg(133_047_848, 11_308_466_176, Published(28.7, 9.9, _DENSE_256)),
    "vgg16_c": _vgg(133_638_952, 11_770_888_192, Published(27.3, 8.8, _DENSE_384)),
    "vgg16": _vgg(138_357_544, 15_470_264_320, Published(25.6, 8.1, _DENSE_384)),
    "vgg19": _vgg(143_667_240, 19_632_062_464, Published(25.5, 8.0, _DENSE_384)),
    "vgg11_bn": _vgg_bn(132_868_840, 7_609_090_048),
    "vgg13_bn": _vgg_bn(133_053_736, 11_308_466_176),
    "vgg16_bn": _vgg_bn(138_365_992, 15_470_264_320),
    "vgg19_bn": _vgg_bn(143_678_248, 19_632_062_464),
    "googlenet_2014": _googlenet(6_998_552, 1_582_671_872, Published(None, 10.07, _ONE_CROP), smallest_input=31),
    "googlenet": _googlenet(13_004_888, 1_498_376_192, smallest_input=15, batch_norm_eps=1e-3, auxiliary=True),
    "inception_v3": _inception_v3(
        27_161_264, 5_713_216_096, Published(21.2, 5.6, _FEWER), batch_norm_eps=1e-3, auxiliary=True
    ),
    "inception_v4": _inception_v4(42_679_816, 12_253_974_624, Published(20.0, 5.0, _FEWER), batch_norm_eps=1e-3),
    "inception_resnet_v2": _inception_resnet_v2(
        55_843_464, 13_155_794_016, Published(19.9, 4.9, _FEWER), batch_norm_eps=1e-3
    ),
    "plain18": _resnet(11_515_688, 1_794_805_760, Published(27.94, None, _TEN_CROPS)),
    "plain34": _resnet(21_623_848, 3_644_493_824, Published(28.54, 10.02, _TEN_CROPS)),
    "resnet18": _resnet(11_689_512, 1_814_073_344, Published(27.88, None, _TEN_CROPS)),
    "resnet34": _resnet(21_797_672, 3_663_761_408, Published(24.52, 7.46, _TEN_CROPS)),
    "resnet50": _resnet(25_557_032, 4_089_184_256, Published(22.85, 6.71, _TEN_CROPS)),
    "resnet101": _resnet(44_549_160, 7_801_405_440, Published(21.75, 6.05, _TEN_CROPS)),
    "resnet152": _resnet(60_192_808, 11_513_626_624, Published(21.43, 5.71, _TEN_CROPS)),
    "preact_resnet18": _preact(11_687_720, 1_814_073_344),
    "preact_resnet34": _preact(21_795_880, 3_663_761_408),
    "preact_resnet50": _preact(25_549_352, 4_089_184_256),
    "preact_resnet101": _preact(44_541_480, 7_801_405_440),
    "preact_resnet152": _preact(60_185_128, 11_513_626_624, Published(21.1, 5.5, _ONE_CROP_320)),
    "resnet20": _resnet_cifar(269_722, 40_551_040, Published(8.75, None, _CIFAR_10)),
    "resnet32": _resnet_cifar(464_154, 68_862_592, Published(7.51, None, _CIFAR_10)),
    "resnet44": _resnet_cifar(658_586, 97_174_144, Published(7.17, None, _CIFAR_10)),
    "resnet56": _resnet_cifar(853_018, 125_485_696, Published(6.97, None, _CIFAR_10)),
    "resnet110": _resnet_cifar(1_727_962, 252_887_680, Published(6.43, None, _CIFAR_10)),
    "plain20": _resnet_cifar(269_722, 40_551_040),
    "plain32": _resnet_cifar(464_154, 68_862_592),
    "plain44": _resnet_cifar(658_586, 97_174_144),
    "plain56": _resnet_cifar(853_018, 125_485_696),
    "plain110": _resnet_cifar(1_727_962, 252_887_680),
    "preact_resnet20": _preact_cifar(269_722, 40_551_040),
    "preact_resnet32": _preact_cifar(464_154, 68_862_592),
    "preact_resnet44": _preact_cifar(658_586, 97_174_144),
    "preact_resnet56": _preact_cifar(853_018, 125_485_696),
    "preact_resnet110": _preact_cifar(1_727_962, 252_887_680, Published(6.37, None, _CIFAR_10)),
    "densenet121": _densenet(7_978_856, 2_834_161_664, Published(25.02, 7.71, _ONE_CROP)),
    "densenet169": _densenet(14_149_480, 3_359_843_328, Published(23.8, 6.85, _ONE_CROP)),
    "densenet201": _densenet(20_013_928, 4_291_365_888, Published(22.58, 6.34, _ONE_CROP)),
    "densenet161": _densenet(28_681_000, 7_727_907_072, Published(22.33, 6.15, _ONE_CROP)),
    "xception": _xception(22_855_952, 8_357_403_496, Published(21.0, 5.5, _FEWER)),
    "mobilenet_v1": _mobilenet_v1(4_231_976, 568_740_352, Published(29.4, None, _ONE_CROP)),
    "mobilenet_v1_075": _mobilenet_v1(2_585_560, 325_400_448, Published(31.6, None, _ONE_CROP)),
    "mobilenet_v1_050": _mobilenet_v1(1_331_592, 149_497_088, Published(36.3, None, _ONE_CROP)),
    "mobilenet_v1_025": _mobilenet_v1(470_072, 41_030_272, Published(49.4, None, _ONE_CROP)),
    "mobilenet_v2": _mobilenet_v2(3_504_872, 300_774_272, Published(28.0, None, _ONE_CROP)),
    "mobilenet_v3_large": _mobilenet_v3(
        _stages(7, "pool", "fc"), 5_483_032, 216_589_760, Published(24.8, None, _ONE_CROP), batch_norm_eps=1e-3
    ),
    "mobilenet_v3_small": _mobilenet_v3(
        _stages(6, "pool", "fc"), 2_542_856, 56_510_400, Published(32.6, None, _ONE_CROP), batch_norm_eps=1e-3
    ),
    "efficientnet_b0": _efficientnet(
        (3, 224, 224), 1000, _EIGHT, 5_288_548, 385_814_752, Published(22.9, 6.7, _ONE_CROP)
    ),
    "efficientnet_b1": _efficientnet(
        (3, 240, 240), 1000, _EIGHT, 7_794_184, 686_802_832, Published(20.9, 5.6, _ONE_CROP)
    ),
    "efficientnet_b2": _efficientnet(
        (3, 260, 260), 1000, _EIGHT, 9_109_994, 993_561_872, Published(19.9, 5.1, _ONE_CROP)
    ),
    "efficientnet_b3": _efficientnet(
        (3, 300, 300), 1000, _EIGHT, 12_233_232, 1_827_141_392, Published(18.4, 4.3, _ONE_CROP)
    ),
    "efficientnet_b4": _efficientnet(
        (3, 380, 380), 1000, _EIGHT, 19_341_616, 4_393_771_024, Published(17.1, 3.6, _ONE_CROP)
    ),
    "efficientnet_b5": _efficientnet(
        (3, 456, 456), 1000, _EIGHT, 30_389_784, 10_266_384_752, Published(16.4, 3.3, _ONE_CROP), batch_norm_eps=1e-3
    ),
    "efficientnet_b6": _efficientnet(
        (3, 528, 528), 1000, _EIGHT, 43_040_704, 19_067_593_536, Published(16.0, 3.2, _ONE_CROP), batch_norm_eps=1e-3
    ),
    "efficientnet_b7": _efficientnet(
        (3, 600, 600), 1000, _EIGHT, 66_347_960, 37_745_884_192, Published(15.7, 3.0, _ONE_CROP), batch_norm_eps=1e-3
    ),
    "efficientnet_lite0": _efficientnet_lite(
        (3, 224, 224), 1000, _EIGHT, 4_652_008, 385_187_552, Published(24.9, None, _ONE_CROP)
    ),
    "efficientnet_lite1": _efficientnet_lite(
        (3, 240, 240), 1000, _EIGHT, 5_416_680, 600_185_232, Published(23.3, None, _ONE_CROP)
    ),
    "efficientnet_lite2": _efficientnet_lite(
        (3, 260, 260), 1000, _EIGHT, 6_092_072, 859_736_272, Published(22.4, None, _ONE_CROP)
    ),
    "efficientnet_lite3": _efficientnet_lite(
        (3, 280, 280), 1000, _EIGHT, 8_197_096, 1_383_321_872, Published(20.2, None, _ONE_CROP)
    ),
    "efficientnet_lite4": _efficientnet_lite(
        (3, 300, 300), 1000, _EIGHT, 13_006_568, 2_553_034_336, Published(18.5, None, _ONE_CROP)
    ),
}


def list_models(family: str | None = None) -> list[str]:
    """Return the names of all architectures in the order of the catalogue, or those of one family such as "resnet".

    Each is a name for `graft.create` and, where its weights are published, for `--base`. Raises InputError for an
    unknown family.
    """
    families = dict.fromkeys(row.family for row in CATALOG.values())
    if family is not None and family not in families:
        raise InputError(
            f"expected a family of architectures, got {family!r}{did_you_mean(family, families)}: choose from "
            f"{', '.join(families)}"
        )
    return [name for name, row in CATALOG.items() if family in (None, row.family)]


def entry(name: str) -> Entry:
    """Return the row of an architecture. Raises InputError, with the nearest names, for an unknown one."""
    if name not in CATALOG:
        raise InputError(
            f"expected the name of an architecture, got {name!r}{did_you_mean(name, CATALOG, most=3)}: "
            "`graft models` lists them all"
        )
    return CATALOG[name]


def build(config: Config) -> Network:
    """Build an untrained network with these numbers, on torch's default device and in its default dtype.

    Raises InputError for an unknown architecture.
    """
    row = entry(config.architecture)
    network: Network = import_module(f"graft.models.{row.family}").build(replace(config, head="last"))
    network.input_size = (config.channels, *row.input_size[1:])
    network.smallest_input = row.smallest_input
    if config.head != "last":
        network.new_head(config.classes, config.head)
    return network


def default_config(name: str) -> Config:
    """Return the numbers of an architecture as published: its own input channels, number of classes and so on.

    Raises InputError for an unknown name.
    """
    from graft.models.network import Config

    row = entry(name)
    return Config(
        name,
        classes=row.classes,
        channels=row.input_size[0],
        batch_norm_eps=row.batch_norm_eps,
        auxiliary=row.auxiliary,
    )
