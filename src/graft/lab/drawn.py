"""The figure of an outcome as SVG: equal values give equal bytes, and text stays text."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from graft.lab.experiment import Figure, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#2563eb", "#dc2626", "#15924b", "#c87a06", "#7c3aed", "#0e8fa8", "#475569")


def draw(figure: Figure) -> bytes:
    """Return an SVG of 7 x 4 inches on white."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "graft", "font.size": 9}):
        canvas = Canvas(figsize=(7, 4), facecolor="white", layout="constrained")
        FigureCanvasAgg(canvas)
        axes = canvas.add_subplot()
        if any(isinstance(each, str) for series in figure.series for each in series.x):
            _bars(axes, figure.series)
        else:
            for series, colour in zip(figure.series, _colours(figure.series), strict=True):
                _line(axes, series, colour)
        axes.set_xlabel(figure.x)
        axes.set_ylabel(figure.y)
        axes.set_title(figure.title)
        if figure.logarithmic:
            axes.set_yscale("log")
        if figure.logarithmic_x:
            places = sorted({float(x) for series in figure.series for x in series.x})
            axes.set_xscale("log")
            axes.set_xticks(places, [f"{place:g}" for place in places])
            axes.minorticks_off()
        axes.grid(alpha=0.25)
        if len(figure.series) > 1:
            axes.legend(frameon=False)
        written = BytesIO()
        canvas.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()


def _colours(series: tuple[Series, ...]) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(len(series))]


def _line(axes: Axes, series: Series, colour: str) -> None:
    few = len(series.x) <= 12
    axes.plot(series.x, series.y, color=colour, label=series.name, marker="o" if few else "", markersize=4)
    if series.half:
        low = [value - half for value, half in zip(series.y, series.half, strict=True)]
        high = [value + half for value, half in zip(series.y, series.half, strict=True)]
        axes.fill_between(series.x, low, high, color=colour, alpha=0.15, linewidth=0)


def _bars(axes: Axes, rows: tuple[Series, ...]) -> None:
    names = list(dict.fromkeys(str(name) for series in rows for name in series.x))
    width = 0.8 / len(rows)
    for number, (series, colour) in enumerate(zip(rows, _colours(rows), strict=True)):
        places = [names.index(str(name)) - 0.4 + (number + 0.5) * width for name in series.x]
        axes.bar(places, series.y, width * 0.92, color=colour, label=series.name, yerr=series.half or None, capsize=3)
    axes.set_xticks(range(len(names)), names, rotation=20 if sum(map(len, names)) > 60 else 0)
