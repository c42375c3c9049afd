"""The torch functions that a section may call, each translated to OpenVINO's opset.

A translation takes the recorder, torch's output and the arguments of the call, and returns the node. It raises
UnknownFunctionError for a call that it does not support.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from torch import Tensor

from graft.features.openvino_import import openvino, opset1
from graft.features.openvino_import import opset8 as opset

if TYPE_CHECKING:
    from graft.features.openvino_graph import Recorder

Node: TypeAlias = openvino.Node


class UnknownFunctionError(Exception):
    """A torch function without a translation in the table, or a call that its translation does not support."""


def constant(array: np.ndarray | np.float32) -> Node:
    """Make a constant node: numbers that do not depend on the image."""
    # Not the opset's own `constant`, which converts arrays to Python numbers: seconds for a large network.
    return openvino.op.Constant(np.require(array, requirements="C"))


def _pair(value: int | Sequence[int]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _convolution(
    recorder: "Recorder",
    output: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Node:
    filters = recorder.numpy(weight)
    steps, borders, gaps = _pair(stride), _pair(padding), _pair(dilation)
    if groups == 1:
        node = opset.convolution(recorder.node(x), constant(filters), steps, borders, borders, gaps)
    else:
        grouped = filters.reshape(groups, filters.shape[0] // groups, *filters.shape[1:])
        node = opset.group_convolution(recorder.node(x), constant(grouped), steps, borders, borders, gaps)
    return node if bias is None else opset.add(node, constant(recorder.numpy(bias).reshape(1, -1, 1, 1)))


def _batch_norm(
    recorder: "Recorder",
    output: Tensor,
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor,
    bias: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> Node:
    if training:
        raise UnknownFunctionError("batch norm in training mode")
    # Frozen, so one scale and one shift per channel, which OpenVINO folds into the preceding convolution.
    scale = recorder.numpy(weight) / np.sqrt(recorder.numpy(running_var).astype(np.float64) + eps)
    shift = recorder.numpy(bias) - recorder.numpy(running_mean) * scale
    shape = (1, -1, *(1,) * (x.ndim - 2))
    scaled = opset.multiply(recorder.node(x), constant(scale.astype(np.float32).reshape(shape)))
    return opset.add(scaled, constant(shift.astype(np.float32).reshape(shape)))


def _max_pool(
    recorder: "Recorder",
    output: Tensor,
    x: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Node:
    if _pair(dilation) != [1, 1]:
        raise UnknownFunctionError("a dilated pool")
    kernel, borders = _pair(kernel_size), _pair(padding)
    steps = kernel if stride is None else _pair(stride)
    return opset1.max_pool(recorder.node(x), steps, borders, borders, kernel, "ceil" if ceil_mode else "floor")


def _average_pool(
    recorder: "Recorder",
    output: Tensor,
    x: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Node:
    kernel, borders = _pair(kernel_size), _pair(padding)
    if divisor_override is not None or (ceil_mode and borders != [0, 0]):
        raise UnknownFunctionError("an average pool with its own divisor or rounding")
    steps = kernel if stride is None else _pair(stride)
    # The part of a window beyond the edge never counts.
    rounding = "ceil" if ceil_mode else "floor"
    return opset1.avg_pool(
        recorder.node(x), steps, borders, borders, kernel, ceil_mode or not count_include_pad, rounding
    )


def _adaptive_average_pool(recorder: "Recorder", output: Tensor, x: Tensor, output_size: int | Sequence[int]) -> Node:
    if tuple(output.shape[2:]) == (1, 1):
        return opset.reduce_mean(recorder.node(x), np.array([2, 3]), keep_dims=True)
    if output.shape == x.shape:
        return recorder.node(x)
    # The mean over windows of unequal size is a matrix product along each axis.
    rows, columns = (_windows(x.shape[axis], output.shape[axis]) for axis in (2, 3))
    return opset.matmul(opset.matmul(constant(rows), recorder.node(x), False, False), constant(columns), False, True)


def _windows(size: int, count: int) -> np.ndarray:
    """Return the weights, float32 (count, size), with which each of `count` outputs averages `size` inputs."""
    weights = np.zeros((count, size), np.float32)
    for index in range(count):
        first, behind = index * size // count, -(-(index + 1) * size // count)
        weights[index, first:behind] = 1 / (behind - first)
    return weights


def _local_response_norm(
    recorder: "Recorder",
    output: Tensor,
    x: Tensor,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
) -> Node:
    # PyTorch and OpenVINO both divide alpha by the size.
    return opset.lrn(recorder.node(x), np.array([1]), alpha, beta, k, size)


def _reduced(function: Callable[..., Node]) -> Callable[..., Node]:
    def row(
        recorder: "Recorder", output: Tensor, x: Tensor, dim: int | Sequence[int], keepdim: bool = False
    ) -> Node:  # fmt: skip
        axes = np.atleast_1d(np.array(dim)) % x.ndim
        if 0 in axes:
            raise UnknownFunctionError("a sum over the batch")
        return function(recorder.node(x), axes, keep_dims=keepdim)

    return row


def _reshape(recorder: "Recorder", output: Tensor, x: Tensor, *shape: Any, **named: Any) -> Node:
    if output.shape[0] != 1 or x.shape[0] != 1:
        raise UnknownFunctionError("a reshape that moves the batch")
    # The recorded pass has one image, the model a batch.
    return opset.reshape(recorder.node(x), np.array([-1, *output.shape[1:]]), special_zero=False)


def _pad(
    recorder: "Recorder", output: Tensor, x: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = 0
) -> Node:
    if mode != "constant":
        raise UnknownFunctionError(f"padding by {mode}")
    # torch lists pairs from the last axis backwards; OpenVINO lists all beginnings, then all ends.
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)] + [(0, 0)] * (x.ndim - len(pad) // 2)
    begin, end = zip(*reversed(pairs), strict=True)
    return opset.pad(recorder.node(x), np.array(begin), np.array(end), "constant", constant(np.float32(value or 0)))


def _item(recorder: "Recorder", output: Tensor, x: Tensor, key: Any) -> Node:
    """Translate slices with steps; any other indexing is left to OpenVINO's converter."""
    slices = key if isinstance(key, tuple) else (key,)
    if not all(isinstance(part, slice) for part in slices):
        raise UnknownFunctionError("indexing by more than slices")
    # Leave `:` out: the length of the batch axis differs between the recorded pass and the model.
    axes = [axis for axis, part in enumerate(slices) if part != slice(None)]
    if 0 in axes:
        raise UnknownFunctionError("a slice of the batch")
    if not axes:
        return recorder.node(x)
    bounds = [slices[axis].indices(x.shape[axis]) for axis in axes]
    start, stop, step = (np.array(numbers) for numbers in zip(*bounds, strict=True))
    return opset.slice(recorder.node(x), start, stop, step, np.array(axes))


