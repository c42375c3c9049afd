"""Draw questions of the textbook's kinds on random networks and sizes, answered by the accounting."""

from collections.abc import Callable, Sequence
from math import prod
from random import Random

import torch
from torch import nn

from graft.accounting.counting import account
from graft.accounting.graph import Node
from graft.models import NaiveInception
from graft.models.xception import SeparableConvolution
from graft.transfer.advisor import SCENARIOS
from graft.workflows.counted import convolution, dense, graph, network, shape
from graft.workflows.question import LETTERS, Question

SHAPES, PARAMETERS, MULTIPLICATIONS = "output shapes", "parameters", "multiplications"
RECEPTIVE_FIELDS, LEVELS = "receptive fields", "levels"
# Networks whose layers are asked about, at their usual input.
NETWORKS = ("lenet5", "alexnet_2012", "vgg16", "googlenet_2014", "resnet18", "resnet50", "mobilenet_v1", "xception")
WIDTHS = (16, 32, 64, 96, 128, 192, 256)


def of_output_shape(random: Random) -> Question:
    if random.random() < 0.5:
        return _of_layer(random, SHAPES)
    size, kernel = random.choice((28, 32, 56, 112, 224, 227)), random.choice((3, 5, 7, 11))
    stride, padding = random.choice((1, 1, 2, 4)), random.choice((0, 1, kernel // 2))
    inputs, filters = random.choice((1, 3, *WIDTHS)), random.choice(WIDTHS)
    answer = shape(_meta(nn.Conv2d, inputs, filters, kernel, stride, padding), inputs, size, size)
    return Question(
        f"convolution-output-{size}-{kernel}-{stride}-{padding}-{inputs}-{filters}",
        SHAPES,
        f"{filters} filters of {kernel} × {kernel}, stride {stride}, padding {padding}, on {inputs} maps of {size} × "
        f"{size}: the output, channels first",
        answer,
        f"as many maps as filters, and (size + 2 · padding − kernel) / stride, rounded down, + 1 along each side: "
        f"({size} + 2 · {padding} − {kernel}) / {stride} rounded down + 1 = {answer[1]}",
        "shape",
    )


def of_joined_branches(random: Random) -> Question:
    inputs, size = random.choice(WIDTHS), random.choice((14, 28, 32))
    one, three, five = random.choice(WIDTHS), random.choice(WIDTHS), random.choice((16, 32, 48))
    answer = shape(_meta(NaiveInception, inputs, one, three, five), inputs, size, size)
    return Question(
        f"joined-branches-{inputs}-{size}-{one}-{three}-{five}",
        SHAPES,
        f"a naive inception module on {inputs} maps of {size} × {size}: {one} filters of 1 × 1, {three} of 3 × 3, "
        f"{five} of 5 × 5 and a 3 × 3 max pool of stride 1, all padded to keep the size, side by side: the output",
        answer,
        f"concatenation adds the channels, and the pool keeps all of its input: {one} + {three} + {five} + {inputs} = "
        f"{answer[0]}",
        "shape",
    )


def of_parameters(random: Random) -> Question:
    if random.random() < 0.5:
        return _of_layer(random, PARAMETERS)
    if random.random() < 0.5:
        inputs, outputs = random.choice((84, 120, 400, 512, 1024, 2048)), random.choice((2, 10, 84, 102, 120, 1000))
        return Question(
            f"dense-parameters-{inputs}-{outputs}",
            PARAMETERS,
            f"parameters of a dense layer from {inputs:,} to {outputs:,}, with biases",
            (dense(inputs, outputs),),
            f"inputs · outputs + outputs: {inputs:,} · {outputs:,} + {outputs:,}",
            "parameters",
        )
    inputs, outputs, kernel = random.choice((1, 3, *WIDTHS)), random.choice(WIDTHS), random.choice((1, 3, 5, 7))
    return Question(
        f"convolution-parameters-{inputs}-{outputs}-{kernel}",
        PARAMETERS,
        f"parameters of {outputs} filters of {kernel} × {kernel} on {inputs} maps, with biases",
        (convolution(inputs, outputs, kernel, bias=True),),
        f"(kernel² · maps + 1) · filters: ({kernel}² · {inputs} + 1) · {outputs}",
        "parameters",
    )


def of_separable(random: Random) -> Question:
    inputs, outputs = random.sample(WIDTHS, 2)
    answer = (
        convolution(inputs, outputs, 3),
        account(_meta(SeparableConvolution, inputs, outputs), (inputs, 3, 3)).params,
    )
    return Question(
        f"separable-weights-{inputs}-{outputs}",
        PARAMETERS,
        f"weights, without biases, of a 3 × 3 convolution from {inputs} to {outputs} channels, and of the depthwise "
        "separable one in its place",
        answer,
        f"3² · in · out against 3² · in + in · out: 9 · {inputs} · {outputs} against 9 · {inputs} + "
        f"{inputs} · {outputs}",
        "weights",
    )


def of_multiplications(random: Random) -> Question:
    if random.random() < 0.4:
        return _of_layer(random, MULTIPLICATIONS)
    inputs, reduced = random.choice((128, 192, 200, 256, 480)), random.choice((16, 32, 64))
    outputs, kernel, size = random.choice((32, 48, 64, 128)), random.choice((3, 5)), random.choice((14, 28, 32))
    padding = kernel // 2
    direct = _meta(nn.Conv2d, inputs, outputs, kernel, padding=padding, bias=False)
    through = nn.Sequential(
        _meta(nn.Conv2d, inputs, reduced, 1, bias=False),
        _meta(nn.Conv2d, reduced, outputs, kernel, padding=padding, bias=False),
    )
    answer = tuple(account(each, (inputs, size, size)).macs for each in (direct, through))
    return Question(
        f"reduction-{inputs}-{reduced}-{outputs}-{kernel}-{size}",
        MULTIPLICATIONS,
        f"multiplications of {outputs} filters of {kernel} × {kernel}, padded, on {inputs} maps of {size} × {size}, "
        f"and of the same behind {reduced} filters of 1 × 1",
        answer,
        f"pixels · kernel² · in · out for each convolution: {size}² · {kernel}² · {inputs} · {outputs}, and "
        f"{size}² · {inputs} · {reduced} + {size}² · {kernel}² · {reduced} · {outputs}",
        "multiplications",
    )


def of_receptive_field(random: Random) -> Question:
    rows = [(random.choice((3, 3, 5, 7)), random.choice((1, 1, 2))) for _ in range(random.randint(2, 4))]
    answer = account(nn.Sequential(*(_meta(nn.Conv2d, 1, 1, *row) for row in rows)), (1, 256, 256)).ends[-1]
    sees, apart, steps = 1, 1, []
    for kernel, stride in rows:
        sees, apart = sees + (kernel - 1) * apart, apart * stride
        steps.append(f"({kernel} − 1) · {apart // stride}")
    layers = ", then ".join(f"{kernel} × {kernel} with stride {stride}" for kernel, stride in rows)
    return Question(
        f"receptive-field-{'-'.join(f'{kernel}.{stride}' for kernel, stride in rows)}",
        RECEPTIVE_FIELDS,
        f"the receptive field of {layers}",
        (answer.receptive_field,),
        "1, and for each layer (kernel − 1) times the product of the strides before it: "
        f"1 + {' + '.join(steps)} = {sees}",
        "px",
    )


def of_stack(random: Random) -> Question:
    count = random.randint(2, 6)
    stack = account(nn.Sequential(*(_meta(nn.Conv2d, 1, 1, 3, bias=False) for _ in range(count))), (1, 64, 64))
    side = stack.ends[-1].receptive_field
    return Question(
        f"stack-{count}",
        RECEPTIVE_FIELDS,
        f"{count} layers of 3 × 3 in a row see as far as one layer of k × k: k, and the weights of the {count} layers "
        "and of the one, for one pair of channels",
        (side, stack.params, convolution(1, 1, side)),
        f"1 + {count} · (3 − 1) = {side}; {count} · 3² against {side}²",
    )


# The textbook's examples of similar and dissimilar domains.
ALIKE = ("photographs of dog breeds", "photographs of kitchen tools", "photographs of ants and bees")
UNLIKE = ("X-ray images", "typed Cyrillic letters", "microscope images of blood cells", "pencil sketches")
LEVEL_CHOICES = tuple(level for _, level in SCENARIOS.values())


def of_level(random: Random) -> Question:
    few, similar = random.random() < 0.5, random.random() < 0.5
    per_class = random.choice((30, 60, 100, 200)) if few else random.choice((2_000, 5_000, 10_000))
    images, classes = random.choice(ALIKE if similar else UNLIKE), random.randint(2, 12)
    scenario, level = SCENARIOS[few, similar]
    size, kind = "few" if few else "many", "like" if similar else "unlike"
    return Question(
        f"level-{per_class}-{classes}-{images.replace(' ', '-')}",
        LEVELS,
        f"a network trained on ImageNet, and {per_class:,} {images} for each of {classes} classes: the level that the "
        "textbook's rule takes, by its text",
        (LETTERS[LEVEL_CHOICES.index(level)],),
        f"{size} images, {kind} the base's own, are scenario {scenario}: {WHY[scenario]}",
        choices=LEVEL_CHOICES,
        textbook=DISAGREEMENT if scenario == 2 else "",
    )


WHY = {
    1: "the features suit the images and few images overfit, so only a new head is trained",
    2: "the features suit the images, and many allow to tune the last fifth to two fifths of the layers",
    3: "late features are of the base's own classes, so the first third to half is kept and the rest is trained",
    4: "many images allow to train everything, and the pretrained start still saves time",
}

DISAGREEMENT = "the textbook's text freezes 60 to 80 % here, its table tunes everything; graft's rule follows the text"

# The functions that draw each topic's questions.
TOPICS: dict[str, Sequence[Callable[[Random], Question]]] = {
    SHAPES: (of_output_shape, of_output_shape, of_joined_branches),
    PARAMETERS: (of_parameters, of_parameters, of_separable),
    MULTIPLICATIONS: (of_multiplications,),
    RECEPTIVE_FIELDS: (of_receptive_field, of_receptive_field, of_stack),
    LEVELS: (of_level,),
}


def _of_layer(random: Random, topic: str) -> Question:
    """Ask about one convolution of a network of the catalogue."""
    name = random.choice(NETWORKS)
    traced = graph(name)
    layers = [node for node in traced.nodes if node.operation == "convolution" and len(node.inputs) == 1]
    node = random.choice(layers)
    before, module = traced.nodes[node.inputs[0]].output_shape, network(name).get_submodule(node.path)
    assert isinstance(module, nn.Conv2d)
    biased = module.bias is not None
    groups = "" if node.groups == 1 else f", in {node.groups} groups"
    kernel = f"{node.window[0]} × {node.window[1]}"
    told = f"layer {node.path} of {name}: {node.output_shape[0]} filters of {kernel}{groups} on {_by(before)}"
    asked: str = {
        SHAPES: f", stride {module.stride[0]}, padding {_padding(module)}: the output",
        PARAMETERS: f", {'with' if biased else 'without'} biases: the parameters",
        MULTIPLICATIONS: f", output {_by(node.output_shape)}: the multiplications",
    }[topic]
    answer = {SHAPES: node.output_shape, PARAMETERS: (node.params,), MULTIPLICATIONS: (node.macs,)}[topic]
    weights = f"{node.window[0]} · {node.window[1]} · {before[0]}{f' / {node.groups}' if groups else ''}"
    formula = {
        SHAPES: "as many maps as filters, and (size + padding − kernel) / stride, rounded down, + 1 along each side, "
        f"with the padding of both ends: {_sides(module, before, node)}",
        PARAMETERS: f"({weights}{' + 1' if biased else ''}) · {node.output_shape[0]}",
        MULTIPLICATIONS: "one for each weight of a filter and each value of the output: "
        f"{weights} · {prod(node.output_shape):,}",
    }[topic]
    return Question(
        f"{topic}-{name}-{node.path}", topic, f"{told}{asked}", answer, formula, "shape" if topic == SHAPES else topic
    )


def _padding(module: nn.Conv2d) -> str:
    down, across = (int(each) for each in module.padding)
    return str(down) if down == across else f"{down} above and below, {across} at the sides"


def _sides(module: nn.Conv2d, before: tuple[int, ...], node: Node) -> str:
    return "; ".join(
        f"({size} + {2 * int(module.padding[axis])} − {node.window[axis]}) / {module.stride[axis]} rounded down + 1 = "
        f"{node.output_shape[axis + 1]}"
        for axis, size in enumerate(before[1:])
    )


def _by(sizes: tuple[int, ...]) -> str:
    return " × ".join(map(str, sizes))


def _meta(build: Callable[..., nn.Module], *numbers: int, **more: int | bool) -> nn.Module:
    """Build a module without data, on the meta device."""
    with torch.device("meta"):
        return build(*numbers, **more)
