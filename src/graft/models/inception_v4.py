"""Inception v4. Szegedy, Ioffe, Vanhoucke and Alemi 2016, "Inception-v4, Inception-ResNet and the Impact of Residual
Connections on Learning", arXiv 1602.07261, figures 3 to 9.

Where the figures err, the authors' published weights decide: the last convolution of the stem halves the map (figure 3
omits its stride), and the second branch of figure 5 has one 1 x 7 and one 7 x 1 kernel (the figure has 1 x 7 twice).
Average pools do not count the padding. Tensor names are timm's.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from graft.models.blocks import Branches, Conv, Pool, global_pool, inception_layer, inception_layers
from graft.models.network import Config, Network, Stage, initialize_for_relu


@dataclass(frozen=True)
class InceptionV4Spec:
    """How often blocks A, B and C are repeated (figure 9), and how many channels their maps have."""

    repeats: tuple[int, int, int]
    widths: tuple[int, int, int]


SPECS = {"inception_v4": InceptionV4Spec(repeats=(4, 7, 3), widths=(384, 1024, 1536))}
DROPOUT = 0.2

# Figure 3 from the image up: three convolutions, then three modules of two branches.
STEM = (Conv(32, 3, stride=2, valid=True), Conv(32, 3, valid=True), Conv(64, 3))


class Stem3a(Branches):
    """Figure 3, first fork: (N, 64, H, W) to (N, 160, H / 2, W / 2)."""

    rows = ((Pool.MAX,), (Conv(96, 3, stride=2, valid=True),))
    names = ("maxpool", "conv")


class Stem4a(Branches):
    """Figure 3, second fork: (N, 160, H, W) to (N, 192, H - 2, W - 2)."""

    rows = (
        (Conv(64), Conv(96, 3, valid=True)),
        (Conv(64), Conv(64, (1, 7)), Conv(64, (7, 1)), Conv(96, 3, valid=True)),
    )


class Stem5a(Branches):
    """Figure 3, third fork: (N, 192, H, W) to (N, 384, H / 2, W / 2)."""

    rows = ((Conv(192, 3, stride=2, valid=True),), (Pool.MAX,))
    names = ("conv", "maxpool")


class InceptionA(Branches):
    """Figure 4: (N, 384, H, W), same shape."""

    rows = (
        (Conv(96),),
        (Conv(64), Conv(96, 3)),
        (Conv(64), Conv(96, 3), Conv(96, 3)),
        (Pool.AVERAGE, Conv(96)),
    )


class ReductionA(Branches):
    """Figure 7 with the numbers of table 1: (N, 384, 35, 35) to (N, 1024, 17, 17)."""

    rows = (
        (Conv(384, 3, stride=2, valid=True),),
        (Conv(192), Conv(224, 3), Conv(256, 3, stride=2, valid=True)),
        (Pool.MAX,),
    )


class InceptionB(Branches):
    """Figure 5: (N, 1024, H, W), same shape."""

    rows = (
        (Conv(384),),
        (Conv(192), Conv(224, (1, 7)), Conv(256, (7, 1))),
        (Conv(192), Conv(192, (7, 1)), Conv(224, (1, 7)), Conv(224, (7, 1)), Conv(256, (1, 7))),
        (Pool.AVERAGE, Conv(128)),
    )


class ReductionB(Branches):
    """Figure 8: (N, 1024, 17, 17) to (N, 1536, 8, 8)."""

    rows = (
        (Conv(192), Conv(192, 3, stride=2, valid=True)),
        (Conv(256), Conv(256, (1, 7)), Conv(320, (7, 1)), Conv(320, 3, stride=2, valid=True)),
        (Pool.MAX,),
    )


class InceptionC(nn.Module):
    """Figure 6: two of the four branches end in a 1 x 3 and a 3 x 1 convolution side by side.

    (N, inputs, H, W) to (N, 1536, H, W).
    """

    def __init__(self, inputs: int, *, eps: float) -> None:
        super().__init__()
        layer = partial(inception_layer, eps=eps)
        self.branch0 = layer(inputs, Conv(256))
        self.branch1_0 = layer(inputs, Conv(384))
        self.branch1_1a = layer(384, Conv(256, (1, 3)))
        self.branch1_1b = layer(384, Conv(256, (3, 1)))
        self.branch2_0 = layer(inputs, Conv(384))
        self.branch2_1 = layer(384, Conv(448, (3, 1)))
        self.branch2_2 = layer(448, Conv(512, (1, 3)))
        self.branch2_3a = layer(512, Conv(256, (1, 3)))
        self.branch2_3b = layer(512, Conv(256, (3, 1)))
        self.branch3 = nn.Sequential(layer(inputs, Pool.AVERAGE), layer(inputs, Conv(256)))

    def forward(self, x: Tensor) -> Tensor:
        short = self.branch1_0(x)
        long = self.branch2_2(self.branch2_1(self.branch2_0(x)))
        forks = (self.branch1_1a(short), self.branch1_1b(short), self.branch2_3a(long), self.branch2_3b(long))
        return torch.cat((self.branch0(x), *forks, self.branch3(x)), dim=1)


class InceptionV4(Network):
    """Images (N, C, H, W), 299 px by default, to logits (N, classes)."""

    def __init__(self, config: Config, spec: InceptionV4Spec) -> None:
        super().__init__()
        self.config = config
        eps = config.batch_norm_eps
        (a, b, c), (width_a, width_b, width_c) = spec.repeats, spec.widths
        stem = (
            *inception_layers(config.channels, STEM, eps)[0],
            Stem3a(64, eps=eps),
            Stem4a(160, eps=eps),
            Stem5a(192, eps=eps),
        )
        stage1 = [InceptionA(width_a, eps=eps) for _ in range(a)]
        stage2 = [ReductionA(width_a, eps=eps), *(InceptionB(width_b, eps=eps) for _ in range(b))]
        stage3 = [ReductionB(width_b, eps=eps), *(InceptionC(width_c, eps=eps) for _ in range(c))]
        rows = (
            ("stem", stem, width_a, 8),
            ("stage1", stage1, width_a, 8),
            ("stage2", stage2, width_b, 16),
            ("stage3", stage3, width_c, 32),
        )
        self.features = nn.Sequential()
        stages = []
        for name, layers, channels, stride in rows:
            first = len(self.features)
            self.features.extend(layers)
            parts = tuple(f"features.{index}" for index in range(first, len(self.features)))
            stages.append(Stage(name, parts, channels, stride))
        self.pool = global_pool()
        self.dropout = nn.Dropout(DROPOUT)
        self.last_linear = nn.Linear(width_c, config.classes)
        stages.append(Stage("pool", ("pool",), width_c, None))
        stages.append(Stage("head", ("dropout", "last_linear"), config.classes, None))
        self.arrange(stages, "last_linear")


def build(config: Config) -> Network:
    """An untrained Inception v4."""
    network = InceptionV4(config, SPECS[config.architecture])
    initialize_for_relu(network, "fan_in")
    return network
