"""Writes the gallery, `docs/architectures.md` with its diagrams, from the catalogue and the accounting.

    python docs/gallery.py            write the files that have changed
    python docs/gallery.py --check    change nothing; exit 1 and name the stale files

The same code gives the same bytes. The texts are written by hand; every figure in a table is computed.
"""

import argparse
import gc
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from families import DECISIONS, FAMILIES, Family

from graft.accounting.counting import by_group
from graft.drawing.diagram import draw_diagram
from graft.models.catalog import CATALOG, Entry
from graft.workflows.counted import depth, graph, network, stages, table
from graft.workflows.worked.example import Example
from graft.workflows.worked.examples import EXAMPLES

DOCS = Path(__file__).parent
PAGE = "architectures.md"
DIAGRAMS = "architectures"
# A cell with a number, possibly with its unit.
FIGURE = re.compile(r"–|[\d.,]+( [kMG]?B?| px)?")


def files() -> dict[str, str]:
    """The files of the gallery, by path below `docs/`."""
    diagrams = {f"{DIAGRAMS}/{family.shown}.svg": diagram(family) for family in FAMILIES}
    page = "\n".join((opening(), *(section(family) for family in FAMILIES), closing()))
    return {PAGE: page, **diagrams}


def diagram(family: Family) -> str:
    """The diagram of the network that represents the family, as SVG."""
    return draw_diagram(graph(family.shown), family.shown, stages(family.shown).items())


def opening() -> str:
    """The title, how things are counted, and the families at a glance."""
    macs = CATALOG["resnet50"].macs
    rows = [(f"[{each.title}](#{anchor(each)})", *at_a_glance(each.shown, CATALOG[each.shown])) for each in FAMILIES]
    return f"""# The architectures

Every network that graft builds: what it introduced, what it looks like, what it costs, and a textbook's calculations
about it, recomputed. `python docs/gallery.py` writes this page from the code; `graft models NAME` shows any network
layer by layer.

## How things are counted

- **Parameters** are the numbers that training changes, each counted once. The running means and variances of batch norm
  are not parameters. Classifiers that only training uses are counted if the usual checkpoint has them: `googlenet`,
  `inception_v3`.
- **A multiply-add** is one use of a weight in a convolution or linear layer, for one image of the given size. Biases,
  normalisation, activations, pooling and additions are free. Papers and tools that count the multiplication and the
  addition as two operations print twice these numbers: ResNet-50 has {macs:,} multiply-adds, or {2 * macs:,}
  floating-point operations (FLOPs). Many papers write FLOPs and mean multiply-adds.
- **Activations** are the bytes of the outputs of all layers for one image in float32, as if none were freed.
- **Sees** is the receptive field of one position of the last map, in pixels of the image, even if the image has fewer.
  In networks whose excitations weigh the channels by their means over the map, it covers the whole map.
- **Depth** is the number of convolutions and linear layers on the longest path, including those of excitations and
  shortcuts. Papers count by their own rules: Inception v3 is printed with 42, Xception with 36 (a separable pair as
  one), the LeNet-5 of 1998 with 7 (trained sub-sampling is a layer).
- **Errors** are the percentages printed in the papers, on the validation images of ILSVRC-2012 unless stated otherwise.
  The protocol matters: ten crops instead of one are worth a point or more. Compare only errors of the same protocol.

## At a glance

{markdown(("family", "year", "network", "parameters", "multiply-adds", "depth", "top-1", "top-5", "protocol"), rows)}"""


def at_a_glance(name: str, entry: Entry) -> tuple[str, ...]:
    counts = quantity(entry.params), quantity(entry.macs), str(depth(name))
    return (str(entry.year), f"`{name}`", *counts, *errors(entry))


def section(family: Family) -> str:
    """The section of a family: texts, diagram, networks, stages of the network shown, worked examples."""
    names = [name for name, entry in CATALOG.items() if entry.family == family.module]
    papers = dict.fromkeys(CATALOG[name].paper for name in names)
    parts = [
        f"## {heading(family)}\n",
        f"{'; '.join(papers)} · `graft.models.{family.module}`\n",
        links(family),
        paragraph(family.introduced),
        paragraph(f"**In graft.** {family.differs}"),
        f"![{family.shown}: stages, blocks and costs]({DIAGRAMS}/{family.shown}.svg)\n",
        networks(names),
        f"`{family.shown}` by stage, {exact(family.shown)}:\n",
        by_stage(family.shown),
    ]
    if family.module in EXAMPLES:
        parts += ["### What the textbook calculates\n", examples(EXAMPLES[family.module])]
    return "\n".join(parts)


def links(family: Family) -> str:
    """The family's file, the walk through its network, and the experiments about it."""
    shown = [
        f"[file](../src/graft/models/{family.module}.py)",
        f"walk: `graft walk {family.shown} IMAGE`",
        *(f"experiment: `graft lab {name}` ([outcome](textbook.md))" for name in family.experiments),
    ]
    return f"{' · '.join(shown)}\n"


def closing() -> str:
    """The transfer examples, which belong to no family, and the decisions where sources disagree."""
    return f"""## Transfer

{examples(EXAMPLES["transfer"])}
## Where the sources disagree

The textbook, the papers and the public checkpoints contradict each other. This is what graft follows.

{markdown(("subject", "claim", "what graft follows, and why"), DECISIONS)}"""


