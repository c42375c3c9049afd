"""The receptive field: the image pixels that an element of a tensor sees, followed from operation to operation.

Two numbers are tracked along each axis of the image (Araujo, Norris and Sim 2019, "Computing Receptive Fields of
Convolutional Neural Networks", Distill): the size, which is the number of pixels that one element sees, and the jump,
the number of pixels between neighbouring elements. A window of k elements with dilation d and stride s turns them into
size + (k - 1) d jump and s jump. Where branches meet, an element sees what any of the branches sees.

The rules are keyed by the names of torch's dispatcher, where every way of writing an operation in Python ends up. As
usual, the dependence of a normalisation on its whole map is ignored. An operation without a rule is assumed to work
elementwise along an axis that keeps its place, and to see the whole map along an axis that does not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, prod
from typing import Any

from graft.accounting.shapes import Shape, per_axis

# Fractions occur when a map is enlarged, or pooled to a size that does not divide its own.
PixelNumber = int | Fraction
PixelRange = tuple[PixelNumber, PixelNumber]  # first and last


@dataclass(frozen=True)
class Grid:
    """An axis of the image inside a tensor: where its positions lie, and which pixels they see.

    Position p of `count` along `dim` sees the pixels from first + p jump to last + p jump. Neighbouring positions are
    `inner` elements apart: 1, unless dimensions further right were merged into `dim`.
    """

    first: PixelNumber
    last: PixelNumber
    jump: PixelNumber
    dim: int
    inner: int
    count: int

    def alone(self, shape: Shape) -> bool:
        """Whether the axis has `dim` to itself."""
        return self.inner == 1 and self.count == shape[self.dim]


@dataclass(frozen=True)
class Sight:
    """What the elements of a tensor see along one axis of the image.

    `grid` is what each element sees from its own position, None once positions have lost their meaning. `common` is the
    range that all elements see alike, as behind a squeeze-and-excitation gate.
    """

    grid: Grid | None
    common: PixelRange | None = None

    @property
    def size(self) -> int:
        """The number of pixels that one element sees."""
        local = 0 if self.grid is None else self.grid.last - self.grid.first + 1
        alike = 0 if self.common is None else self.common[1] - self.common[0] + 1
        return ceil(max(local, alike))


# What a tensor sees down and across the image.
Sights = tuple[Sight, Sight]


def image_sights(shape: Shape) -> Sights:
    """The sights of an image (N, C, H, W), where every element sees its own pixel."""
    down, across = (Sight(Grid(0, 0, 1, dim, 1, shape[dim])) for dim in (2, 3))
    return down, across


def receptive_field(sights: Sights) -> int:
    """The number of pixels that one element sees along the longer axis, even if the image has fewer."""
    return max(sight.size for sight in sights)


def stride(sights: Sights, shape: Shape) -> int | None:
    """Pixels between neighbouring elements, rounded, along the axis where they are more; None if there is no map."""
    grids = [sight.grid for sight in sights if sight.grid is not None and sight.grid.alone(shape)]
    return round(max(grid.jump for grid in grids)) if len(grids) == len(sights) else None


def follow(
    operation: str, arguments: Mapping[str, Any], inputs: Sequence[tuple[str, Shape, Sights]], output: Shape
) -> Sights:
    """What an output of shape `output` sees, given the argument, shape and sights of each of its `inputs`."""
    rule = _RULES.get(operation.removesuffix("_"), _reduce if "keepdim" in arguments else _align)

    def passed(sight: Sight, argument: str, shape: Shape) -> Sight:
        if sight.grid is None:
            return sight
        grid = rule(sight.grid, argument, shape, arguments, output)
        return _everywhere(sight) if grid is None else replace(sight, grid=grid)

    down, across = (
        _join([passed(sights[axis], argument, shape) for argument, shape, sights in inputs]) for axis in (0, 1)
    )
    return down, across


def _everywhere(sight: Sight) -> Sight:
    """The sight in which every element sees what any of them saw."""
    grid = sight.grid
    if grid is None:
        return sight
    return Sight(None, _span(sight.common, (grid.first, grid.last + (grid.count - 1) * grid.jump)))


def _span(one: PixelRange | None, other: PixelRange | None) -> PixelRange | None:
    if one is None or other is None:
        return one or other
    return min(one[0], other[0]), max(one[1], other[1])


def _join(sights: list[Sight]) -> Sight:
    """The sight of an element that combines one element of each of `sights`."""
    places = {(sight.grid.dim, sight.grid.inner, sight.grid.count) for sight in sights if sight.grid is not None}
    if len(places) > 1:  # the same axis in two places, as in the product of queries and keys
        sights = [_everywhere(sight) for sight in sights]
    common = None
    for sight in sights:
        common = _span(common, sight.common)
    grids = [sight.grid for sight in sights if sight.grid is not None]
    if not grids:
        return Sight(None, common)
    first, last = min(grid.first for grid in grids), max(grid.last for grid in grids)
    return Sight(replace(grids[0], first=first, last=last, jump=max(grid.jump for grid in grids)), common)


# (grid, argument, shape, arguments, output) -> grid: what becomes of the grid of one input, the `argument` of shape
# `shape`, in an output of shape `output`, by an operation with `arguments`. None if every output sees all of the grid.
GridRule = Callable[[Grid, str, Shape, Mapping[str, Any], Shape], Grid | None]


def _align(grid: Grid, argument: str, shape: Shape, arguments: Mapping[str, Any], output: Shape) -> Grid | None:
    """Elementwise with broadcasting: dimensions correspond from the last one backwards."""
    dim = grid.dim + len(output) - len(shape)
    return replace(grid, dim=dim) if dim >= 0 and output[dim] == shape[grid.dim] else None


def _slide(grid: Grid, count: int, window: int = 1, step: int = 1, padding: int = 0, dilation: int = 1) -> Grid:
    """`count` windows, the first of which starts `padding` positions before the grid."""
    first = grid.first - padding * grid.jump
    last = grid.last + ((window - 1) * dilation - padding) * grid.jump
    return replace(grid, first=first, last=last, jump=grid.jump * step, count=count)


def _resize(grid: Grid, count: int, window: int) -> Grid:
    """`count` positions in place of `grid.count`, each computed from `window` neighbours."""
    jump = grid.jump * Fraction(grid.count, count)
    return replace(grid, last=grid.last + (window - 1) * grid.jump, jump=jump, count=count)


def _convolve(grid: Grid, argument: str, shape: Shape, arguments: Mapping[str, Any], output: Shape) -> Grid | None:
    if argument != "input":  # weights computed from the image
        return None
    if grid.dim == 0:
        return grid
    if grid.dim == 1 or not grid.alone(shape):
        return None
    axis, axes, count = grid.dim - 2, len(shape) - 2, output[grid.dim]
    window = arguments["weight"].shape[grid.dim]
    step, padding, dilation = (per_axis(arguments[name], axes)[axis] for name in ("stride", "padding", "dilation"))
    if arguments["transposed"]:
        return _resize(grid, count, -(-window // step))
    return _slide(grid, count, window, step, padding, dilation)


def _pool(axes: int) -> GridRule:
    """Maximum or average over a window of the last `axes` dimensions."""

    def rule(grid: Grid, argument: str, shape: Shape, arguments: Mapping[str, Any], output: Shape) -> Grid | None:
        axis = grid.dim - len(shape)
        if axis < -axes:
            return grid
        window = per_axis(arguments["kernel_size"], axes)[axis]
        step = per_axis(arguments["stride"], axes)[axis] if arguments["stride"] else window
        padding, dilation = (
            per_axis(given, axes)[axis] for given in (arguments["padding"], arguments.get("dilation", 1))
        )
        return _slide(grid, output[axis], window, step, padding, dilation) if grid.alone(shape) else None

    return rule


def _adapt(grid: Grid, argument: str, shape: Shape, arguments: Mapping[str, Any], output: Shape) -> Grid | None:
    """Adaptive pooling from n to m: output i covers inputs floor(i n / m) to ceil((i + 1) n / m) - 1."""
    if grid.dim < len(shape) - len(arguments["output_size"]):
        return grid
    old, new = grid.count, output[grid.dim]
    if new == 1 or not grid.alone(shape):
        return None
    window = max(-(-(i + 1) * old // new) - i * old // new for i in range(new))
    # The sizes of windows differ by one; with this jump the last window ends where the map does.
    jump = Fraction(old - window, new - 1) * grid.jump
    return replace(grid, last=grid.last + (window - 1) * grid.jump, jump=jump, count=new)


def _enlarge(window: int) -> GridRule:
    """Interpolation between `window` neighbours."""

    def rule(grid: Grid, argument: str, shape: Shape, arguments: Mapping[str, Any], output: Shape) -> Grid | None:
        if output[grid.dim] == shape[grid.dim]:
            return grid
        return _resize(grid, output[grid.dim], window) if grid.alone(shape) else None

    return rule


def _multiply(left: str, right: str) -> GridRule:
    """The product of the matrices (or batches of them) `left` and `right`; any other argument is added to it."""

    def rule(grid: Grid, argument: str, shape: Shape, arguments: Mapping[str, Any], output: Shape) -> Grid | None:
        if argument not in (left, right):
            return _align(grid, argument, shape, arguments, output)
        summed = len(shape) - 1 if argument == left else max(len(shape) - 2, 0)
        return None if grid.dim == summed else grid

    return rule


def _reduce(grid: Grid, argument: str, shape: Shape, arguments: Mapping[str, Any], output: Shape) -> Grid | None:
    """Mean, sum or maximum over the given dimensions, or over all."""
    named = arguments.get("dim")
    dims = {dim % len(shape) for dim in ([named] if isinstance(named, int) else named or range(len(shape)))}
    if grid.dim in dims:
        return None
    return grid if arguments["keepdim"] else replace(grid, dim=grid.dim - sum(dim < grid.dim for dim in dims))


def _take(grid: Grid, argument: str, shape: Shape, arguments: Mapping[str, Any], output: Shape) -> Grid | None:
    """Select one position along `dim`, or unbind all of them."""
    return _reduce(grid, argument, shape, {"dim": arguments["dim"], "keepdim": False}, output)


def _mix(grid: Grid, argument: str, shape: Shape, arguments: Mapping[str, Any], output: Shape) -> Grid | None:
    """Concatenation and softmax: every result sees everything along `dim`."""
    return None if grid.dim == arguments["dim"] % len(output) else grid


def _slice(grid: Grid, argument: str, shape: Shape, arguments: Mapping[str, Any], output: Shape) -> Grid | None:
    if grid.dim != arguments["dim"] % len(shape) or list(shape) == list(output):
        return grid
    start, _, step = slice(arguments["start"], arguments["end"], arguments["step"]).indices(shape[grid.dim])
    return _slide(grid, output[grid.dim], step=step, padding=-start) if grid.alone(shape) else None


def _pad(grid: Grid, argument: str, shape: Shape, arguments: Mapping[str, Any], output: Shape) -> Grid | None:
    pairs = arguments["pad" if "pad" in arguments else "padding"]  # before and after, last dimension first
    place = 2 * (len(shape) - 1 - grid.dim)
    if not any(pairs[place : place + 2]):
        return grid
    return _slide(grid, output[grid.dim], padding=pairs[place]) if grid.alone(shape) else None


def _permute(grid: Grid, argument: str, shape: Shape, arguments: Mapping[str, Any], output: Shape) -> Grid | None:
    return replace(grid, dim=[dim % len(shape) for dim in arguments["dims"]].index(grid.dim))


def _transpose(grid: Grid, argument: str, shape: Shape, arguments: Mapping[str, Any], output: Shape) -> Grid | None:
    one, other = (arguments.get(name, default) % len(shape) for name, default in (("dim0", 0), ("dim1", -1)))
    return replace(grid, dim={one: other, other: one}.get(grid.dim, grid.dim))


def _reshape(grid: Grid, argument: str, shape: Shape, arguments: Mapping[str, Any], output: Shape) -> Grid | None:
    """Elements keep their order, so neighbours along an axis keep their distance in the flat tensor."""
    if list(shape[: grid.dim + 1]) == list(output[: grid.dim + 1]):
        return grid
    tail = len(shape) - grid.dim
    if list(shape[-tail:]) == list(output[-tail:]):
        return replace(grid, dim=len(output) - tail)
    apart = grid.inner * prod(shape[grid.dim + 1 :])
    for dim, size in enumerate(output):
        right = prod(output[dim + 1 :])
        if 0 < right <= apart and apart % right == 0 and size % (apart // right * grid.count) == 0:
            return replace(grid, dim=dim, inner=apart // right)
    return None


def _stack(grid: Grid, argument: str, shape: Shape, arguments: Mapping[str, Any], output: Shape) -> Grid | None:
    return replace(grid, dim=grid.dim + (grid.dim >= arguments["dim"] % len(output)))


_RULES: dict[str, GridRule] = {
    "convolution": _convolve,
    "avg_pool1d": _pool(1),
    **dict.fromkeys(("max_pool2d_with_indices", "avg_pool2d"), _pool(2)),
    **dict.fromkeys(("max_pool3d_with_indices", "avg_pool3d"), _pool(3)),
    **dict.fromkeys(("_adaptive_avg_pool2d", "adaptive_max_pool2d"), _adapt),
    **dict.fromkeys(("upsample_nearest2d", "_upsample_nearest_exact2d", "pixel_shuffle"), _enlarge(1)),
    **dict.fromkeys(("upsample_bilinear2d", "_upsample_bilinear2d_aa"), _enlarge(2)),
    **dict.fromkeys(("upsample_bicubic2d", "_upsample_bicubic2d_aa"), _enlarge(4)),
    "mm": _multiply("self", "mat2"),
    "bmm": _multiply("self", "mat2"),
    "addmm": _multiply("mat1", "mat2"),
    "baddbmm": _multiply("batch1", "batch2"),
    "mv": _multiply("self", "vec"),
    "addmv": _multiply("mat", "vec"),
    **dict.fromkeys(("select", "unbind"), _take),
    **dict.fromkeys(("cat", "_softmax", "_log_softmax", "_safe_softmax"), _mix),
    "slice": _slice,
    **dict.fromkeys(("constant_pad_nd", "reflection_pad2d", "replication_pad2d"), _pad),
    "permute": _permute,
    **dict.fromkeys(("transpose", "t"), _transpose),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze", "unsqueeze"), _reshape),
    "stack": _stack,
}
