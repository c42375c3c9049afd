"""AlexNet, in both of the forms known by that name.

`alexnet_2012`: Krizhevsky, Sutskever and Hinton 2012, "ImageNet Classification with Deep Convolutional Neural
Networks", NIPS 25, section 3. The groups of conv2, conv4 and conv5 are its two halves, one per GPU. The input is
227 px: the paper prints 224, but only 227 gives its 55 x 55 maps with an unpadded 11 x 11 kernel.

`alexnet`: the single tower of Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks",
arXiv 1404.5997, as in torchvision and under its tensor names: no groups, narrower early layers, conv1 padded for
224 px, no response normalization, dropout before fc6 and fc7 instead of after. conv4 has 256 maps, as in the author's
code; the paper's footnote says 384.

Both differ from the papers in two ways. An adaptive pool before the dense layers, which does nothing at the usual size,
lets other sizes run. The random start is that of He et al. 2015; the 2012 paper draws with a standard deviation of 0.01
and sets the biases of conv2, conv4, conv5, fc6 and fc7 to one.
"""

from dataclasses import dataclass

from torch import nn

from graft.models.blocks import LocalResponseNorm
from graft.models.network import Config, Network, Stage, initialize_for_relu


@dataclass(frozen=True)
class Row:
    """A convolution and its ReLU, then optionally response normalization and a 3 x 3 max pool with stride 2."""

    outputs: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    normalized: bool = False
    pooled: bool = False

    def layers(self, inputs: int) -> list[nn.Module]:
        """From (N, inputs, H, W) to (N, outputs, H / reduction, W / reduction), up to rounding."""
        convolution = nn.Conv2d(inputs, self.outputs, self.kernel, self.stride, self.padding, groups=self.groups)
        layers: list[nn.Module] = [convolution, nn.ReLU(inplace=True)]
        if self.normalized:
            layers.append(LocalResponseNorm())
        if self.pooled:
            layers.append(nn.MaxPool2d(3, stride=2))
        return layers

    @property
    def reduction(self) -> int:
        """Input pixels per output pixel along each axis."""
        return self.stride * (2 if self.pooled else 1)


SPECS = {
    "alexnet_2012": (
        Row(96, kernel=11, stride=4, normalized=True, pooled=True),
        Row(256, kernel=5, padding=2, groups=2, normalized=True, pooled=True),
        Row(384, kernel=3, padding=1),
        Row(384, kernel=3, padding=1, groups=2),
        Row(256, kernel=3, padding=1, groups=2, pooled=True),
    ),
    "alexnet": (
        Row(64, kernel=11, stride=4, padding=2, pooled=True),
        Row(192, kernel=5, padding=2, pooled=True),
        Row(384, kernel=3, padding=1),
        Row(256, kernel=3, padding=1),
        Row(256, kernel=3, padding=1, pooled=True),
    ),
}
POOLED = 6  # pixels along each side of the map that the dense layers see
DENSE = 4096
DROPOUT = 0.5


class AlexNet2012(Network):
    """Images (N, C, H, W), 227 px by default, to logits (N, classes)."""

    def __init__(self, config: Config, rows: tuple[Row, ...]) -> None:
        super().__init__()
        self.config = config
        stages, channels, stride = [], config.channels, 1
        for number, row in enumerate(rows, start=1):
            convolution, *after = row.layers(channels)
            self.add_module(f"conv{number}", convolution)
            self.add_module(f"conv{number}_out", nn.Sequential(*after))
            channels, stride = row.outputs, stride * row.reduction
            stages.append(Stage(f"stage{number}", (f"conv{number}", f"conv{number}_out"), channels, stride))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(POOLED), nn.Flatten())
        pooled = channels * POOLED**2
        self.fc6 = nn.Linear(pooled, DENSE)
        self.fc7 = nn.Linear(DENSE, DENSE)
        self.fc8 = nn.Linear(DENSE, config.classes)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(DROPOUT)
        stages += [
            Stage("pool", ("pool",), pooled, None),
            Stage("fc6", ("fc6", "relu"), DENSE, None),
            Stage("fc7", ("dropout", "fc7", "relu"), DENSE, None),
            Stage("head", ("dropout", "fc8"), config.classes, None),
        ]
        self.arrange(stages, "fc8")


class AlexNet2014(Network):
    """Images (N, C, H, W), 224 px by default, to logits (N, classes)."""

    def __init__(self, config: Config, rows: tuple[Row, ...]) -> None:
        super().__init__()
        self.config = config
        self.features = nn.Sequential()
        stages, channels, stride = [], config.channels, 1
        for number, row in enumerate(rows, start=1):
            first = len(self.features)
            self.features.extend(row.layers(channels))
            parts = tuple(f"features.{index}" for index in range(first, len(self.features)))
            channels, stride = row.outputs, stride * row.reduction
            stages.append(Stage(f"stage{number}", parts, channels, stride))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(POOLED), nn.Flatten())
        pooled = channels * POOLED**2
        self.classifier = nn.Sequential(
            nn.Dropout(DROPOUT),
            nn.Linear(pooled, DENSE),
            nn.ReLU(inplace=True),
            nn.Dropout(DROPOUT),
            nn.Linear(DENSE, DENSE),
            nn.ReLU(inplace=True),
            nn.Linear(DENSE, config.classes),
        )
        stages += [
            Stage("pool", ("pool",), pooled, None),
            Stage("fc6", ("classifier.0", "classifier.1", "classifier.2"), DENSE, None),
            Stage("fc7", ("classifier.3", "classifier.4", "classifier.5"), DENSE, None),
            Stage("head", ("classifier.6",), config.classes, None),
        ]
        self.arrange(stages, "classifier.6")


def build(config: Config) -> Network:
    """An untrained AlexNet."""
    kind = AlexNet2012 if config.architecture == "alexnet_2012" else AlexNet2014
    network = kind(config, SPECS[config.architecture])
    initialize_for_relu(network)
    return network
