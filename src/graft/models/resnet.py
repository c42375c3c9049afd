"""ResNet. He, Zhang, Ren and Sun 2015, "Deep Residual Learning for Image Recognition", arXiv 1512.03385.

The ImageNet networks of table 1, the CIFAR networks of section 4.2, and for both the plain networks: the same layers
without shortcuts. Differs from the paper: a bottleneck that halves the map does so in its 3 x 3 convolution, not in the
first 1 x 1, as in every public checkpoint (same tensors, other outputs). The paper does not say where an option A
shortcut puts its zero channels; public CIFAR checkpoints need half of them before the input's and half after. Tensor
names are torchvision's, and for CIFAR those of the public checkpoints.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from graft.models.blocks import convolution, global_pool, max_pool
from graft.models.network import Config, Network, PaddingRule, Stage, initialize_for_relu

# How a block's input reaches its end: unchanged; through a 1 x 1 convolution with batch norm (option B); as every
# second pixel with zero channels around it (option A); not at all.
Shortcut = Literal["regular", "reduce", "zero_pad", "none"]


@dataclass(frozen=True)
class ResNetSpec:
    """Blocks per stage and their width; a bottleneck's output is four times as wide.

    `shortcut` is the kind used where a block changes the shape; "none" makes a plain network, without any.
    """

    blocks: tuple[int, ...]
    shortcut: Shortcut = "reduce"
    bottleneck: bool = False
    widths: tuple[int, ...] = (64, 128, 256, 512)
    cifar: bool = False


def _cifar(depth: int, shortcut: Shortcut) -> ResNetSpec:
    # Section 4.2: 6n + 2 layers, three stages of n blocks.
    return ResNetSpec(((depth - 2) // 6,) * 3, shortcut, widths=(16, 32, 64), cifar=True)


SPECS = {
    "plain18": ResNetSpec((2, 2, 2, 2), "none"),
    "plain34": ResNetSpec((3, 4, 6, 3), "none"),
    "resnet18": ResNetSpec((2, 2, 2, 2)),
    "resnet34": ResNetSpec((3, 4, 6, 3)),
    "resnet50": ResNetSpec((3, 4, 6, 3), bottleneck=True),
    "resnet101": ResNetSpec((3, 4, 23, 3), bottleneck=True),
    "resnet152": ResNetSpec((3, 8, 36, 3), bottleneck=True),
    **{f"plain{depth}": _cifar(depth, "none") for depth in (20, 32, 44, 56, 110)},
    **{f"resnet{depth}": _cifar(depth, "zero_pad") for depth in (20, 32, 44, 56, 110)},
}


class ZeroPadShortcut(nn.Module):
    """Option A (section 3.3): every `stride`-th pixel, with zero channels around the input's. No weights.

    (N, inputs, H, W) to (N, outputs, H/s, W/s).
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (outputs - inputs) // 2
        self.after = outputs - inputs - self.before

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """relu(F(x) + x), F two 3 x 3 convolutions (figure 5, left): (N, inputs, H, W) to (N, width, H/s, W/s).

    Parameters, without batch norm: 9 inputs width + 9 width width, and inputs width for a `reduce` shortcut; each takes
    part in H/s W/s multiply-adds. Raises ValueError for a `regular` shortcut between different shapes.

        block = BasicBlock(64, 128, stride=2, shortcut="reduce")
        block(torch.zeros(1, 64, 56, 56)).shape  # (1, 128, 28, 28)
    """

    expansion = 1

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int = 1,
        shortcut: Shortcut = "regular",
        *,
        padding: PaddingRule = "torch",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, width, 3, stride=stride, padding=padding)
        self.bn1 = nn.BatchNorm2d(width, eps)
        self.conv2 = convolution(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width, eps)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(shortcut, inputs, width, stride, padding, eps)
        self.adds = shortcut != "none"

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(_add(y, x, self.downsample) if self.adds else y)


