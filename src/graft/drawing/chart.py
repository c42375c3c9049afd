"""The chart of published accuracy against cost, with one mark per network.

The horizontal position of a mark is the number of multiply-adds, the vertical position is the accuracy, and the colour
is the family. The area of the disc around a mark is proportional to the parameters. The shape of a mark is the protocol
by which the accuracy was measured: only marks of the same shape are comparable, and only these are joined by a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import product
from math import hypot
from typing import TYPE_CHECKING, Any

from graft.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Point:
    """A network, and its published top-1 accuracy in percent; `protocol` says in words how it was measured."""

    name: str
    family: str
    macs: int  # multiply-adds of one image
    params: int
    accuracy: float
    protocol: str


CHART_FORMATS = ("svg", "png", "pdf")

_SHAPES = ("o", "s", "D", "^", "v", "P", "X", "p", "h", "*")
# One hue per family; neighbours in the list differ as much as possible.
_COLOURS = (
    *("#2563eb", "#dc2626", "#15924b", "#c87a06", "#7c3aed", "#0e8fa8", "#be185d", "#65791a"),
    *("#475569", "#92400e", "#4338ca", "#0f766e", "#a21caf", "#b45309"),
)
_INK, _PALE = "#0f172a", "#56657a"
# Parameters of the discs in the legend.
_SIZES = (10**6, 5 * 10**6, 25 * 10**6, 100 * 10**6)
# Area of a disc per million parameters and area of a mark, in square points; points between a mark and its name.
_AREA, _MARK, _CLEAR = 6.0, 30.0, 2.0


def plot(points: Sequence[Point], ending: str) -> bytes:
    """The chart as the bytes of a file that ends in `ending`: ".svg", ".png" or ".pdf".

    The same points give the same bytes. Raises InputError for other endings, and if there are no points.
    """
    kind = ending.lower().removeprefix(".")
    if kind not in CHART_FORMATS:
        known = f"{', '.join(f'.{each}' for each in CHART_FORMATS[:-1])} or .{CHART_FORMATS[-1]}"
        raise InputError(f"expected {known} as the ending of the chart's file, got {ending!r}: choose one of these")
    if not points:
        raise InputError("expected networks with a published accuracy to plot, got none: choose others")
    import matplotlib

    # In SVG text stays text, and identifiers are not random.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "graft", "pdf.fonttype": 42}):
        written = BytesIO()
        date: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
        draw_figure(points).savefig(written, format=kind, metadata=date)
    return written.getvalue()


def draw_figure(points: Sequence[Point]) -> Figure:
    """The chart as a matplotlib figure of 12 x 7.5 inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(12, 7.5), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    families, protocols = _distinct(each.family for each in points), _distinct(each.protocol for each in points)
    colours = {family: _COLOURS[place % len(_COLOURS)] for place, family in enumerate(families)}
    shapes = {protocol: _SHAPES[place % len(_SHAPES)] for place, protocol in enumerate(protocols)}
    for family, protocol in product(families, protocols):
        group = [each for each in points if (each.family, each.protocol) == (family, protocol)]
        group.sort(key=lambda each: each.macs)
        x, y = [each.macs for each in group], [each.accuracy for each in group]
        axes.plot(x, y, color=colours[family], linewidth=1, alpha=0.35, zorder=1)
        axes.scatter(x, y, s=[_area(each.params) for each in group], color=colours[family], alpha=0.22, linewidth=0)
        axes.scatter(x, y, s=_MARK, c=colours[family], marker=shapes[protocol], zorder=2, ec="white", linewidth=0.6)
    axes.set_xscale("log")
    axes.margins(0.07)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda macs, _: _quantity(macs)))
    axes.set_xlabel("multiply-adds of one image", color=_PALE)
    axes.set_ylabel("published top-1 accuracy, %", color=_PALE)
    axes.tick_params(which="both", colors=_PALE, labelsize=9)
    axes.grid(which="major", color="#e2e8f0", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#cbd5e1")
    _legends(figure, axes, points, colours, shapes)
    figure.draw_without_rendering()  # places the axes, which the names need
    _name(axes, points, colours)
    return figure


def _legends(
    figure: Figure, axes: Axes, points: Sequence[Point], colours: dict[str, str], shapes: dict[str, str]
) -> None:
    """Add the legends: colours are families, shapes protocols, areas parameters."""
    from matplotlib.lines import Line2D

    def mark(label: str, colour: str = "none", shape: str = "", area: float = _MARK) -> Line2D:
        line = Line2D([], [], color=colour, marker=shape, markersize=area**0.5, linestyle="", label=label)
        line.set_markeredgewidth(0)
        return line

    style = {"frameon": False, "fontsize": 9, "labelcolor": _INK, "title_fontproperties": {"weight": "bold", "size": 9}}
    handles = [mark("family"), *(mark(family, colour, "o") for family, colour in colours.items())]
    handles += [mark(""), mark("measured by (compare only equal marks)")]
    handles += [mark(protocol, _PALE, shape) for protocol, shape in shapes.items()]
    legend = figure.legend(handles=handles, loc="outside right upper", **style)
    for heading in (0, len(colours) + 2):
        legend.get_texts()[heading].set_fontweight("bold")
    largest = max(each.params for each in points)
    sizes = [size for size in _SIZES if size <= largest] or [largest]
    discs = [mark(_quantity(size), "#cbd5e1", "o", _area(size)) for size in sizes]
    # The lower right corner is the emptiest: few networks are expensive and inaccurate.
    axes.legend(handles=discs, loc="lower right", title="parameters", labelspacing=1.4, handletextpad=1.2, **style)


# Left, lower, right and upper side, in points of the page.
_Extent = tuple[float, float, float, float]


def _name(axes: Axes, points: Sequence[Point], colours: dict[str, str]) -> None:
    """Write each name beside its mark, where it hides least; a fine line leads to a name that is further away."""
    scale = 72 / axes.figure.dpi
    centres = [tuple(axes.transData.transform((each.macs, each.accuracy)) * scale) for each in points]
    radii = [max(_area(each.params), _MARK) ** 0.5 / 2 for each in points]
    taken: list[_Extent] = [
        (x - radius, y - radius, x + radius, y + radius) for (x, y), radius in zip(centres, radii, strict=True)
    ]
    page = axes.get_window_extent()
    inside = (page.x0 * scale, page.y0 * scale, page.x1 * scale, page.y1 * scale)
    # The marks with the nearest neighbours choose first.
    crowd = [sum(hypot(x - u, y - v) for u, v in centres) for x, y in centres]
    for place in sorted(range(len(points)), key=crowd.__getitem__):
        (x, y), point = centres[place], points[place]
        text = axes.text(point.macs, point.accuracy, point.name, fontsize=7.5, color=colours[point.family], zorder=3)
        box = text.get_window_extent()
        width, height = box.width * scale, box.height * scale
        choices = list(_around(x, y, radii[place], width, height))
        best = min(choices, key=lambda each: _hidden(each[1], taken, inside) * 20 + each[0])
        _, (left, low, right, high) = best
        taken.append((left, low, right, high))
        text.remove()
        far = best[0] > radii[place] + 2 * _CLEAR
        axes.annotate(
            point.name,
            (point.macs, point.accuracy),
            (left - x, low - y),
            textcoords="offset points",
            fontsize=7.5,
            color=colours[point.family],
            zorder=3,
            arrowprops={
                "arrowstyle": "-",
                "color": colours[point.family],
                "linewidth": 0.5,
                "alpha": 0.6,
                "relpos": (min(max((x - left) / width, 0), 1), min(max((y - low) / height, 0), 1)),
            }
            if far
            else None,
        )


def _around(x: float, y: float, radius: float, width: float, height: float) -> Iterator[tuple[float, _Extent]]:
    """Places for a name around a mark, each with its distance: beside, above and below it, then further away."""
    for more in (0.0, 8.0, 16.0, 26.0, 38.0):
        reach = radius + _CLEAR + more
        for across, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7)):
            left = x + across * reach + (0 if across > 0 else -width if across < 0 else -width / 2)
            low = y + up * reach + (0 if up > 0 else -height if up < 0 else -height / 2)
            yield reach, (left, low, left + width, low + height)


def _hidden(extent: _Extent, taken: Iterable[_Extent], inside: _Extent) -> float:
    """The area, in square points, by which a name covers other names and marks or leaves the chart."""
    left, low, right, high = extent
    covered = sum(max(0.0, min(right, r) - max(left, a)) * max(0.0, min(high, h) - max(low, b)) for a, b, r, h in taken)
    outside = max(0.0, inside[0] - left) + max(0.0, inside[1] - low)
    outside += max(0.0, right - inside[2]) + max(0.0, high - inside[3])
    return covered + outside * (high - low)


def _area(params: int) -> float:
    return _AREA * params / 10**6


def _distinct(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _quantity(count: float) -> str:
    for unit, size in ((" G", 10**9), (" M", 10**6), (" k", 10**3)):
        if count >= size:
            return f"{count / size:g}{unit}"
    return f"{count:g}"
