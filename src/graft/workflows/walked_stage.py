"""One stage of a network on one image, as a page shows it: maps, kernels, and the arithmetic of some of its numbers.

Maps, which are only looked at, are quantised; numbers are the network's own, to five digits. The space on the page
limits how many channels are shown, and for how many of their pixels there is arithmetic.
"""

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from graft.accounting.arithmetic import Step, WeightedSum, arithmetic, weighted_sums
from graft.accounting.recording import Made
from graft.images.map_sheet import draw_sheet

# In decreasing detail: channels shown, and pixels with arithmetic along each side of their maps.
DETAILS = ((16, 9), (16, 7), (12, 7), (12, 5), (10, 5), (10, 4), (8, 4), (8, 3), (6, 3), (4, 3), (3, 2), (2, 2), (1, 1))
# Numbers of a kernel's window that are written out; other input channels are summed.
WRITTEN, FEWEST_INPUTS, MOST_INPUTS = 54, 3, 12
LARGEST_INPUT = 28
MOST_UNITS = 20
DIGITS = 5


@dataclass(frozen=True)
class Place:
    """A pixel whose arithmetic the page must show: a channel, with row and column, or None for the strongest pixel."""

    channel: int
    row: int | None = None
    column: int | None = None


@dataclass(frozen=True)
class Output:
    """A stage's output for one image: `value` is (1, C, H, W) or (1, D), with how it was computed."""

    value: Tensor
    made: Made | None

    @property
    def is_map(self) -> bool:
        return self.value.ndim == 4


def most_active(output: Output, by_value: bool) -> list[int]:
    """Return all channels, largest mean magnitude first; for a vector with `by_value`, largest value first."""
    value = output.value[0].detach().float()
    strength = value.flatten(1).abs().mean(1) if output.is_map else value if by_value else value.abs()
    order: list[int] = strength.argsort(descending=True, stable=True).tolist()
    return order


def show_stage(output: Output, order: Sequence[int], places: Sequence[Place], room: int) -> dict[str, Any]:
    """Return a stage's part of the page, with channels in this order, packed into at most `room` bytes if possible."""
    stage = _Stage(output, order, places)
    shown, more = (stage.shown(*detail) for detail in (DETAILS[-1], DETAILS[-2]))
    # Estimate the bytes of a channel by itself, and of each pixel with arithmetic.
    small, large = packed(shown), packed(more)
    channels, pixels = len(more["channels"]), sum(len(each["pixels"]) for each in more["channels"])
    per_pixel = max(0.0, (large - channels * small) / max(1, pixels - channels))
    per_channel = max(0.0, small - per_pixel)
    for count, side in DETAILS:
        points = min(side * side + 1, output.value[0, 0].numel())
        if stage.count(count) * (per_channel + per_pixel * points) > 1.3 * room:
            continue
        candidate = stage.shown(count, side)
        if packed(candidate) <= room:
            return candidate
    return shown


def packed(value: Any) -> int:
    """Return the bytes a value takes on a page, as JSON that is compressed and base64-encoded."""
    return len(zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 6)) * 4 // 3


class _Stage:
    """A stage that can be written in more or less detail; arithmetic is cached."""

    def __init__(self, output: Output, order: Sequence[int], places: Sequence[Place]) -> None:
        self._output, self._places = output, places
        self._order = list(dict.fromkeys([*order]))
        self._first = list(dict.fromkeys([*(each.channel for each in places), *order]))
        self._asked = len({each.channel for each in places})
        self._steps: dict[tuple[int, ...], Step] = {}

    def count(self, channels: int) -> int:
        """Return how many channels are shown: more for a vector, whose numbers have no maps."""
        shown = channels if self._output.is_map else min(2 * channels, MOST_UNITS)
        return min(max(shown, self._asked), len(self._order))

    def shown(self, channels: int, side: int) -> dict[str, Any]:
        inputs = _Inputs()
        chosen = sorted(self._first[: self.count(channels)], key=self._order.index)
        rows = [self._channel(channel, side, inputs) for channel in chosen]
        maps = [self._output.value[0, channel] for channel in chosen]
        return {
            "sheet": draw_sheet(maps) if self._output.is_map else None,
            "inputs": inputs.sheets(),
            "channels": rows,
        }

    def _channel(self, channel: int, side: int, inputs: "_Inputs") -> dict[str, Any]:
        """Describe a channel: the range of its map, its kernels, and the arithmetic at some of its pixels."""
        value = self._output.value[0, channel].detach().float()
        at = list(_pixels(value, [place for place in self._places if place.channel == channel], side))
        steps = [self._step(channel, *pixel) for pixel in at] if self._output.made is not None else []
        kernels = _kernels(steps)
        return {
            "index": channel,
            "mean": short(float(value.mean())),
            "low": short(float(value.min())),
            "high": short(float(value.max())),
            "kernels": [kernel.to_dict(inputs) for kernel in kernels],
            "pixels": [[*pixel, _written(step, kernels)] for pixel, step in zip(at, steps, strict=False)],
        }

    def _step(self, *index: int) -> Step:
        assert self._output.made is not None
        if index not in self._steps:
            self._steps[index] = arithmetic(self._output.made, index)
        return self._steps[index]


