"""EfficientNet. Tan and Le 2019, "EfficientNet", arXiv 1905.11946, table 1 and the compound scaling of section 3.3.

One rule makes B1 to B7 from B0: equation 3 scales depth by alpha^phi, width by beta^phi and resolution by gamma^phi,
with alpha beta^2 gamma^2 about 2, so that the three share phi doublings of the multiply-adds; a grid search on B0 gave
alpha 1.2, beta 1.1 and gamma 1.15. The paper prints neither phi nor the factors of the variants: the factors in SPECS
are those of the authors' code, and each `phi` is the value that they come closest to. Their width and resolution stay
within 5 % of the equation; their depth falls short of it from B4 on, by 14 % at B7.

Lite0 to Lite4 (Liu 2020, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow's blog) are B0 to B4 for
integer arithmetic on phones: ReLU6 for swish, no excitations, the stem and the last convolution as wide as the
baseline's, the first and the last row as deep, and smaller images.

Differs from the authors' code: the momentum of batch norm is 0.1 up to B4 and in Lite, not 0.01, as in torchvision and
timm. Tensor names are torchvision's; timm's for Lite are a layout of `graft.weights.layouts`.
"""

from dataclasses import dataclass, replace
from functools import partial
from math import ceil

import torch.nn.functional as F
from torch import Tensor, nn

from graft.models.blocks import (
    InvertedBottleneck,
    Norm,
    SqueezeExcite,
    conv_norm_activation,
    global_pool,
    round_channels,
)
from graft.models.network import Config, Network, PaddingRule, Stage, initialize_for_relu


@dataclass(frozen=True)
class Row:
    """A row of table 1: `repeats` MBConv blocks expanding by `factor`, `channels` outputs, the first with `stride`."""

    factor: int
    kernel: int
    channels: int
    repeats: int
    stride: int


# Stages 2 to 8 of table 1, which are stage1 to stage7 here; the table's first stage is the stem.
BASELINE = (
    Row(factor=1, kernel=3, channels=16, repeats=1, stride=1),
    Row(factor=6, kernel=3, channels=24, repeats=2, stride=2),
    Row(factor=6, kernel=5, channels=40, repeats=2, stride=2),
    Row(factor=6, kernel=3, channels=80, repeats=3, stride=2),
    Row(factor=6, kernel=5, channels=112, repeats=3, stride=1),
    Row(factor=6, kernel=5, channels=192, repeats=4, stride=2),
    Row(factor=6, kernel=3, channels=320, repeats=1, stride=1),
)
STEM = 32
LAST = 1280
# Section 5.2. The rate rises linearly with depth, from 0 at the first block toward this after the last.
STOCHASTIC_DEPTH = 0.2


@dataclass(frozen=True)
class EfficientNetSpec:
    """Factors on the baseline's channels and repeats, the side of the input in pixels, and the settings that follow.

    `lite` networks have ReLU6, no excitations, and both ends as in the baseline.
    """

    phi: float
    width: float
    depth: float
    resolution: int
    dropout: float
    momentum: float = 0.1
    lite: bool = False

    @property
    def activation(self) -> type[nn.Module]:
        return nn.ReLU6 if self.lite else nn.SiLU

    def widen_end(self, channels: int) -> int:
        """The width of the stem or of the last convolution, from the baseline's."""
        return channels if self.lite else round_channels(channels * self.width)


SPECS = {
    "efficientnet_b0": EfficientNetSpec(phi=0, width=1.0, depth=1.0, resolution=224, dropout=0.2),
    "efficientnet_b1": EfficientNetSpec(phi=0.5, width=1.0, depth=1.1, resolution=240, dropout=0.2),
    "efficientnet_b2": EfficientNetSpec(phi=1, width=1.1, depth=1.2, resolution=260, dropout=0.3),
    "efficientnet_b3": EfficientNetSpec(phi=2, width=1.2, depth=1.4, resolution=300, dropout=0.3),
    "efficientnet_b4": EfficientNetSpec(phi=3.5, width=1.4, depth=1.8, resolution=380, dropout=0.4),
    "efficientnet_b5": EfficientNetSpec(phi=5, width=1.6, depth=2.2, resolution=456, dropout=0.4, momentum=0.01),
    "efficientnet_b6": EfficientNetSpec(phi=6, width=1.8, depth=2.6, resolution=528, dropout=0.5, momentum=0.01),
    "efficientnet_b7": EfficientNetSpec(phi=7, width=2.0, depth=3.1, resolution=600, dropout=0.5, momentum=0.01),
    "efficientnet_lite0": EfficientNetSpec(phi=0, width=1.0, depth=1.0, resolution=224, dropout=0.2, lite=True),
    "efficientnet_lite1": EfficientNetSpec(phi=0.5, width=1.0, depth=1.1, resolution=240, dropout=0.2, lite=True),
    "efficientnet_lite2": EfficientNetSpec(phi=1, width=1.1, depth=1.2, resolution=260, dropout=0.3, lite=True),
    "efficientnet_lite3": EfficientNetSpec(phi=2, width=1.2, depth=1.4, resolution=280, dropout=0.3, lite=True),
    "efficientnet_lite4": EfficientNetSpec(phi=3.5, width=1.4, depth=1.8, resolution=300, dropout=0.3, lite=True),
}


