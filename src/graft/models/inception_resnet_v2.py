"""Inception-ResNet v2. Szegedy, Ioffe, Vanhoucke and Alemi 2016, "Inception-v4, Inception-ResNet and the Impact of
Residual Connections on Learning", arXiv 1602.07261, figures 15 to 19 and section 3.3.

The network of the authors' published weights, which differs from the figures: the stem is Inception v3's, followed by
an Inception module; each residual block is repeated twice as often (10, 20, 10); the maps between them have 320, 1088
and 2080 channels (in the figures 384, 1154 and 2048); the last residual block is neither scaled nor rectified, and a
1 x 1 convolution follows it. Average pools do not count the padding. Tensor names are timm's.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from graft.models.blocks import Branches, Conv, Pool, global_pool, inception_layer, inception_layers
from graft.models.network import Config, Network, Stage, initialize_for_relu


@dataclass(frozen=True)
class InceptionResNetSpec:
    """How many residual blocks A, B and C there are in a row; one more C follows on its own."""

    repeats: tuple[int, int, int]


SPECS = {"inception_resnet_v2": InceptionResNetSpec(repeats=(10, 20, 9))}
STEM: dict[str, Conv | Pool] = {
    "conv2d_1a": Conv(32, 3, stride=2, valid=True),
    "conv2d_2a": Conv(32, 3, valid=True),
    "conv2d_2b": Conv(64, 3),
    "maxpool_3a": Pool.MAX,
    "conv2d_3b": Conv(80),
    "conv2d_4a": Conv(192, 3, valid=True),
    "maxpool_5a": Pool.MAX,
}
LAST = Conv(1536)
DROPOUT = 0.2


class Mixed5b(Branches):
    """The module after the stem: (N, 192, H, W) to (N, 320, H, W)."""

    rows = (
        (Conv(96),),
        (Conv(48), Conv(64, 5)),
        (Conv(64), Conv(96, 3), Conv(96, 3)),
        (Pool.AVERAGE, Conv(64)),
    )


class ReductionA(Branches):
    """Figure 7 with the numbers of table 1: (N, 320, 35, 35) to (N, 1088, 17, 17)."""

    rows = (
        (Conv(384, 3, stride=2, valid=True),),
        (Conv(256), Conv(256, 3), Conv(384, 3, stride=2, valid=True)),
        (Pool.MAX,),
    )


class ReductionB(Branches):
    """Figure 18: (N, 1088, 17, 17) to (N, 2080, 8, 8)."""

    rows = (
        (Conv(256), Conv(384, 3, stride=2, valid=True)),
        (Conv(256), Conv(288, 3, stride=2, valid=True)),
        (Conv(256), Conv(288, 3), Conv(320, 3, stride=2, valid=True)),
        (Pool.MAX,),
    )


class ScaledResidual(Branches):
    """relu(x + scale F(x)), F the branches and a linear 1 x 1 convolution over their outputs: (N, C, H, W), same shape.

    Small scales keep wide residual networks from dying early in training (section 3.3). `last` leaves out both the
    scale and the ReLU.
    """

    scale: ClassVar[float]

    def __init__(self, channels: int, *, eps: float, last: bool = False) -> None:
        super().__init__(channels, eps=eps)
        self.conv2d = nn.Conv2d(self.outputs, channels, 1)
        self.last = last
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv2d(super().forward(x))
        return x + residual if self.last else self.relu(x + residual * self.scale)


class ResidualA(ScaledResidual):
    """Figure 16, with a scale of 0.17."""

    rows = ((Conv(32),), (Conv(32), Conv(32, 3)), (Conv(32), Conv(48, 3), Conv(64, 3)))
    scale = 0.17


class ResidualB(ScaledResidual):
    """Figure 17, with a scale of 0.1."""

    rows = ((Conv(192),), (Conv(128), Conv(160, (1, 7)), Conv(192, (7, 1))))
    scale = 0.1


class ResidualC(ScaledResidual):
    """Figure 19, with a scale of 0.2."""

    rows = ((Conv(192),), (Conv(192), Conv(224, (1, 3)), Conv(256, (3, 1))))
    scale = 0.2


class InceptionResNetV2(Network):
    """Images (N, C, H, W), 299 px by default, to logits (N, classes)."""

    def __init__(self, config: Config, spec: InceptionResNetSpec) -> None:
        super().__init__()
        self.config = config
        eps = config.batch_norm_eps
        layers, channels = inception_layers(config.channels, STEM.values(), eps)
        for name, layer in zip(STEM, layers, strict=True):
            self.add_module(name, layer)
        stages = [Stage("stem", tuple(STEM), channels, 8)]

        a, b, c = spec.repeats
        self.mixed_5b = Mixed5b(channels, eps=eps)
        channels = self.mixed_5b.outputs
        self.repeat = nn.Sequential(*(ResidualA(channels, eps=eps) for _ in range(a)))
        stages.append(Stage("stage1", ("mixed_5b", "repeat"), channels, 8))
        self.mixed_6a = ReductionA(channels, eps=eps)
        channels = self.mixed_6a.outputs
        self.repeat_1 = nn.Sequential(*(ResidualB(channels, eps=eps) for _ in range(b)))
        stages.append(Stage("stage2", ("mixed_6a", "repeat_1"), channels, 16))
        self.mixed_7a = ReductionB(channels, eps=eps)
        channels = self.mixed_7a.outputs
        self.repeat_2 = nn.Sequential(*(ResidualC(channels, eps=eps) for _ in range(c)))
        self.block8 = ResidualC(channels, eps=eps, last=True)
        self.conv2d_7b = inception_layer(channels, LAST, eps)
        stages.append(Stage("stage3", ("mixed_7a", "repeat_2", "block8", "conv2d_7b"), LAST.outputs, 32))
        self.pool = global_pool()
        self.dropout = nn.Dropout(DROPOUT)
        self.classif = nn.Linear(LAST.outputs, config.classes)
        stages.append(Stage("pool", ("pool",), LAST.outputs, None))
        stages.append(Stage("head", ("dropout", "classif"), config.classes, None))
        self.arrange(stages, "classif")


def build(config: Config) -> Network:
    """An untrained Inception-ResNet v2."""
    network = InceptionResNetV2(config, SPECS[config.architecture])
    initialize_for_relu(network, "fan_in")
    return network