class _Inputs:
    """The maps that kernels look at, each drawn once, on one sheet per source tensor."""

    def __init__(self) -> None:
        self._sources: dict[int, tuple[Tensor, dict[int, int]]] = {}

    def tile(self, source: Tensor, channel: int) -> tuple[int, int] | None:
        """Return the indices of a map's sheet and tile; None for a vector."""
        if source.ndim != 4:
            return None
        if id(source) not in self._sources:
            self._sources[id(source)] = (source, {})
        sheet = list(self._sources).index(id(source))
        _, tiles = self._sources[id(source)]
        return sheet, tiles.setdefault(channel, len(tiles))

    def sheets(self) -> list[dict[str, Any]]:
        return [
            draw_sheet([source[0, channel] for channel in tiles], LARGEST_INPUT)
            for source, tiles in self._sources.values()
        ]


def _pixels(value: Tensor, places: Sequence[Place], side: int) -> Iterator[tuple[int, ...]]:
    """Yield the strongest pixel, those asked for, and a lattice of `side` per axis; for a scalar, the empty index."""
    if not value.ndim:
        yield ()
        return
    height, width = value.shape
    strongest = int(value.abs().argmax())
    found = [(strongest // width, strongest % width)]
    found += [(each.row, each.column) for each in places if each.row is not None and each.column is not None]
    if side > 1:
        lattice = [np.unique(np.linspace(0, size - 1, min(side, size)).round().astype(int)) for size in (height, width)]
        found += [(int(row), int(column)) for row in lattice[0] for column in lattice[1]]
    yield from dict.fromkeys(found)


@dataclass(frozen=True)
class _Kernel:
    """One filter: its sums at several pixels, and the input channels that are written out."""

    sums: tuple[WeightedSum, ...]
    inputs: tuple[int, ...]  # positions among the channels of the window

    @property
    def any(self) -> WeightedSum:
        return self.sums[0]

    def to_dict(self, inputs: _Inputs) -> dict[str, Any]:
        one = self.any
        return {
            "path": one.path,
            "output": one.output,
            "of": one.source.shape[1],
            "seen": len(one.weights),
            "size": list(one.weights.shape[1:]),
            "stride": one.stride,
            "bias": short(one.bias),
            "inputs": [one.first + each for each in self.inputs],
            "tiles": [inputs.tile(one.source, one.first + each) for each in self.inputs],
            "weights": [shorts(one.weights[each]) for each in self.inputs],
        }


def _kernels(steps: Sequence[Step]) -> list[_Kernel]:
    """Return the filters behind the numbers, each with the input channels that matter most at these pixels."""
    found: dict[tuple[str, int], list[WeightedSum]] = {}
    for step in steps:
        for each in weighted_sums(step):
            found.setdefault((each.path, each.output), []).append(each)
    kernels = []
    for sums in found.values():
        matter = np.mean([np.abs(each.products) for each in sums], axis=0)
        most = min(MOST_INPUTS, max(FEWEST_INPUTS, WRITTEN // sums[0].weights[0].size))
        kernels.append(_Kernel(tuple(sums), tuple(int(each) for each in np.argsort(-matter, kind="stable")[:most])))
    return kernels


def _written(step: Step, kernels: Sequence[_Kernel]) -> dict[str, Any]:
    """Convert a step and its operands for JSON; keys are short because there are thousands."""
    written: dict[str, Any] = {"o": step.operation, "v": short(step.value), "i": list(step.index)}
    if step.path:
        written["p"] = step.path
    if step.constants:
        written["c"] = {name: short(value) for name, value in step.constants}
    if step.window is not None:
        values = step.window.values
        written["w"] = {"t": step.window.top, "l": step.window.left, "f": list(step.window.followed)}
        written["w"] |= {"h": values.shape[0], "x": shorts(values)} if values.size <= 64 else {"n": list(values.shape)}
    if step.sum is not None:
        number = next(index for index, kernel in enumerate(kernels) if any(each is step.sum for each in kernel.sums))
        written["s"] = _sum(step.sum, number, kernels[number].inputs)
    if step.operands:
        written["a"] = [_written(each, kernels) for each in step.operands]
    return written


def _sum(total: WeightedSum, kernel: int, inputs: tuple[int, ...]) -> dict[str, Any]:
    """Convert a weighted sum: the written windows with what each adds, and the sum of all others."""
    products = total.products
    rest = products.sum() - products[list(inputs)].sum()
    return {
        "k": kernel,
        "t": total.top,
        "l": total.left,
        "x": [shorts(total.inputs[each]) for each in inputs],
        "d": shorts(products[list(inputs)]),
        "r": short(float(rest)),
    }


def short(value: float) -> float | None:
    """Round to five digits; None for a number that is not finite."""
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None


def shorts(values: np.ndarray) -> list[float | None]:
    """Round the numbers of an array, in its order; None outside the map."""
    return [short(float(value)) for value in values.ravel()]
