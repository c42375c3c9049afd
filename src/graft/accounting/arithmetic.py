"""The arithmetic behind one number of a network: the operations and values of a recorded pass that produced it.

A number is traced back through normalisations, activations, sums, pools and concatenations to the weighted sums
(convolutions and linear layers) that it comes from. The trace ends there, and at maps that came in from outside.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from graft.accounting.graph import OPERATION_WORDS
from graft.accounting.recording import Made
from graft.accounting.shapes import per_axis

Index = tuple[int, ...]


@dataclass(frozen=True)
class WeightedSum:
    """One number of a convolution or linear layer: bias + the sum of inputs times weights.

    `inputs` and `weights` are float64 (channels, k_h, k_w), NaN where the window lies outside the map; the first of the
    channels is number `first` of `source`, which is (1, C, H, W) or (1, D). The window starts at (`top`, `left`).
    """

    path: str
    output: int
    first: int
    inputs: np.ndarray
    weights: np.ndarray
    bias: float
    top: int
    left: int
    stride: int
    source: Tensor

    @property
    def products(self) -> np.ndarray:
        """What each input channel adds, float64 (channels,); nothing outside the map."""
        summed: np.ndarray = np.nan_to_num(self.inputs * self.weights).sum((1, 2))
        return summed


@dataclass(frozen=True)
class Window:
    """The values in a pool's window, float64 (h, w), NaN outside the map; `followed` is the place of the traced one."""

    top: int
    left: int
    values: np.ndarray
    followed: tuple[int, int]


@dataclass(frozen=True)
class Step:
    """How one number was produced: the operation in words, its value, and the constants and numbers that went in.

    `index` is its place in the map, without the batch. A step without operands, window and sum ends the trace: at
    `INPUT`, or at an operation that is not taken apart.
    """

    operation: str
    path: str
    value: float
    index: Index
    constants: tuple[tuple[str, float], ...] = ()
    operands: tuple["Step", ...] = ()
    window: Window | None = None
    sum: WeightedSum | None = None


INPUT = "input"
SHARED = "shortcut"
# The role of an operand that is not traced, in the operation that takes it.
ENDS = {"mul": "gate", "div": "divisor"}
# Longer chains are cut off here; none in the catalogue comes close.
DEEPEST = 60


def arithmetic(made: Made, index: Sequence[int]) -> Step:
    """Trace how the number at `index` (C, H, W order, without the batch) of a recorded result was produced."""
    return _step(made, (0, *index), 0)


def _step(made: Made, index: Index, depth: int) -> Step:
    rule = _RULES.get(made.operation)
    if rule is not None and depth < DEEPEST:
        found = rule(made, index, depth)
        if found is not None:
            return found
    return Step(_word(made), made.path, float(made.value[index]), index[1:])


def _follow(made: Made, tensor: Tensor, index: Index, depth: int, end: str = "") -> Step:
    """Return the step that produced one number of an argument; with `end`, the trace ends there under that name."""
    source = made.source(tensor)
    if source is None:
        return Step(INPUT, made.path, float(tensor[index]), index[1:])
    if end:
        return Step(end, source.path, float(tensor[index]), index[1:])
    return _step(source, index, depth + 1)


def _word(made: Made) -> str:
    return OPERATION_WORDS.get(made.operation, WORDS.get(made.operation, made.operation.strip("_").replace("_", " ")))


WORDS = {"sub": "subtract", "div": "divide", "pow": "power", "square": "square", "clamp": "clamp", "sum": "sum"}


def _elementwise(made: Made, index: Index, depth: int) -> Step:
    """Trace a function of one number; its other numeric arguments become constants."""
    numbers = {name: value for name, value in made.arguments.items() if _is_number(value)}
    inner = _follow(made, made.arguments["self"], index, depth)
    shown = tuple((name.replace("_", " "), float(value)) for name, value in numbers.items())
    return Step(_word(made), made.path, float(made.value[index]), index[1:], shown, (inner,))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _batch_norm(made: Made, index: Index, depth: int) -> Step | None:
    given, channel = made.arguments, index[1]
    if given["training"] or given["running_mean"] is None:
        return None
    names = {"mean": "running_mean", "variance": "running_var", "scale": "weight", "shift": "bias"}
    constants = [(name, float(given[key].detach()[channel])) for name, key in names.items() if given[key] is not None]
    inner = _follow(made, given["input"], index, depth)
    constants.append(("epsilon", float(given["eps"])))
    return Step(_word(made), made.path, float(made.value[index]), index[1:], tuple(constants), (inner,))


