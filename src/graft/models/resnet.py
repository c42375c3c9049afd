"""ResNet. He, Zhang, Ren and Sun 2015, "Deep Residual Learning for Image Recognition", arXiv 1512.03385.

ImageNet networks of table 1 and CIFAR networks of section 4.2. What differs from the paper: a bottleneck that halves
the map does it in its 3 x 3 convolution, not in the first 1 x 1 (as every public checkpoint does; same tensors, other
outputs). The paper does not say where the zero channels of an option A shortcut go; public CIFAR checkpoints need half
of them before and half after. Tensor names are torchvision's, for CIFAR those of the public checkpoints.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from graft.models.blocks import convolution, max_pool
from graft.models.network import Config, Network, PaddingRule, Stage, initialise_for_relu


@dataclass(frozen=True)
class ResNetSpec:
    """Blocks per stage and their width; a bottleneck's output is four times as wide."""

    blocks: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    bottleneck: bool = False
    cifar: bool = False


def _cifar(depth: int) -> ResNetSpec:
    # Section 4.2: 6n + 2 layers, three stages of n blocks, option A shortcuts.
    return ResNetSpec(blocks=((depth - 2) // 6,) * 3, widths=(16, 32, 64), cifar=True)


SPECS = {
    "resnet18": ResNetSpec((2, 2, 2, 2)),
    "resnet34": ResNetSpec((3, 4, 6, 3)),
    "resnet50": ResNetSpec((3, 4, 6, 3), bottleneck=True),
    "resnet101": ResNetSpec((3, 4, 23, 3), bottleneck=True),
    "resnet152": ResNetSpec((3, 8, 36, 3), bottleneck=True),
    "resnet20": _cifar(20),
    "resnet32": _cifar(32),
    "resnet44": _cifar(44),
    "resnet56": _cifar(56),
    "resnet110": _cifar(110),
}


class ZeroPadShortcut(nn.Module):
    """Option A (section 3.3): every second pixel, and zero channels around the old ones. No weights."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (outputs - inputs) // 2
        self.after = outputs - inputs - self.before

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """relu(F(x) + x), F two 3 x 3 convolutions (figure 5, left): (N, inputs, H, W) to (N, width, H/s, W/s)."""

    def __init__(
        self, inputs: int, width: int, stride: int, shortcut: nn.Module | None, padding: PaddingRule, eps: float
    ) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, width, 3, stride=stride, padding=padding)
        self.bn1 = nn.BatchNorm2d(width, eps)
        self.conv2 = convolution(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width, eps)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        kept = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return self.relu(x + kept)


class Bottleneck(nn.Module):
    """relu(F(x) + x), F of 1 x 1, 3 x 3 and 1 x 1 (figure 5, right): (N, inputs, H, W) to (N, 4 width, H/s, W/s)."""

    def __init__(
        self, inputs: int, width: int, stride: int, shortcut: nn.Module | None, padding: PaddingRule, eps: float
    ) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width, eps)
        self.conv2 = convolution(width, width, 3, stride=stride, padding=padding)
        self.bn2 = nn.BatchNorm2d(width, eps)
        self.conv3 = convolution(width, 4 * width, 1)
        self.bn3 = nn.BatchNorm2d(4 * width, eps)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        kept = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return self.relu(x + kept)


class ResNet(Network):
    """Images (N, C, H, W), 224 px for ImageNet and 32 px for CIFAR, to logits (N, classes)."""

    def __init__(self, config: Config, spec: ResNetSpec) -> None:
        super().__init__()
        self.config = config
        width = spec.widths[0]
        if spec.cifar:
            self.conv1 = convolution(config.channels, width, 3)
        else:
            self.conv1 = convolution(config.channels, width, 7, stride=2, padding=config.padding)
            self.maxpool = max_pool(3, 2, padding=config.padding)
        self.bn1 = nn.BatchNorm2d(width, config.batch_norm_eps)
        self.relu = nn.ReLU(inplace=True)
        stem = ("conv1", "bn1", "relu") if spec.cifar else ("conv1", "bn1", "relu", "maxpool")
        stride = 1 if spec.cifar else 4
        stages = [Stage("stem", stem, width, stride)]
        channels = width
        for number, (blocks, width) in enumerate(zip(spec.blocks, spec.widths, strict=True), start=1):
            first_stride = 1 if number == 1 else 2
            layer, channels = _stage(config, spec, channels, width, blocks, first_stride)
            self.add_module(f"layer{number}", layer)
            stride *= first_stride
            stages.append(Stage(f"stage{number}", (f"layer{number}",), channels, stride))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        classifier = "linear" if spec.cifar else "fc"
        self.add_module(classifier, nn.Linear(channels, config.classes))
        stages += [Stage("pool", ("pool",), channels, None), Stage("head", (classifier,), config.classes, None)]
        self.arrange(stages, classifier)


def _stage(
    config: Config, spec: ResNetSpec, inputs: int, width: int, blocks: int, stride: int
) -> tuple[nn.Sequential, int]:
    """`blocks` residual blocks, the first of which may halve the map, and their output channels."""
    kind = Bottleneck if spec.bottleneck else BasicBlock
    outputs = 4 * width if spec.bottleneck else width
    layers = []
    for index in range(blocks):
        first = index == 0
        shortcut = _shortcut(config, spec, inputs, outputs, stride) if first else None
        layers.append(kind(inputs, width, stride if first else 1, shortcut, config.padding, config.batch_norm_eps))
        inputs = outputs
    return nn.Sequential(*layers), outputs


def _shortcut(config: Config, spec: ResNetSpec, inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """None where the shapes agree; else zero channels (CIFAR) or a 1 x 1 convolution with batch norm (option B)."""
    if stride == 1 and inputs == outputs:
        return None
    if spec.cifar:
        return ZeroPadShortcut(inputs, outputs, stride)
    return nn.Sequential(
        convolution(inputs, outputs, 1, stride=stride, padding=config.padding),
        nn.BatchNorm2d(outputs, config.batch_norm_eps),
    )


def build(config: Config) -> Network:
    """An untrained ResNet."""
    network = ResNet(config, SPECS[config.architecture])
    initialise_for_relu(network)
    return network
