"""The layout of a directed graph: boxes in layers from top to bottom, branches side by side.

This is the layered drawing of Sugiyama, Tagawa and Toda 1981, "Methods for Visual Understanding of Hierarchical System
Structures", with one change: a box shares a column with the boxes directly above and below it, so that a branch is a
straight line. Sizes and positions are in pixels; y points downwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from math import inf


@dataclass(frozen=True)
class Box:
    """A box with its upper left corner at (`x`, `y`); lines leave and arrive at x = `port`, unless it is `wide`."""

    x: float
    y: float
    width: float
    height: float
    port: float
    wide: bool = False  # spans all boxes that it is connected to, so that their lines are straight

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height


@dataclass(frozen=True)
class Placement:
    """The boxes, and for each edge (from, to) where its line passes the layers in between, from top to bottom."""

    boxes: tuple[Box, ...]
    routes: dict[tuple[int, int], tuple[tuple[float, float, float], ...]]  # x, top and bottom in each layer
    width: float
    height: float


# Distance between neighbouring columns and between layers, and the width that a line needs beside boxes.
GAP, RISE, LANE = 12.0, 24.0, 12.0
# How strongly a line that goes around boxes, and one that joins a sum from the side, pull on the columns at their ends;
# other lines pull with 1.
_AROUND, _ASIDE = 0.02, 0.05
_ROUNDS = 100


@dataclass(frozen=True)
class _Vertices:
    """The boxes and then a vertex for every layer that a line passes, each with its layer, width and neighbours."""

    boxes: int
    layer: list[int]
    width: list[float]
    above: list[list[int]]  # from left to right
    below: list[list[int]]
    routes: dict[tuple[int, int], list[int]]  # the vertices that the line of an edge passes
    around: set[int]  # the vertices of lines that leave a box together with others and go around boxes
    small: frozenset[int]

    @property
    def count(self) -> int:
        return len(self.layer)


def place(
    sizes: Sequence[tuple[float, float]], inputs: Sequence[Sequence[int]], small: frozenset[int], wide: frozenset[int]
) -> Placement:
    """Lay out boxes of `sizes` (width, height), each below its `inputs`, which precede it in the sequence.

    The longest branch enters a `small` box from above, on the left, and the other branches enter it from the side. A
    `wide` box spans all boxes that it is connected to, unless something else is in the way.
    """
    vertices = _vertices(sizes, inputs, small)
    columns = _columns(vertices)
    width = [0.0] * vertices.count  # of columns
    for vertex, column in enumerate(columns):
        width[column] = max(width[column], vertices.width[vertex])
    middles = _across(vertices, columns, width)
    x = [middles[column] for column in columns]
    layers = range(max(vertices.layer) + 1)
    heights = [max(size[1] for box, size in enumerate(sizes) if vertices.layer[box] == each) for each in layers]
    tops = [sum(heights[:each]) + RISE * each for each in layers]
    boxes = []
    for box, (own, height) in enumerate(sizes):
        level = vertices.layer[box]
        start, end = x[box] - own / 2, x[box] + own / 2
        if box in wide:
            start, end = _span(vertices, box, (start, end), x, [width[column] for column in columns])
        boxes.append(Box(start, tops[level] + (heights[level] - height) / 2, end - start, height, x[box], box in wide))
    margin = min(box.x for box in boxes)
    boxes = [replace(box, x=box.x - margin, port=box.port - margin) for box in boxes]
    passes = [
        (at - margin, tops[level], tops[level] + heights[level]) for at, level in zip(x, vertices.layer, strict=True)
    ]
    routes = {edge: tuple(passes[one] for one in passed) for edge, passed in vertices.routes.items()}
    right = max([box.right for box in boxes] + [at + LANE / 2 for route in routes.values() for at, _, _ in route])
    return Placement(tuple(boxes), routes, right, tops[-1] + heights[-1])


def _span(
    vertices: _Vertices, box: int, own: tuple[float, float], x: Sequence[float], width: Sequence[float]
) -> tuple[float, float]:
    """Left and right edge of a wide box: those of all its neighbours, or its `own` if the box would cover something."""
    near = vertices.above[box] + vertices.below[box]
    # A line needs room to arrive clear of the corner.
    left = min([own[0], *(x[one] - max(width[one] / 2, LANE) for one in near)])
    right = max([own[1], *(x[one] + max(width[one] / 2, LANE) for one in near)])
    beside = [one for one, level in enumerate(vertices.layer) if level == vertices.layer[box]]
    return own if any(left < x[one] < right for one in beside if one not in (box, *near)) else (left, right)


def _vertices(
    sizes: Sequence[tuple[float, float]], inputs: Sequence[Sequence[int]], small: frozenset[int]
) -> _Vertices:
    layer: list[int] = []
    for each in inputs:
        layer.append(1 + max((layer[one] for one in each), default=-1))
    width, above = [width for width, _ in sizes], [list[int]() for _ in sizes]
    routes: dict[tuple[int, int], list[int]] = {}

    def rank(box: int, one: int) -> tuple[int, int]:
        """Orders inputs from left to right: a small box's longest branch first, others as given, lines around last."""
        around = one == 0 and layer[box] > 1
        return -layer[one] if box in small else int(around), inputs[box].index(one)

    for box, each in enumerate(inputs):
        for one in sorted(each, key=partial(rank, box)):
            levels = range(layer[one] + 1, layer[box])
            routes[one, box] = list(range(len(layer), len(layer) + len(levels)))
            layer += levels
            width += [LANE] * len(levels)
            above += [[] for _ in levels]
            for upper, lower in pairwise([one, *routes[one, box], box]):
                above[lower].append(upper)
    below: list[list[int]] = [[] for _ in above]
    for lower, uppers in enumerate(above):
        for upper in uppers:
            below[upper].append(lower)
    around = {one for (start, _), passed in routes.items() for one in passed if len(below[start]) > 1}
    return _Vertices(len(sizes), layer, width, above, below, routes, around, small)


