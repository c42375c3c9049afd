"""SVG charts that take their colours from the page, so that they are readable in light, in dark and on paper."""

from collections.abc import Sequence
from math import ceil, floor, log10

from graft.html import escaped

# A chart is as wide as a phone shows it, so its text is never scaled down.
WIDTH, HEIGHT = 352, 220
LEFT, RIGHT, TOP, BOTTOM = 44, 20, 12, 36

Point = tuple[float, float]


def line_chart(
    summary: str,
    lines: Sequence[tuple[str, Sequence[Point]]],
    across: str,
    up: str,
    *,
    percent: tuple[bool, bool] = (False, True),
    y_range: tuple[float, float] | None = None,
    band: Sequence[tuple[float, float, float]] = (),
    diagonal: bool = False,
    whole: bool = False,
) -> str:
    """Draw one or two lines by name over (x, y) points; `band` is (x, low, high), `diagonal` draws y = x.

    `summary` says in words what the chart shows. With `percent`, axes (x, y) are in per cent; with `whole`, x has whole
    numbers.
    """
    points = [point for _, line in lines for point in line] + [(x, y) for x, low, high in band for y in (low, high)]
    xs, ys = [x for x, _ in points] or [0.0, 1.0], [y for _, y in points] or [0.0, 1.0]
    x_ticks = _ticks(min(xs), max(xs), whole)
    y_ticks = _ticks(*(y_range or (min(ys), max(ys))))
    low_x, high_x = min(*xs, x_ticks[0]) if not whole else min(xs), max(*xs, x_ticks[-1])
    low_y, high_y = min(y_ticks[0], *ys), max(y_ticks[-1], *ys)

    def place(x: float, y: float) -> str:
        across_at = _scaled(x, low_x, high_x, LEFT, WIDTH - RIGHT)
        return f"{across_at:.1f} {_scaled(y, low_y, high_y, HEIGHT - BOTTOM, TOP):.1f}"

    marks = []
    for tick in y_ticks:
        at = _scaled(tick, low_y, high_y, HEIGHT - BOTTOM, TOP)
        marks.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        marks.append(_text(LEFT - 5, at + 4, _number(tick, percent[1]), "end", "tick"))
    for tick in x_ticks:
        at = _scaled(tick, low_x, high_x, LEFT, WIDTH - RIGHT)
        marks.append(_text(at, HEIGHT - BOTTOM + 15, _number(tick, percent[0]), "middle", "tick"))
    if band:
        edge = [(x, high) for x, _, high in band] + [(x, low) for x, low, _ in reversed(band)]
        marks.append(f'<path class="band" d="M{"L".join(place(x, y) for x, y in edge)}Z"/>')
    if diagonal:
        start, end = max(low_x, low_y), min(high_x, high_y)
        marks.append(f'<path class="guide" d="M{place(start, start)}L{place(end, end)}"/>')
    for number, (name, line) in enumerate(lines):
        if not line:
            continue
        style, dot = ("one", "dot") if number == 0 else ("two", "dot2")
        marks.append(f'<path class="{style}" d="M{"L".join(place(x, y) for x, y in line)}"/>')
        if len(line) <= 40:
            marks += [_dot(place(x, y), dot) for x, y in line]
        if name and len(lines) > 1:
            # Named in the free corner, one below the other at the right.
            marks.append(_text(WIDTH - RIGHT - 22, TOP + 14 + 16 * number, name, "end"))
            marks.append(f'<path class="{style}" d="M{WIDTH - RIGHT - 18} {TOP + 10 + 16 * number}h16"/>')
    marks.append(f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    marks.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, across, "middle"))
    return _svg(summary, HEIGHT, marks, up)


