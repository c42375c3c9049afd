"""Inception v3. Szegedy et al. 2015, "Rethinking the Inception Architecture", arXiv 1512.00567, table 1, figures 5-10.

The form of the public checkpoints, with torchvision's tensor names. Differs from the paper: a 1 x 1 convolution to 80
channels, a 3 x 3 to 192 and a max pool follow the first pool, where table 1 has 3 x 3 convolutions alone; blocks A keep
one 5 x 5; and the auxiliary classifier has a 5 x 5 convolution for figure 8's dense layer.
"""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft.models.blocks import ConvNormReLU, global_pool
from graft.models.network import Auxiliary, Config, Network, Stage, initialize_for_relu


@dataclass(frozen=True)
class Row:
    """A block: its kind, its output channels, and the width in which blocks of that kind differ.

    In A that is the width of the pool's branch, in C the width inside the 7 x 7 branches.
    """

    module: str
    kind: str
    outputs: int
    width: tuple[int, ...] = ()


STAGES = (
    (
        Row("Mixed_5b", "A", 256, (32,)),
        Row("Mixed_5c", "A", 288, (64,)),
        Row("Mixed_5d", "A", 288, (64,)),
    ),
    (
        Row("Mixed_6a", "B", 768),
        Row("Mixed_6b", "C", 768, (128,)),
        Row("Mixed_6c", "C", 768, (160,)),
        Row("Mixed_6d", "C", 768, (160,)),
        Row("Mixed_6e", "C", 768, (192,)),
    ),
    (
        Row("Mixed_7a", "D", 1280),
        Row("Mixed_7b", "E", 2048),
        Row("Mixed_7c", "E", 2048),
    ),
)
DROPOUT = 0.5
AUXILIARY = Auxiliary("AuxLogits", after="Mixed_6e", classifier="AuxLogits.fc", weight=0.3)

SPECS = {"inception_v3": STAGES}


class NamedBranches(nn.Module):
    """Branches over one input, each a run of named layers, with their outputs joined channel by channel.

    (N, inputs, H, W) to (N, outputs, H', W').
    """

    def __init__(self, *branches: dict[str, nn.Module]) -> None:
        super().__init__()
        self.branches = tuple(tuple(branch) for branch in branches)
        for branch in branches:
            for name, layer in branch.items():
                self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._run(branch, x) for branch in self.branches], dim=1)

    def _run(self, branch: tuple[str, ...], x: Tensor) -> Tensor:
        for name in branch:
            x = self.get_submodule(name)(x)
        return x


class InceptionA(NamedBranches):
    """Figure 5: (N, inputs, 35, 35) to (N, 224 + pooled, 35, 35)."""

    def __init__(self, inputs: int, pooled: int, *, eps: float = 1e-3) -> None:
        unit = partial(ConvNormReLU, eps=eps)
        super().__init__(
            {"branch1x1": unit(inputs, 64, 1)},
            {"branch5x5_1": unit(inputs, 48, 1), "branch5x5_2": unit(48, 64, 5, padding=2)},
            {
                "branch3x3dbl_1": unit(inputs, 64, 1),
                "branch3x3dbl_2": unit(64, 96, 3, padding=1),
                "branch3x3dbl_3": unit(96, 96, 3, padding=1),
            },
            {"pool": _mean(), "branch_pool": unit(inputs, pooled, 1)},
        )


class InceptionB(NamedBranches):
    """Halves the map, as in figure 10: (N, inputs, 35, 35) to (N, 480 + inputs, 17, 17)."""

    def __init__(self, inputs: int, *, eps: float = 1e-3) -> None:
        unit = partial(ConvNormReLU, eps=eps)
        super().__init__(
            {"branch3x3": unit(inputs, 384, 3, stride=2)},
            {
                "branch3x3dbl_1": unit(inputs, 64, 1),
                "branch3x3dbl_2": unit(64, 96, 3, padding=1),
                "branch3x3dbl_3": unit(96, 96, 3, stride=2),
            },
            {"pool": nn.MaxPool2d(3, stride=2)},
        )


class InceptionC(NamedBranches):
    """Figure 6 with n = 7, each n x n made of 1 x n and n x 1: (N, inputs, 17, 17) to (N, 768, 17, 17)."""

    def __init__(self, inputs: int, width: int, *, eps: float = 1e-3) -> None:
        unit = partial(ConvNormReLU, eps=eps)
        row, column = partial(unit, kernel=(1, 7), padding=(0, 3)), partial(unit, kernel=(7, 1), padding=(3, 0))
        super().__init__(
            {"branch1x1": unit(inputs, 192, 1)},
            {
                "branch7x7_1": unit(inputs, width, 1),
                "branch7x7_2": row(width, width),
                "branch7x7_3": column(width, 192),
            },
            {
                "branch7x7dbl_1": unit(inputs, width, 1),
                "branch7x7dbl_2": column(width, width),
                "branch7x7dbl_3": row(width, width),
                "branch7x7dbl_4": column(width, width),
                "branch7x7dbl_5": row(width, 192),
            },
            {"pool": _mean(), "branch_pool": unit(inputs, 192, 1)},
        )


