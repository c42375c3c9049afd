"""How `keras.applications` names the layers of families that graft has too, mapped to graft's names.

Names are those that `graft.weights.keras_file` gives tensors: Keras' layer, then torch's word for the tensor.
"""

import re
from collections.abc import Callable

from torch import nn

from graft.models.network import Network

Rename = Callable[[str], str]


def vgg(network: Network) -> Rename:
    """`block2_conv1` is the first convolution of the second stage."""
    ours = {"fc1": "classifier.0", "fc2": "classifier.3", "predictions": network.head_name}
    for number, stage in enumerate(network.stages, start=1):
        convolutions = [part for part in stage.parts if isinstance(network.get_submodule(part), nn.Conv2d)]
        ours |= {f"block{number}_conv{index}": part for index, part in enumerate(convolutions, start=1)}
    return _by_layer(ours)


def resnet(network: Network) -> Rename:
    """`conv3_block1_2_conv` is the second convolution of the second stage's first block, `_0_conv` its shortcut."""

    def rename(name: str) -> str:
        if match := re.match(r"conv(\d+)_block(\d+)_(\d)_(conv|bn)\.(\w+)$", name):
            stage, block, number, kind, tensor = match.groups()
            shortcut = f"downsample.{0 if kind == 'conv' else 1}"
            inner = shortcut if number == "0" else f"{kind}{number}"
            return f"layer{int(stage) - 1}.{int(block) - 1}.{inner}.{tensor}"
        layer, _, tensor = name.rpartition(".")
        outer = {"conv1_conv": "conv1", "conv1_bn": "bn1", "predictions": network.head_name}
        return f"{outer.get(layer, layer)}.{tensor}"

    return rename


def xception(network: Network) -> Rename:
    """The blocks with shortcuts are 2 to 13; the layers of four shortcuts are only numbered, in order."""
    ours = {"predictions": network.head_name}
    for number in (1, 2):
        ours |= {f"block1_conv{number}": f"conv{number}", f"block1_conv{number}_bn": f"bn{number}"}
        last = f"block14_sepconv{number}"
        ours |= {last: f"conv{number + 2}", f"{last}_bn": f"bn{number + 2}"}
    shortcuts = 0
    for path, block in network.named_children():
        if not path.startswith("block"):
            continue
        if isinstance(block.get_submodule("skip"), nn.Conv2d):
            ending = f"_{shortcuts}" if shortcuts else ""
            ours |= {f"conv2d{ending}": f"{path}.skip", f"batch_normalization{ending}": f"{path}.skipbn"}
            shortcuts += 1
        rows = list(block.get_submodule("rep").named_children())
        separable = [index for index, layer in rows if isinstance(layer, nn.Sequential)]
        for number, index in enumerate(separable, start=1):
            theirs = f"block{int(path.removeprefix('block')) + 1}_sepconv{number}"
            ours |= {theirs: f"{path}.rep.{index}", f"{theirs}_bn": f"{path}.rep.{int(index) + 1}"}
    rename = _by_layer(ours)

    def with_halves(name: str) -> str:
        layer, _, tensor = rename(name).rpartition(".")
        half = {"depthwise": "conv1.weight", "pointwise": "pointwise.weight"}.get(tensor, tensor)
        return f"{layer}.{half}"

    return with_halves


def mobilenet_v1(network: Network) -> Rename:
    """`conv_dw_2` and `conv_pw_2` are the second block."""
    ours = {"conv1": "conv_stem", "conv1_bn": "bn1", "conv_preds": network.head_name, "predictions": network.head_name}
    paths = [
        f"{part}.{index}"
        for stage in network.stages
        if stage.name.startswith("stage")
        for part in stage.parts
        for index, _ in network.get_submodule(part).named_children()
    ]
    for number, path in enumerate(paths, start=1):
        for norm, kind in enumerate(("conv_dw", "conv_pw"), start=1):
            ours |= {f"{kind}_{number}": f"{path}.{kind}", f"{kind}_{number}_bn": f"{path}.bn{norm}"}
    return _by_layer(ours)


def mobilenet_v2(network: Network) -> Rename:
    """`expanded_conv` is the first bottleneck, `block_1` the second."""
    ours = {"Conv1": "features.0.0", "bn_Conv1": "features.0.1", "predictions": network.head_name}
    last = len(network.get_submodule("features")._modules) - 1
    ours |= {"Conv_1": f"features.{last}.0", "Conv_1_bn": f"features.{last}.1"}
    for number in range(last - 1):
        theirs, path = f"block_{number}" if number else "expanded_conv", f"features.{number + 1}.conv"
        # The first does not expand, so its other layers move up.
        depthwise, project = (0, 1) if number == 0 else (1, 2)
        ours |= {f"{theirs}_depthwise": f"{path}.{depthwise}.0", f"{theirs}_depthwise_BN": f"{path}.{depthwise}.1"}
        ours |= {f"{theirs}_project": f"{path}.{project}", f"{theirs}_project_BN": f"{path}.{project + 1}"}
        if number:
            ours |= {f"{theirs}_expand": f"{path}.0.0", f"{theirs}_expand_BN": f"{path}.0.1"}
    return _by_layer(ours)


def _by_layer(ours: dict[str, str]) -> Rename:
    def rename(name: str) -> str:
        layer, _, tensor = name.rpartition(".")
        return f"{ours.get(layer, layer)}.{tensor}"

    return rename
