"""The card of a kind of block: its steps as a directed graph, branches side by side, shortcuts around the rest."""

from collections.abc import Iterable, Sequence

from graft.drawing.anatomy import BlockKind
from graft.drawing.layout import Box, Placement, place
from graft.drawing.marks import INK, PALE, RULE, Canvas, path, rectangle, text, text_width, tip
from graft.drawing.steps import FlowStep, Sort

# Fill and outline of a box.
COLOURS = {
    Sort.CONVOLUTION: ("#dbeafe", "#2563eb"),
    Sort.POINTWISE: ("#cdf3f8", "#0e8fa8"),
    Sort.DEPTHWISE: ("#d3f5dd", "#15924b"),
    Sort.LINEAR: ("#ebe4fd", "#7c3aed"),
    Sort.POOL: ("#fdefc3", "#c87a06"),
    Sort.JOIN: ("#fde1e5", "#d92c4e"),
    Sort.SMALL: ("#f1f5f9", "#8494a9"),
    Sort.OTHER: ("#f0edea", "#7d7168"),
    Sort.INPUT: ("#ffffff", "#64748b"),
}
_CARD, _BADGE = "#f8fafc", "#334155"
_SIGNS = {"add": "+", "multiply": "×"}


def card(position: int, kind: BlockKind) -> Canvas:
    """The card of a kind of block: its letter, title, variant, uses and steps."""
    flow = _flow(kind)
    uses = [f"{stage} ×{count}" if count > 1 else stage for stage, count in kind.uses]
    width = max(flow.width, text_width(kind.title, 14, True) + 28, 200)
    lines = [(line, INK) for line in _wrap(kind.variant.split(", "), 11.5, width)] if kind.variant else []
    lines += [(line, PALE) for line in _wrap(uses, 11.5, width)]
    top = 34 + 15 * len(lines)
    marks = [
        rectangle(0, 0, width + 32, top + flow.height + 34, _CARD, RULE, 8, 1),
        badge(26, 25, position),
        text(43, 30, kind.title, 14, bold=True),
        *(text(16, 50 + 15 * place, line, 11.5, colour=colour) for place, (line, colour) in enumerate(lines)),
        flow.at(16 + (width - flow.width) / 2, top + 14),
    ]
    return Canvas(width + 32, top + flow.height + 34, tuple(marks))


def _wrap(words: Sequence[str], size: float, width: float) -> list[str]:
    """Words separated by commas, broken into lines of at most `width` pixels."""
    lines = [""]
    for number, word in enumerate(words, start=1):
        word += "," if number < len(words) else ""
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, size) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _flow(kind: BlockKind) -> Canvas:
    """The steps of a kind of block as a graph."""
    columns = list(zip(*(block.steps for block in kind.blocks), strict=True))
    labels = [step_label(steps) for steps in columns]
    steps = kind.blocks[0].steps
    signs = frozenset(place for place, step in enumerate(steps) if step.words in _SIGNS)
    wide = frozenset(place for place, step in enumerate(steps) if step.words in ("concatenate", "input"))
    sizes = []
    for number, (above, main, below) in enumerate(labels):
        if number in signs:
            sizes.append((26.0, 26.0))
            continue
        width = max(text_width(main, 12), *(text_width(line, 10.5) for line in (*above, *below)), 40.0) + 16
        sizes.append((width, 24.0 + 14 * (len(above) + len(below))))
    layout = place(sizes, [step.inputs for step in steps], signs, wide)
    marks = [_edge(layout, edge, edge[1] in signs) for edge in layout.routes]
    for number, (box, step) in enumerate(zip(layout.boxes, steps, strict=True)):
        marks.append(_sign(box, _SIGNS[step.words]) if number in signs else _node(box, step, labels[number]))
    last = layout.boxes[-1]
    marks += [path(f"M{last.port:.1f} {last.bottom:.1f}v14"), tip(last.port, last.bottom + 18)]
    return Canvas(layout.width, layout.height + 20, tuple(marks))