def heading(family: Family) -> str:
    return f"{family.title}, {CATALOG[family.shown].year}"


def anchor(family: Family) -> str:
    """The anchor that GitHub gives to the heading."""
    return heading(family).lower().replace(",", "").replace(" ", "-")


def networks(names: Iterable[str]) -> str:
    """A table with a row for each network."""
    head = ("network", "input", "parameters", "multiply-adds", "activations", "sees", "depth", "channels by stage")
    rows = []
    for name in names:
        entry, counted = CATALOG[name], table(name)
        groups = by_group(counted, stages(name))
        last_map = [group for group in groups if len(group.output_shape) == 3][-1]
        widths = [str(stage.channels) for stage in network(name).stages if stage.name not in ("pool", "head")]
        rows.append(
            (
                f"`{name}`",
                sizes(entry.input_size),
                quantity(counted.params),
                quantity(counted.macs),
                quantity(counted.activation_bytes, "B"),
                f"{last_map.receptive_field:,} px",
                str(depth(name)),
                ", ".join(widths),
                *errors(entry),
            )
        )
    return markdown((*head, "top-1", "top-5", "protocol"), rows)


def errors(entry: Entry) -> tuple[str, str, str]:
    """Top-1 error, top-5 error, and how they were measured."""
    published = entry.published
    if published is None:
        return "–", "–", "–"
    return show(published.top1_error), show(published.top5_error), published.protocol


def exact(name: str) -> str:
    counted = table(name)
    return f"{counted.params:,} parameters and {counted.macs:,} multiply-adds at {sizes(counted.input_shape)}"


def by_stage(name: str) -> str:
    """A table with a row for every stage of a network."""
    head = ("stage", "output", "stride", "sees", "parameters", "multiply-adds", "activations")
    rows = []
    for group in by_group(table(name), stages(name)):
        on_a_map = len(group.output_shape) == 3
        rows.append(
            (
                group.name,
                sizes(group.output_shape) or "–",
                str(group.stride) if on_a_map else "–",
                f"{group.receptive_field:,} px" if on_a_map else "–",
                f"{group.params:,}",
                f"{group.macs:,}",
                quantity(group.activation_bytes, "B"),
            )
        )
    return markdown(head, rows)


def examples(rows: Iterable[Example]) -> str:
    """A table of worked examples."""
    head = ("question", "textbook", "recomputed", "verdict", "")
    return markdown(
        head,
        [
            (
                example.question + (f" ({example.unit})" if example.unit not in ("", "shape") else ""),
                show(example.textbook, example.unit),
                show(example.right(), example.unit),
                example.verdict if example.verdict == "agrees" else f"**{example.verdict}**",
                example.explained(),
            )
            for example in rows
        ],
    )


def paragraph(text: str) -> str:
    """Text in lines of at most 120 characters, none of which breaks inside 3 × 3."""
    return textwrap.fill(text.replace(" × ", "\u00a0×\u00a0"), 120).replace("\u00a0", " ") + "\n"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; columns of figures are aligned right."""
    rows = list(rows)
    columns = list(zip(*rows, strict=True))
    rule = ["---:" if all(FIGURE.fullmatch(cell) for cell in column) else "---" for column in columns]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, rule, *rows))


def show(value: Any, unit: str = "") -> str:
    """The cell for a figure of a worked example; a list inside a row of a list is a shape."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{Decimal(str(value)):f}"
    if isinstance(value, dict):
        return "<br>".join(f"{name.replace('_', ' ')}: {show(each)}" for name, each in value.items())
    if isinstance(value, str):
        return value
    if any(isinstance(each, list | tuple) for each in value):
        return "<br>".join(" · ".join(show(cell, "shape") for cell in row) for row in value)
    return sizes(value) if unit == "shape" else ", ".join(show(each) for each in value)


def sizes(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def quantity(count: int, unit: str = "") -> str:
    """A number with three digits, the prefix of the unit, and the unit: 25.6 M."""
    for prefix, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            number = count / size
            return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f} {prefix}{unit}"
    return f"{count} {unit}".rstrip()


def stale(made: dict[str, str]) -> list[str]:
    """Paths below `docs/` of files whose contents are out of date, and of diagrams that should not exist."""
    present = {f"{DIAGRAMS}/{path.name}" for path in (DOCS / DIAGRAMS).glob("*")}
    differing = [name for name, text in made.items() if not _is(DOCS / name, text)]
    return sorted([*differing, *(present - set(made))])


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def main() -> int:
    parser = argparse.ArgumentParser(description="Write docs/architectures.md and its diagrams.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 and name the stale files")
    check = parser.parse_args().check
    made = files()
    names = stale(made)
    for name in names:
        if not check and name in made:
            (DOCS / name).parent.mkdir(exist_ok=True)
            (DOCS / name).write_text(made[name], encoding="utf-8")
        elif not check:
            (DOCS / name).unlink()
        print(f"docs/{name} {'is stale' if check else 'written' if name in made else 'removed'}")
    if check and names:
        print("run python docs/gallery.py", file=sys.stderr)
    return int(check and bool(names))


if __name__ == "__main__":
    gc.disable()  # all networks stay in memory, and searching their modules for garbage takes a third of the time
    sys.exit(main())
