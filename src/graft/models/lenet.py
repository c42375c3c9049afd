"""LeNet-5. LeCun, Bottou, Bengio and Haffner 1998, "Gradient-Based Learning Applied to Document Recognition".

`lenet5_1998` is the network of section II-B and figure 2. 32 px inputs, 60,000 parameters: C1 156, S2 12, C3 1,516, S4
32, C5 48,120, F6 10,164, OUTPUT none. Its output layer compares F6 with a fixed code of 84 numbers for each class. The
paper draws the codes of the digits as bitmaps (figure 3), whose circulating copies disagree, and also allows random
codes. This file uses random ones, for any number of classes.

`lenet5` is the textbook form: plain tanh, average pooling without weights, every map of C3 connected to every map of
S2, a linear output. C1 pads its 28 px inputs by two to the paper's 32 px. 61,706 parameters: C1 156, C3 2,416, C5
48,120, F6 10,164, OUTPUT 850.

Larger inputs run too: F6 sees the mean of each map of C5, which at the sizes above has one pixel.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft.models.network import Config, Network, Stage


@dataclass(frozen=True)
class LeNetSpec:
    """Where the two forms differ; their layers have the same widths."""

    border: int  # pixels of zeros that C1 puts around the image
    original: bool  # whether tanh, subsampling, C3 and output are the paper's own


SPECS = {"lenet5": LeNetSpec(border=2, original=False), "lenet5_1998": LeNetSpec(border=0, original=True)}

# Widths, in both forms.
C1, C3, C5, F6 = 6, 16, 120, 84

# Table I, by column: the maps of S2 that each map of C3 sees. Three neighbors, four neighbors, four with gaps, all six;
# map 5 counts as a neighbor of map 0.
C3_SOURCES = (
    ((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    ((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    ((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    ((0, 1, 2, 3, 4, 5),),
)


class ScaledTanh(nn.Module):
    """1.7159 tanh(2/3 x), which maps 1 to 1 and -1 to -1 (appendix A). Same shape."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x * (2 / 3)) * 1.7159


class Subsampling(nn.Module):
    """squash(coefficient * sum of 2 x 2 pixels + bias), both learned per map: (N, C, H, W) to (N, C, H/2, W/2).

    2 C parameters; no multiply-adds by the rule of `graft.accounting`. Starts out as the squashed mean of the four.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.full((channels,), 0.25))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.squash = ScaledTanh()

    def forward(self, x: Tensor) -> Tensor:
        sums = F.avg_pool2d(x, 2) * 4
        squashed: Tensor = self.squash(self.coefficient[:, None, None] * sums + self.bias[:, None, None])
        return squashed


class PartialConvolution(nn.ModuleList):
    """5 x 5 convolutions that each see the maps listed in `C3_SOURCES`: (N, 6, H, W) to (N, 16, H - 4, W - 4).

    25 weights for each of the 60 pairs of maps and a bias for each of the 16 outputs make 1,516 parameters, and 1,500
    multiply-adds per pixel of an output map. Computed as one grouped convolution per row of the table.
    """

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(len(row) * len(row[0]), len(row), 5, groups=len(row)) for row in C3_SOURCES
        )  # fmt: skip
        self.sources = [[source for sources in row for source in sources] for row in C3_SOURCES]

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part(x[:, sources]) for part, sources in zip(self, self.sources, strict=True)], dim=1)


class RadialBasis(nn.Linear):
    """Minus the squared distance to the code of each class: (N, in_features) to (N, out_features), at most zero.

    The paper's equation 7 with the sign changed, so that the largest output wins; cross-entropy over these logits is
    its criterion 9 without the constant. `weight` (out_features, in_features) is a buffer of codes of +1 and -1, drawn
    with equal probability and the same in every network. No parameters; as many multiply-adds as elements.
    """

    def __init__(self, in_features: int, out_features: int, **factory: Any) -> None:
        super().__init__(in_features, out_features, bias=False, **factory)

    def reset_parameters(self) -> None:
        codes = self.weight.detach()
        del self.weight
        if not codes.is_meta:
            seeded = torch.Generator().manual_seed(1998)
            codes.copy_(2 * torch.randint(2, codes.shape, generator=seeded, device="cpu") - 1)
        self.register_buffer("weight", codes)

    def forward(self, input: Tensor) -> Tensor:
        # |x - w|^2 = |x|^2 - 2 x w + |w|^2
        squares = input.square().sum(1, keepdim=True) + self.weight.square().sum(1)
        return F.linear(input, self.weight) * 2 - squares


class LeNet(Network):
    """Images (N, C, H, W), 28 px or 32 px by default, to logits (N, classes)."""

    def __init__(self, config: Config, spec: LeNetSpec) -> None:
        super().__init__()
        self.config = config
        squash = ScaledTanh if spec.original else nn.Tanh
        self.c1 = nn.Conv2d(config.channels, C1, 5, padding=spec.border)
        self.c1_out = squash()
        self.s2 = Subsampling(C1) if spec.original else nn.AvgPool2d(2)
        self.c3 = PartialConvolution() if spec.original else nn.Conv2d(C1, C3, 5)
        self.c3_out = squash()
        self.s4 = Subsampling(C3) if spec.original else nn.AvgPool2d(2)
        self.c5 = nn.Conv2d(C3, C5, 5)
        self.c5_out = nn.Sequential(squash(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.f6 = nn.Linear(C5, F6)
        self.f6_out = squash()
        self.output = RadialBasis(F6, config.classes) if spec.original else nn.Linear(F6, config.classes)
        self.arrange(
            (
                Stage("stage1", ("c1", "c1_out", "s2"), C1, 2),
                Stage("stage2", ("c3", "c3_out", "s4"), C3, 4),
                Stage("stage3", ("c5", "c5_out"), C5, None),
                Stage("stage4", ("f6", "f6_out"), F6, None),
                Stage("head", ("output",), config.classes, None),
            ),
            classifier="output",
        )


def build(config: Config) -> Network:
    """An untrained LeNet. torch's default start is uniform within 1 / sqrt(fan-in), the paper's within 2.4 / fan-in."""
    return LeNet(config, SPECS[config.architecture])
