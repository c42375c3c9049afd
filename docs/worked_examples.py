"""The worked calculations of a textbook on classic convolutional networks, each recomputed with graft's own code.

A row has the textbook's figure, the correct one as a function of graft's blocks, networks and accounting, and the
verdict. Literal are only the sizes and widths in a question, the figures that the textbook or a paper prints, and
statements that are no calculation. All other figures are computed, including those in comments.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import torch
from counted import convolution, dense, depth, layer, network, shape, table, weight_layers
from torch import nn

from graft.accounting.counting import Layer, account
from graft.models import BasicBlock, Inception, NaiveInception, stacked_convolutions, vgg
from graft.models.catalog import CATALOG, default_config
from graft.models.xception import SeparableConvolution
from graft.transfer.levels import plan_level

# `agrees` includes figures that the textbook rounds; `ambiguous` means that it gives none, or several that differ.
Verdict = Literal["agrees", "wrong", "ambiguous"]


@dataclass(frozen=True)
class Example:
    """One calculation: `textbook` is the printed figure, None if there is none, and `right` computes the correct one.

    `unit` is what the figure counts, or `shape` for the sizes of a map. `details` computes further figures.
    """

    id: str
    question: str
    textbook: Any
    right: Callable[[], Any]
    verdict: Verdict = "agrees"
    unit: str = ""
    comment: str | Callable[[], str] = ""
    details: Callable[[], dict[str, Any]] = dict

    def explained(self) -> str:
        """The comment with its figures."""
        return self.comment if isinstance(self.comment, str) else self.comment()


# --- LeNet-5 ---

LENET_SUMMARY = (  # as printed, channels last, with the paths of the same layers in graft
    ("conv2d_1", (28, 28, 6), 156, "c1"),
    ("average_pooling2d_1", (14, 14, 6), 0, "s2"),
    ("conv2d_2", (10, 10, 16), 2416, "c3"),
    ("average_pooling2d_2", (5, 5, 16), 0, "s4"),
    ("conv2d_3", (1, 1, 120), 48120, "c5"),
    ("flatten_1", (120,), 0, "c5_out.2"),
    ("dense_1", (84,), 10164, "f6"),
    ("dense_2", (10,), 850, "output"),
)
# Epochs at each learning rate, None for all following ones: in the textbook's text, and in LeCun et al. 1998, III-B.
TEXT_RATES = ((2, 5e-4), (3, 2e-4), (4, 5e-5), (None, 1e-5))
PAPER_RATES = ((2, 5e-4), (3, 2e-4), (3, 1e-4), (4, 5e-5), (None, 1e-5))


def lenet_summary() -> list[list[Any]]:
    rows = [(name, layer("lenet5", path)) for name, _, _, path in LENET_SUMMARY]
    return [[name, (*each.output_shape[1:], each.output_shape[0]), each.params] for name, each in rows]


def of_1998(part: str) -> int:
    """The parameters of one part of the network of 1998."""
    return sum(each.params for each in table("lenet5_1998").layers if each.name.split(".")[0] == part)


def rates(stages: Sequence[tuple[int | None, float]], epochs: int) -> list[float]:
    """The learning rate of each of the first `epochs` epochs."""
    return [rate for count, rate in stages for _ in range(epochs if count is None else count)][:epochs]


def coded_rate(epoch: int) -> float:
    """The rate that the textbook's function gives, which compares the number of the epoch with 2, 5 and 9."""
    return next((rate for last, rate in ((2, 5e-4), (5, 2e-4), (9, 5e-5)) if epoch <= last), 1e-5)


def epochs_at_each_rate(epochs: Iterable[int]) -> dict[str, int]:
    """How many of `epochs` the textbook's function runs at each rate but the last, which has no end."""
    counts = Counter(map(coded_rate, epochs))
    return {f"{rate:.0e}".replace("e-0", "e-"): count for rate, count in counts.items() if rate > 1e-5}


