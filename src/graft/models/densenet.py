"""DenseNet. Huang, Liu, van der Maaten and Weinberger 2016, "Densely Connected Convolutional Networks",
arXiv 1608.06993, table 1: the DenseNet-BC networks (bottlenecks of 4 k maps, transitions that halve the channels).

Every convolution in the table but the first stands for norm, ReLU and convolution. Only one version of the paper has
DenseNet-161. Tensor names are torchvision's.
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graft.models.blocks import convolution, global_pool, max_pool
from graft.models.network import Config, Network, Stage, initialize_for_relu


@dataclass(frozen=True)
class DenseNetSpec:
    """Layers per dense block, and the growth rate k: how many maps each layer adds. The stem has 2 k."""

    layers: tuple[int, int, int, int]
    growth: int = 32


SPECS = {
    "densenet121": DenseNetSpec((6, 12, 24, 16)),
    "densenet169": DenseNetSpec((6, 12, 32, 32)),
    "densenet201": DenseNetSpec((6, 12, 48, 32)),
    "densenet161": DenseNetSpec((6, 12, 36, 24), growth=48),
}


class DenseLayer(nn.Module):
    """A shortcut by concatenation: x, followed by `growth` new maps computed from all of x.

    (N, inputs, H, W) to (N, inputs + growth, H, W). The first `inputs` maps of the output are x itself, so every later
    layer sees what each earlier one made. The new maps come from norm, ReLU and a 1 x 1 convolution to `bottleneck`
    times growth maps, then norm, ReLU and a 3 x 3 convolution (section 3, equation 2 and DenseNet-B). With k = growth
    and b = bottleneck: inputs (2 + b k) + 2 b k + 9 b k^2 parameters, (inputs b k + 9 b k^2) H W multiply-adds.

        layer = DenseLayer(64, growth=32)
        layer(torch.zeros(1, 64, 56, 56)).shape  # (1, 96, 56, 56)
    """

    def __init__(self, inputs: int, growth: int, *, bottleneck: int = 4, eps: float = 1e-5) -> None:
        super().__init__()
        hidden = bottleneck * growth
        self.norm1 = nn.BatchNorm2d(inputs, eps)
        self.conv1 = convolution(inputs, hidden, 1)
        self.norm2 = nn.BatchNorm2d(hidden, eps)
        self.conv2 = convolution(hidden, growth, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv1(self.relu(self.norm1(x)))
        new = self.conv2(self.relu(self.norm2(new)))
        return torch.cat((x, new), dim=1)


class Transition(nn.Sequential):
    """Between dense blocks: a 1 x 1 convolution halves the channels, then a pool halves the map, dropping an odd edge.

    (N, inputs, H, W) to (N, inputs // 2, H // 2, W // 2); section 3, compression 0.5.
    """

    def __init__(self, inputs: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs, eps)
        self.relu = nn.ReLU(inplace=True)
        self.conv = convolution(inputs, inputs // 2, 1)
        self.pool = nn.AvgPool2d(2)


class DenseNet(Network):
    """Images (N, 3, H, W), 224 px by default, to logits (N, classes)."""

    def __init__(self, config: Config, spec: DenseNetSpec) -> None:
        super().__init__()
        self.config = config
        channels, stride, eps = 2 * spec.growth, 4, config.batch_norm_eps
        self.features = nn.Sequential()
        stem = {
            "conv0": convolution(config.channels, channels, 7, stride=2, padding=config.padding),
            "norm0": nn.BatchNorm2d(channels, eps),
            "relu0": nn.ReLU(inplace=True),
            "pool0": max_pool(3, 2, padding=config.padding),
        }
        stages = [self._stage("stem", stem, channels, stride)]
        for number, count in enumerate(spec.layers, start=1):
            parts: dict[str, nn.Module] = {f"denseblock{number}": _dense_block(count, channels, spec.growth, eps)}
            channels += count * spec.growth
            if number < len(spec.layers):
                parts[f"transition{number}"] = Transition(channels, eps)
                channels, stride = channels // 2, stride * 2
            else:
                parts |= {"norm5": nn.BatchNorm2d(channels, eps), "relu5": nn.ReLU(inplace=True)}
            stages.append(self._stage(f"stage{number}", parts, channels, stride))
        self.pool = global_pool()
        self.classifier = nn.Linear(channels, config.classes)
        stages += [Stage("pool", ("pool",), channels, None), Stage("head", ("classifier",), config.classes, None)]
        self.arrange(stages, "classifier")

    def _stage(self, name: str, parts: dict[str, nn.Module], channels: int, stride: int) -> Stage:
        """Add `parts` to `features` under their names, and declare them as a stage."""
        for part, module in parts.items():
            self.features.add_module(part, module)
        return Stage(name, tuple(f"features.{part}" for part in parts), channels, stride)


def _dense_block(count: int, inputs: int, growth: int, eps: float) -> nn.Sequential:
    """`count` dense layers: (N, inputs, H, W) to (N, inputs + count growth, H, W)."""
    widths = range(inputs, inputs + count * growth, growth)
    return nn.Sequential(
        OrderedDict(
            (f"denselayer{number}", DenseLayer(width, growth, eps=eps)) for number, width in enumerate(widths, start=1)
        )
    )


def build(config: Config) -> Network:
    """An untrained DenseNet."""
    network = DenseNet(config, SPECS[config.architecture])
    initialize_for_relu(network)
    return network
