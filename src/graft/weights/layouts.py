"""Tensor layouts: translate the names that a family's checkpoints give their tensors into graft's."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from string import ascii_lowercase

from torch import nn

from graft.models.blocks import InvertedBottleneck, SqueezeExcite
from graft.models.network import Network, PaddingRule, Stage
from graft.weights import keras_layouts, transformers_layouts

Rename = Callable[[str], str]


@dataclass(frozen=True)
class Layout:
    """One way of naming tensors.

    `renaming` takes a graft network and returns the function from a checkpoint's tensor names to that network's.
    `batch_norm_eps` and `padding` are what checkpoints in this layout were trained with, None for the architecture's
    own; `early_stride` is the network's (`Config`).
    """

    name: str
    renaming: Callable[[Network], Rename]
    batch_norm_eps: float | None = None
    padding: PaddingRule | None = None
    early_stride: bool = False
    # If a tensor's name starts with this, the file is in another layout.
    never_with: str = ""


def _unchanged(network: Network) -> Rename:
    return str


def _timm_mobilenet_v2(network: Network) -> Rename:
    """timm numbers the bottlenecks by row of the paper's table, torchvision consecutively from the stem."""
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
    """Return the map from timm's layer paths to ours, and the last map stage's number and the path of its only part.

    timm names the layers of a block where torchvision numbers them.
    """
    ours: dict[str, str] = {"conv_stem": "features.0.0", "bn1": "features.0.1", "classifier": network.head_name}
    *rows, last = [stage for stage in network.stages if stage.name.startswith("stage")]
    for row, stage in enumerate(rows):
        for index, (path, block) in enumerate(_bottlenecks(network, stage)):
            # A block that does not expand has no third convolution, so the other two move up.
            convolutions = ("conv_pw", "conv_dw", "conv_pwl") if _expands(block) else ("conv_dw", "conv_pw")
            pairs = [(convolution, f"bn{number}") for number, convolution in enumerate(convolutions, start=1)]
            excitation = ("se.conv_reduce", "se.conv_expand")
            ours |= _layers_of_block(f"blocks.{row}.{index}", pairs, excitation, path, block)
    (part,) = last.parts
    return ours, len(rows), part


def _efficientnet_pytorch(network: Network) -> Rename:
    """The first port to torch, Melas-Kyriazi's of 2019, numbers blocks consecutively and prefixes names with `_`."""
    *rows, last = [stage for stage in network.stages if stage.name.startswith("stage")]
    (part,) = last.parts
    ours = {"_conv_stem": "features.0.0", "_bn0": "features.0.1", "_conv_head": f"{part}.0", "_bn1": f"{part}.1"}
    ours["_fc"] = network.head_name
    blocks = [each for stage in rows for each in _bottlenecks(network, stage)]
    for number, (path, block) in enumerate(blocks):
        pairs = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        excitation = ("_se_reduce", "_se_expand")
        ours |= _layers_of_block(f"_blocks.{number}", pairs if _expands(block) else pairs[1:], excitation, path, block)
    return _by_layer(ours)


def _transformers_efficientnet(network: Network) -> Rename:
    """transformers numbers blocks consecutively and groups a block's layers."""
    *rows, last = [stage for stage in network.stages if stage.name.startswith("stage")]
    (part,) = last.parts
    stem, top = "embeddings", "encoder.top"
    ours = {f"{stem}.convolution": "features.0.0", f"{stem}.batchnorm": "features.0.1"}
    ours |= {f"{top}_conv": f"{part}.0", f"{top}_bn": f"{part}.1", "classifier": network.head_name}
    pairs = [("expansion.expand_conv", "expansion.expand_bn"), ("projection.project_conv", "projection.project_bn")]
    pairs.insert(1, ("depthwise_conv.depthwise_conv", "depthwise_conv.depthwise_norm"))
    excitation = ("squeeze_excite.reduce", "squeeze_excite.expand")
    blocks = [each for stage in rows for each in _bottlenecks(network, stage)]
    for number, (path, block) in enumerate(blocks):
        convolutions = pairs if _expands(block) else pairs[1:]
        ours |= _layers_of_block(f"encoder.blocks.{number}", convolutions, excitation, path, block)
    rename = _by_layer(ours)
    return lambda name: rename(name.removeprefix("efficientnet."))


def _keras_efficientnet(network: Network) -> Rename:
    """keras.applications numbers the rows from 1 and letters the blocks of a row."""
    *rows, last = [stage for stage in network.stages if stage.name.startswith("stage")]
    (part,) = last.parts
    ours = {"stem_conv": "features.0.0", "stem_bn": "features.0.1", "predictions": network.head_name}
    ours |= {"top_conv": f"{part}.0", "top_bn": f"{part}.1"}
    for row, stage in enumerate(rows, start=1):
        for letter, (path, block) in zip(ascii_lowercase, _bottlenecks(network, stage), strict=False):
            # Keras joins with an underscore where others have a dot.
            pairs = [("expand_conv", "expand_bn"), ("dwconv", "bn"), ("project_conv", "project_bn")]
            excitation = ("se_reduce", "se_expand")
            inside = _layers_of_block("", pairs if _expands(block) else pairs[1:], excitation, path, block)
            ours |= {f"block{row}{letter}_{theirs[1:]}": own for theirs, own in inside.items()}
    return _by_layer(ours)


