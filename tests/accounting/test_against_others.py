"""The layer tables held to those of torchinfo, whose author never saw this code.

torchinfo's rule differs: it counts every parameter named weight or bias once per output position of a convolution, and
once in any other layer. So a bias costs a multiply-add for each use, a normalisation one for each parameter, and
constants cost nothing.
"""

from math import prod

import pytest
import torch
from torch import nn

from graft.accounting.counting import Layer, account
from graft.models.catalog import CATALOG, build, default_config

torchinfo = pytest.importorskip("torchinfo", reason="needs torchinfo, which the extra `dev` brings")

NETWORKS = (
    *("lenet5", "alexnet", "alexnet_2012", "vgg11_lrn", "vgg11_bn", "vgg16_c"),
    *("googlenet", "googlenet_2014", "inception_v3", "inception_v4", "inception_resnet_v2"),
    *("plain18", "resnet18", "resnet50", "resnet20", "preact_resnet18", "preact_resnet20", "densenet121", "xception"),
    *("mobilenet_v1_025", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "efficientnet_lite0"),
)


def tables(name: str) -> tuple[tuple[Layer, ...], list[torchinfo.layer_info.LayerInfo]]:
    """graft's layers and torchinfo's, on a small image."""
    with torch.device("meta"):
        network = build(default_config(name)).eval()
    channels, side, _ = CATALOG[name].input_size
    side = min(side, max(64, network.smallest_input))
    ours = account(network, (channels, side, side)).layers
    summary = torchinfo.summary(network, input_size=(1, channels, side, side), device="meta", depth=99, verbose=0)
    return ours, [layer for layer in summary.summary_list if layer.is_leaf_layer]


def surplus(layer: torchinfo.layer_info.LayerInfo) -> int:
    """What torchinfo counts and graft does not: biases and normalisation."""
    if not isinstance(layer.module, nn.Conv2d | nn.Linear):
        return layer.macs
    bias = 0 if layer.module.bias is None else layer.module.bias.numel()
    return bias * prod(layer.output_size[2:])


def test_every_family_is_held_to_it() -> None:
    assert {CATALOG[name].family for name in NETWORKS} == {entry.family for entry in CATALOG.values()}


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_have_the_shapes_parameters_and_multiply_adds_of_torchinfo(name: str) -> None:
    ours, theirs = tables(name)
    expected = [
        (each.class_name, tuple(each.output_size[1:]), each.num_params, each.macs - surplus(each)) for each in theirs
    ]
    assert [(layer.type, layer.output_shape, layer.params, layer.macs) for layer in ours] == expected


def test_products_with_constants_are_multiply_adds_to_us_only() -> None:
    ours, theirs = tables("lenet5_1998")
    # Each of ten classes is compared with 84 pixels of its drawn letter.
    assert sum(layer.macs for layer in ours) - sum(each.macs - surplus(each) for each in theirs) == 84 * 10
