"""The diagram of a network: its stages with their costs, the blocks in them, and a card for every kind of block.

The diagram is SVG without scripts, style sheets, identifiers or references to anything else, so that it looks the same
as a file, in a page, and beside other diagrams in one page. Sizes are in pixels.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import log2
from xml.sax.saxutils import escape

from graft.accounting.graph import Graph
from graft.drawing.anatomy import Anatomy, Repeat, StageAnatomy, dissect
from graft.drawing.detail import COLOURS, badge, card, span, step_label
from graft.drawing.marks import FONTS, INK, PALE, PAPER, RULE, Canvas, path, rectangle, text, text_width, tip
from graft.drawing.steps import Sort, channels_of

MARGIN, WIDEST = 32.0, 1180.0
# Maximum width of a row of chips, maximum length of a bar, height of a chip and of a slab.
_CHIPS, _BAR, _CHIP, _FACE = 640.0, 120.0, 40.0, 56.0


def draw_diagram(graph: Graph, name: str, stages: Iterable[tuple[str, Sequence[str]]] = ()) -> str:
    """Draw a network, as recorded by `graft.accounting.graph.trace`, as an SVG document.

    `stages` are names, each with the paths of the modules that run in it. Without stages, the children of the network
    take their place.
    """
    anatomy = dissect(graph, stages)
    body = [_head(graph, name, anatomy), _stages(anatomy)]
    cards = [card(position, kind) for position, kind in enumerate(anatomy.kinds)]
    body += _rows(cards, max(WIDEST, body[1].width), gap=20)
    marks, y = [], MARGIN
    for canvas in body:
        marks.append(canvas.at(MARGIN, y))
        y += canvas.height + 24
    width, height = max(canvas.width for canvas in body) + 2 * MARGIN, y - 24 + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" font-family="{FONTS}" fill="{INK}">'
        f"<title>{escape(name)}</title>"
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="{PAPER}"/>{"".join(marks)}</svg>\n'
    )


def _head(graph: Graph, name: str, anatomy: Anatomy) -> Canvas:
    """Title, totals and legend."""
    facts = f"input {_shape(graph.nodes[0].output_shape)} · {graph.params:,} parameters · {graph.macs:,} multiply-adds"
    marks = [text(0, 26, name, 28, bold=True), text(0, 52, facts, 14, colour=PALE)]
    steps = [
        step for stage in anatomy.stages for repeat in stage.repeats for step in repeat.steps if repeat.kind is None
    ]
    steps += [step for kind in anatomy.kinds for step in kind.blocks[0].steps[1:]]
    x, present = 0.0, {step.sort for step in steps}
    for sort in (each for each in Sort if each in present):
        fill, line = COLOURS[sort]
        marks += [rectangle(x + 0.6, 72.6, 13, 13, fill, line, 3), text(x + 20, 84, sort.value, 12, colour=PALE)]
        x += 20 + text_width(sort.value, 12) + 18
    return Canvas(max(x, text_width(name, 28, True), text_width(facts, 14)), 90, tuple(marks))


def _shape(shape: Sequence[int]) -> str:
    sizes = shape[:1] if set(shape[1:]) == {1} else shape
    return " × ".join(map(str, sizes or (1,)))


def _quantity(count: int) -> str:
    """A number with three digits and a unit: 25.6 M."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            number = count / size
            return f"{number:.{0 if number >= 99.95 else 1 if number >= 9.995 else 2}f} {unit}"
    return str(count)


def _stages(anatomy: Anatomy) -> Canvas:
    """A row for each stage: the size of its output, its name, its layers and blocks, its cost."""
    rows = [_stage(stage, anatomy) for stage in anatomy.stages]
    # A column begins where the widest cell of the one before ends.
    columns = [0.0]
    for column, gap in enumerate((18, 24, 36, 28)):
        columns.append(columns[-1] + max(row[column].width for row in rows) + gap)
    headings = ("", "stage and output", "layers and blocks, in order", "multiply-adds", "parameters")
    marks = [text(x, 12, words, 12, colour=PALE) for x, words in zip(columns, headings, strict=True) if words]
    width, y = columns[-1] + max(row[-1].width for row in rows), 22.0
    for row in rows:
        height = max(canvas.height for canvas in row) + 20
        marks.append(f'<path d="M0 {y:.1f}H{width:.1f}" stroke="{RULE}"/>')
        marks += [canvas.at(x, y + (height - canvas.height) / 2) for x, canvas in zip(columns, row, strict=True)]
        y += height
    return Canvas(width, y, tuple(marks))


def _stage(stage: StageAnatomy, anatomy: Anatomy) -> tuple[Canvas, ...]:
    """The cells of a stage's row."""
    chips = _rows([_chip(repeat, anatomy) for repeat in stage.repeats], _CHIPS, gap=22)
    inside = Canvas(
        max((row.width for row in chips), default=0.0),
        max((_CHIP + 10) * len(chips) - 10, 0.0),
        tuple(row.at(0, (_CHIP + 10) * number) for number, row in enumerate(chips)),
    )
    macs = _bar(stage.macs, [sum(each.macs.values()) for each in anatomy.stages])
    params = _bar(stage.params, [sum(each.params.values()) for each in anatomy.stages])
    return _slab(stage, anatomy), _caption(stage), inside, macs, params