def passes_at_another_rate() -> int:
    """How many of the 20 passes of 1998 run at another rate by the textbook's text."""
    return sum(text != paper for text, paper in zip(rates(TEXT_RATES, 20), rates(PAPER_RATES, 20), strict=True))


# fmt: off
LENET = (
    Example("lenet_c1_output", "Size of the map that a 5 × 5 kernel makes from 32 px", (28, 28),
            lambda: shape(nn.Conv2d(1, 6, 5), 1, 32, 32)[1:], unit="shape",
            comment=lambda: f"(32 − 5) / 1 + 1. graft's `lenet5` pads 28 px by two, which also gives "
                            f"{layer('lenet5', 'c1').output_shape[1]}."),
    Example("lenet_c1_params", "Parameters of C1", 156, lambda: layer("lenet5", "c1").params),
    Example("lenet_c1_map", "Output of C1", (6, 28, 28), lambda: layer("lenet5", "c1").output_shape, unit="shape"),
    Example("lenet_pool_params", "Parameters of a pooling layer", 0, lambda: layer("lenet5", "s2").params,
            comment=lambda: "True of average pooling. In 1998 every map had a trained coefficient and bias: "
                            f"{of_1998('s2')} parameters in S2, {of_1998('s4')} in S4."),
    Example("lenet_c3_kernel", "Weights of one 5 × 5 kernel over six maps, without and with its bias", (150, 151),
            lambda: [convolution(6, 1, 5), convolution(6, 1, 5, bias=True)]),
    Example("lenet_c3_params", "Parameters of C3", 2416, lambda: layer("lenet5", "c3").params,
            comment=lambda: f"With every map connected to every map; the table of 1998 leaves {of_1998('c3'):,}."),
    Example("lenet_s4_output", "Output of S4", (16, 5, 5), lambda: layer("lenet5", "s4").output_shape, unit="shape"),
    Example("lenet_flatten", "Length of S4 when flattened", 400, lambda: shape(nn.Flatten(), 16, 5, 5)[0]),
    Example("lenet_fc1_params", "Parameters of a dense layer from 400 to 120", 48120, lambda: dense(400, 120),
            comment=lambda: f"C5 has the same {layer('lenet5', 'c5').params:,}: on a map of 5 × 5, a 5 × 5 convolution "
                            "is a dense layer."),
    Example("lenet_fc2_params", "Parameters of F6", 10164, lambda: layer("lenet5", "f6").params),
    Example("lenet_fc3_params", "Parameters of the output layer", 850, lambda: layer("lenet5", "output").params),
    Example("lenet_total", "Parameters of LeNet-5", 61706, lambda: table("lenet5").params),
    Example("lenet_against_dense", "Does LeNet-5 have fewer parameters than a dense layer from 1,200 to 1,200?", True,
            lambda: table("lenet5").params < dense(1200, 1200, bias=False),
            comment=lambda: f"That layer has {dense(1200, 1200, bias=False):,}, "
                            f"{dense(1200, 1200, bias=False) / table('lenet5').params:.1f} times as many."),
    Example("lenet_summary_table", "Output, channels last, and parameters of every layer",
            [row[:3] for row in LENET_SUMMARY], lenet_summary),
    Example("lenet_weight_layers", "Layers with weights", "3 convolutional + 2 dense, or 2 + 3",
            lambda: len(weight_layers(table("lenet5"))),
            comment="Two chapters classify C5 differently; both a convolution and a dense layer are correct."),
    Example("lenet_lr_schedule_code", "Epochs at each learning rate by the printed function, epochs numbered from 0",
            {"5e-4": 2, "2e-4": 3, "5e-5": 4}, lambda: epochs_at_each_rate(range(100)), "wrong",
            comment=lambda: "The function does what the text says, "
                            f"{', '.join(map(str, epochs_at_each_rate(range(1, 100)).values()))}, if epochs are "
                            "numbered from 1. Keras numbers them from 0, which gives the first rate one epoch more "
                            "and delays every later change by one.",
            details=lambda: {"rates_text_first_12": rates(TEXT_RATES, 12),
                             "rates_code_zero_based_first_12": [coded_rate(epoch) for epoch in range(12)],
                             "rates_code_one_based_first_12": [coded_rate(epoch) for epoch in range(1, 13)]}),
    Example("lenet_lr_schedule_paper", "Passes at each learning rate in 1998", TEXT_RATES, lambda: PAPER_RATES, "wrong",
            comment=lambda: "The textbook omits three passes at 0.0001, so "
                            f"{passes_at_another_rate()} of the paper's 20 would run at another rate. In the paper "
                            "the rates scale a second-order step; for plain SGD they are small."),
)
# fmt: on

