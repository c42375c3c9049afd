"""GoogLeNet. Szegedy et al. 2014, "Going Deeper with Convolutions", arXiv 1409.4842, table 1.

`googlenet_2014` is the network of the paper. `googlenet` is the form of torchvision's checkpoints: batch norm instead
of biases and local response norm, 3 x 3 kernels where the paper has 5 x 5, a last max pool of 2 x 2, other pooling
before the auxiliary classifiers, and less dropout. Both have torchvision's tensor names. The auxiliary classifiers of
section 5 are built on request. Table 1 lists 2.7K parameters for the first layer, which has 9,472.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from graft.models.blocks import LocalResponseNorm, convolution, global_pool
from graft.models.network import Auxiliary, Config, Network, PaddingRule, Stage, initialize_for_relu


@dataclass(frozen=True)
class Row:
    """A row of table 1: the output channels of a module's convolutions, in the order of the table's columns."""

    module: str
    one: int
    three_reduce: int
    three: int
    five_reduce: int
    five: int
    pool: int

    @property
    def outputs(self) -> int:
        return self.one + self.three + self.five + self.pool


# Table 1 from the second max pool to the average pool; a max pool ends each of the first two stages here.
STAGES = (
    (
        Row("3a", 64, 96, 128, 16, 32, 32),
        Row("3b", 128, 128, 192, 32, 96, 64),
    ),
    (
        Row("4a", 192, 96, 208, 16, 48, 64),
        Row("4b", 160, 112, 224, 24, 64, 64),
        Row("4c", 128, 128, 256, 24, 64, 64),
        Row("4d", 112, 144, 288, 32, 64, 64),
        Row("4e", 256, 160, 320, 32, 128, 128),
    ),
    (
        Row("5a", 256, 160, 320, 32, 128, 128),
        Row("5b", 384, 192, 384, 48, 128, 128),
    ),
)
STEM = (64, 64, 192)

# Section 5: they classify the outputs of 4a and 4d.
AUXILIARIES = (
    Auxiliary("aux1", after="inception4a", classifier="aux1.fc2", weight=0.3),
    Auxiliary("aux2", after="inception4d", classifier="aux2.fc2", weight=0.3),
)
AUXILIARY_DROPOUT = 0.7


@dataclass(frozen=True)
class GoogLeNetSpec:
    """Where the two forms differ; `largest` is the kernel of the third branch."""

    batch_norm: bool
    largest: int
    last_max_pool: int
    dropout: float


SPECS = {
    "googlenet_2014": GoogLeNetSpec(batch_norm=False, largest=5, last_max_pool=3, dropout=0.4),
    "googlenet": GoogLeNetSpec(batch_norm=True, largest=3, last_max_pool=2, dropout=0.2),
}


class ConvReLU(nn.Module):
    """A k x k convolution and ReLU: (N, inputs, H, W) to (N, outputs, H / s, W / s).

    Between the two, batch norm where `eps` is given; else the convolution has a bias. Tensors `conv` and `bn`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: PaddingRule = "torch",
        eps: float | None = None,
    ) -> None:
        super().__init__()
        self.conv = convolution(inputs, outputs, kernel, stride=stride, padding=padding, bias=eps is None)
        self.bn = None if eps is None else nn.BatchNorm2d(outputs, eps)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.relu(x if self.bn is None else self.bn(x))


Unit = Callable[..., ConvReLU]


class NaiveInception(nn.Module):
    """1 x 1, 3 x 3 and 5 x 5 convolutions and a max pool side by side, with no reductions (figure 2a).

    (N, inputs, H, W) to (N, one + three + five + inputs, H, W): the pool keeps all channels, so they only ever grow.
    K = inputs (one + 9 three + 25 five) weights and one + three + five biases; H W K multiply-adds.

        module = NaiveInception(192, one=64, three=128, five=32)
        module(torch.zeros(1, 192, 28, 28)).shape  # (1, 416, 28, 28)
    """

    def __init__(self, inputs: int, one: int, three: int, five: int, *, unit: Unit = ConvReLU) -> None:
        super().__init__()
        self.branch1 = unit(inputs, one, 1)
        self.branch2 = unit(inputs, three, 3)
        self.branch3 = unit(inputs, five, 5)
        self.branch4 = nn.MaxPool2d(3, stride=1, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)), dim=1)


