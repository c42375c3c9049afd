"""Result shapes of the operations that convolutional networks consist of, in the forward and the backward pass.

torch knows them all on its meta device, but asking it the first time loads its compiler, which takes longer than a
whole account. Operations that are missing here are left to torch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Shape = tuple[int, ...]
_Arguments = Mapping[str, Any]


def shapes_of(operation: str, arguments: _Arguments) -> tuple[Shape | None, ...] | None:
    """The shapes of an operation's results, None for a result that is not made; None if there is no rule for it.

    `operation` and `arguments` are named as in torch's dispatcher. Raises ValueError if the tensors do not fit
    together.
    """
    operation = operation.removesuffix("_")
    if operation in _SEVERAL:
        return _SEVERAL[operation](arguments)
    shape = _RULES[operation](arguments) if operation in _RULES else None
    return None if shape is None else (shape,)


def per_axis(value: int | Sequence[int], axes: int) -> Sequence[int]:
    """One number per axis, from one number for all axes or from a list."""
    values = [value] if isinstance(value, int) else value
    return [*values] * axes if len(values) == 1 else values


def _expect(fits: bool, complaint: str) -> None:
    if not fits:
        raise ValueError(complaint)


def _slide(
    sizes: Shape,
    window: Sequence[int],
    step: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil: bool = False,
) -> Shape:
    """Return the number of windows along each axis; with `ceil`, a last window may reach over the edge."""
    counts = []
    for n, k, s, p, d in zip(sizes, window, step, padding, dilation, strict=True):
        room = n + 2 * p - d * (k - 1) - 1
        count = -(-room // s) + 1 if ceil else room // s + 1
        if ceil and (count - 1) * s >= n + p:
            count -= 1
        _expect(room >= 0 and count > 0, f"a window of {d * (k - 1) + 1} does not fit a map of {n} padded by {p}")
        counts.append(count)
    return tuple(counts)


def _convolution(arguments: _Arguments) -> Shape | None:
    batch, channels, *sizes = arguments["input"].shape
    outputs, inputs, *window = arguments["weight"].shape
    if arguments["transposed"]:
        return None
    inputs *= arguments["groups"]
    _expect(channels == inputs, f"the convolution takes {inputs} channels, not {channels}")
    step, padding, dilation = (per_axis(arguments[name], len(sizes)) for name in ("stride", "padding", "dilation"))
    return (batch, outputs, *_slide(tuple(sizes), window, step, padding, dilation))


def _pool(axes: int) -> Callable[[_Arguments], Shape]:
    def rule(arguments: _Arguments) -> Shape:
        shape = tuple(arguments["self"].shape)
        window = per_axis(arguments["kernel_size"], axes)
        step = per_axis(arguments["stride"] or window, axes)
        padding, dilation = per_axis(arguments["padding"], axes), per_axis(arguments.get("dilation", 1), axes)
        return shape[:-axes] + _slide(shape[-axes:], window, step, padding, dilation, arguments["ceil_mode"])

    return rule


def _adaptive_pool(arguments: _Arguments) -> Shape:
    sizes = tuple(arguments["output_size"])
    return (*arguments["self"].shape[: -len(sizes)], *sizes)


def _batch_norm(arguments: _Arguments) -> tuple[Shape, Shape, Shape]:
    """The map, and the statistics of the batch, which are empty in evaluation."""
    shape, mean = tuple(arguments["input"].shape), arguments["running_mean"]
    if mean is not None:
        _expect(shape[1] == len(mean), f"the batch normalisation takes {len(mean)} channels, not {shape[1]}")
    statistics = (shape[1],) if arguments["training"] else (0,)
    return shape, statistics, statistics


def _pointwise(arguments: _Arguments) -> Shape:
    """Broadcasting: dimensions correspond from the last one backwards, and size 1 is repeated to any size."""
    second = arguments.get("other", arguments.get("exponent"))
    shape, other = (tuple(getattr(operand, "shape", ())) for operand in (arguments["self"], second))
    rank = max(len(shape), len(other))
    one, two = (1,) * (rank - len(shape)) + shape, (1,) * (rank - len(other)) + other
    _expect(
        all(a == b or 1 in (a, b) for a, b in zip(one, two, strict=True)), f"{shape} does not broadcast with {other}"
    )
    return tuple(b if a == 1 else a for a, b in zip(one, two, strict=True))


def _clamp(arguments: _Arguments) -> Shape | None:
    """Clamping between numbers; clamping between tensors is left to torch."""
    limits = (arguments["min"], arguments["max"])
    return None if any(hasattr(limit, "shape") for limit in limits) else tuple(arguments["self"].shape)


def _like(argument: str) -> Callable[[_Arguments], Shape]:
    """The shape of one of the arguments."""
    return lambda arguments: tuple(arguments[argument].shape)


def _sized(argument: str) -> Callable[[_Arguments], Shape]:
    """The shape that one of the arguments gives."""
    return lambda arguments: tuple(arguments[argument])


def _reduce(arguments: _Arguments) -> Shape:
    """Mean, sum or maximum over the given dimensions, or over all."""
    shape = tuple(arguments["self"].shape)
    reduced = {dim % len(shape) for dim in arguments.get("dim") or range(len(shape))}
    if arguments.get("keepdim"):
        return tuple(1 if dim in reduced else size for dim, size in enumerate(shape))
    return tuple(size for dim, size in enumerate(shape) if dim not in reduced)


def _product(left: str, right: str) -> Callable[[_Arguments], Shape]:
    def rule(arguments: _Arguments) -> Shape:
        one, two = tuple(arguments[left].shape), tuple(arguments[right].shape)
        _expect(one[-1] == two[-2], f"a layer of {two[-2]} inputs got {one[-1]}")
        return (*one[:-1], two[-1])

    return rule


def _concatenation(arguments: _Arguments) -> Shape | None:
    shapes = [tuple(tensor.shape) for tensor in arguments["tensors"]]
    first, dim = shapes[0], arguments["dim"] % max(len(shapes[0]), 1)
    if (0,) in shapes:  # torch skips empty vectors, whatever the rank of the others
        return None
    rest = {shape[:dim] + shape[dim + 1 :] for shape in shapes}
    _expect(len(rest) == 1, f"maps of shapes {', '.join(map(str, shapes))} cannot be concatenated")
    return (*first[:dim], sum(shape[dim] for shape in shapes), *first[dim + 1 :])


def _stack(arguments: _Arguments) -> Shape:
    shape, *others = (tuple(tensor.shape) for tensor in arguments["tensors"])
    _expect(all(other == shape for other in others), f"maps of shapes {shape} and {others} cannot be stacked")
    dim = arguments["dim"] % (len(shape) + 1)
    return (*shape[:dim], len(others) + 1, *shape[dim:])


def _pad(arguments: _Arguments) -> Shape:
    shape, pairs = list(arguments["self"].shape), arguments["pad"]  # before and after, last dimension first
    for place in range(len(pairs) // 2):
        shape[-1 - place] += pairs[2 * place] + pairs[2 * place + 1]
    _expect(min(shape) >= 0, f"a pad of {list(pairs)} leaves nothing of {tuple(arguments['self'].shape)}")
    return tuple(shape)


def _index_select(arguments: _Arguments) -> Shape:
    shape, dim = tuple(arguments["self"].shape), arguments["dim"]
    dim %= len(shape)
    return (*shape[:dim], arguments["index"].numel(), *shape[dim + 1 :])


def _index(arguments: _Arguments) -> Shape | None:
    """Indexing with one list of integers along one dimension; all other indexing is left to torch."""
    shape = tuple(arguments["self"].shape)
    given = [(dim, index) for dim, index in enumerate(arguments["indices"]) if index is not None]
    if len(given) != 1 or given[0][1].dtype.itemsize == 1:  # a mask selects as many elements as are true
        return None
    ((dim, index),) = given
    return (*shape[:dim], *index.shape, *shape[dim + 1 :])


def _convolution_backward(arguments: _Arguments) -> tuple[Shape | None, ...]:
    """Return the gradients of input, weight and bias, as far as they are asked for."""
    shapes = (arguments["input"].shape, arguments["weight"].shape, arguments["bias_sizes"] or ())
    return tuple(tuple(shape) if made else None for shape, made in zip(shapes, arguments["output_mask"], strict=True))


def _batch_norm_backward(arguments: _Arguments) -> tuple[Shape | None, ...]:
    """Return the gradients of input, scale and shift, as far as they are asked for."""
    shape = tuple(arguments["input"].shape)
    shapes = (shape, shape[1:2], shape[1:2])
    return tuple(shape if made else None for shape, made in zip(shapes, arguments["output_mask"], strict=True))


def _loss(arguments: _Arguments) -> tuple[Shape, Shape]:
    """The loss, for every position or as one number, and the sum of the weights."""
    return (() if arguments["reduction"] else tuple(arguments["target"].shape)), ()


_POINTWISE = (
    *("add", "sub", "mul", "div", "pow", "_softmax", "_log_softmax", "maximum", "minimum"),
    *("relu", "hardtanh", "leaky_relu", "elu", "gelu", "silu", "hardswish", "sigmoid", "hardsigmoid", "tanh", "mish"),
    *("abs", "exp", "log", "neg", "reciprocal", "rsqrt", "sqrt", "square"),
    *("clone", "copy", "fill", "zero", "bernoulli"),
    *("empty_like", "ones_like", "zeros_like", "rand_like", "randn_like"),
)
_ACTIVATION_GRADIENTS = (
    *("threshold", "hardtanh", "leaky_relu", "elu", "gelu", "silu", "hardswish", "sigmoid", "hardsigmoid", "tanh"),
    "mish",
)
_POOL_GRADIENTS = (
    *("max_pool2d_with_indices", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "adaptive_max_pool2d"),
    *("nll_loss", "nll_loss2d"),
)

_RULES: dict[str, Callable[[_Arguments], Shape | None]] = {
    "convolution": _convolution,
    "avg_pool2d": _pool(2),
    "avg_pool3d": _pool(3),
    "_adaptive_avg_pool2d": _adaptive_pool,
    **dict.fromkeys(_POINTWISE, _pointwise),
    "clamp": _clamp,
    **dict.fromkeys(("mean", "sum", "amax", "amin"), _reduce),
    "mm": _product("self", "mat2"),
    "bmm": _product("self", "mat2"),
    "addmm": _product("mat1", "mat2"),
    "cat": _concatenation,
    "stack": _stack,
    "constant_pad_nd": _pad,
    "index_select": _index_select,
    "index": _index,
    "gather": _like("index"),
    **dict.fromkeys(("new_empty", "new_full", "new_ones", "new_zeros"), _sized("size")),
    **dict.fromkeys((f"{name}_backward" for name in _ACTIVATION_GRADIENTS), _like("grad_output")),
    **dict.fromkeys((f"{name}_backward" for name in _POOL_GRADIENTS), _like("self")),
    **dict.fromkeys(("_softmax_backward_data", "_log_softmax_backward_data"), _like("grad_output")),
    **dict.fromkeys(("slice_backward", "select_backward"), _sized("input_sizes")),
}

_SEVERAL: dict[str, Callable[[_Arguments], tuple[Shape | None, ...]]] = {
    "max_pool2d_with_indices": lambda arguments: (_pool(2)(arguments),) * 2,
    "adaptive_max_pool2d": lambda arguments: (_adaptive_pool(arguments),) * 2,
    "native_batch_norm": _batch_norm,
    "convolution_backward": _convolution_backward,
    "native_batch_norm_backward": _batch_norm_backward,
    **dict.fromkeys(("nll_loss_forward", "nll_loss2d_forward"), _loss),
}
