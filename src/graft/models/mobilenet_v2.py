"""MobileNet v2. Sandler, Howard, Zhu, Zhmoginov and Chen 2018, "MobileNetV2", arXiv 1801.04381, table 2.

The text mentions 19 residual bottlenecks, the table lists 17; this file follows the table. Tensor names are
torchvision's.
"""

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from graft.models.blocks import Norm, conv_norm_activation, convolution, global_pool
from graft.models.network import Config, Network, PaddingRule, Stage, initialize_for_relu


@dataclass(frozen=True)
class Row:
    """A row of table 2: `repeats` bottlenecks of `channels` outputs, the first with `stride`, expanding by `factor`."""

    factor: int
    channels: int
    repeats: int
    stride: int


ROWS = (
    Row(factor=1, channels=16, repeats=1, stride=1),
    Row(factor=6, channels=24, repeats=2, stride=2),
    Row(factor=6, channels=32, repeats=3, stride=2),
    Row(factor=6, channels=64, repeats=4, stride=2),
    Row(factor=6, channels=96, repeats=3, stride=1),
    Row(factor=6, channels=160, repeats=3, stride=2),
    Row(factor=6, channels=320, repeats=1, stride=1),
)
STEM = 32
LAST = 1280
DROPOUT = 0.2

SPECS = {"mobilenet_v2": ROWS}


class InvertedResidual(nn.Module):
    """Expand with a 1 x 1, filter with a 3 x 3 depthwise, project with a linear 1 x 1 convolution (figure 4d).

    (N, inputs, H, W) to (N, outputs, H/s, W/s); the input is added where the shapes agree (section 3.3).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, factor: int, norm: Norm, padding: PaddingRule) -> None:
        super().__init__()
        hidden = inputs * factor
        unit = partial(conv_norm_activation, activation=nn.ReLU6, norm=norm, padding=padding)
        layers = [] if factor == 1 else [unit(inputs, hidden, 1)]
        depthwise = unit(hidden, hidden, 3, stride=stride, groups=hidden)
        self.conv = nn.Sequential(*layers, depthwise, convolution(hidden, outputs, 1), norm(outputs))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(Network):
    """Images (N, 3, H, W), 224 px by default, to logits (N, classes)."""

    def __init__(self, config: Config, rows: tuple[Row, ...]) -> None:
        super().__init__()
        self.config = config
        norm = partial(nn.BatchNorm2d, eps=config.batch_norm_eps)
        unit = partial(conv_norm_activation, activation=nn.ReLU6, norm=norm, padding=config.padding)
        layers = nn.Sequential(unit(config.channels, STEM, 3, stride=2))
        stages, channels, stride = [Stage("stem", ("features.0",), STEM, 2)], STEM, 2
        for number, row in enumerate(rows, start=1):
            first = len(layers)
            for index in range(row.repeats):
                step = row.stride if index == 0 else 1
                layers.append(InvertedResidual(channels, row.channels, step, row.factor, norm, config.padding))
                channels = row.channels
            stride *= row.stride
            parts = tuple(f"features.{index}" for index in range(first, len(layers)))
            stages.append(Stage(f"stage{number}", parts, channels, stride))
        stages.append(Stage(f"stage{len(rows) + 1}", (f"features.{len(layers)}",), LAST, stride))
        layers.append(unit(channels, LAST, 1))
        self.features = layers
        self.pool = global_pool()
        self.classifier = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(LAST, config.classes))
        stages += [Stage("pool", ("pool",), LAST, None), Stage("head", ("classifier",), config.classes, None)]
        self.arrange(stages, "classifier.1")


def build(config: Config) -> Network:
    """An untrained MobileNet v2."""
    network = MobileNetV2(config, SPECS[config.architecture])
    initialize_for_relu(network)
    return network