# --- AlexNet ---

PRINTED_NEURONS = 253_440  # of conv1, in the text of the paper


def alexnet_layers() -> dict[str, Layer]:
    return {each.name: each for each in weight_layers(table("alexnet_2012"))}


def neurons() -> dict[str, int]:
    return {name: prod(each.output_shape) for name, each in alexnet_layers().items()}


def neurons_as_printed() -> int:
    return sum(neurons().values()) - neurons()["conv1"] + PRINTED_NEURONS


def first_map(size: int) -> int | str:
    """Side of the map of an unpadded 11 × 11 kernel with stride 4 on `size` px, with any rounding."""
    exact, side = (size - 11) / 4 + 1, shape(nn.Conv2d(3, 96, 11, 4), 3, size, size)[1]
    return side if side == exact else f"{side} (floor of {exact:.2f})"


def alexnet_steps() -> int:
    """The number of convolutions, pools and dense layers; the last of them ends in the softmax."""
    return sum(isinstance(each, nn.Conv2d | nn.MaxPool2d | nn.Linear) for each in network("alexnet_2012").modules())


# fmt: off
ALEXNET = (
    Example("alexnet_params", "Parameters of AlexNet", 60_000_000, lambda: table("alexnet_2012").params,
            comment=lambda: "The two halves of 2012. The single tower of 2014, which libraries call AlexNet, has "
                            f"{table('alexnet').params:,}.",
            details=lambda: {"layers": {name: each.params for name, each in alexnet_layers().items()}}),
    Example("alexnet_neurons", "Neurons: outputs of the eight weight layers", 650_000, lambda: sum(neurons().values()),
            comment=lambda: f"The paper's list sums to {neurons_as_printed():,}. It has {PRINTED_NEURONS:,} for the "
                            f"first layer, which 96 square maps cannot have; of 55 × 55 they have "
                            f"{neurons()['conv1']:,}.",
            details=lambda: {"neurons": neurons(), "sum_with_printed_253440": neurons_as_printed()}),
    Example("alexnet_input_size", "Side of the first map from 224 px and from 227 px", None,
            lambda: {str(size): first_map(size) for size in (224, 227)}, "ambiguous",
            comment=lambda: "No chapter gives the size of the input. The paper prints 224, but its maps of 55 × 55 "
                            f"need 227, or 224 padded by two ({layer('alexnet', 'features.0').output_shape[1]}), which "
                            "is what graft's `alexnet` does."),
    Example("alexnet_layer_text", "Name of the last step, with steps numbered from 1", "SOFTMAX7",
            lambda: f"SOFTMAX{alexnet_steps()}", "wrong",
            comment="The order is correct; the number of the last step is LeNet's. Response normalisation and dropout "
                    "are missing from the list."),
)
# fmt: on

# --- VGG ---

COLUMNS = {"A": "vgg11", "A-LRN": "vgg11_lrn", "B": "vgg13", "C": "vgg16_c", "D": "vgg16", "E": "vgg19"}
PRINTED_CONVOLUTIONS = {  # by block, counted in the textbook's table of configurations
    **dict.fromkeys(("A", "A-LRN"), (1, 1, 2, 2, 2)),
    "B": (2, 2, 2, 2, 2),
    **dict.fromkeys("CDE", (2, 2, 3, 3, 3)),
}


