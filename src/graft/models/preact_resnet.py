"""Pre-activation ResNet. He, Zhang, Ren and Sun 2016, "Identity Mappings in Deep Residual Networks", arXiv 1603.05027.

Batch norm and ReLU come before each convolution (figure 4e) and once more before the pooling, and nothing comes after
an addition, so the input reaches every unit unchanged. The ImageNet networks have timm's tensor names (`resnetv2_*`), a
1 x 1 convolution on the shortcut where the shape changes, and one as the classifier. The CIFAR networks (section 4)
have the same names, zero channels on such shortcuts and a linear classifier. A shortcut with weights starts from the
activated input. So do both paths of a CIFAR network's first unit (appendix); in timm's ImageNet networks they start
from the raw one. Differs from the paper: a bottleneck that halves the map does so in its 3 x 3 convolution, as in
`resnet`.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from graft.models.blocks import PointwiseHead, convolution, global_pool, max_pool
from graft.models.network import Config, Network, Stage, initialize_for_relu
from graft.models.resnet import ZeroPadShortcut


@dataclass(frozen=True)
class PreactSpec:
    """Units per stage and their width; a bottleneck's output is four times as wide."""

    units: tuple[int, ...]
    bottleneck: bool = False
    widths: tuple[int, ...] = (64, 128, 256, 512)
    cifar: bool = False


SPECS = {
    "preact_resnet18": PreactSpec((2, 2, 2, 2)),
    "preact_resnet34": PreactSpec((3, 4, 6, 3)),
    "preact_resnet50": PreactSpec((3, 4, 6, 3), bottleneck=True),
    "preact_resnet101": PreactSpec((3, 4, 23, 3), bottleneck=True),
    "preact_resnet152": PreactSpec((3, 8, 36, 3), bottleneck=True),
    **{
        f"preact_resnet{depth}": PreactSpec(((depth - 2) // 6,) * 3, widths=(16, 32, 64), cifar=True)
        for depth in (20, 32, 44, 56, 110)
    },
}


class ConvShortcut(nn.Module):
    """A 1 x 1 convolution without norm: (N, inputs, H, W) to (N, outputs, H/s, W/s). Tensor `conv`."""

    def __init__(self, config: Config, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = convolution(inputs, outputs, 1, stride=stride, padding=config.padding)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class PreactUnit(nn.Module):
    """F(relu(norm(x))) + x: (N, inputs, H, W) to (N, outputs, H/s, W/s).

    F is two 3 x 3 convolutions, or 1 x 1, 3 x 3 and a four times as wide 1 x 1, with norm and ReLU between them. The
    convolutions have as many parameters as in `resnet.BasicBlock` and `resnet.Bottleneck`.
    """

    norm1: nn.Module
    norm2: nn.Module
    norm3: nn.Module
    conv1: nn.Module
    conv2: nn.Module
    conv3: nn.Module

    def __init__(self, config: Config, spec: PreactSpec, inputs: int, width: int, stride: int, first: bool) -> None:
        super().__init__()
        outputs = 4 * width if spec.bottleneck else width
        changes = stride > 1 or inputs != outputs
        self.activates_both = first if spec.cifar else changes
        shortcut = ZeroPadShortcut(inputs, outputs, stride) if spec.cifar else None
        self.downsample = (shortcut or ConvShortcut(config, inputs, outputs, stride)) if changes else nn.Identity()
        self.relu = nn.ReLU(inplace=True)
        rows = ((1, width), (3, width), (1, outputs)) if spec.bottleneck else ((3, width), (3, width))
        strided = 2 if spec.bottleneck else 1
        for number, (kernel, channels) in enumerate(rows, start=1):
            step = stride if number == strided else 1
            self.add_module(f"norm{number}", nn.BatchNorm2d(inputs, config.batch_norm_eps))
            convolved = convolution(inputs, channels, kernel, stride=step, padding=config.padding)
            self.add_module(f"conv{number}", convolved)
            inputs = channels
        self.depth = len(rows)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm1(x))
        kept: Tensor = self.downsample(y if self.activates_both else x)
        y = self.conv2(self.relu(self.norm2(self.conv1(y))))
        if self.depth == 3:
            y = self.conv3(self.relu(self.norm3(y)))
        return y + kept


class PreactResNet(Network):
    """Images (N, C, H, W), 224 px for ImageNet and 32 px for CIFAR, to logits (N, classes)."""

    def __init__(self, config: Config, spec: PreactSpec) -> None:
        super().__init__()
        self.config = config
        channels, stride = spec.widths[0], 1 if spec.cifar else 4
        if spec.cifar:
            self.attach("stem.conv", convolution(config.channels, channels, 3))
        else:
            self.attach("stem.conv", convolution(config.channels, channels, 7, stride=2, padding=config.padding))
            self.attach("stem.pool", max_pool(3, 2, padding=config.padding))
        stages = [Stage("stem", ("stem.conv",) if spec.cifar else ("stem.conv", "stem.pool"), channels, stride)]
        for number, (units, width) in enumerate(zip(spec.units, spec.widths, strict=True)):
            blocks = nn.Sequential()
            for index in range(units):
                step = 2 if number and not index else 1
                blocks.append(PreactUnit(config, spec, channels, width, step, first=not number and not index))
                channels = 4 * width if spec.bottleneck else width
                stride *= step
            self.attach(f"stages.{number}.blocks", blocks)
            stages.append(Stage(f"stage{number + 1}", (f"stages.{number}.blocks",), channels, stride))
        self.norm = nn.BatchNorm2d(channels, config.batch_norm_eps)
        self.relu = nn.ReLU(inplace=True)
        stages[-1] = Stage(stages[-1].name, (*stages[-1].parts, "norm", "relu"), channels, stride)
        self.pool = global_pool()
        self.attach("head.fc", (nn.Linear if spec.cifar else PointwiseHead)(channels, config.classes))
        stages += [Stage("pool", ("pool",), channels, None), Stage("head", ("head.fc",), config.classes, None)]
        self.arrange(stages, "head.fc")


def build(config: Config) -> Network:
    """An untrained pre-activation ResNet."""
    network = PreactResNet(config, SPECS[config.architecture])
    initialize_for_relu(network)
    return network
