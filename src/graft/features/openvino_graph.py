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
        if not isinstance(output, Tensor):
            return output
        name = getattr(function, "__name__", "").strip("_")
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
    if divisor_override is not None or ceil_mode:
        raise UnknownFunctionError("an average pool with its own divisor or rounding")
    kernel, borders = _pair(kernel_size), _pair(padding)
    steps = kernel if stride is None else _pair(stride)
    return opset1.avg_pool(recorder.node(x), steps, borders, borders, kernel, not count_include_pad)


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


def _mean(
    recorder: _Recorder, output: Tensor, x: Tensor, dim: int | Sequence[int], keepdim: bool = False
) -> Node:  # fmt: skip
    return opset.reduce_mean(recorder.node(x), np.atleast_1d(np.array(dim)), keep_dims=keepdim)


def _reshape(recorder: _Recorder, output: Tensor, x: Tensor, *shape: Any, **named: Any) -> Node:
    if id(x) in recorder.values and id(x) not in recorder.nodes:
        recorder.values[id(output)] = output.detach()
        return _constant(recorder.numpy(output))
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


def _of_one(function: Callable[..., Node]) -> Callable[..., Node]:
    return lambda recorder, output, x, inplace=False: function(recorder.node(x))


def _of_two(function: Callable[..., Node]) -> Callable[..., Node]:
    return lambda recorder, output, x, y: function(recorder.node(x), recorder.node(y))


# By the function's name without underscores: `relu` stands for torch.relu, F.relu and relu_.
_FUNCTIONS: dict[str, Callable[..., Node]] = {
    "conv2d": _convolution,
    "batch_norm": _batch_norm,
    "max_pool2d": _max_pool,
    "avg_pool2d": _average_pool,
    "adaptive_avg_pool2d": _adaptive_average_pool,
    "mean": _mean,
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
    "add": _of_two(opset.add),
    "iadd": _of_two(opset.add),
    "mul": _of_two(opset.multiply),
    "imul": _of_two(opset.multiply),
    "cat": _concatenate,
    "flatten": _reshape,
    "reshape": _reshape,
    "view": _reshape,
    "pad": _pad,
    "getitem": _item,
    "dropout": _same,
    "contiguous": _same,
}
