"""The steps of a graph as a diagram shows them: layers with their normalisations and activations."""

import re
from dataclasses import dataclass, replace
from enum import Enum
from math import prod

from graft.accounting.graph import Graph, Node


class Sort(Enum):
    """The sort of a step, which decides its colour; the value is its name in the legend."""

    CONVOLUTION = "convolution"
    POINTWISE = "1×1 convolution"
    DEPTHWISE = "depthwise convolution"
    LINEAR = "linear"
    POOL = "pooling"
    JOIN = "join"
    SMALL = "normalisation, activation"
    OTHER = "other"
    INPUT = "input"


@dataclass(frozen=True)
class FlowStep:
    """A layer with whatever normalises or activates its input and output, or a join of branches.

    `inputs` are positions of steps in the same block. `channels` counts those of the output.
    """

    sort: Sort
    words: str  # "convolution", "max pool"
    channels: int
    window: tuple[int, ...] = ()
    stride: int = 1
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    inputs: tuple[int, ...] = ()


WITH_WEIGHTS = (Sort.CONVOLUTION, Sort.POINTWISE, Sort.DEPTHWISE, Sort.LINEAR)
_SMALL = re.compile(r"norm|ReLU|SiLU|GELU|ELU|swish|sigmoid|tanh|scale|shift|softmax", re.IGNORECASE)
_JOINS = {"add", "multiply", "concatenate", "pad", "select channels"}


def sort_of(graph: Graph, node: Node) -> Sort:
    operation = _operation(node)
    if operation == "convolution":
        inputs = channels_of(graph.nodes[node.inputs[0]].output_shape)
        if node.groups > 1 and node.groups == inputs:
            return Sort.DEPTHWISE
        return Sort.POINTWISE if prod(node.window) == 1 else Sort.CONVOLUTION
    if operation in ("linear", "matrix product"):
        return Sort.LINEAR
    if "pool" in operation:
        return Sort.POOL
    if operation in _JOINS:
        return Sort.JOIN
    return Sort.SMALL if _SMALL.search(operation) else Sort.OTHER


def _operation(node: Node) -> str:
    """What a node does, in words. Adding a constant is a shift, multiplying by one a scale."""
    if "norm" in node.type.lower() and "norm" not in node.operation:
        return in_words(node.type).lower()  # several operations in one, such as local response normalisation
    if len(node.inputs) == 1:
        return {"add": "shift", "multiply": "scale"}.get(node.operation, node.operation)
    return node.operation


def _step(graph: Graph, node: Node, inputs: tuple[int, ...]) -> FlowStep:
    words, sort, before = _operation(node), sort_of(graph, node), graph.nodes[node.inputs[0]].output_shape
    window = node.window
    if sort is Sort.DEPTHWISE:
        words = "depthwise convolution"
    elif sort is Sort.CONVOLUTION and node.groups > 1:
        words = f"convolution in {node.groups} groups"
    elif sort is Sort.POOL and prod(node.output_shape[1:]) == 1 and tuple(before[1:]) == node.window:
        return FlowStep(sort, f"global {words}", channels_of(node.output_shape), inputs=inputs)
    elif sort is Sort.POOL and prod(node.window) == 1:
        return FlowStep(
            sort, f"{words} to {' × '.join(map(str, node.output_shape[1:]))}", channels_of(before), inputs=inputs
        )
    elif words == "pad" and channels_of(node.output_shape) > channels_of(before):
        words = "zero channels added"
    stride = node.stride if before[1:] != node.output_shape[1:] else 1
    return FlowStep(sort, words, channels_of(node.output_shape), window, stride, inputs=inputs)


def steps_of(graph: Graph, nodes: tuple[int, ...]) -> tuple[FlowStep, ...]:
    """The steps of a block, preceded by one for whatever the block takes from outside."""
    given = [each for node in nodes for each in graph.nodes[node].inputs if each not in nodes]
    steps = [FlowStep(Sort.INPUT, "input", channels_of(graph.nodes[given[0]].output_shape) if given else 0)]
    of: dict[int, int] = dict.fromkeys(given, 0)  # the step that each node is in
    ends: dict[int, int] = {}  # the last node of each step
    for position in nodes:
        node = graph.nodes[position]
        inputs = tuple(dict.fromkeys(of[each] for each in node.inputs))
        made, only = _step(graph, node, inputs), inputs[0]
        alone = len(node.inputs) == 1 and graph.users[node.inputs[0]] == 1 and ends.get(only) == node.inputs[0]
        if made.sort is Sort.SMALL and alone and steps[only].sort not in (Sort.JOIN, Sort.INPUT):
            # Repeated operations, such as two factors, are shown once.
            steps[only] = replace(steps[only], after=tuple(dict.fromkeys((*steps[only].after, made.words))))
            of[position], ends[only] = only, position
            continue
        if made.sort is Sort.SMALL:
            made = replace(made, words="", after=(made.words,))
        last = len(steps) - 1
        if alone and steps[only].sort is Sort.SMALL and only == last and made.sort in WITH_WEIGHTS:
            steps[only] = replace(made, before=steps[only].after, inputs=steps[only].inputs)
            of[position], ends[only] = only, position
            continue
        of[position] = len(steps)
        ends[len(steps)] = position
        steps.append(made)
    return tuple(steps)


def channels_of(shape: tuple[int, ...]) -> int:
    """The channels of a map or the length of a vector (C, ...); a single number has length one."""
    return shape[0] if shape else 1


def in_words(type: str) -> str:
    """The class of a module in words: "InvertedResidual" becomes "Inverted residual"."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z][a-z]|[A-Z0-9]$)", " ", type.strip("_")).split()
    lowered = [word.lower() if word[1:].islower() else word for word in words[1:]]
    return " ".join([*words[:1], *lowered])
