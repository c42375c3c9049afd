"""The textbook's calculations on GoogLeNet."""

from torch import nn

from graft.accounting.counting import account
from graft.models import Inception, NaiveInception
from graft.workflows.counted import convolution, depth, network, shape, table
from graft.workflows.worked.example import Example

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
    """Return the multiply-adds of the 1 × 1 convolution and of the 5 × 5 convolution after it."""
    return branch_macs(REDUCED, "branch3.0.conv"), branch_macs(REDUCED, "branch3.1.conv")


def read_literally() -> int:
    """Evaluate the reduced cost as printed: a product of three brackets, with the plus sign inside the second."""
    return (32 * 32 * 200) * (1 * 1 * 16 + 32 * 32 * 16) * (5 * 5 * 32)


def modules_by_stage() -> list[int]:
    counts = [sum(part.startswith("inception") for part in stage.parts) for stage in network("googlenet").stages]
    return [count for count in counts if count]


def googlenet_params() -> dict[str, int]:
    """Return the parameters of each version of GoogLeNet, by each way of counting."""
    return {
        "paper_network": table("googlenet_2014", auxiliary=False).params,
        "paper_network_with_auxiliary": table("googlenet_2014", auxiliary=True).params,
        "torchvision_without_auxiliary": table("googlenet", auxiliary=False).params,
        "torchvision_with_auxiliary": table("googlenet", auxiliary=True).params,
        "sum_of_table_1": round(1000 * sum(PRINTED_THOUSANDS)),
    }


def both(bias: bool) -> int:
    """Count the parameters of a 1 × 1 convolution from 256 to 64 channels and a 5 × 5 convolution from there to 32."""
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
