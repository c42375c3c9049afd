"""The textbook's calculations on VGG."""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from graft.accounting.counting import account
from graft.models import stacked_convolutions
from graft.models import vgg as family
from graft.models.catalog import CATALOG, default_config
from graft.workflows.counted import convolution, dense, network, table, weight_layers
from graft.workflows.worked.example import Example

COLUMNS = {"A": "vgg11", "A-LRN": "vgg11_lrn", "B": "vgg13", "C": "vgg16_c", "D": "vgg16", "E": "vgg19"}
PRINTED_CONVOLUTIONS = {  # by block, counted in the textbook's table of configurations
    **dict.fromkeys(("A", "A-LRN"), (1, 1, 2, 2, 2)),
    "B": (2, 2, 2, 2, 2),
    **dict.fromkeys("CDE", (2, 2, 3, 3, 3)),
}


def stack(*kernels: int) -> int:
    """Count the weights of a sequence of convolutions per pair of channels, equal to its multiply-adds at one pixel."""
    return account(stacked_convolutions(1, 1, kernels), (1, 1, 1)).macs


def seen_by(*kernels: int) -> int:
    """Return the receptive field of a sequence of convolutions, px."""
    return account(stacked_convolutions(1, 1, kernels), (1, 32, 32)).outputs[""].receptive_field


def vgg16_rows() -> list[list[Any]]:
    """Return the class, output shape and parameters of every layer with weights and every pool."""
    kinds = ("Conv2d", "MaxPool2d", "Linear")
    return [[each.type, each.output_shape, each.params] for each in table("vgg16").layers if each.type in kinds]


def printed_depth(column: str) -> int:
    """Count the weight layers of the network that the textbook's column describes."""
    spec = replace(family.SPECS[COLUMNS[column]], convolutions=PRINTED_CONVOLUTIONS[column], pointwise_third=False)
    with torch.device("meta"):
        printed = family.VGG(default_config(COLUMNS[column]), spec)
    return len(weight_layers(account(printed, (3, 224, 224))))


def paper_blocks() -> dict[str, Any]:
    c, e = (family.SPECS[COLUMNS[column]] for column in "CE")
    last = " with the last of blocks 3-5 being 1x1" if c.pointwise_third else ""
    return {"C": ",".join(map(str, c.convolutions)) + last, "E": e.convolutions}


def pool_stride() -> int:
    (stride,) = {layer.stride for layer in network("vgg16").modules() if isinstance(layer, nn.MaxPool2d)}
    assert isinstance(stride, int)
    return stride


def last_map() -> int:
    """Return the side of the last map of VGG-16, px."""
    return table("vgg16").outputs[network("vgg16").stages[4].parts[-1]].shape[1]


def published_top5(name: str) -> float | None:
    published = CATALOG[name].published
    return None if published is None else published.top5_error


def new_heads() -> dict[str, int]:
    trunk, _ = network("vgg16").split("stage5")
    widths = {"flattened_7x7x512": 7 * 7 * 512, "4096": 4096, "pooled_512": 512}
    heads = {f"head_on_{seen}": dense(width, 2) for seen, width in widths.items()}
    return {"frozen": account(trunk, (3, 224, 224)).params, **heads}


# fmt: off
VGG = (
    Example("vgg_three_3x3", "Three 3 × 3 layers, per pair of channels", 27, lambda: stack(3, 3, 3), unit="weights"),
    Example("vgg_one_7x7", "One 7 × 7 layer, per pair of channels", 49, lambda: stack(7), unit="weights"),
    Example("vgg_one_3x3", "One 3 × 3 layer, per pair of channels", 9, lambda: stack(3), unit="weights"),
    Example("vgg_7x7_reduction", "Weights saved by three 3 × 3 layers in place of one 7 × 7", 45,
            lambda: round(100 * (1 - stack(3, 3, 3) / stack(7)), 1), unit="%",
            comment=lambda: "The paper states the inverse: the one layer has "
                            f"{100 * stack(7) / stack(3, 3, 3) - 100:.0f} % more."),
    Example("vgg_receptive_field_7", "Receptive field of three 3 × 3 layers", 7, lambda: seen_by(3, 3, 3),
            unit="px",
            comment="The same as one 7 × 7 layer, but not the same function: there are three ReLUs instead of one."),
    Example("vgg_receptive_field_5", "Receptive field of two 3 × 3 layers", 5, lambda: seen_by(3, 3), unit="px",
            comment=lambda: f"With {stack(3, 3)} weights per pair of channels, where one 5 × 5 layer has {stack(5)}."),
    Example("vgg16_table", "Sum of the table of VGG-16, layer by layer", 138_423_208,
            lambda: sum(params for _, _, params in vgg16_rows()), "wrong", "parameters",
            comment=lambda: f"The second pool is listed with {convolution(128, 128, 2, bias=True):,} parameters, those "
                            "of a 2 × 2 convolution from 128 to 128 channels. All other rows are correct.",
            details=lambda: {"rows": vgg16_rows()}),
    Example("vgg_millions", "Millions of parameters of columns A, A-LRN, B, C, D and E", [133, 133, 133, 134, 138, 144],
            lambda: [round(table(name).params / 1e6) for name in COLUMNS.values()],
            comment=lambda: f"Rounded from {', '.join(f'{table(name).params:,}' for name in COLUMNS.values())}.",
            details=lambda: {"exact": {name: table(name).params for name in COLUMNS.values()}}),
    Example("vgg_configuration_table", "Weight layers of each column, counted from its cells",
            {"A": 11, "A-LRN": 11, "B": 13, "C": 16, "D": 16, "E": 19},
            lambda: {column: printed_depth(column) for column in PRINTED_CONVOLUTIONS}, "wrong",
            comment=lambda: "Column E has one convolution too few in blocks 3, 4 and 5 (the paper: "
                            f"{', '.join(map(str, family.SPECS['vgg19'].convolutions))}), and column C has a 3 × 3 "
                            "where the third convolution is 1 × 1. As printed, C, D and E are the same network.",
            details=lambda: {"correct_blocks": paper_blocks()}),
    Example("vgg_pool_stride", "Stride of the max pools", 1, pool_stride, "wrong", "px",
            comment=lambda: f"The same chapter says 2 elsewhere, and only 2 reduces 224 px to {last_map()}. With 1, "
                            f"the first dense layer would have {dense(224 * 224 * 512, 4096):,} parameters.",
            details=lambda: {"map_after_five_pools": last_map(),
                             "fc1_params_with_stride_1": dense(224 * 224 * 512, 4096)}),
    Example("vgg19_more_than_144", "Does VGG-19 have more parameters than this?", 144_000_000,
            lambda: table("vgg19").params, "wrong", comment="It has fewer; 144 million is its number, rounded up."),
    Example("vgg16_storage", "Bytes of VGG-16, four for each parameter", 500_000_000,
            lambda: 4 * table("vgg16").params, unit="bytes",
            comment=lambda: f"{4 * table('vgg16').params / 2**20:.1f} MiB; the textbook rounds it."),
    Example("vgg16_head_replaced", "VGG-16 with frozen convolutions and a new softmax over two classes", None,
            new_heads, "ambiguous", "parameters",
            comment="The textbook does not say which vector the two outputs take, so all three are given."),
    Example("top5_accuracy_to_error", "Top-5 error that matches the accuracy of 92.7 % given for VGG-16", None,
            lambda: round(100 - 92.7, 1), "ambiguous", "%",
            comment=lambda: "That is seven networks together on the test images; one VGG-16 has "
                            f"{published_top5('vgg16')} (validation, dense, one scale)."),
)
# fmt: on