def stack(*kernels: int) -> int:
    """Weights of a sequence of convolutions per pair of channels, which equal their multiply-adds at one pixel."""
    return account(stacked_convolutions(1, 1, kernels), (1, 1, 1)).macs


def seen_by(*kernels: int) -> int:
    """Receptive field of a sequence of convolutions, px."""
    return account(stacked_convolutions(1, 1, kernels), (1, 32, 32)).outputs[""].receptive_field


def vgg16_rows() -> list[list[Any]]:
    """The class, output shape and parameters of every layer with weights and every pool."""
    kinds = ("Conv2d", "MaxPool2d", "Linear")
    return [[each.type, each.output_shape, each.params] for each in table("vgg16").layers if each.type in kinds]


def printed_depth(column: str) -> int:
    """Weight layers of the network that the textbook's column describes."""
    spec = replace(vgg.SPECS[COLUMNS[column]], convolutions=PRINTED_CONVOLUTIONS[column], pointwise_third=False)
    with torch.device("meta"):
        printed = vgg.VGG(default_config(COLUMNS[column]), spec)
    return len(weight_layers(account(printed, (3, 224, 224))))


def paper_blocks() -> dict[str, Any]:
    c, e = (vgg.SPECS[COLUMNS[column]] for column in "CE")
    last = " with the last of blocks 3-5 being 1x1" if c.pointwise_third else ""
    return {"C": ",".join(map(str, c.convolutions)) + last, "E": e.convolutions}


def pool_stride() -> int:
    (stride,) = {layer.stride for layer in network("vgg16").modules() if isinstance(layer, nn.MaxPool2d)}
    assert isinstance(stride, int)
    return stride


def last_map() -> int:
    """Side of the last map of VGG-16, px."""
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
                            f"{', '.join(map(str, vgg.SPECS['vgg19'].convolutions))}), and column C has a 3 × 3 where "
                            "the third convolution is 1 × 1. As printed, C, D and E are the same network.",
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

# --- GoogLeNet ---

# The textbook's module takes 200 maps of 32 × 32; the width of its 3 × 3 reduction, 96, does not matter below.
NAIVE = NaiveInception(200, 64, 128, 32)
REDUCED = Inception(200, 64, 96, 128, 16, 32, 32)
# Szegedy et al. 2014, table 1: the column of parameters, in thousands.
PRINTED_THOUSANDS = (2.7, 112, 159, 380, 364, 437, 463, 580, 840, 1072, 1388, 1000)


def branch_macs(module: nn.Module, path: str) -> int:
    return next(each.macs for each in account(module, (200, 32, 32)).layers if each.name == path)


def direct() -> int:
    return branch_macs(NAIVE, "branch3.conv")


def reduced() -> tuple[int, int]:
    """Multiply-adds of the 1 × 1 convolution and of the 5 × 5 convolution after it."""
    return branch_macs(REDUCED, "branch3.0.conv"), branch_macs(REDUCED, "branch3.1.conv")


def read_literally() -> int:
    """The reduced cost by the formula as printed: a product of three brackets, with the plus sign inside the second."""
    return (32 * 32 * 200) * (1 * 1 * 16 + 32 * 32 * 16) * (5 * 5 * 32)


def modules_by_stage() -> list[int]:
    counts = [sum(part.startswith("inception") for part in stage.parts) for stage in network("googlenet").stages]
    return [count for count in counts if count]


def googlenet_params() -> dict[str, int]:
    """The parameters of each version of GoogLeNet, by each way of counting."""
    return {
        "paper_network": table("googlenet_2014", auxiliary=False).params,
        "paper_network_with_auxiliary": table("googlenet_2014", auxiliary=True).params,
        "torchvision_without_auxiliary": table("googlenet", auxiliary=False).params,
        "torchvision_with_auxiliary": table("googlenet", auxiliary=True).params,
        "sum_of_table_1": round(1000 * sum(PRINTED_THOUSANDS)),
    }