def interval_chart(
    summary: str,
    rows: Sequence[tuple[str, float, tuple[float, float] | None]],
    title: str,
    *,
    guide: float | None = None,
    percent: bool = True,
    chosen: str | None = None,
    y_range: tuple[float, float] | None = None,
) -> str:
    """Draw a figure with its interval for each named row, from top to bottom; `guide` is a line to compare with."""
    step, left = 24, 118
    height = 2 * 10 + step * len(rows) + BOTTOM
    ends = [end for _, value, interval in rows for end in (interval or (value, value))]
    ticks = _ticks(*(y_range or (min([*ends, *([] if guide is None else [guide])]), max(ends))))
    low, high = min(ticks[0], *ends), max(ticks[-1], *ends)

    def at(value: float) -> float:
        return _scaled(value, low, high, left, WIDTH - 18)

    marks = [
        mark
        for tick in ticks
        for mark in (
            f'<path class="grid" d="M{at(tick):.1f} 10V{height - BOTTOM}"/>',
            _text(at(tick), height - BOTTOM + 15, _number(tick, percent), "middle", "tick"),
        )
    ]
    if guide is not None:
        marks.append(f'<path class="guide" d="M{at(guide):.1f} 10V{height - BOTTOM}"/>')
    for number, (name, value, interval) in enumerate(rows):
        y = 10 + step * number + step / 2
        marks.append(_text(left - 8, y + 4, _short(name), "end"))
        if interval is not None:
            marks.append(f'<path class="one" d="M{at(interval[0]):.1f} {y}H{at(interval[1]):.1f}"/>')
        marks.append(_dot(f"{at(value):.1f} {y}", "dot2" if name == chosen else "dot"))
    marks.append(_text((left + WIDTH - 18) / 2, height - 4, title, "middle"))
    return _svg(summary, height, marks)


def stage_chart(summary: str, bars: Sequence[tuple[str, float]], dots: Sequence[tuple[str, float]]) -> str:
    """Draw, by stage, a figure as bars on its own scale, the largest at the top, and a rate as a line from 0 to 1."""
    stages = [name for name, _ in bars] or [name for name, _ in dots]
    step = (WIDTH - LEFT - RIGHT) / max(1, len(stages))
    high = max([value for _, value in bars] + [1e-9])
    marks = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _scaled(tick, 0, 1, HEIGHT - BOTTOM, TOP)
        marks.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        marks.append(_text(LEFT - 5, y + 4, f"{tick:.0%}", "end", "tick"))
    for name, value in bars:
        x, y = LEFT + step * (stages.index(name) + 0.2), _scaled(value, 0, high, HEIGHT - BOTTOM, TOP + 12)
        marks.append(
            f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{0.6 * step:.1f}" height="{HEIGHT - BOTTOM - y:.1f}"/>'
        )
        if len(stages) <= 10:
            marks.append(_text(x + 0.3 * step, y - 3, f"{value:.2f}", "middle", "tick"))
    line = [
        (LEFT + step * (stages.index(name) + 0.5), _scaled(value, 0, 1, HEIGHT - BOTTOM, TOP))
        for name, value in dots
        if name in stages
    ]
    if line:
        marks.append(f'<path class="one" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in line)}"/>')
        marks += [_dot(f"{x:.1f} {y:.1f}", "dot") for x, y in line]
    each = ceil(len(stages) / 7)
    for number, name in enumerate(stages):
        if number % each == 0:
            marks.append(
                _text(LEFT + step * (number + 0.5), HEIGHT - BOTTOM + 15, name.replace("stage", ""), "middle", "tick")
            )
    marks.append(f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    marks.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "stage, from the input on", "middle"))
    return _svg(summary, HEIGHT, marks)


def _svg(summary: str, height: int, marks: Sequence[str], up: str = "") -> str:
    """Return the chart, with the vertical axis named in its label, as rotated text is hard to read."""
    label = escaped(f"{summary} (vertical axis: {up})" if up else summary)
    return (
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
        f"<title>{label}</title>{''.join(marks)}</svg>"
    )


def _dot(place: str, style: str) -> str:
    x, y = place.split()
    return f'<circle class="{style}" cx="{x}" cy="{y}" r="3.2"/>'


def _text(x: float, y: float, words: str, anchor: str = "start", style: str = "") -> str:
    named = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}>{escaped(words)}</text>'


def _short(name: str, most: int = 16) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _scaled(value: float, low: float, high: float, start: float, end: float) -> float:
    return start + (end - start) * ((value - low) / (high - low) if high > low else 0.5)


def _ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Return about five round numbers from at most `low` to at least `high`."""
    if high <= low:
        low, high = low - 0.05, high + 0.05
    rough = (high - low) / 4
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    if whole:
        step = max(1.0, ceil(step))
    first, last = floor(low / step), ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _number(value: float, percent: bool) -> str:
    if percent:
        return f"{100 * value:g}%"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"