class Bottleneck(nn.Module):
    """relu(F(x) + x), F of 1 x 1, 3 x 3 and 1 x 1 (figure 5, right): (N, inputs, H, W) to (N, 4 width, H/s, W/s).

    Parameters, without batch norm: inputs width + 9 width width + 4 width width, and 4 inputs width for a `reduce`
    shortcut; the first take part in H W multiply-adds each, the others in H/s W/s. Raises ValueError for a `regular`
    shortcut between different shapes.

        block = Bottleneck(256, 128, stride=2, shortcut="reduce")
        block(torch.zeros(1, 256, 56, 56)).shape  # (1, 512, 28, 28)
    """

    expansion = 4

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int = 1,
        shortcut: Shortcut = "regular",
        *,
        padding: PaddingRule = "torch",
        eps: float = 1e-5,
        early_stride: bool = False,
    ) -> None:
        super().__init__()
        outputs = self.expansion * width
        first, second = (stride, 1) if early_stride else (1, stride)
        self.conv1 = convolution(inputs, width, 1, stride=first, padding=padding)
        self.bn1 = nn.BatchNorm2d(width, eps)
        self.conv2 = convolution(width, width, 3, stride=second, padding=padding)
        self.bn2 = nn.BatchNorm2d(width, eps)
        self.conv3 = convolution(width, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs, eps)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(shortcut, inputs, outputs, stride, padding, eps)
        self.adds = shortcut != "none"

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(_add(y, x, self.downsample) if self.adds else y)


def _shortcut(
    kind: Shortcut, inputs: int, outputs: int, stride: int, padding: PaddingRule, eps: float
) -> nn.Module | None:
    """The module on the shortcut, None where the input passes unchanged or not at all. Raises ValueError."""
    if kind == "zero_pad":
        return ZeroPadShortcut(inputs, outputs, stride)
    if kind == "reduce":
        return nn.Sequential(
            convolution(inputs, outputs, 1, stride=stride, padding=padding), nn.BatchNorm2d(outputs, eps)
        )
    if kind == "regular" and (inputs != outputs or stride > 1):
        raise ValueError(
            f"expected equal shapes at both ends of a regular shortcut, got {inputs} and {outputs} channels at stride "
            f"{stride}: use a reduce shortcut"
        )
    return None


def _add(y: Tensor, x: Tensor, shortcut: nn.Module | None) -> Tensor:
    return y + (x if shortcut is None else shortcut(x))


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
        channels, stride = width, 1 if spec.cifar else 4
        stages = [Stage("stem", stem, channels, stride)]
        for number, (blocks, width) in enumerate(zip(spec.blocks, spec.widths, strict=True), start=1):
            first_stride = 1 if number == 1 else 2
            layer, channels = _stage(config, spec, channels, width, blocks, first_stride)
            self.add_module(f"layer{number}", layer)
            stride *= first_stride
            stages.append(Stage(f"stage{number}", (f"layer{number}",), channels, stride))
        self.pool = global_pool()
        classifier = "linear" if spec.cifar else "fc"
        self.add_module(classifier, nn.Linear(channels, config.classes))
        stages += [Stage("pool", ("pool",), channels, None), Stage("head", (classifier,), config.classes, None)]
        self.arrange(stages, classifier)


def _stage(
    config: Config, spec: ResNetSpec, inputs: int, width: int, blocks: int, stride: int
) -> tuple[nn.Sequential, int]:
    """A run of blocks, the first of which may halve the map and change its width, and the run's output channels."""
    kind: Callable[..., nn.Module] = BasicBlock
    expansion = BasicBlock.expansion
    if spec.bottleneck:
        kind, expansion = partial(Bottleneck, early_stride=config.early_stride), Bottleneck.expansion
    outputs = expansion * width
    layers = []
    for step in (stride, *(1,) * (blocks - 1)):
        changes = step > 1 or inputs != outputs
        shortcut: Shortcut = spec.shortcut if changes or spec.shortcut == "none" else "regular"
        layers.append(kind(inputs, width, step, shortcut, padding=config.padding, eps=config.batch_norm_eps))
        inputs = outputs
    return nn.Sequential(*layers), outputs


def build(config: Config) -> Network:
    """An untrained ResNet or plain network."""
    network = ResNet(config, SPECS[config.architecture])
    initialize_for_relu(network)
    return network