def _combine(made: Made, index: Index, depth: int) -> Step:
    """Trace two operands, number by number; in a sum, an operand that other layers also use ends as the shortcut."""
    constants: list[tuple[str, float]] = []
    steps: list[Step] = []
    for name in ("self", "other", "exponent"):
        operand = made.arguments.get(name)
        if isinstance(operand, Tensor):
            place = _broadcast(operand, index)
            source = made.source(operand)
            if made.is_fixed(operand):
                constants.append(("factor" if made.operation == "mul" else "term", float(operand.detach()[place])))
                continue
            adds = made.operation in ("add", "sub")
            # A gate or a divisor is a number of its own; the trace follows the map that it weighs.
            stop = source is not None and source.users > 1 if adds else bool(steps)
            steps.append(_follow(made, operand, place, depth, ENDS.get(made.operation, SHARED) if stop else ""))
        elif isinstance(operand, int | float):
            constants.append((name, float(operand)))
    return Step(_word(made), made.path, float(made.value[index]), index[1:], tuple(constants), tuple(steps))


def _broadcast(tensor: Tensor, index: Index) -> Index:
    """Return the place in an operand that a place in the result comes from."""
    own = index[len(index) - tensor.ndim :]
    return tuple(0 if size == 1 else place for size, place in zip(tensor.shape, own, strict=True))


def _concatenation(made: Made, index: Index, depth: int) -> Step | None:
    dim = made.arguments["dim"] % made.value.ndim
    place = index[dim]
    for tensor in made.arguments["tensors"]:
        if place < tensor.shape[dim]:
            return _follow(made, tensor, (*index[:dim], place, *index[dim + 1 :]), depth)
        place -= tensor.shape[dim]
    return None


def _convolution(made: Made, index: Index, depth: int) -> Step | None:
    given = made.arguments
    source, weight = given["input"], given["weight"]
    if given["transposed"] or weight.ndim != 4:
        return None
    step, padding, dilation = (per_axis(given[name], 2) for name in ("stride", "padding", "dilation"))
    channels, output = weight.shape[1], index[1]
    first = output // (weight.shape[0] // given["groups"]) * channels
    top, left = (place * s - p for place, s, p in zip(index[2:], step, padding, strict=True))
    rows, columns = (
        [start + number * d for number in range(k)]
        for start, k, d in zip((top, left), weight.shape[2:], dilation, strict=True)
    )
    window = _window(source[0, first : first + channels], rows, columns)
    kernel = weight[output].detach().double().cpu().numpy()
    bias = 0.0 if given["bias"] is None else float(given["bias"].detach()[output])
    # Networks here pad their maps only with zeros, which add nothing.
    total = WeightedSum(made.path, output, first, window, kernel, bias, top, left, max(step), source.detach())
    return Step("convolution", made.path, float(made.value[index]), index[1:], sum=total)


def _window(maps: Tensor, rows: list[int], columns: list[int]) -> np.ndarray:
    """Return the window, float64 (channels, rows, columns), of maps (channels, H, W), NaN outside them."""
    height, width = maps.shape[-2:]
    inside_rows = [number for number, row in enumerate(rows) if 0 <= row < height]
    inside_columns = [number for number, column in enumerate(columns) if 0 <= column < width]
    window = np.full((len(maps), len(rows), len(columns)), np.nan)
    values = maps[:, [rows[number] for number in inside_rows]][:, :, [columns[number] for number in inside_columns]]
    window[np.ix_(range(len(maps)), inside_rows, inside_columns)] = values.detach().double().cpu().numpy()
    return window


def _linear(made: Made, index: Index, depth: int) -> Step | None:
    given = made.arguments
    left, right = (given[name] for name in (("mat1", "mat2") if made.operation == "addmm" else ("self", "mat2")))
    if made.operation == "addmm" and (given["beta"], given["alpha"]) != (1, 1):
        return None
    output = index[1]
    inputs, weights = (each.detach().double().cpu().numpy() for each in (left[index[0]], right[:, output]))
    bias = float(given["self"].detach()[_broadcast(given["self"], index)]) if made.operation == "addmm" else 0.0
    total = WeightedSum(
        made.path, output, 0, inputs[:, None, None], weights[:, None, None], bias, 0, 0, 1, left.detach()
    )
    return Step("linear", made.path, float(made.value[index]), index[1:], sum=total)


def _pool(made: Made, index: Index, depth: int) -> Step | None:
    given = made.arguments
    source: Tensor = given["self"]
    if source.ndim != 4 or per_axis(given.get("dilation", 1), 2) not in ([1, 1], (1, 1)):
        return None
    sizes = per_axis(given["kernel_size"], 2)
    step, padding = per_axis(given["stride"] or sizes, 2), per_axis(given["padding"], 2)
    top, left = (place * s - p for place, s, p in zip(index[2:], step, padding, strict=True))
    return _pooled(made, index, depth, top, left, sizes[0], sizes[1])