def both(bias: bool) -> int:
    """Parameters of a 1 × 1 convolution from 256 to 64 channels and a 5 × 5 convolution from there to 32."""
    return convolution(256, 64, 1, bias) + convolution(64, 32, 5, bias)


# fmt: off
GOOGLENET = (
    Example("inception_naive_depth", "Output of 64, 128 and 32 filters and a pool side by side on 200 maps of 32 × 32",
            (256, 32, 32), lambda: shape(NAIVE, 200, 32, 32), "wrong", "shape",
            comment=lambda: "The pool keeps all 200 channels. With a 1 × 1 convolution to 32 after it, which the "
                            f"chapter introduces only later, there are {shape(REDUCED, 200, 32, 32)[0]}.",
            details=lambda: {"depth_with_pool_projection_32": shape(REDUCED, 200, 32, 32)[0]}),
    Example("inception_5x5_cost", "32 filters of 5 × 5 on 200 maps of 32 × 32", 163_000_000, direct,
            unit="multiply-adds"),
    Example("inception_reduce_1x1", "16 filters of 1 × 1 before them", 3_200_000, lambda: reduced()[0],
            unit="multiply-adds", comment="The textbook truncates to two digits instead of rounding."),
    Example("inception_reduce_5x5", "32 filters of 5 × 5 on these 16", 13_100_000, lambda: reduced()[1],
            unit="multiply-adds"),
    Example("inception_reduced_cost", "Both together", 16_300_000, lambda: sum(reduced()), unit="multiply-adds",
            comment=lambda: f"{100 * sum(reduced()) / direct():.0f} % of the direct cost. The printed formula has its "
                            f"plus sign inside a bracket; taken literally it gives {read_literally():,}.",
            details=lambda: {"literal_reading": read_literally()}),
    Example("googlenet_module_count", "Inception modules between the pools", (2, 5, 5), modules_by_stage, "wrong",
            comment=lambda: f"The chapter says nine, which is correct, but its split adds up to {sum((2, 5, 5))}.",
            details=lambda: {"sum_seed": sum((2, 5, 5)), "sum_correct": sum(modules_by_stage())}),
    Example("googlenet_depth", "Weight layers from image to classes", 22, lambda: depth("googlenet_2014")),
    Example("googlenet_params", "Parameters of GoogLeNet", (13_000_000, 6_800_000), googlenet_params, "ambiguous",
            comment="Two chapters use two rules: 13 million includes the two classifiers that only training uses; 6.8 "
                    "million is the sum of the column in the paper, which is not exact."),
    Example("googlenet_times_fewer", "How many times fewer parameters than VGG-16, by the chapter's own numbers", 12,
            lambda: round(table("vgg16").params / googlenet_params()["torchvision_with_auxiliary"], 1), "wrong",
            comment=lambda: "The paper says twelve times fewer than AlexNet; the exact count gives "
                            f"{table('alexnet_2012').params / googlenet_params()['paper_network']:.1f}."),
    Example("conv1x1_output", "Output of 64 filters of 1 × 1 on 256 maps of 32 × 32", (64, 32, 32),
            lambda: shape(nn.Conv2d(256, 64, 1), 256, 32, 32), unit="shape"),
    Example("conv5x5_direct", "5 × 5 from 256 to 32 channels", 204_800, lambda: convolution(256, 32, 5), unit="weights",
            comment=lambda: f"{convolution(256, 32, 5, bias=True):,} with biases."),
    Example("conv1x1_reduce", "1 × 1 from 256 to 64 channels", 16_384, lambda: convolution(256, 64, 1), unit="weights",
            comment=lambda: f"{convolution(256, 64, 1, bias=True):,} with biases."),
    Example("conv5x5_after_reduce", "5 × 5 from 64 to 32 channels", 51_200, lambda: convolution(64, 32, 5),
            unit="weights", comment=lambda: f"{convolution(64, 32, 5, bias=True):,} with biases."),
    Example("conv1x1_then_5x5", "The last two rows together", 67_584, lambda: both(bias=False), unit="weights",
            comment=lambda: f"{convolution(256, 32, 5) / both(bias=False):.2f} times fewer than the direct way; "
                            f"{both(bias=True):,} with biases."),
)
# fmt: on