def _columns(vertices: _Vertices) -> list[int]:
    """The column of each vertex, given by the column's first vertex.

    A column continues downwards while there is only one way to go. A line that goes around boxes has a column of its
    own.
    """
    columns = list(range(vertices.count))
    for start in range(vertices.count):
        upper = start
        while True:
            alone = upper in vertices.around
            below = [each for each in vertices.below[upper] if alone or each not in vertices.around]
            if len(below) != 1:
                break
            (lower,) = below
            above = [each for each in vertices.above[lower] if alone or each not in vertices.around]
            if above[0] != upper or (len(above) > 1 and lower not in vertices.small):
                break
            columns[lower] = columns[start]
            upper = lower
    return columns


def _order(vertices: _Vertices, columns: Sequence[int]) -> list[int]:
    """The columns from left to right, as they are met on the way up from the last boxes, branch by branch."""
    met: dict[int, None] = {}  # vertices

    def meet(vertex: int) -> None:
        if vertex not in met:
            met[vertex] = None
            for one in vertices.above[vertex]:
                meet(one)

    for vertex in range(vertices.boxes):
        if not vertices.below[vertex]:
            meet(vertex)
    return list(dict.fromkeys(columns[vertex] for vertex in met))


def _across(vertices: _Vertices, columns: Sequence[int], width: Sequence[float]) -> dict[int, float]:
    """The x of each column, as close to the columns it is connected to as its neighbours allow."""
    order = _order(vertices, columns)
    # For each column the nearest ones to its left and right in any layer, and the distance that their centres need.
    lefts: dict[int, dict[int, float]] = {column: {} for column in order}
    rights: dict[int, dict[int, float]] = {column: {} for column in order}
    rank = {column: place for place, column in enumerate(order)}
    for level in set(vertices.layer):
        row = [vertex for vertex in range(vertices.count) if vertices.layer[vertex] == level]
        for one, other in pairwise(sorted(row, key=lambda vertex: rank[columns[vertex]])):
            left, right = columns[one], columns[other]
            room = width[left] + width[right]
            if vertices.around & {one, other}:  # a line may pass under a box that is wider than the rest of its column
                room = vertices.width[one] + vertices.width[other]
            lefts[right][left] = rights[left][right] = max(lefts[right].get(left, 0.0), room / 2 + GAP)
    pulls: dict[int, list[tuple[int, float]]] = {column: [] for column in order}
    for lower, uppers in enumerate(vertices.above):
        for number, upper in enumerate(uppers):
            one, other = columns[upper], columns[lower]
            if one == other:
                continue
            around = one in vertices.around or other in vertices.around
            weight = _AROUND if around else _ASIDE if lower in vertices.small and number else 1.0
            pulls[one].append((other, weight))
            pulls[other].append((one, weight))

    x: dict[int, float] = {}
    for column in order:
        x[column] = max([x[left] + apart for left, apart in lefts[column].items()], default=0.0)
    for number in range(_ROUNDS):
        for column in order if number % 2 else reversed(order):
            if pulls[column]:
                wanted = sum(x[other] * pull for other, pull in pulls[column]) / sum(pull for _, pull in pulls[column])
                low = max((x[left] + apart for left, apart in lefts[column].items()), default=-inf)
                high = min((x[right] - apart for right, apart in rights[column].items()), default=inf)
                x[column] = max(low, min(wanted, high))
    return x
