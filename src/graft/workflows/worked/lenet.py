"""The textbook's calculations on LeNet-5."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from graft.workflows.counted import convolution, dense, layer, shape, table, weight_layers
from graft.workflows.worked.example import Example

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
# Epochs at each learning rate, None for all later ones: in the textbook's text, and in LeCun et al. 1998, III-B.
TEXT_RATES = ((2, 5e-4), (3, 2e-4), (4, 5e-5), (None, 1e-5))
PAPER_RATES = ((2, 5e-4), (3, 2e-4), (3, 1e-4), (4, 5e-5), (None, 1e-5))


def lenet_summary() -> list[list[Any]]:
    rows = [(name, layer("lenet5", path)) for name, _, _, path in LENET_SUMMARY]
    return [[name, (*each.output_shape[1:], each.output_shape[0]), each.params] for name, each in rows]


def of_1998(part: str) -> int:
    """Count the parameters of one part of the 1998 network."""
    return sum(each.params for each in table("lenet5_1998").layers if each.name.split(".")[0] == part)


def rates(stages: Sequence[tuple[int | None, float]], epochs: int) -> list[float]:
    """Return the learning rate of each of the first `epochs` epochs."""
    return [rate for count, rate in stages for _ in range(epochs if count is None else count)][:epochs]


def coded_rate(epoch: int) -> float:
    """Return the rate that the textbook's function gives; it compares the epoch's number with 2, 5 and 9."""
    return next((rate for last, rate in ((2, 5e-4), (5, 2e-4), (9, 5e-5)) if epoch <= last), 1e-5)


def epochs_at_each_rate(epochs: Iterable[int]) -> dict[str, int]:
    """Count how many of `epochs` the textbook's function runs at each rate but the last, which has no end."""
    counts = Counter(map(coded_rate, epochs))
    return {f"{rate:.0e}".replace("e-0", "e-"): count for rate, count in counts.items() if rate > 1e-5}


def passes_at_another_rate() -> int:
    """Count how many of the 20 passes of 1998 have a different rate in the textbook's text."""
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
