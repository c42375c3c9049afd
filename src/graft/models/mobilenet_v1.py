"""MobileNet v1. Howard et al. 2017, "MobileNets", arXiv 1704.04861, table 1 and the width multiplier of section 3.3.

Activations are ReLU6, as in the authors' code (the paper says ReLU). Tensor names are timm's `mobilenetv1_100`.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from graft.models.blocks import convolution, global_pool
from graft.models.network import Config, Network, PaddingRule, Stage, initialize_for_relu


@dataclass(frozen=True)
class MobileNetSpec:
    """The number that multiplies the width of every layer."""

    width: float


SPECS = {
    "mobilenet_v1": MobileNetSpec(1.0),
    "mobilenet_v1_075": MobileNetSpec(0.75),
    "mobilenet_v1_050": MobileNetSpec(0.5),
    "mobilenet_v1_025": MobileNetSpec(0.25),
}

# Table 1 by stage: the output width of each depthwise separable convolution. The first of a stage halves the map,
# except in stage 1, which keeps the size of the stem's.
STEM = 32
STAGES: tuple[tuple[int, ...], ...] = ((64,), (128, 128), (256, 256), (512,) * 6, (1024, 1024))


class DepthwiseSeparable(nn.Module):
    """A 3 x 3 filter per channel, then a 1 x 1 convolution across channels (section 3.1).

    (N, inputs, H, W) to (N, outputs, H/s, W/s), batch norm and ReLU6 after each. 9 inputs + inputs outputs weights in
    place of 9 inputs outputs, a fraction 1 / outputs + 1 / 9; each takes part in H/s W/s multiply-adds.

        layer = DepthwiseSeparable(32, 64)
        layer(torch.zeros(1, 32, 112, 112)).shape  # (1, 64, 112, 112)
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int = 1, *, padding: PaddingRule = "torch", eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.conv_dw = convolution(inputs, inputs, 3, stride=stride, groups=inputs, padding=padding)
        self.bn1 = nn.BatchNorm2d(inputs, eps)
        self.conv_pw = convolution(inputs, outputs, 1)
        self.bn2 = nn.BatchNorm2d(outputs, eps)
        self.relu = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv_dw(x)))
        return self.relu(self.bn2(self.conv_pw(x)))


class MobileNetV1(Network):
    """Images (N, 3, H, W), 224 px by default, to logits (N, classes)."""

    def __init__(self, config: Config, spec: MobileNetSpec) -> None:
        super().__init__()
        self.config = config
        channels = int(STEM * spec.width)
        self.conv_stem = convolution(config.channels, channels, 3, stride=2, padding=config.padding)
        self.bn1 = nn.BatchNorm2d(channels, config.batch_norm_eps)
        self.relu = nn.ReLU6(inplace=True)
        self.blocks = nn.Sequential()
        stages, stride = [Stage("stem", ("conv_stem", "bn1", "relu"), channels, 2)], 2
        for number, widths in enumerate(STAGES, start=1):
            layers = nn.Sequential()
            for index, width in enumerate(widths):
                step = 2 if number > 1 and index == 0 else 1
                outputs = int(width * spec.width)
                layers.append(
                    DepthwiseSeparable(channels, outputs, step, padding=config.padding, eps=config.batch_norm_eps)
                )
                channels, stride = outputs, stride * step
            self.blocks.append(layers)
            stages.append(Stage(f"stage{number}", (f"blocks.{number - 1}",), channels, stride))
        self.pool = global_pool()
        self.classifier = nn.Linear(channels, config.classes)
        stages += [Stage("pool", ("pool",), channels, None), Stage("head", ("classifier",), config.classes, None)]
        self.arrange(stages, "classifier")


def build(config: Config) -> Network:
    """An untrained MobileNet v1."""
    network = MobileNetV1(config, SPECS[config.architecture])
    initialize_for_relu(network)
    return network
