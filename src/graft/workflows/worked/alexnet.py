"""The textbook's calculations on AlexNet."""

from math import prod

from torch import nn

from graft.accounting.counting import Layer
from graft.workflows.counted import layer, network, shape, table, weight_layers
from graft.workflows.worked.example import Example

PRINTED_NEURONS = 253_440  # of conv1, in the text of the paper


def alexnet_layers() -> dict[str, Layer]:
    return {each.name: each for each in weight_layers(table("alexnet_2012"))}


def neurons() -> dict[str, int]:
    return {name: prod(each.output_shape) for name, each in alexnet_layers().items()}


def neurons_as_printed() -> int:
    return sum(neurons().values()) - neurons()["conv1"] + PRINTED_NEURONS


def first_map(size: int) -> int | str:
    """Return the side of the map of an unpadded 11 × 11 kernel with stride 4 on `size` px, mentioning any rounding."""
    exact, side = (size - 11) / 4 + 1, shape(nn.Conv2d(3, 96, 11, 4), 3, size, size)[1]
    return side if side == exact else f"{side} (floor of {exact:.2f})"


def alexnet_steps() -> int:
    """Count the convolutions, pools and dense layers; the last of them ends in the softmax."""
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
