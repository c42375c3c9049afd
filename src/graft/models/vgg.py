"""VGG. Simonyan and Zisserman 2014, "Very Deep Convolutional Networks", arXiv 1409.1556, table 1.

Columns A, A-LRN, B, C, D and E, and A, B, D and E with batch norm (Ioffe and Szegedy 2015) as in torchvision, where
the convolutions keep their biases. Differs from the paper: an adaptive pool before the dense layers, which does nothing
at 224 px, lets any size from 32 px run, where the paper slides the dense layers over the larger map; and the deep
columns start from random weights (He et al. 2015), where the paper's start from a trained column A. Tensor names are
torchvision's; those of A-LRN and C follow the same scheme.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from graft.models.blocks import LocalResponseNorm
from graft.models.network import Config, Network, Stage, initialize_for_relu


@dataclass(frozen=True)
class VGGSpec:
    """A column of table 1: convolutions per stage, each stage ending in a 2 x 2 max pool."""

    convolutions: tuple[int, ...]
    pointwise_third: bool = False  # the third convolution of a stage is 1 x 1
    local_response_norm: bool = False  # after the first convolution
    batch_norm: bool = False


A = VGGSpec((1, 1, 2, 2, 2))
B = VGGSpec((2, 2, 2, 2, 2))
C = VGGSpec((2, 2, 3, 3, 3), pointwise_third=True)
D = VGGSpec((2, 2, 3, 3, 3))
E = VGGSpec((2, 2, 4, 4, 4))
WIDTHS = (64, 128, 256, 512, 512)
POOLED = 7  # pixels along each side of the map that the dense layers see
DENSE = 4096
DROPOUT = 0.5

SPECS = {
    "vgg11": A,
    "vgg11_lrn": replace(A, local_response_norm=True),
    "vgg13": B,
    "vgg16_c": C,
    "vgg16": D,
    "vgg19": E,
    "vgg11_bn": replace(A, batch_norm=True),
    "vgg13_bn": replace(B, batch_norm=True),
    "vgg16_bn": replace(D, batch_norm=True),
    "vgg19_bn": replace(E, batch_norm=True),
}


def stacked_convolutions(
    inputs: int, outputs: int, kernels: Sequence[int] = (3, 3, 3), *, batch_norm_eps: float | None = None
) -> nn.Sequential:
    """Several small convolutions in place of a large one (section 2.3): (N, inputs, H, W) to (N, outputs, H, W).

    Each keeps the size of the map and has a bias, batch norm if `batch_norm_eps` is given, and a ReLU. L layers of
    3 x 3 see as far as one of K x K, K = 2 L + 1: two see 5 x 5, three see 7 x 7. With C channels in and out they have

        9 L C^2 weights, L C biases and 9 L C^2 H W multiply-adds    two: 18 C^2    three: 27 C^2
        K^2 C^2 weights,   C biases and K^2 C^2 H W multiply-adds    5 x 5: 25 C^2  7 x 7: 49 C^2

    and L ReLUs against one. A 1 x 1 layer adds a ReLU and sees no further (column C).

        stack = stacked_convolutions(64, 64)
        stack(torch.zeros(1, 64, 56, 56)).shape  # (1, 64, 56, 56)
    """
    stack = nn.Sequential()
    for kernel in kernels:
        stack.append(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2))
        if batch_norm_eps is not None:
            stack.append(nn.BatchNorm2d(outputs, batch_norm_eps))
        stack.append(nn.ReLU(inplace=True))
        inputs = outputs
    return stack


class VGG(Network):
    """Images (N, C, H, W), 224 px by default, to logits (N, classes)."""

    def __init__(self, config: Config, spec: VGGSpec) -> None:
        super().__init__()
        self.config = config
        eps = config.batch_norm_eps if spec.batch_norm else None
        self.features = nn.Sequential()
        stages, channels = [], config.channels
        for number, (layers, width) in enumerate(zip(spec.convolutions, WIDTHS, strict=True), start=1):
            first = len(self.features)
            kernels = (3, 3, 1) if spec.pointwise_third and layers == 3 else (3,) * layers
            self.features.extend(stacked_convolutions(channels, width, kernels, batch_norm_eps=eps))
            if spec.local_response_norm and number == 1:
                self.features.append(LocalResponseNorm())
            self.features.append(nn.MaxPool2d(2))
            parts = tuple(f"features.{index}" for index in range(first, len(self.features)))
            stages.append(Stage(f"stage{number}", parts, width, 2**number))
            channels = width
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(POOLED), nn.Flatten())
        pooled = channels * POOLED**2
        self.classifier = nn.Sequential(
            nn.Linear(pooled, DENSE),
            nn.ReLU(inplace=True),
            nn.Dropout(DROPOUT),
            nn.Linear(DENSE, DENSE),
            nn.ReLU(inplace=True),
            nn.Dropout(DROPOUT),
            nn.Linear(DENSE, config.classes),
        )
        stages += [
            Stage("pool", ("pool",), pooled, None),
            Stage("fc6", ("classifier.0", "classifier.1"), DENSE, None),
            Stage("fc7", ("classifier.2", "classifier.3", "classifier.4"), DENSE, None),
            Stage("head", ("classifier.5", "classifier.6"), config.classes, None),
        ]
        self.arrange(stages, "classifier.6")


def build(config: Config) -> Network:
    """An untrained VGG."""
    network = VGG(config, SPECS[config.architecture])
    initialize_for_relu(network)
    return network
