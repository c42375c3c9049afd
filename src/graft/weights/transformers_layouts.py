"""How Hugging Face's transformers names the tensors of families that graft has too, mapped to graft's names.

The prefix `resnet.`, `efficientnet.` and so on is present when a classifier is, and may be missing without one.
"""

import re

from graft.models.network import Network

PARTS = {"convolution": ("conv", "0"), "normalization": ("bn", "1")}


def resnet(network: Network, name: str) -> str:
    """`encoder.stages.0.layers.1.layer.2.convolution.weight` to `layer1.1.conv3.weight`."""
    name = name.removeprefix("resnet.")
    if match := re.match(r"encoder\.stages\.(\d+)\.layers\.(\d+)\.(layer\.(\d+)|shortcut)\.(\w+)\.(\w+)$", name):
        stage, block, _, layer, part, tensor = match.groups()
        kind, number = PARTS.get(part, (part, part))
        inner = f"downsample.{number}" if layer is None else f"{kind}{int(layer) + 1}"
        return f"layer{int(stage) + 1}.{block}.{inner}.{tensor}"
    if match := re.match(r"embedder\.embedder\.(\w+)\.(\w+)$", name):
        return f"{PARTS.get(match[1], (match[1],))[0]}1.{match[2]}"
    return re.sub(r"^classifier\.1\.", f"{network.head_name}.", name)


def mobilenet_v1(network: Network, name: str) -> str:
    """`layer.2.convolution.weight` to the depthwise, `layer.3` to the pointwise convolution of the second block."""
    name = name.removeprefix("mobilenet_v1.")
    if match := re.match(r"layer\.(\d+)\.(\w+)\.(\w+)$", name):
        blocks = [
            f"{part}.{index}"
            for stage in network.stages
            if stage.name.startswith("stage")
            for part in stage.parts
            for index, _ in network.get_submodule(part).named_children()
        ]
        block, pointwise = divmod(int(match[1]), 2)
        convolution, norm = (("conv_dw", "bn1"), ("conv_pw", "bn2"))[pointwise]
        if block < len(blocks) and match[2] in PARTS:
            return f"{blocks[block]}.{convolution if match[2] == 'convolution' else norm}.{match[3]}"
    if match := re.match(r"conv_stem\.(\w+)\.(\w+)$", name):
        return f"{'conv_stem' if match[1] == 'convolution' else 'bn1'}.{match[2]}"
    return name


def mobilenet_v2(network: Network, name: str) -> str:
    """The first bottleneck is `conv_stem.conv_3x3` and `reduce_1x1`; the others are numbered under `layer`."""
    name = name.removeprefix("mobilenet_v2.")
    outer = {"conv_stem.first_conv": "features.0", "conv_1x1": "features.18", "conv_stem.conv_3x3": "features.1.conv.0"}
    match = re.match(r"(.+)\.(convolution|normalization)\.(\w+)$", name)
    if not match:
        return re.sub(r"^classifier\.", f"{network.head_name}.", name)
    layer, part, tensor = match.groups()
    at = PARTS[part][1]
    if layer in outer:
        return f"{outer[layer]}.{at}.{tensor}"
    if layer == "conv_stem.reduce_1x1":
        return f"features.1.conv.{1 + int(at)}.{tensor}"
    if block := re.match(r"layer\.(\d+)\.(expand_1x1|conv_3x3|reduce_1x1)$", layer):
        inner = {"expand_1x1": f"0.{at}", "conv_3x3": f"1.{at}", "reduce_1x1": str(2 + int(at))}[block[2]]
        return f"features.{int(block[1]) + 2}.conv.{inner}.{tensor}"
    return name