def scale(row: Row, spec: EfficientNetSpec) -> Row:
    """The row made wider and deeper: channels rounded as by `round_channels`, repeats rounded up."""
    as_deep = spec.lite and row in (BASELINE[0], BASELINE[-1])
    repeats = row.repeats if as_deep else ceil(row.repeats * spec.depth)
    return replace(row, channels=round_channels(row.channels * spec.width), repeats=repeats)


class StochasticDepth(nn.Module):
    """In training, zero a whole image of the batch with probability `rate` and divide the others by 1 - rate.

    (N, C, H, W), same shape; in evaluation, the input itself. Huang, Sun, Liu, Sedra and Weinberger 2016, "Deep
    Networks with Stochastic Depth", arXiv 1603.09382, section 3, which instead scales in evaluation.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * F.dropout(x.new_ones((x.shape[0], 1, 1, 1)), self.rate)


class MBConv(InvertedBottleneck):
    """An inverted bottleneck whose excitation squeezes to a quarter of `inputs`, not of the expanded channels.

    (N, inputs, H, W) to (N, outputs, H / s, W / s). Where the input is added, stochastic depth ends the branch.
    """

    def __init__(
        self,
        inputs: int,
        row: Row,
        *,
        stride: int,
        drop_rate: float,
        norm: Norm,
        padding: PaddingRule,
        activation: type[nn.Module] = nn.SiLU,
        excited: bool = True,
    ) -> None:
        hidden, outputs, kernel = row.factor * inputs, row.channels, row.kernel
        excite = SqueezeExcite(hidden, inputs // 4, activation, nn.Sigmoid) if excited else None
        super().__init__(
            inputs, hidden, outputs, kernel, activation, norm=norm, stride=stride, excite=excite, padding=padding
        )
        if self.adds:
            self.block.append(StochasticDepth(drop_rate))


class EfficientNet(Network):
    """Images (N, 3, H, W), the variant's resolution by default, to logits (N, classes)."""

    def __init__(self, config: Config, spec: EfficientNetSpec) -> None:
        super().__init__()
        self.config = config
        norm = partial(nn.BatchNorm2d, eps=config.batch_norm_eps, momentum=spec.momentum)
        unit = partial(conv_norm_activation, activation=spec.activation, norm=norm, padding=config.padding)
        block_of = partial(MBConv, norm=norm, padding=config.padding, activation=spec.activation, excited=not spec.lite)
        rows = [scale(row, spec) for row in BASELINE]
        blocks = sum(row.repeats for row in rows)
        channels, last = spec.widen_end(STEM), spec.widen_end(LAST)
        self.features = nn.Sequential(unit(config.channels, channels, 3, stride=2))
        stages, stride, block = [Stage("stem", ("features.0",), channels, 2)], 2, 0
        for number, row in enumerate(rows, start=1):
            layers = nn.Sequential()
            for index in range(row.repeats):
                step = row.stride if index == 0 else 1
                rate = STOCHASTIC_DEPTH * block / blocks
                layers.append(block_of(channels, row, stride=step, drop_rate=rate))
                channels, stride, block = row.channels, stride * step, block + 1
            self.features.append(layers)
            stages.append(Stage(f"stage{number}", (f"features.{number}",), channels, stride))
        stages.append(Stage(f"stage{len(stages)}", (f"features.{len(self.features)}",), last, stride))
        self.features.append(unit(channels, last, 1))
        self.pool = global_pool()
        self.classifier = nn.Sequential(nn.Dropout(spec.dropout), nn.Linear(last, config.classes))
        stages += [Stage("pool", ("pool",), last, None), Stage("head", ("classifier",), config.classes, None)]
        self.arrange(stages, "classifier.1")


def build(config: Config) -> Network:
    """An untrained EfficientNet."""
    network = EfficientNet(config, SPECS[config.architecture])
    initialize_for_relu(network)
    return network