class Inception(nn.Module):
    """`NaiveInception` with 1 x 1 convolutions before the 3 x 3 and the 5 x 5 and after the pool (figure 2b).

    (N, inputs, H, W) to (N, one + three + five + pool, H, W). With k = `largest`, which is 5 in the paper, it has
    K = inputs (one + three_reduce + five_reduce + pool) + 9 three_reduce three + k^2 five_reduce five weights and a
    bias per output of a convolution (two numbers where `unit` has batch norm); H W K multiply-adds.

        module = Inception(192, one=64, three_reduce=96, three=128, five_reduce=16, five=32, pool=32)
        module(torch.zeros(1, 192, 28, 28)).shape  # (1, 256, 28, 28)
    """

    def __init__(
        self,
        inputs: int,
        one: int,
        three_reduce: int,
        three: int,
        five_reduce: int,
        five: int,
        pool: int,
        *,
        largest: int = 5,
        unit: Unit = ConvReLU,
    ) -> None:
        super().__init__()
        self.branch1 = unit(inputs, one, 1)
        self.branch2 = nn.Sequential(unit(inputs, three_reduce, 1), unit(three_reduce, three, 3))
        self.branch3 = nn.Sequential(unit(inputs, five_reduce, 1), unit(five_reduce, five, largest))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), unit(inputs, pool, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)), dim=1)


class AuxiliaryClassifier(nn.Module):
    """`pool` to 4 x 4, a 1 x 1 convolution, two dense layers (section 5): (N, inputs, H, W) to (N, classes)."""

    def __init__(self, inputs: int, classes: int, pool: nn.Module, unit: Unit) -> None:
        super().__init__()
        self.pool = pool
        self.conv = unit(inputs, 128, 1)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(AUXILIARY_DROPOUT)
        self.fc2 = nn.Linear(1024, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.pool(x)).flatten(1)
        logits: Tensor = self.fc2(self.dropout(self.relu(self.fc1(x))))
        return logits


class GoogLeNet(Network):
    """Images (N, C, H, W), 224 px by default, to logits (N, classes)."""

    def __init__(self, config: Config, spec: GoogLeNetSpec) -> None:
        super().__init__()
        self.config = config
        unit = partial(ConvReLU, padding=config.padding, eps=config.batch_norm_eps if spec.batch_norm else None)
        first, second, channels = STEM
        self.conv1 = unit(config.channels, first, 7, stride=2)
        self.maxpool1 = _halve(3)
        self.conv2 = unit(first, second, 1)
        self.conv3 = unit(second, channels, 3)
        self.maxpool2 = _halve(3)
        stem: tuple[str, ...] = ("conv1", "maxpool1", "conv2", "conv3", "maxpool2")
        if not spec.batch_norm:
            self.norm1, self.norm2 = LocalResponseNorm(), LocalResponseNorm()
            stem = ("conv1", "maxpool1", "norm1", "conv2", "conv3", "norm2", "maxpool2")
        stages, stride = [Stage("stem", stem, channels, 8)], 8
        max_pools = (3, spec.last_max_pool, None)
        for number, (rows, max_pool) in enumerate(zip(STAGES, max_pools, strict=True), start=1):
            parts = []
            for row in rows:
                parts.append(f"inception{row.module}")
                self.add_module(parts[-1], _module(channels, row, spec, unit))
                channels = row.outputs
            if max_pool is not None:
                parts.append(f"maxpool{number + 2}")
                self.add_module(parts[-1], _halve(max_pool))
                stride *= 2
            stages.append(Stage(f"stage{number}", tuple(parts), channels, stride))
        if config.auxiliary:
            after_4a, after_4d = STAGES[1][0].outputs, STAGES[1][3].outputs
            self.aux1 = AuxiliaryClassifier(after_4a, config.classes, _pool_to_4(spec), unit)
            self.aux2 = AuxiliaryClassifier(after_4d, config.classes, _pool_to_4(spec), unit)
        self.pool = global_pool()
        self.dropout = nn.Dropout(spec.dropout)
        self.fc = nn.Linear(channels, config.classes)
        stages += [Stage("pool", ("pool",), channels, None), Stage("head", ("dropout", "fc"), config.classes, None)]
        self.arrange(stages, "fc", AUXILIARIES if config.auxiliary else ())


def _module(inputs: int, row: Row, spec: GoogLeNetSpec, unit: Unit) -> Inception:
    widths = row.one, row.three_reduce, row.three, row.five_reduce, row.five, row.pool
    return Inception(inputs, *widths, largest=spec.largest, unit=unit)


def _halve(kernel: int) -> nn.MaxPool2d:
    # Windows may overhang the edge, so 112 px becomes 56, 28, 14 and 7, as in table 1.
    return nn.MaxPool2d(kernel, stride=2, ceil_mode=True)


def _pool_to_4(spec: GoogLeNetSpec) -> nn.Module:
    """Maps of any size to 4 x 4; a 224 px image has 14 x 14 there."""
    if spec.batch_norm:
        return nn.AdaptiveAvgPool2d(4)
    # The paper's 5 x 5 with stride 3 needs 14 x 14, which the first pool leaves unchanged.
    return nn.Sequential(nn.AdaptiveAvgPool2d(14), nn.AvgPool2d(5, stride=3))


def build(config: Config) -> Network:
    """An untrained GoogLeNet."""
    network = GoogLeNet(config, SPECS[config.architecture])
    initialize_for_relu(network, "fan_in")
    return network
