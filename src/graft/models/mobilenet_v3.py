"""MobileNet v3. Howard et al. 2019, "Searching for MobileNetV3", arXiv 1905.02244, tables 1 and 2.

Differs from the paper: the quarter of the channels that an excitation squeezes to is rounded to a multiple of 8; the
last 1 x 1 convolution of table 2 has no excitation, as in the authors' code; the convolutions after the pooling are
linear layers. A stage is a run of rows of equal output width. Tensor names are torchvision's.
"""

from dataclasses import dataclass
from functools import partial
from itertools import groupby

from torch import nn

from graft.models.blocks import InvertedBottleneck, SqueezeExcite, conv_norm_activation, global_pool, round_channels
from graft.models.network import Config, Network, Stage, initialize_for_relu


@dataclass(frozen=True)
class Row:
    """A bneck row of table 1 or 2, in the order of the paper's columns: kernel, exp size, #out, SE, NL, s."""

    kernel: int
    expanded: int
    channels: int
    excites: bool
    activation: type[nn.Module]
    stride: int


@dataclass(frozen=True)
class MobileNetV3Spec:
    """The bneck rows, the width of the 1 x 1 convolution after them, and that of the layer after the pooling."""

    rows: tuple[Row, ...]
    last: int
    dense: int


RE, HS = nn.ReLU, nn.Hardswish

# Table 1.
LARGE = (
    Row(3, 16, 16, False, RE, 1),
    Row(3, 64, 24, False, RE, 2),
    Row(3, 72, 24, False, RE, 1),
    Row(5, 72, 40, True, RE, 2),
    Row(5, 120, 40, True, RE, 1),
    Row(5, 120, 40, True, RE, 1),
    Row(3, 240, 80, False, HS, 2),
    Row(3, 200, 80, False, HS, 1),
    Row(3, 184, 80, False, HS, 1),
    Row(3, 184, 80, False, HS, 1),
    Row(3, 480, 112, True, HS, 1),
    Row(3, 672, 112, True, HS, 1),
    Row(5, 672, 160, True, HS, 2),
    Row(5, 960, 160, True, HS, 1),
    Row(5, 960, 160, True, HS, 1),
)
# Table 2.
SMALL = (
    Row(3, 16, 16, True, RE, 2),
    Row(3, 72, 24, False, RE, 2),
    Row(3, 88, 24, False, RE, 1),
    Row(5, 96, 40, True, HS, 2),
    Row(5, 240, 40, True, HS, 1),
    Row(5, 240, 40, True, HS, 1),
    Row(5, 120, 48, True, HS, 1),
    Row(5, 144, 48, True, HS, 1),
    Row(5, 288, 96, True, HS, 2),
    Row(5, 576, 96, True, HS, 1),
    Row(5, 576, 96, True, HS, 1),
)
STEM = 16
# Section 6.1.1: dropout keeps 0.8 of the values, batch norm 0.99 of its running statistics.
DROPOUT = 0.2
MOMENTUM = 0.01

SPECS = {
    "mobilenet_v3_large": MobileNetV3Spec(LARGE, last=960, dense=1280),
    "mobilenet_v3_small": MobileNetV3Spec(SMALL, last=576, dense=1024),
}


class MobileNetV3(Network):
    """Images (N, 3, H, W), 224 px by default, to logits (N, classes)."""

    def __init__(self, config: Config, spec: MobileNetV3Spec) -> None:
        super().__init__()
        self.config = config
        norm = partial(nn.BatchNorm2d, eps=config.batch_norm_eps, momentum=MOMENTUM)
        unit = partial(conv_norm_activation, norm=norm, padding=config.padding)
        layers = nn.Sequential(unit(config.channels, STEM, 3, nn.Hardswish, stride=2))
        stages, channels, stride = [Stage("stem", ("features.0",), STEM, 2)], STEM, 2
        for number, (width, rows) in enumerate(groupby(spec.rows, key=lambda row: row.channels), start=1):
            first = len(layers)
            for row in rows:
                squeezed = round_channels(row.expanded // 4)
                layers.append(
                    InvertedBottleneck(
                        channels,
                        row.expanded,
                        width,
                        row.kernel,
                        row.activation,
                        norm=norm,
                        stride=row.stride,
                        excite=SqueezeExcite(row.expanded, squeezed, nn.ReLU, nn.Hardsigmoid) if row.excites else None,
                        padding=config.padding,
                    )
                )
                channels, stride = width, stride * row.stride
            parts = tuple(f"features.{index}" for index in range(first, len(layers)))
            stages.append(Stage(f"stage{number}", parts, channels, stride))
        stages.append(Stage(f"stage{len(stages)}", (f"features.{len(layers)}",), spec.last, stride))
        layers.append(unit(channels, spec.last, 1, nn.Hardswish))
        self.features = layers
        self.pool = global_pool()
        self.classifier = nn.Sequential(
            nn.Linear(spec.last, spec.dense),
            nn.Hardswish(inplace=True),
            nn.Dropout(DROPOUT),
            nn.Linear(spec.dense, config.classes),
        )
        stages += [
            Stage("pool", ("pool",), spec.last, None),
            Stage("fc", ("classifier.0", "classifier.1"), spec.dense, None),
            Stage("head", ("classifier.2", "classifier.3"), config.classes, None),
        ]
        self.arrange(stages, "classifier.3")


def build(config: Config) -> Network:
    """An untrained MobileNet v3."""
    network = MobileNetV3(config, SPECS[config.architecture])
    initialize_for_relu(network)
    return network
