"""Tensor layouts: the names that a family's checkpoints give their tensors, translated into graft's."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from graft.models.blocks import InvertedBottleneck, SqueezeExcite
from graft.models.network import Network

Rename = Callable[[str], str]


@dataclass(frozen=True)
class Layout:
    """One way of naming tensors.

    `renaming` makes, from a network of graft, the function from a checkpoint's tensor names to that network's.
    `batch_norm_eps` is the epsilon that checkpoints in this layout were trained with, None where it is the
    architecture's own.
    """

    name: str
    renaming: Callable[[Network], Rename]
    batch_norm_eps: float | None = None


def _unchanged(network: Network) -> Rename:
    return str


def _timm_mobilenet_v2(network: Network) -> Rename:
    """timm numbers the bottlenecks by row of the paper's table, torchvision straight through from the stem."""
    repeats = (1, 2, 3, 4, 3, 3, 1)
    outer = {"conv_stem": "features.0.0", "bn1": "features.0.1", "conv_head": "features.18.0", "bn2": "features.18.1"}

    def rename(name: str) -> str:
        match = re.match(r"blocks\.(\d+)\.(\d+)\.(\w+)\.(.+)$", name)
        if match and int(match[1]) < len(repeats):
            index = 1 + sum(repeats[: int(match[1])]) + int(match[2])
            if index == 1:
                inner = {"conv_dw": "0.0", "bn1": "0.1", "conv_pw": "1", "bn2": "2"}
            else:
                inner = {"conv_pw": "0.0", "bn1": "0.1", "conv_dw": "1.0", "bn2": "1.1", "conv_pwl": "2", "bn3": "3"}
            return f"features.{index}.conv.{inner.get(match[3], match[3])}.{match[4]}"
        first, _, rest = name.partition(".")
        return f"{outer[first]}.{rest}" if first in outer else name.replace("classifier.", "classifier.1.", 1)

    return rename


def _timm_mobilenet_v3(network: Network) -> Rename:
    ours, row, last = _timm_inverted_bottlenecks(network)
    # MobileNet v3 pools before its last convolution, which is a linear layer in graft.
    ours |= {f"blocks.{row}.0.conv": f"{last}.0", f"blocks.{row}.0.bn1": f"{last}.1", "conv_head": "classifier.0"}
    return _by_layer(ours)


def _timm_efficientnet(network: Network) -> Rename:
    ours, _, last = _timm_inverted_bottlenecks(network)
    return _by_layer(ours | {"conv_head": f"{last}.0", "bn2": f"{last}.1"})


def _timm_inverted_bottlenecks(network: Network) -> tuple[dict[str, str], int, str]:
    """timm's layer paths to ours up to the last stage of maps, that stage's number, and the path of its only part.

    timm names the layers of a block where torchvision numbers them.
    """
    ours: dict[str, str] = {"conv_stem": "features.0.0", "bn1": "features.0.1", "classifier": network.head_name}
    *rows, last = [stage for stage in network.stages if stage.name.startswith("stage")]
    for row, stage in enumerate(rows):
        blocks = [
            (f"{part}.{path}".rstrip("."), block)
            for part in stage.parts
            for path, block in network.get_submodule(part).named_modules()
            if isinstance(block, InvertedBottleneck)
        ]
        for index, (path, block) in enumerate(blocks):
            theirs, number = f"blocks.{row}.{index}", 0
            # A block that does not expand has no third convolution, so the other two move up.
            convolutions = ("conv_pw", "conv_dw", "conv_pwl") if _expands(block) else ("conv_dw", "conv_pw")
            for position, layer in enumerate(block.block):
                if isinstance(layer, SqueezeExcite):
                    ours[f"{theirs}.se.conv_reduce"] = f"{path}.block.{position}.fc1"
                    ours[f"{theirs}.se.conv_expand"] = f"{path}.block.{position}.fc2"
                elif isinstance(layer, nn.Sequential):
                    ours[f"{theirs}.{convolutions[number]}"] = f"{path}.block.{position}.0"
                    ours[f"{theirs}.bn{number + 1}"] = f"{path}.block.{position}.1"
                    number += 1
    (part,) = last.parts
    return ours, len(rows), part


def _expands(block: InvertedBottleneck) -> bool:
    return sum(isinstance(layer, nn.Sequential) for layer in block.block) == 3


def _timm_vgg(network: Network) -> Rename:
    """timm keeps the dense layers as convolutions, under names of their own."""
    return _by_layer({"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"})


def _by_layer(ours: dict[str, str]) -> Rename:
    def rename(name: str) -> str:
        layer, _, tensor = name.rpartition(".")
        return f"{ours.get(layer, layer)}.{tensor}"

    return rename


def _densenet_of_2017(network: Network) -> Rename:
    """The files published in 2017 write `norm.1` for what the module calls `norm1`."""
    return lambda name: re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)


def _head_named_fc(network: Network) -> Rename:
    return lambda name: re.sub(r"^fc\.", f"{network.head_name}.", name)


# Tensors named as in graft, which is as in torchvision or, for families that torchvision lacks, as in timm.
OWN = Layout("graft", _unchanged)

# What other layouts a family's checkpoints come in. timm's networks of these families keep torch's epsilon even where
# torchvision's do not.
_OTHERS: dict[str, Layout] = {
    "mobilenet_v2": Layout("timm", _timm_mobilenet_v2, batch_norm_eps=1e-5),
    "mobilenet_v3": Layout("timm", _timm_mobilenet_v3, batch_norm_eps=1e-5),
    "efficientnet": Layout("timm", _timm_efficientnet, batch_norm_eps=1e-5),
    "vgg": Layout("timm", _timm_vgg, batch_norm_eps=1e-5),
    "densenet": Layout("torchvision of 2017", _densenet_of_2017),
    "resnet": Layout("head named fc", _head_named_fc),
    "preact_resnet": Layout("head named fc", _head_named_fc),
}


def layouts_of(family: str) -> tuple[Layout, ...]:
    """The layouts known for a family, graft's own first."""
    return (OWN, _OTHERS[family]) if family in _OTHERS else (OWN,)