def _caption(stage: StageAnatomy) -> Canvas:
    lines = [_shape(stage.output_shape)] + ([] if stage.stride is None else [f"stride {stage.stride}"])
    marks = [text(0, 13, stage.name, 15, bold=True)]
    marks += [text(0, 13 + 18 * number, line, 12, colour=PALE) for number, line in enumerate(lines, start=1)]
    widths = [text_width(stage.name, 15, True), text_width("stage and output", 12)]
    return Canvas(max([*widths, *(text_width(line, 12) for line in lines)]), 17 + 18 * len(lines), tuple(marks))


def _bar(costs: Mapping[Sort, int], all_costs: Sequence[int]) -> Canvas:
    """A bar in the colours of the layers that cause the cost; the largest of `all_costs` has the full length."""
    x, marks, cost = 0.0, [], sum(costs.values())
    for sort in Sort:
        length = _BAR * costs.get(sort, 0) / max(*all_costs, 1)
        if length >= 0.1:
            marks.append(f'<rect x="{x:.1f}" y="0" width="{length:.1f}" height="18" fill="{COLOURS[sort][1]}"/>')
        x += length
    share = 100 * cost / max(sum(all_costs), 1)
    words = f"{_quantity(cost)} · {'<1' if 0 < share < 0.5 else f'{share:.0f}'} %" if cost else "0"
    return Canvas(x + 7 + text_width(words, 12), 18, (*marks, text(x + 7, 13.5, words, 12)))


def _slab(stage: StageAnatomy, anatomy: Anatomy) -> Canvas:
    """The output as a cuboid: the face stands for the map, the depth for the channels, both on a logarithmic scale."""
    side = max(stage.output_shape[1:], default=1)
    largest = max(max(each.output_shape[1:], default=1) for each in anatomy.stages)
    deepest = max(channels_of(each.output_shape) for each in anatomy.stages)
    face = 5 + 33 * log2(side) / max(log2(largest), 1)
    depth = 3 + 15 * log2(channels_of(stage.output_shape)) / max(log2(deepest), 1)
    x, y = (66 - face - depth) / 2, (_FACE - face - depth) / 2 + depth
    top = f"M{x:.1f} {y:.1f}l{depth:.1f} {-depth:.1f}h{face:.1f}l{-depth:.1f} {depth:.1f}z"
    edge = f"M{x + face:.1f} {y:.1f}l{depth:.1f} {-depth:.1f}v{face:.1f}l{-depth:.1f} {depth:.1f}z"
    outline = 'stroke="#64748b" stroke-linejoin="round"'
    return Canvas(
        66,
        _FACE,
        (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{face:.1f}" height="{face:.1f}" fill="#e2e8f0" {outline}/>',
            f'<path d="{top}" fill="#f1f5f9" {outline}/><path d="{edge}" fill="#cbd5e1" {outline}/>',
        ),
    )


def _rows(canvases: Sequence[Canvas], widest: float, gap: float) -> list[Canvas]:
    """Canvases side by side, in as many rows as needed, with arrows between them if they are chips."""
    rows: list[list[Canvas]] = []
    for canvas in canvases:
        if not rows or sum(each.width + gap for each in rows[-1]) + canvas.width > widest:
            rows.append([])
        rows[-1].append(canvas)
    made = []
    for row in rows:
        x, marks, height = 0.0, [], max(canvas.height for canvas in row)
        for number, canvas in enumerate(row):
            if number and height == _CHIP:
                marks += [path(f"M{x - gap + 4:.1f} {height / 2:.1f}h{gap - 10:.1f}"), tip(x - 3, height / 2, (1, 0))]
            marks.append(canvas.at(x, 0))
            x += canvas.width + gap
        made.append(Canvas(x - gap, height, tuple(marks)))
    return made


def _chip(repeat: Repeat, anatomy: Anatomy) -> Canvas:
    """The chip of a repeat: one sheet for a single block or step, a pile with their number for several."""
    count = len(repeat.steps)
    times = f"×{count}" if count > 1 else ""
    if repeat.kind is None:
        above, name, below = step_label(repeat.steps[:1])
        facts, colours, left = ", ".join((*above, *below)), COLOURS[repeat.steps[0].sort], 10.0
    else:
        name = anatomy.kinds[repeat.kind].title
        facts, colours, left = f"{span(step.channels for step in repeat.steps)} channels", (PAPER, INK), 32.0
        wider = [each for each in repeat.strides if each > 1]
        if wider:
            facts += f", stride {max(wider)}{' in the first' if len(wider) < count else ''}"
    width = left + max(text_width(name, 12.5, True), text_width(facts, 11)) + 10
    width += text_width(times, 13, True) + 12 if times else 0
    marks = [rectangle(off, -off, width, _CHIP, *colours) for off in ((6, 3, 0) if times else (0,))]
    marks.append(text(left, 17 if facts else 24.5, name, 12.5, bold=True))
    if facts:
        marks.append(text(left, 32, facts, 11, colour=PALE))
    if repeat.kind is not None:
        marks.append(badge(17, _CHIP / 2, repeat.kind))
    if times:
        marks.append(text(width - 10, 25, times, 13, bold=True, anchor="end"))
    return Canvas(width + (6 if times else 0), _CHIP, tuple(marks))
