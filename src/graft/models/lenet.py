"""LeNet-5. LeCun, Bottou, Bengio and Haffner 1998, "Gradient-Based Learning Applied to Document Recognition", figure 2.

The form that textbooks teach: plain tanh, average pooling without weights, every map of C3 connected to every map of
S2, a linear output. 28 x 28 inputs are padded by two in C1, which is the paper's 32 x 32. 61,706 parameters:
C1 156, C3 2,416, C5 48,120, F6 10,164, OUTPUT 850.
"""

from dataclasses import dataclass

from torch import nn

from graft.models.network import Config, Network, Stage


@dataclass(frozen=True)
class LeNetSpec:
    """Widths of the five layers with weights but the last, whose width is the number of classes."""

    c1: int
    c3: int
    c5: int
    f6: int


SPECS = {"lenet5": LeNetSpec(c1=6, c3=16, c5=120, f6=84)}


class LeNet(Network):
    """Images (N, 1, 28, 28) to logits (N, classes)."""

    def __init__(self, config: Config, spec: LeNetSpec) -> None:
        super().__init__()
        self.config = config
        self.c1 = nn.Conv2d(config.channels, spec.c1, 5, padding=2)
        self.s2 = nn.Sequential(nn.Tanh(), nn.AvgPool2d(2))
        self.c3 = nn.Conv2d(spec.c1, spec.c3, 5)
        self.s4 = nn.Sequential(nn.Tanh(), nn.AvgPool2d(2))
        self.c5 = nn.Conv2d(spec.c3, spec.c5, 5)
        self.c5_out = nn.Sequential(nn.Tanh(), nn.Flatten())
        self.f6 = nn.Linear(spec.c5, spec.f6)
        self.f6_out = nn.Tanh()
        self.output = nn.Linear(spec.f6, config.classes)
        self.arrange(
            (
                Stage("stage1", ("c1", "s2"), spec.c1, 2),
                Stage("stage2", ("c3", "s4"), spec.c3, 4),
                Stage("stage3", ("c5", "c5_out"), spec.c5, None),
                Stage("stage4", ("f6", "f6_out"), spec.f6, None),
                Stage("head", ("output",), config.classes, None),
            ),
            classifier="output",
        )


def build(config: Config) -> Network:
    """An untrained LeNet; torch's default start (uniform, 1 / sqrt(fan-in)) is close to the paper's (appendix A)."""
    return LeNet(config, SPECS[config.architecture])
