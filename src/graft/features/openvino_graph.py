"""A section as an OpenVINO model, at the cost of running it once on a blank picture.

That pass follows the functions that the section calls in evaluation mode, and each is written down in OpenVINO's opset:
a tenth of a second where OpenVINO's own converter, which traces several times over, takes seconds. (A pass over meta
tensors would make torch load its compiler, which takes longer still.) A section that calls a function without a row in
the table goes to that converter instead.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import openvino
import openvino.opset1 as opset1
import openvino.opset8 as opset
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from graft.images.preprocessing import Preprocessing, normalise

Node: TypeAlias = openvino.Node


class UnknownFunctionError(Exception):
    """A function of torch without a row in the table, or called in a way the row does not know."""


def to_openvino(section: nn.Module, preprocessing: Preprocessing, batch: int) -> openvino.Model:
    """Pixels uint8 (batch, C, size, size) to activations float32: normalisation, then the section."""
    shape = (batch, preprocessing.channels, preprocessing.size, preprocessing.size)
    try:
        return _record(section, preprocessing, shape)
    except UnknownFunctionError:
        return _convert(section, preprocessing, shape)


def _record(section: nn.Module, preprocessing: Preprocessing, shape: tuple[int, ...]) -> openvino.Model:
    pixels = opset.parameter(list(shape), dtype=np.uint8, name="pixels")
    per_channel = (1, preprocessing.channels, 1, 1)
    mean = 255 * np.asarray(preprocessing.mean, np.float32).reshape(per_channel)
    std = 255 * np.asarray(preprocessing.std, np.float32).reshape(per_channel)
    image = opset.divide(opset.subtract(opset.convert(pixels, np.float32), _constant(mean)), _constant(std))
    values = {id(tensor): tensor.detach() for tensor in (*section.parameters(), *section.buffers())}
    recorder = _Recorder(values, batch=shape[0])
    blank = torch.zeros((1, *shape[1:]))
    recorder.nodes[id(blank)] = image
    with torch.no_grad(), recorder:
        end = section(blank)
    return openvino.Model([opset.result(recorder.node(end))], [pixels], "trunk")


def _convert(section: nn.Module, preprocessing: Preprocessing, shape: tuple[int, ...]) -> openvino.Model:
    class FromPixels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.section = section

        def forward(self, pixels: Tensor) -> Tensor:
            activations: Tensor = self.section(normalise(pixels, preprocessing))
            return activations

    with warnings.catch_warnings():
        # The converter traces, and tracing warns of every number taken from a shape; shapes are fixed here.
        warnings.simplefilter("ignore")
        return openvino.convert_model(
            FromPixels().eval(),
            example_input=torch.zeros(shape, dtype=torch.uint8),
            input=[(list(shape), openvino.Type.u8)],
        )


class _Recorder(TorchFunctionMode):
    """Follows tensors by identity: `nodes` for what was computed, `values` for parameters and buffers.

    The pass has one picture where the model has `batch` of them.
    """

    def __init__(self, values: dict[int, Tensor], batch: int) -> None:
        super().__init__()
        self.batch = batch
        self.nodes: dict[int, Node] = {}
        self.values = values
        # An identity is only unique while the tensor lives.
        self._alive: list[Any] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = function(*args, **(kwargs or {}))
        self._alive.append((args, output))
        name = getattr(function, "__name__", "").strip("_")
        if name in _SPLITS and isinstance(output, tuple):
            self._split(args[0], output, kwargs.get("dim", 0) if kwargs and "dim" in kwargs else (*args, 0)[2])
            return output
        if not isinstance(output, Tensor):
            return output
        if self._of_weights((*args, *(kwargs or {}).values())):
            self.values[id(output)] = output.detach()
            return output
        if name not in _FUNCTIONS:
            raise UnknownFunctionError(name)
        try:
            node = _FUNCTIONS[name](self, output, *args, **(kwargs or {}))
        except (TypeError, ValueError, RuntimeError) as error:
            raise UnknownFunctionError(f"{name}: {error}") from None
        # A row that misunderstood its call, or mixed up pictures of a batch, mostly shows in the shape.
        expected = (self.batch, *output.shape[1:]) if output.shape[:1] == (1,) else tuple(output.shape)
        if tuple(node.output(0).shape) != expected:
            raise UnknownFunctionError(f"{name}: {expected} became {tuple(node.output(0).shape)}")
        self.nodes[id(output)] = node
        return output

    def _of_weights(self, arguments: Sequence[Any]) -> bool:
        """Whether something is computed from weights alone, as when a layer standardises its own."""
        tensors = [value for value in arguments if isinstance(value, Tensor)]
        return bool(tensors) and all(id(value) in self.values for value in tensors)

    def _split(self, whole: Tensor, parts: Sequence[Tensor], axis: int) -> None:
        """The parts of a map, one after another along an axis other than the batch."""
        if axis % whole.ndim == 0:
            raise UnknownFunctionError("a split of the batch")
        lengths = np.array([part.shape[axis] for part in parts])
        pieces = opset.variadic_split(self.node(whole), np.array(axis), lengths)
        for part, piece in zip(parts, pieces.outputs(), strict=True):
            self.nodes[id(part)] = piece

    def node(self, value: Any) -> Node:
        """The node of an operand: computed, a weight or a number."""
        if isinstance(value, Tensor):
            return self.nodes[id(value)] if id(value) in self.nodes else _constant(self.numpy(value))
        return _constant(np.float32(value))

    def numpy(self, value: Tensor) -> np.ndarray:
        """The numbers of a weight, float32."""
        if id(value) not in self.values:
            raise UnknownFunctionError("a tensor that is neither computed from the input nor a weight")
        return np.asarray(self.values[id(value)].float().cpu().numpy())


def _constant(array: np.ndarray | np.float32) -> Node:
    return opset.constant(np.require(array, requirements="C"))


def _pair(value: int | Sequence[int]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _convolution(
    recorder: _Recorder,
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
        node = opset.convolution(recorder.node(x), _constant(filters), steps, borders, borders, gaps)
    else:
        grouped = filters.reshape(groups, filters.shape[0] // groups, *filters.shape[1:])
        node = opset.group_convolution(recorder.node(x), _constant(grouped), steps, borders, borders, gaps)
    return node if bias is None else opset.add(node, _constant(recorder.numpy(bias).reshape(1, -1, 1, 1)))


def _batch_norm(
    recorder: _Recorder,
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
    # Frozen, so one scale and one shift per channel, which OpenVINO folds into the convolution before.
    scale = recorder.numpy(weight) / np.sqrt(recorder.numpy(running_var).astype(np.float64) + eps)
    shift = recorder.numpy(bias) - recorder.numpy(running_mean) * scale
    shape = (1, -1, *(1,) * (x.ndim - 2))
    scaled = opset.multiply(recorder.node(x), _constant(scale.astype(np.float32).reshape(shape)))
    return opset.add(scaled, _constant(shift.astype(np.float32).reshape(shape)))


def _max_pool(
    recorder: _Recorder,
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
    recorder: _Recorder,
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
    # What hangs over the edge never counts.
    rounding = "ceil" if ceil_mode else "floor"
    return opset1.avg_pool(
        recorder.node(x), steps, borders, borders, kernel, ceil_mode or not count_include_pad, rounding
    )


def _adaptive_average_pool(recorder: _Recorder, output: Tensor, x: Tensor, output_size: int | Sequence[int]) -> Node:
    if tuple(output.shape[2:]) == (1, 1):
        return opset.reduce_mean(recorder.node(x), np.array([2, 3]), keep_dims=True)
    if output.shape == x.shape:
        return recorder.node(x)
    # The mean over windows of unequal size is a product with a matrix along each axis.
    rows, columns = (_windows(x.shape[axis], output.shape[axis]) for axis in (2, 3))
    return opset.matmul(opset.matmul(_constant(rows), recorder.node(x), False, False), _constant(columns), False, True)


def _windows(size: int, count: int) -> np.ndarray:
    """A row for each of `count` outputs: the weights, float32, with which it averages `size` inputs."""
    weights = np.zeros((count, size), np.float32)
    for index in range(count):
        first, behind = index * size // count, -(-(index + 1) * size // count)
        weights[index, first:behind] = 1 / (behind - first)
    return weights


def _local_response_norm(
    recorder: _Recorder,
    output: Tensor,
    x: Tensor,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
) -> Node:
    # Both divide alpha by the size.
    return opset.lrn(recorder.node(x), np.array([1]), alpha, beta, k, size)


def _reduced(function: Callable[..., Node]) -> Callable[..., Node]:
    def row(
        recorder: _Recorder, output: Tensor, x: Tensor, dim: int | Sequence[int], keepdim: bool = False
    ) -> Node:  # fmt: skip
        axes = np.atleast_1d(np.array(dim)) % x.ndim
        if 0 in axes:
            raise UnknownFunctionError("a sum over the batch")
        return function(recorder.node(x), axes, keep_dims=keepdim)

    return row


def _reshape(recorder: _Recorder, output: Tensor, x: Tensor, *shape: Any, **named: Any) -> Node:
    if output.shape[0] != 1 or x.shape[0] != 1:
        raise UnknownFunctionError("a reshape that moves the batch")
    # The pass has one picture, the model has a batch of them.
    return opset.reshape(recorder.node(x), np.array([-1, *output.shape[1:]]), special_zero=False)


def _pad(
    recorder: _Recorder, output: Tensor, x: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = 0
) -> Node:
    if mode != "constant":
        raise UnknownFunctionError(f"padding by {mode}")
    # torch lists pairs from the last axis backwards, OpenVINO all beginnings and then all ends.
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)] + [(0, 0)] * (x.ndim - len(pad) // 2)
    begin, end = zip(*reversed(pairs), strict=True)
    return opset.pad(recorder.node(x), np.array(begin), np.array(end), "constant", _constant(np.float32(value or 0)))


def _item(recorder: _Recorder, output: Tensor, x: Tensor, key: Any) -> Node:
    """Slices with steps; anything else that brackets can do is left to the converter."""
    slices = key if isinstance(key, tuple) else (key,)
    if not all(isinstance(part, slice) for part in slices):
        raise UnknownFunctionError("indexing by more than slices")
    # `:` stands for the whole axis, whose length differs for the batch.
    axes = [axis for axis, part in enumerate(slices) if part != slice(None)]
    if 0 in axes:
        raise UnknownFunctionError("a slice of the batch")
    if not axes:
        return recorder.node(x)
    bounds = [slices[axis].indices(x.shape[axis]) for axis in axes]
    start, stop, step = (np.array(numbers) for numbers in zip(*bounds, strict=True))
    return opset.slice(recorder.node(x), start, stop, step, np.array(axes))


def _permute(recorder: _Recorder, output: Tensor, x: Tensor, *dims: Any) -> Node:
    order = [dim % x.ndim for dim in (dims[0] if isinstance(dims[0], tuple | list) else dims)]
    return _transposed(recorder, x, order)


def _transpose(recorder: _Recorder, output: Tensor, x: Tensor, one: int, other: int) -> Node:
    order = list(range(x.ndim))
    order[one], order[other] = order[other], order[one]
    return _transposed(recorder, x, order)


def _transposed(recorder: _Recorder, x: Tensor, order: list[int]) -> Node:
    if order[0] != 0:
        raise UnknownFunctionError("a transposition of the batch")
    return opset.transpose(recorder.node(x), np.array(order))


def _softmax(recorder: _Recorder, output: Tensor, x: Tensor, dim: int, **settings: Any) -> Node:
    if settings.get("dtype") is not None:
        raise UnknownFunctionError("a softmax in other numbers")
    return opset.softmax(recorder.node(x), dim % x.ndim)


def _layer_norm(
    recorder: _Recorder,
    output: Tensor,
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Node:
    axes = np.arange(x.ndim - len(normalized_shape), x.ndim)
    node = opset.mvn(recorder.node(x), axes, True, eps, "inside_sqrt")
    node = node if weight is None else opset.multiply(node, _constant(recorder.numpy(weight)))
    return node if bias is None else opset.add(node, _constant(recorder.numpy(bias)))


def _leaky_relu(
    recorder: _Recorder, output: Tensor, x: Tensor, negative_slope: float = 0.01, inplace: bool = False
) -> Node:
    return opset.prelu(recorder.node(x), _constant(np.array([negative_slope], np.float32)))


def _gelu(recorder: _Recorder, output: Tensor, x: Tensor, approximate: str = "none") -> Node:
    return opset.gelu(recorder.node(x), "erf" if approximate == "none" else approximate)


def _linear(recorder: _Recorder, output: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Node:
    product = opset.matmul(recorder.node(x), _constant(recorder.numpy(weight)), False, True)
    return product if bias is None else opset.add(product, _constant(recorder.numpy(bias)))


def _hardtanh(
    recorder: _Recorder, output: Tensor, x: Tensor, min_val: float = -1, max_val: float = 1, inplace: bool = False
) -> Node:
    return opset.clamp(recorder.node(x), min_val, max_val)


def _same(recorder: _Recorder, output: Tensor, x: Tensor, **settings: Any) -> Node:
    if settings.get("training"):
        raise UnknownFunctionError("dropout in training mode")
    return recorder.node(x)


def _concatenate(recorder: _Recorder, output: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> Node:
    return opset.concat([recorder.node(part) for part in tensors], dim)


def _stack(recorder: _Recorder, output: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> Node:
    axis = _constant(np.array(dim % output.ndim))
    return opset.concat([opset.unsqueeze(recorder.node(part), axis) for part in tensors], dim % output.ndim)


def _of_one(function: Callable[..., Node]) -> Callable[..., Node]:
    return lambda recorder, output, x, inplace=False: function(recorder.node(x))


def _of_two(function: Callable[..., Node]) -> Callable[..., Node]:
    return lambda recorder, output, x, y: function(recorder.node(x), recorder.node(y))


# Functions whose results are parts of their first argument.
_SPLITS = ("split", "split_with_sizes", "chunk", "tensor_split")

# By the function's name without underscores: `relu` stands for torch.relu, F.relu and relu_.
_FUNCTIONS: dict[str, Callable[..., Node]] = {
    "conv2d": _convolution,
    "batch_norm": _batch_norm,
    "max_pool2d": _max_pool,
    "avg_pool2d": _average_pool,
    "adaptive_avg_pool2d": _adaptive_average_pool,
    "mean": _reduced(opset.reduce_mean),
    "sum": _reduced(opset.reduce_sum),
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