def _bottlenecks(network: Network, stage: Stage) -> list[tuple[str, InvertedBottleneck]]:
    """Return the inverted bottlenecks of a stage with their paths, in order."""
    return [
        (f"{part}.{path}".rstrip("."), block)
        for part in stage.parts
        for path, block in network.get_submodule(part).named_modules()
        if isinstance(block, InvertedBottleneck)
    ]


def _layers_of_block(
    theirs: str, pairs: list[tuple[str, str]], excitation: tuple[str, str], path: str, block: InvertedBottleneck
) -> dict[str, str]:
    """Map a block's layer paths to ours:

    `pairs` name its convolutions and norms, `excitation` the latter's two layers.
    """
    ours: dict[str, str] = {}
    remaining = iter(pairs)
    for position, layer in enumerate(block.block):
        if isinstance(layer, SqueezeExcite):
            names, numbers = excitation, ("fc1", "fc2")
        elif isinstance(layer, nn.Sequential):
            names, numbers = next(remaining), ("0", "1")
        else:
            continue
        ours |= {f"{theirs}.{name}": f"{path}.block.{position}.{n}" for name, n in zip(names, numbers, strict=True)}
    return ours


def _expands(block: InvertedBottleneck) -> bool:
    return sum(isinstance(layer, nn.Sequential) for layer in block.block) == 3


def _timm_vgg(network: Network) -> Rename:
    """timm keeps the dense layers as convolutions, under its own names."""
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


def _children_in_order(network: Network) -> Rename:
    """Numbers in place of names, from `nn.Sequential(*resnet.children())`, as encoders are cut from torchvision's."""
    # torchvision has a ReLU and a pool between the stem and the first stage, and a pool before the head.
    names = ("conv1", "bn1", "", "", "layer1", "layer2", "layer3", "layer4", "", network.head_name)
    return lambda name: re.sub(
        r"^(\d+)\.", lambda found: f"{names[int(found[1])]}." if int(found[1]) < len(names) else found[0], name
    )


def _mmpretrain(network: Network) -> Rename:
    """Rename OpenMMLab's classifiers, which have torchvision's body and a one-layer head."""
    return lambda name: re.sub(r"^head\.fc\.", f"{network.head_name}.", name.removeprefix("backbone."))


def _features_alone(network: Network) -> Rename:
    """Rename the tensors of `network.features.state_dict()`, as encoders and fastai's bodies have them."""
    return lambda name: f"features.{name}"


def _of(rename: Callable[[Network, str], str]) -> Callable[[Network], Rename]:
    return lambda network: partial(rename, network)


# Names as in graft, which are torchvision's or, for families that torchvision lacks, timm's.
OWN = Layout("graft", _unchanged)

TRANSFORMERS, KERAS = "transformers", "keras"
_FEATURES = Layout("features alone", _features_alone)

# The other layouts of a family's checkpoints. timm's networks of these families keep torch's epsilon even where
# torchvision's do not; the first port of EfficientNet keeps TensorFlow's rules.
_OTHERS: dict[str, tuple[Layout, ...]] = {
    "mobilenet_v1": (
        Layout(TRANSFORMERS, _of(transformers_layouts.mobilenet_v1), batch_norm_eps=1e-3, padding="tensorflow"),
        Layout(KERAS, keras_layouts.mobilenet_v1, batch_norm_eps=1e-3, padding="tensorflow"),
    ),
    "mobilenet_v2": (
        Layout("timm", _timm_mobilenet_v2, batch_norm_eps=1e-5),
        Layout(TRANSFORMERS, _of(transformers_layouts.mobilenet_v2), batch_norm_eps=1e-3, padding="tensorflow"),
        Layout(KERAS, keras_layouts.mobilenet_v2, batch_norm_eps=1e-3, padding="tensorflow"),
        _FEATURES,
    ),
    "mobilenet_v3": (Layout("timm", _timm_mobilenet_v3, batch_norm_eps=1e-5),),
    "efficientnet": (
        Layout("timm", _timm_efficientnet, batch_norm_eps=1e-5),
        Layout("efficientnet_pytorch", _efficientnet_pytorch, batch_norm_eps=1e-3, padding="tensorflow"),
        Layout(TRANSFORMERS, _transformers_efficientnet, batch_norm_eps=1e-3, padding="tensorflow"),
        Layout(KERAS, _keras_efficientnet, batch_norm_eps=1e-3, padding="tensorflow"),
        _FEATURES,
    ),
    "vgg": (Layout("timm", _timm_vgg, batch_norm_eps=1e-5), Layout(KERAS, keras_layouts.vgg)),
    "xception": (Layout(KERAS, keras_layouts.xception, batch_norm_eps=1e-3, padding="tensorflow"),),
    "densenet": (Layout("torchvision of 2017", _densenet_of_2017), _FEATURES),
    "resnet": (
        Layout("head named fc", _head_named_fc),
        Layout(TRANSFORMERS, _of(transformers_layouts.resnet)),
        Layout("children in order", _children_in_order),
        Layout("mmpretrain", _mmpretrain, never_with="neck."),
        Layout(KERAS, keras_layouts.resnet, batch_norm_eps=1.001e-5, early_stride=True),
    ),
    "preact_resnet": (Layout("head named fc", _head_named_fc),),
}


def layouts_of(family: str) -> tuple[Layout, ...]:
    """Return the layouts known for a family, graft's own first."""
    return (OWN, *_OTHERS.get(family, ()))