# --- ResNet, MobileNet, transfer ---


def zero_block(*values: float) -> list[float]:
    """The output of a residual block with all parameters zero, for one pixel with these channels."""
    block = BasicBlock(len(values), len(values)).eval()
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        output: list[float] = block(torch.tensor(values)[None, :, None, None]).flatten().tolist()
    return output


def separable(bias: bool = False) -> int:
    """Parameters of a 3 × 3 filter for each of 16 channels, followed by a 1 × 1 convolution to 32."""
    biased = nn.Sequential(nn.Conv2d(16, 16, 3, groups=16), nn.Conv2d(16, 32, 1))
    return account(biased if bias else SeparableConvolution(16, 32), (16, 3, 3)).params


def cuts(*fractions: float) -> str:
    """The cuts at which graft freezes these fractions of the weight layers of ResNet-50."""
    after = {each: plan_level(f"frozen:{each}", network("resnet50"), pretrained=True).cut for each in fractions}
    return ", ".join(f"{100 * each:.0f} % after `{cut}`" for each, cut in after.items())


# fmt: off
RESNET = (
    Example("residual_identity", "Output of a residual block with zero weights for inputs 0, 0.5 and 2",
            (0.0, 0.5, 2.0), lambda: zero_block(0.0, 0.5, 2.0),
            comment=lambda: f"True because a ReLU precedes the block; an input of −1 becomes {zero_block(-1.0)[0]:g}."),
    Example("residual_wording", "What a block learns in order to output H(x)", "learn F(x) + x",
            lambda: "learn F(x) = H(x) - x, output F(x) + x", "wrong",
            comment="It is the other way round: the layers learn the difference, and the block outputs the sum. An F "
                    "of zero keeps the input, as in the row above."),
)
MOBILENET = (
    Example("standard_conv_3x3", "3 × 3 from 16 to 32 channels", 4608, lambda: convolution(16, 32, 3), unit="weights",
            comment=lambda: f"{convolution(16, 32, 3, bias=True):,} with biases."),
    Example("depthwise_separable_3x3", "The same as one filter per channel and a 1 × 1 convolution", 656, separable,
            unit="weights",
            comment=lambda: f"{100 * separable() / convolution(16, 32, 3):.1f} % of that, which is 1/32 + 1/9; "
                            f"{separable(bias=True):,} with biases on both parts."),
)
TRANSFER = (
    Example("transfer_scenarios", "What to train, by size of the data and similarity to the source",
            {"small, similar": "feature extractor", "large, similar": "full fine-tuning",
             "small, different": "earlier activations", "large, different": "full fine-tuning"},
            lambda: {"small, similar": "feature extractor",
                     "large, similar": "freeze 60-80 percent (text) or full fine-tuning (table)",
                     "small, different": "freeze first third to half", "large, different": "full fine-tuning"},
            "ambiguous",
            comment=lambda: "For large and similar data the chapter's text and its table differ. graft's cuts in "
                            f"ResNet-50, by fraction of weight layers: {cuts(0.33, 0.5, 0.6, 0.8)}."),
)
# fmt: on

# By family, as named in `graft.models.catalog`; `transfer` belongs to no family.
EXAMPLES: dict[str, tuple[Example, ...]] = {
    "lenet": LENET,
    "alexnet": ALEXNET,
    "vgg": VGG,
    "googlenet": GOOGLENET,
    "resnet": RESNET,
    "mobilenet_v1": MOBILENET,
    "transfer": TRANSFER,
}
