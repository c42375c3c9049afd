"""Xception. Chollet 2016, "Xception: Deep Learning with Depthwise Separable Convolutions", arXiv 1610.02357, figure 5.

Depthwise separable convolutions: 12 blocks with shortcuts, then two on their own, in entry, middle and exit flow. There
is no activation between the two halves of a separable convolution (section 4.7). Tensor names are those of timm's
`legacy_xception`, whose batch norm has eps 1e-5; weights converted from Keras want 1e-3.
"""

from dataclasses import dataclass, replace

from torch import Tensor, nn

from graft.models.blocks import convolution, global_pool, max_pool
from graft.models.network import Config, Network, Stage, initialize_for_relu


@dataclass(frozen=True)
class Row:
    """A block of figure 5: the widths of its separable convolutions, and whether a max pool halves the map after them.

    A block that halves has a 1 x 1 convolution on its shortcut; the others add their input unchanged.
    """

    widths: tuple[int, ...]
    halves: bool = True


@dataclass(frozen=True)
class XceptionSpec:
    """Widths of the stem's two convolutions, the blocks by stage, widths of the two separable convolutions after."""

    stem: tuple[int, int]
    stages: tuple[tuple[Row, ...], ...]
    last: tuple[int, int]


SPECS = {
    "xception": XceptionSpec(
        stem=(32, 64),
        stages=(
            (Row((128, 128)),),
            (Row((256, 256)),),
            (Row((728, 728)),),
            (Row((728, 728, 728), halves=False),) * 8,
            (Row((728, 1024)),),
        ),
        last=(1536, 2048),
    )
}
DROPOUT = 0.5


class SeparableConvolution(nn.Sequential):
    """A 3 x 3 filter per channel, then a 1 x 1 convolution across channels, with nothing between (section 1.2).

    (N, inputs, H, W) to (N, outputs, H, W). Tensors `conv1` and `pointwise`. 9 inputs + inputs outputs parameters, each
    in H W multiply-adds, where a full 3 x 3 convolution has 9 inputs outputs.

        layer = SeparableConvolution(64, 128)
        layer(torch.zeros(1, 64, 56, 56)).shape  # (1, 128, 56, 56)
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, inputs, 3, groups=inputs)
        self.pointwise = convolution(inputs, outputs, 1)


class Block(nn.Module):
    """ReLU, separable convolution and batch norm, repeated, then a max pool where the map is halved, plus the shortcut.

    (N, inputs, H, W) to (N, outputs, H / 2, W / 2), or the same H and W. The shortcut takes the input before the first
    ReLU, which therefore must not work in place. `activate` is false for the first block, whose input is activated
    already.
    """

    def __init__(self, inputs: int, row: Row, *, activate: bool, config: Config) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = inputs
        for index, width in enumerate(row.widths):
            if index > 0 or activate:
                layers.append(nn.ReLU(inplace=index > 0))
            layers += [SeparableConvolution(channels, width), nn.BatchNorm2d(width, config.batch_norm_eps)]
            channels = width
        self.skip: nn.Module = nn.Identity()
        self.skipbn: nn.Module = nn.Identity()
        if row.halves:
            layers.append(max_pool(3, 2, padding=config.padding))
            self.skip = convolution(inputs, channels, 1, stride=2, padding=config.padding)
            self.skipbn = nn.BatchNorm2d(channels, config.batch_norm_eps)
        self.rep = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.rep(x) + self.skipbn(self.skip(x))
        return out


class Xception(Network):
    """Images (N, C, H, W), 299 px by default, to logits (N, classes)."""

    def __init__(self, config: Config, spec: XceptionSpec) -> None:
        super().__init__()
        self.config = config
        first, channels = spec.stem
        stem = self._add(1, nn.Conv2d(config.channels, first, 3, stride=2, bias=False), first)
        stem += self._add(2, nn.Conv2d(first, channels, 3, bias=False), channels)
        stages, stride, blocks = [Stage("stem", stem, channels, 2)], 2, 0
        for number, rows in enumerate(spec.stages, start=1):
            parts: tuple[str, ...] = ()
            for row in rows:
                blocks += 1
                self.add_module(f"block{blocks}", Block(channels, row, activate=blocks > 1, config=config))
                parts += (f"block{blocks}",)
                channels, stride = row.widths[-1], stride * 2 if row.halves else stride
            stages.append(Stage(f"stage{number}", parts, channels, stride))
        third, fourth = spec.last
        last = self._add(3, SeparableConvolution(channels, third), third)
        last += self._add(4, SeparableConvolution(third, fourth), fourth)
        stages[-1] = replace(stages[-1], parts=stages[-1].parts + last, channels=fourth)
        self.pool = global_pool()
        self.dropout = nn.Dropout(DROPOUT)
        self.fc = nn.Linear(fourth, config.classes)
        stages += [Stage("pool", ("pool",), fourth, None), Stage("head", ("dropout", "fc"), config.classes, None)]
        self.arrange(stages, "fc")

    def _add(self, number: int, layer: nn.Module, outputs: int) -> tuple[str, ...]:
        """Register `layer` with batch norm and ReLU under their number, and return the paths of the three."""
        parts = {
            f"conv{number}": layer,
            f"bn{number}": nn.BatchNorm2d(outputs, self.config.batch_norm_eps),
            f"relu{number}": nn.ReLU(inplace=True),
        }
        for name, part in parts.items():
            self.add_module(name, part)
        return tuple(parts)


def build(config: Config) -> Network:
    """An untrained Xception."""
    network = Xception(config, SPECS[config.architecture])
    initialize_for_relu(network)
    return network
