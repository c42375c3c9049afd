"""HTML that several rooms write: escaped text, and tables of it."""

from collections.abc import Iterable, Sequence
from html import escape

from graft.names import readable


def escaped(value: object) -> str:
    """`value` as text that is safe inside an element and a quoted attribute, as `graft.names` writes names."""
    return escape(readable(str(value)))


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table, every cell escaped; the first column has the names of the rows, the others figures, aligned right."""
    lines = [_row("th", head), *(_row("td", row) for row in rows)]
    return f"<table>{''.join(lines)}</table>"


def _row(tag: str, cells: Sequence[object]) -> str:
    first, *figures = cells
    right = "".join(f'<{tag} style="text-align: right">{escaped(cell)}</{tag}>' for cell in figures)
    return f'<tr><th style="text-align: left">{escaped(first)}</th>{right}</tr>'