def _adaptive(made: Made, index: Index, depth: int) -> Step | None:
    source: Tensor = made.arguments["self"]
    if source.ndim != 4:
        return None
    starts, sizes = [], []
    for place, old, new in zip(index[2:], source.shape[2:], made.value.shape[2:], strict=True):
        starts.append(place * old // new)
        sizes.append(-(-(place + 1) * old // new) - starts[-1])
    return _pooled(made, index, depth, starts[0], starts[1], sizes[0], sizes[1])


def _mean(made: Made, index: Index, depth: int) -> Step | None:
    """Trace the mean over both axes of the map."""
    source, dims = made.arguments["self"], made.arguments.get("dim") or ()
    if source.ndim != 4 or sorted(dim % 4 for dim in dims) != [2, 3]:
        return None
    return _pooled(made, index, depth, 0, 0, *source.shape[2:])


def _pooled(made: Made, index: Index, depth: int, top: int, left: int, height: int, width: int) -> Step:
    """Trace a pool through the number of largest magnitude in its window (for a max pool, the maximum)."""
    source: Tensor = made.arguments["self"]
    values = _window(source[0, index[1]][None], [*range(top, top + height)], [*range(left, left + width)])[0]
    size = values if "max" in made.operation else np.abs(values)
    row, column = (int(each) for each in np.unravel_index(np.nanargmax(size), size.shape))
    inner = _follow(made, source, (0, index[1], top + row, left + column), depth)
    if values.size == 1:
        return inner
    window = Window(top, left, values, (row, column))
    return Step(_word(made), made.path, float(made.value[index]), index[1:], (), (inner,), window)


def _view(made: Made, index: Index, depth: int) -> Step | None:
    """Trace the same elements, in the same order, under another shape."""
    source: Tensor = made.arguments["self"]
    if source.numel() != made.value.numel():
        return None
    flat = int(np.ravel_multi_index(index, tuple(made.value.shape)))
    place = tuple(int(each) for each in np.unravel_index(flat, tuple(source.shape)))
    return _follow(made, source, place, depth)


def _same(made: Made, index: Index, depth: int) -> Step:
    return _follow(made, made.arguments["self"], index, depth)


def _slice(made: Made, index: Index, depth: int) -> Step:
    given, source = made.arguments, made.arguments["self"]
    dim = given["dim"] % source.ndim
    start, _, step = slice(given["start"], given["end"], given["step"]).indices(source.shape[dim])
    return _follow(made, source, (*index[:dim], start + step * index[dim], *index[dim + 1 :]), depth)


def _pad(made: Made, index: Index, depth: int) -> Step | None:
    source, pairs = made.arguments["self"], made.arguments["pad"]
    place = list(index)
    for number in range(len(pairs) // 2):
        place[-1 - number] -= pairs[2 * number]
    if any(not 0 <= each < size for each, size in zip(place, source.shape, strict=True)):
        return None
    return _follow(made, source, tuple(place), depth)


_RULES: dict[str, Callable[[Made, Index, int], Step | None]] = {
    **dict.fromkeys(
        (
            *("relu", "hardtanh", "silu", "hardswish", "hardsigmoid", "sigmoid", "tanh", "gelu", "elu", "leaky_relu"),
            *("clamp", "abs", "exp", "neg", "sqrt", "rsqrt", "reciprocal", "mish", "square"),
        ),
        _elementwise,
    ),
    **dict.fromkeys(("add", "sub", "mul", "div", "pow"), _combine),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training"), _batch_norm),
    "cat": _concatenation,
    "convolution": _convolution,
    **dict.fromkeys(("addmm", "mm"), _linear),
    **dict.fromkeys(("max_pool2d_with_indices", "avg_pool2d"), _pool),
    "_adaptive_avg_pool2d": _adaptive,
    "mean": _mean,
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze", "unsqueeze"), _view),
    **dict.fromkeys(("clone", "contiguous", "_to_copy", "alias", "detach"), _same),
    "slice": _slice,
    "constant_pad_nd": _pad,
}


def weighted_sums(step: Step) -> list[WeightedSum]:
    """Return the weighted sums that a number comes from, in the order of the trace."""
    own = [] if step.sum is None else [step.sum]
    return own + [each for operand in step.operands for each in weighted_sums(operand)]


def recomputed(total: WeightedSum) -> float:
    """Recompute the sum from its numbers."""
    return float(total.products.sum() + total.bias)
