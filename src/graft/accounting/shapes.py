"""Shapes of the results of the operations that convolutional networks are made of.

torch knows them all on its meta device, but the first such question loads its compiler, which takes longer than a
whole account. What is not here is asked of torch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Shape = tuple[int, ...]


def shape_of(operation: str, arguments: Mapping[str, Any]) -> Shape | None:
    """Shape of the first result of an operation, None if there is no rule for it.

    `operation` and `arguments` are named as torch's dispatcher does. Raises ValueError if the tensors do not fit
    together.
    """
    rule = _RULES.get(operation.removesuffix("_"))
    return None if rule is None else rule(arguments)


def per_axis(value: int | Sequence[int], axes: int) -> Sequence[int]:
    """One number for each axis, from one for all of them or a list."""
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
    """How often a window fits along each axis; a last one that sticks out counts if `ceil`, unless all of it does."""
    counts = []
    for n, k, s, p, d in zip(sizes, window, step, padding, dilation, strict=True):
        room = n + 2 * p - d * (k - 1) - 1
        count = -(-room // s) + 1 if ceil else room // s + 1
        if ceil and (count - 1) * s >= n + p:
            count -= 1
        _expect(room >= 0 and count > 0, f"a window of {d * (k - 1) + 1} does not fit a map of {n} padded by {p}")
        counts.append(count)
    return tuple(counts)


def _convolution(arguments: Mapping[str, Any]) -> Shape | None:
    batch, channels, *sizes = arguments["input"].shape
    outputs, inputs, *window = arguments["weight"].shape
    if arguments["transposed"]:
        return None
    inputs *= arguments["groups"]
    _expect(channels == inputs, f"the convolution takes {inputs} channels, not {channels}")
    step, padding, dilation = (per_axis(arguments[name], len(sizes)) for name in ("stride", "padding", "dilation"))
    return (batch, outputs, *_slide(tuple(sizes), window, step, padding, dilation))


def _pool(axes: int) -> Callable[[Mapping[str, Any]], Shape]:
    def rule(arguments: Mapping[str, Any]) -> Shape:
        shape = tuple(arguments["self"].shape)
        window = per_axis(arguments["kernel_size"], axes)
        step = per_axis(arguments["stride"] or window, axes)
        padding, dilation = per_axis(arguments["padding"], axes), per_axis(arguments.get("dilation", 1), axes)
        return shape[:-axes] + _slide(shape[-axes:], window, step, padding, dilation, arguments["ceil_mode"])

    return rule


def _adaptive_pool(arguments: Mapping[str, Any]) -> Shape:
    sizes = tuple(arguments["output_size"])
    return (*arguments["self"].shape[: -len(sizes)], *sizes)


def _batch_norm(arguments: Mapping[str, Any]) -> Shape:
    shape, mean = tuple(arguments["input"].shape), arguments["running_mean"]
    if mean is not None:
        _expect(shape[1] == len(mean), f"the batch normalisation takes {len(mean)} channels, not {shape[1]}")
    return shape


def _pointwise(arguments: Mapping[str, Any]) -> Shape:
    """With broadcasting: dimensions correspond from the last one backwards, and one element stands for any number."""
    second = arguments.get("other", arguments.get("exponent"))
    shape, other = (tuple(getattr(operand, "shape", ())) for operand in (arguments["self"], second))
    rank = max(len(shape), len(other))
    one, two = (1,) * (rank - len(shape)) + shape, (1,) * (rank - len(other)) + other
    _expect(all(a == b or 1 in (a, b) for a, b in zip(one, two, strict=True)), f"{shape} does not go with {other}")
    return tuple(b if a == 1 else a for a, b in zip(one, two, strict=True))


def _mean(arguments: Mapping[str, Any]) -> Shape:
    shape = tuple(arguments["self"].shape)
    gone = {dim % len(shape) for dim in arguments.get("dim") or range(len(shape))}
    if arguments.get("keepdim"):
        return tuple(1 if dim in gone else size for dim, size in enumerate(shape))
    return tuple(size for dim, size in enumerate(shape) if dim not in gone)


def _product(left: str, right: str) -> Callable[[Mapping[str, Any]], Shape]:
    def rule(arguments: Mapping[str, Any]) -> Shape:
        one, two = tuple(arguments[left].shape), tuple(arguments[right].shape)
        _expect(one[-1] == two[-2], f"a layer of {two[-2]} inputs got {one[-1]}")
        return (*one[:-1], two[-1])

    return rule


def _concatenation(arguments: Mapping[str, Any]) -> Shape | None:
    shapes = [tuple(tensor.shape) for tensor in arguments["tensors"]]
    first, dim = shapes[0], arguments["dim"] % max(len(shapes[0]), 1)
    if (0,) in shapes:  # torch skips these, whatever the rank of the others
        return None
    rest = {shape[:dim] + shape[dim + 1 :] for shape in shapes}
    _expect(len(rest) == 1, f"maps of shapes {', '.join(map(str, shapes))} cannot be concatenated")
    return (*first[:dim], sum(shape[dim] for shape in shapes), *first[dim + 1 :])


_POINTWISE = (
    *("add", "sub", "mul", "div", "pow", "_softmax", "_log_softmax"),
    *("relu", "hardtanh", "leaky_relu", "elu", "gelu", "silu", "hardswish", "sigmoid", "hardsigmoid", "tanh"),
)

_RULES: dict[str, Callable[[Mapping[str, Any]], Shape | None]] = {
    "convolution": _convolution,
    "max_pool2d_with_indices": _pool(2),
    "avg_pool2d": _pool(2),
    "avg_pool3d": _pool(3),
    "_adaptive_avg_pool2d": _adaptive_pool,
    "native_batch_norm": _batch_norm,
    **dict.fromkeys(_POINTWISE, _pointwise),
    "mean": _mean,
    "mm": _product("self", "mat2"),
    "bmm": _product("self", "mat2"),
    "addmm": _product("mat1", "mat2"),
    "cat": _concatenation,
}
