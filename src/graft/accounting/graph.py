"""The dataflow graph of a network: its layers, the operations between layers, and what feeds what.

The graph is recorded during one forward pass that computes nothing. So it shows what the network does, and finds
branches and shortcuts in any module, however its forward pass is written.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from graft.accounting.counting import account, multiply_adds
from graft.accounting.dry_run import DryRun, empty_batch, name_of, tensors, without_data
from graft.accounting.shapes import per_axis


@dataclass(frozen=True)
class Node:
    """One call of a layer (a module without children), or one operation between layers, such as an addition.

    `operation` says what it does, in the words of `OPERATION_WORDS` or in torch's own; `inputs` are the positions in
    the graph of the nodes that its tensors come from. Parameters are counted at their first use. Layers that
    change no value (dropout in evaluation, flattening) are not nodes.
    """

    path: str  # dotted, of the layer or of the module that runs the operation; "" for the network itself
    type: str  # class of the layer: "Conv2d"; empty for an operation between layers
    operation: str
    inputs: tuple[int, ...]
    output_shape: tuple[int, ...]  # (C, H, W) or (D,), without the batch
    params: int = 0
    macs: int = 0
    window: tuple[int, ...] = ()  # kernel of a convolution or pool, (h, w)
    stride: int = 1  # of that window, along the axis where it is larger
    groups: int = 1


@dataclass(frozen=True)
class Graph:
    """The nodes in the order in which they ran; the first is the image, and every node comes after its inputs.

    `modules` maps the path of every module of the network, node or not, to its class. `params` counts every parameter
    once, including those of layers that do not run in evaluation.
    """

    nodes: tuple[Node, ...]
    modules: Mapping[str, str]
    params: int

    def __repr__(self) -> str:
        return f"Graph(nodes={len(self.nodes)}, params={self.params:,}, macs={self.macs:,})"

    @property
    def macs(self) -> int:
        """Multiply-adds for one image."""
        return sum(node.macs for node in self.nodes)

    @cached_property
    def users(self) -> Counter[int]:
        """The number of nodes that take the output of each node, by position."""
        return Counter(each for node in self.nodes for each in node.inputs)

    @cached_property
    def strides(self) -> tuple[int | None, ...]:
        """Image pixels between neighbouring outputs of each node; None for a node whose output is not a map."""
        strides: list[int | None] = [1]
        for node in self.nodes[1:]:
            before = max((each for each in map(strides.__getitem__, node.inputs) if each is not None), default=None)
            strides.append(None if before is None or prod(node.output_shape[1:]) == 1 else before * node.stride)
        return tuple(strides)


IMAGE = "image"

# Names of operations in torch's dispatcher, in words. A layer that runs several is named after the one that comes first
# here: a padded convolution is a convolution.
OPERATION_WORDS = {
    "convolution": "convolution",
    **dict.fromkeys(("addmm", "mm"), "linear"),
    **dict.fromkeys(("bmm", "baddbmm"), "matrix product"),
    **dict.fromkeys(("max_pool2d_with_indices", "adaptive_max_pool2d"), "max pool"),
    **dict.fromkeys(("avg_pool2d", "_adaptive_avg_pool2d", "mean"), "average pool"),
    "native_batch_norm": "batch norm",
    "native_layer_norm": "layer norm",
    "native_group_norm": "group norm",
    "relu": "ReLU",
    "hardtanh": "ReLU6",
    "silu": "SiLU",
    "gelu": "GELU",
    "elu": "ELU",
    "leaky_relu": "leaky ReLU",
    "hardswish": "hard swish",
    "hardsigmoid": "hard sigmoid",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    **dict.fromkeys(("_softmax", "_safe_softmax"), "softmax"),
    "_log_softmax": "log softmax",
    "cat": "concatenate",
    "constant_pad_nd": "pad",
    **dict.fromkeys(("index", "index_select"), "select channels"),
    "add": "add",
    "mul": "multiply",
}
_RANKS = {operation: rank for rank, operation in enumerate(OPERATION_WORDS)}
# These only copy, so like views they are not nodes.
_COPIES = {"clone", "_to_copy", "_unsafe_view", "contiguous", "_reshape_alias"}


def trace(module: nn.Module, input_shape: tuple[int, int, int]) -> Graph:
    """Record the graph of `module` in evaluation on one image of shape (C, H, W), without computing anything.

    Works on any module that takes images (N, C, H, W), on any device, and leaves it unchanged. Raises InputError,
    naming the layer that failed, if the module cannot run on such an image.
    """
    network = without_data(module).eval()
    image = empty_batch(network, input_shape)
    record = _Record(network, image)
    try:
        with torch.no_grad(), record:
            network(image)
    except Exception:
        account(module, input_shape)  # fails at the same layer, with an error that names it
        raise
    modules = {name: type(part).__name__ for name, part in network.named_modules()}
    return Graph(tuple(record.nodes), modules, sum(parameter.numel() for parameter in network.parameters()))


@dataclass
class _Call:
    """A module whose call has begun and not ended."""

    module: nn.Module
    layer: bool
    node: int | None = None  # position of its last node in the graph
    rank: int = 0  # of the operation that this node is named after
    params: int = 0  # used by operations that are not in a node yet, such as a view of the weight


class _Record(DryRun):
    """Records one forward pass of `network` on `image`, observing every operation and every module's begin and end."""

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        super().__init__()
        self.nodes = [Node("", "", IMAGE, (), tuple(image.shape[1:]))]
        self._names = {module: name for name, module in network.named_modules()}
        self._running: list[_Call] = []  # the innermost last
        self._unused = {id(parameter): parameter for parameter in network.parameters()}
        # The node that last wrote to a storage, which views share. Tensors are kept alive, so that no storage is
        # reused.
        self._writers = {_storage(image): 0}
        self._kept = [image]
        for module in self._names:
            module.register_forward_pre_hook(self._begin)
            module.register_forward_hook(self._end)

    def _begin(self, module: nn.Module, inputs: object) -> None:
        self._running.append(_Call(module, layer=next(module.children(), None) is None))

    def _end(self, module: nn.Module, inputs: object, outputs: object) -> None:
        call = self._running.pop()
        while call.module is not module:  # that call raised an exception, which the network caught
            call = self._running.pop()
        output = next(tensors(outputs), None)
        if call.layer and call.node is not None and output is not None:
            # A view of the result changes the shape of the node, and is not a node itself.
            self.nodes[call.node] = replace(self.nodes[call.node], output_shape=tuple(output.shape[1:]))
        if call.params and self._running:
            self._running[-1].params += call.params

    def saw(self, func: Any, arguments: dict[str, Any], result: Any) -> None:
        """Add an operation to the graph if its inputs depend on the image."""
        call, operation, used, outputs = self._running[-1], name_of(func), [*tensors(arguments)], [*tensors(result)]
        self._kept += used + outputs
        new = [self._unused.pop(id(tensor)) for tensor in used if id(tensor) in self._unused]
        call.params += sum(parameter.numel() for parameter in new)
        writers = [self._writers.get(_storage(tensor)) for tensor in used]
        inputs = tuple(dict.fromkeys(writer for writer in writers if writer is not None))
        if not inputs or not outputs or operation.startswith("new_") or operation.endswith("_like"):
            return  # the last two use only the shape
        node = inputs[0]
        in_place = operation.endswith("_")
        views = not in_place and any(returned.alias_info is not None for returned in func._schema.returns)
        if not views and operation not in _COPIES:
            node = self._node(call, operation.removesuffix("_"), arguments, outputs[0], inputs)
        for output in outputs:
            self._writers[_storage(output)] = node

    def _node(
        self, call: _Call, operation: str, arguments: dict[str, Any], output: Tensor, inputs: tuple[int, ...]
    ) -> int:
        """The position of the node for an operation: its own between layers, the layer's node inside a layer."""
        rank, shape = _RANKS.get(operation, len(_RANKS)), tuple(output.shape[1:])
        if call.node is None or not call.layer:
            call.node, call.rank = len(self.nodes), len(_RANKS) + 1
            layer = type(call.module).__name__ if call.layer else ""
            self.nodes.append(Node(self._names[call.module], layer, operation, (), shape))
        node, position = self.nodes[call.node], call.node
        if rank < call.rank:
            call.rank = rank
            word = OPERATION_WORDS.get(operation, operation)
            node = replace(node, operation=word, **_window(operation, arguments, shape))
        self.nodes[position] = replace(
            node,
            inputs=tuple(dict.fromkeys((*node.inputs, *(each for each in inputs if each != position)))),
            output_shape=shape,
            params=node.params + call.params,
            macs=node.macs + multiply_adds(operation, arguments, output),
        )
        call.params = 0
        return position


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _window(operation: str, arguments: dict[str, Any], output: tuple[int, ...]) -> dict[str, Any]:
    """Kernel, stride and groups of an operation that has them, as fields of `Node`."""
    if operation == "convolution":
        weight, axes = arguments["weight"], len(arguments["weight"].shape) - 2
        stride = max(per_axis(arguments["stride"], axes))
        return {"window": tuple(weight.shape[2:]), "stride": stride, "groups": arguments["groups"]}
    if OPERATION_WORDS.get(operation) not in ("max pool", "average pool"):
        return {}
    if "kernel_size" not in arguments:  # adaptive, or a mean: the window follows from the two sizes
        sizes = tuple(arguments["self"].shape[2:])
        if len(sizes) != 2:
            return {}
        window = tuple(-(-size // out) for size, out in zip(sizes, (*output[1:], 1, 1)[:2], strict=True))
        return {"window": window, "stride": max(window)}
    window = tuple(per_axis(arguments["kernel_size"], 2))
    return {"window": window, "stride": max(per_axis(arguments["stride"] or window, 2))}