def _sign(box: Box, sign: str) -> str:
    fill, line = COLOURS[Sort.JOIN]
    x, y, r = box.port, box.y + box.height / 2, box.height / 2
    disc = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" fill="{fill}" stroke="{line}" stroke-width="1.2"/>'
    return disc + text(x, y + 6, sign, 17, anchor="middle")


def _node(box: Box, step: FlowStep, label: tuple[list[str], str, list[str]]) -> str:
    above, main, below = label
    marks, y = [rectangle(box.x, box.y, box.width, box.height, *COLOURS[step.sort])], box.y + 2
    for line, size, colour in (
        *((line, 10.5, PALE) for line in above),
        (main, 12, INK),
        *((line, 10.5, PALE) for line in below),
    ):
        y += 14
        marks.append(text(box.x + box.width / 2, y, line, size, colour=colour, anchor="middle"))
    return "".join(marks)


def _edge(layout: Placement, edge: tuple[int, int], into_sign: bool) -> str:
    """A line from box to box: straight down if possible, otherwise around the boxes in between."""
    start, end = layout.boxes[edge[0]], layout.boxes[edge[1]]
    route = layout.routes[edge]
    x = _within(start, route[0][0] if route else end.port if start.wide else start.port)
    points, y = [f"M{x:.1f} {start.bottom:.1f}"], start.bottom
    for at, top, bottom in route:
        points += [_bend(x, y, at, top), f"V{bottom:.1f}"]
        x, y = at, bottom
    if into_sign and abs(x - end.port) > end.width / 2:
        middle, side = end.y + end.height / 2, 1 if x > end.port else -1
        points += [f"V{middle - 10:.1f}q0 10 {-10 * side} 10", f"H{end.port + side * (end.width / 2 + 4):.1f}"]
        return path("".join(points)) + tip(end.port + side * end.width / 2, middle, (-side, 0))
    to = _within(end, x if route or end.wide else end.port)
    points.append(_bend(x, y, to, end.y - 4))
    return path("".join(points)) + tip(to, end.y)


def _within(box: Box, x: float) -> float:
    """The point on the edge of a box that is nearest to `x` and clear of the corners."""
    clear = min(10.0, box.width / 2)
    return max(box.x + clear, min(x, box.right - clear)) if box.width > 30 else box.port


def _bend(x: float, y: float, to: float, down: float) -> str:
    if abs(to - x) < 0.5:
        return f"V{down:.1f}"
    middle = (y + down) / 2
    return f"C{x:.1f} {middle:.1f} {to:.1f} {middle:.1f} {to:.1f} {down:.1f}"


def badge(x: float, y: float, position: int) -> str:
    """The letter of a kind of block, in a disc centred on (x, y)."""
    word = chr(ord("A") + position) if position < 26 else str(position + 1)
    disc = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9.5" fill="{_BADGE}"/>'
    return disc + text(x, y + 4, word, 11, colour="#ffffff", bold=True, anchor="middle")


def span(values: Iterable[int]) -> str:
    """The smallest and the largest of the values, or the one value if all are equal."""
    values = list(values)
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low}–{high}"


def _either(words: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(words))


def step_label(steps: Sequence[FlowStep]) -> tuple[list[str], str, list[str]]:
    """Return the lines of one step, or of the same step in several blocks: before it, the step itself, after it."""
    step = steps[0]
    if step.sort is Sort.SMALL:
        return [], ", ".join(_either(words) for words in zip(*(each.after for each in steps), strict=True)), []
    window = _either("×".join(map(str, each.window)) for each in steps)
    main = f"{window} {step.words}".strip()
    if step.sort is not Sort.POOL:
        main += f", {span(each.channels for each in steps)}"
    before = [_either(words) for words in zip(*(each.before for each in steps), strict=True)]
    after = [_either(words) for words in zip(*(each.after for each in steps), strict=True)]
    if any(each.stride > 1 for each in steps):
        after.insert(0, f"stride {' or '.join(map(str, sorted({each.stride for each in steps})))}")
    return ([", ".join(before)] if before else []), main, ([", ".join(after)] if after else [])