class InceptionD(NamedBranches):
    """Halves the map like B, with a 7 x 7 in two parts like C: (N, inputs, 17, 17) to (N, 512 + inputs, 8, 8)."""

    def __init__(self, inputs: int, *, eps: float = 1e-3) -> None:
        unit = partial(ConvNormReLU, eps=eps)
        super().__init__(
            {"branch3x3_1": unit(inputs, 192, 1), "branch3x3_2": unit(192, 320, 3, stride=2)},
            {
                "branch7x7x3_1": unit(inputs, 192, 1),
                "branch7x7x3_2": unit(192, 192, (1, 7), padding=(0, 3)),
                "branch7x7x3_3": unit(192, 192, (7, 1), padding=(3, 0)),
                "branch7x7x3_4": unit(192, 192, 3, stride=2),
            },
            {"pool": nn.MaxPool2d(3, stride=2)},
        )


class InceptionE(nn.Module):
    """Figure 7: two branches end in a 1 x 3 beside a 3 x 1. (N, inputs, 8, 8) to (N, 2048, 8, 8)."""

    def __init__(self, inputs: int, *, eps: float = 1e-3) -> None:
        super().__init__()
        unit = partial(ConvNormReLU, eps=eps)
        row, column = partial(unit, kernel=(1, 3), padding=(0, 1)), partial(unit, kernel=(3, 1), padding=(1, 0))
        self.branch1x1 = unit(inputs, 320, 1)
        self.branch3x3_1 = unit(inputs, 384, 1)
        self.branch3x3_2a = row(384, 384)
        self.branch3x3_2b = column(384, 384)
        self.branch3x3dbl_1 = unit(inputs, 448, 1)
        self.branch3x3dbl_2 = unit(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = row(384, 384)
        self.branch3x3dbl_3b = column(384, 384)
        self.pool = _mean()
        self.branch_pool = unit(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        outputs = (
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(self.pool(x)),
        )
        return torch.cat(outputs, dim=1)


KINDS: dict[str, type[nn.Module]] = {
    "A": InceptionA,
    "B": InceptionB,
    "C": InceptionC,
    "D": InceptionD,
    "E": InceptionE,
}


class AuxiliaryClassifier(nn.Module):
    """Figure 8: (N, inputs, H, W), 17 x 17 for a 299 px image, to (N, classes)."""

    def __init__(self, inputs: int, classes: int, *, eps: float = 1e-3) -> None:
        super().__init__()
        self.conv0 = ConvNormReLU(inputs, 128, 1, eps=eps)
        self.conv1 = ConvNormReLU(128, 768, 5, eps=eps)
        self.pool = global_pool()
        self.fc = nn.Linear(768, classes)

    def forward(self, x: Tensor) -> Tensor:
        # The 5 x 5 convolution needs the 17 x 17 map of a 299 px image, so smaller maps are enlarged to it.
        height, width = x.shape[-2:]
        x = F.adaptive_avg_pool2d(x, (max(17, height), max(17, width)))
        x = F.avg_pool2d(x, 5, stride=3)
        logits: Tensor = self.fc(self.pool(self.conv1(self.conv0(x))))
        return logits


class InceptionV3(Network):
    """Images (N, C, H, W), 299 px by default, to logits (N, classes)."""

    def __init__(self, config: Config, rows: tuple[tuple[Row, ...], ...]) -> None:
        super().__init__()
        self.config = config
        unit = partial(ConvNormReLU, eps=config.batch_norm_eps)
        self.Conv2d_1a_3x3 = unit(config.channels, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = unit(32, 32, 3)
        self.Conv2d_2b_3x3 = unit(32, 64, 3, padding=1)
        self.maxpool1 = nn.MaxPool2d(3, stride=2)
        self.Conv2d_3b_1x1 = unit(64, 80, 1)
        self.Conv2d_4a_3x3 = unit(80, 192, 3)
        self.maxpool2 = nn.MaxPool2d(3, stride=2)
        channels, stride = 192, 8
        stages = [Stage("stem", tuple(name for name, _ in self.named_children()), channels, stride)]
        for number, blocks in enumerate(rows, start=1):
            for row in blocks:
                block = KINDS[row.kind](channels, *row.width, eps=config.batch_norm_eps)
                self.add_module(row.module, block)
                channels = row.outputs
                if config.auxiliary and row.module == AUXILIARY.after:
                    self.AuxLogits = AuxiliaryClassifier(channels, config.classes, eps=config.batch_norm_eps)
            stages.append(Stage(f"stage{number}", tuple(row.module for row in blocks), channels, stride))
            stride *= 2
        self.pool = global_pool()
        self.dropout = nn.Dropout(DROPOUT)
        self.fc = nn.Linear(channels, config.classes)
        stages += [Stage("pool", ("pool",), channels, None), Stage("head", ("dropout", "fc"), config.classes, None)]
        self.arrange(stages, "fc", (AUXILIARY,) if config.auxiliary else ())


def _mean() -> nn.AvgPool2d:
    """The mean over 3 x 3 pixels, counting the zeros of the padding."""
    return nn.AvgPool2d(3, stride=1, padding=1)


def build(config: Config) -> Network:
    """An untrained Inception v3."""
    network = InceptionV3(config, SPECS[config.architecture])
    initialize_for_relu(network, "fan_in")
    return network
