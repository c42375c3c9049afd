"""Small networks that differ in one thing, for the experiments."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from graft.models import catalog
from graft.models.network import Config, Network, initialize_for_relu
from graft.models.resnet import ResNet, ResNetSpec

Layer = Callable[[int], nn.Module]


def nothing(channels: int) -> nn.Module:
    return nn.Identity()


def stack(
    widths: tuple[int, ...],
    classes: int,
    *,
    convolution: Callable[[int, int], nn.Module] = lambda inputs, outputs: nn.Conv2d(inputs, outputs, 3, padding=1),
    norm: Layer = nothing,
    pool_every: int = 1,
    stride: int = 1,
) -> nn.Sequential:
    """Stack convolution, norm and ReLU for each width, a 2 x 2 pool after every `pool_every`, then the mean and a head.

    Images (N, 1, H, W) to logits (N, classes); every `stride`-th pixel is used, averaged with its neighbors.
    Convolutions start with He's variance.
    """
    layers: list[nn.Module] = [nn.AvgPool2d(stride)] if stride > 1 else []
    inputs = 1
    for number, width in enumerate(widths, start=1):
        layers += [convolution(inputs, width), norm(width), nn.ReLU()]
        if number % pool_every == 0:
            layers.append(nn.MaxPool2d(2))
        inputs = width
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network


def lenet(classes: int, activation: Callable[[], nn.Module] = nn.Tanh) -> Network:
    """Build the textbook's LeNet-5 with another number of classes or another activation."""
    config = catalog.default_config("lenet5")
    network = catalog.build(Config(config.architecture, classes=classes, channels=1))
    for part in ("c1_out", "c3_out", "f6_out"):
        network.attach(part, activation())
    network.attach("c5_out", nn.Sequential(activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    return network


def cifar_network(depth: int, residual: bool, classes: int, widths: tuple[int, int, int], channels: int = 1) -> Network:
    """Build the plain or residual network of the paper's section 4.2 with `depth` layers and these widths."""
    spec = ResNetSpec(((depth - 2) // 6,) * 3, "zero_pad" if residual else "none", widths=widths, cifar=True)
    name = f"{'resnet' if residual else 'plain'}{depth}"
    network = ResNet(Config(name, classes=classes, channels=channels), spec)
    initialize_for_relu(network)
    return network


def without_batch_norm(network: nn.Module) -> nn.Module:
    """Remove every batch norm, in place."""
    for parent in list(network.modules()):
        for name, child in list(parent._modules.items()):
            if isinstance(child, nn.BatchNorm2d):
                parent._modules[name] = nn.Identity()
    return network


class Joined(nn.Module):
    """A stem and blocks of one 3 x 3 convolution, batch norm and ReLU, joined with their inputs as `how` says.

    "sum" adds the input, "concatenation" puts `width` new maps beside all earlier ones, "nothing" passes on the block's
    output alone. Images (N, 1, H, W) to logits (N, classes).
    """

    def __init__(self, how: str, blocks: int, width: int, classes: int) -> None:
        super().__init__()
        self.how = how
        self.stem = nn.Conv2d(1, width, 3, padding=1, stride=2)
        inputs, self.blocks = width, nn.ModuleList()
        for _ in range(blocks):
            self.blocks.append(
                nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, width, 3, padding=1, bias=False))
            )
            inputs += width if how == "concatenation" else 0
        self.head = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            y = block(x)
            x = x + y if self.how == "sum" else torch.cat([x, y], 1) if self.how == "concatenation" else y
        logits: Tensor = self.head(x)
        return logits