def _permute(recorder: "Recorder", output: Tensor, x: Tensor, *dims: Any) -> Node:
    order = [dim % x.ndim for dim in (dims[0] if isinstance(dims[0], tuple | list) else dims)]
    return _transposed(recorder, x, order)


def _transpose(recorder: "Recorder", output: Tensor, x: Tensor, one: int, other: int) -> Node:
    order = list(range(x.ndim))
    order[one], order[other] = order[other], order[one]
    return _transposed(recorder, x, order)


def _transposed(recorder: "Recorder", x: Tensor, order: list[int]) -> Node:
    if order[0] != 0:
        raise UnknownFunctionError("a transposition of the batch")
    return opset.transpose(recorder.node(x), np.array(order))


def _softmax(recorder: "Recorder", output: Tensor, x: Tensor, dim: int, **settings: Any) -> Node:
    if settings.get("dtype") is not None:
        raise UnknownFunctionError("a softmax in other numbers")
    return opset.softmax(recorder.node(x), dim % x.ndim)


def _layer_norm(
    recorder: "Recorder",
    output: Tensor,
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Node:
    axes = np.arange(x.ndim - len(normalized_shape), x.ndim)
    node = opset.mvn(recorder.node(x), axes, True, eps, "inside_sqrt")
    node = node if weight is None else opset.multiply(node, constant(recorder.numpy(weight)))
    return node if bias is None else opset.add(node, constant(recorder.numpy(bias)))


def _leaky_relu(
    recorder: "Recorder", output: Tensor, x: Tensor, negative_slope: float = 0.01, inplace: bool = False
) -> Node:
    return opset.prelu(recorder.node(x), constant(np.array([negative_slope], np.float32)))


def _gelu(recorder: "Recorder", output: Tensor, x: Tensor, approximate: str = "none") -> Node:
    return opset.gelu(recorder.node(x), "erf" if approximate == "none" else approximate)


def _linear(recorder: "Recorder", output: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Node:
    product = opset.matmul(recorder.node(x), constant(recorder.numpy(weight)), False, True)
    return product if bias is None else opset.add(product, constant(recorder.numpy(bias)))


def _hardtanh(
    recorder: "Recorder", output: Tensor, x: Tensor, min_val: float = -1, max_val: float = 1, inplace: bool = False
) -> Node:
    return opset.clamp(recorder.node(x), min_val, max_val)


def _same(recorder: "Recorder", output: Tensor, x: Tensor, **settings: Any) -> Node:
    if settings.get("training"):
        raise UnknownFunctionError("dropout in training mode")
    return recorder.node(x)


def _concatenate(recorder: "Recorder", output: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> Node:
    return opset.concat([recorder.node(part) for part in tensors], dim)


def _stack(recorder: "Recorder", output: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> Node:
    axis = constant(np.array(dim % output.ndim))
    return opset.concat([opset.unsqueeze(recorder.node(part), axis) for part in tensors], dim % output.ndim)


def _of_one(function: Callable[..., Node]) -> Callable[..., Node]:
    return lambda recorder, output, x, inplace=False: function(recorder.node(x))


def _of_two(function: Callable[..., Node]) -> Callable[..., Node]:
    return lambda recorder, output, x, y: function(recorder.node(x), recorder.node(y))


# Functions whose results are parts of their first argument.
SPLITS = ("split", "split_with_sizes", "chunk", "tensor_split")

# Keyed by the function's name without outer underscores: `relu` stands for torch.relu, F.relu and relu_.
FUNCTIONS: dict[str, Callable[..., Node]] = {
    "conv2d": _convolution,
    "batch_norm": _batch_norm,
    "max_pool2d": _max_pool,
    "avg_pool2d": _average_pool,
    "adaptive_avg_pool2d": _adaptive_average_pool,
    "mean": _reduced(opset.reduce_mean),
    "sum": _reduced(opset.reduce_sum),
    "amax": _reduced(opset.reduce_max),
    "linear": _linear,
    "relu": _of_one(opset.relu),
    "hardtanh": _hardtanh,
    "relu6": lambda recorder, output, x, inplace=False: opset.clamp(recorder.node(x), 0, 6),
    "tanh": _of_one(opset.tanh),
    "sigmoid": _of_one(opset.sigmoid),
    "hardsigmoid": _of_one(opset.hsigmoid),
    "hardswish": _of_one(opset.hswish),
    "local_response_norm": _local_response_norm,
    "silu": _of_one(opset.swish),
    "gelu": _gelu,
    "leaky_relu": _leaky_relu,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "add": _of_two(opset.add),
    "sub": _of_two(opset.subtract),
    "iadd": _of_two(opset.add),
    "mul": _of_two(opset.multiply),
    "imul": _of_two(opset.multiply),
    "cat": _concatenate,
    "stack": _stack,
    "flatten": _reshape,
    "reshape": _reshape,
    "view": _reshape,
    "permute": _permute,
    "transpose": _transpose,
    "pad": _pad,
    "getitem": _item,
    "dropout": _same,
    "contiguous": _same,
}
