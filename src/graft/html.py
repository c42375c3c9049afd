"""HTML shared by several rooms: escaped text, tables, and captioned images."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from graft.names import readable


def escaped(value: object) -> str:
    """Return `value` as text safe inside an element and a quoted attribute, with names as `graft.names` writes them."""
    return escape(readable(str(value)))


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a table with every cell escaped: row names in the first column, right-aligned figures in the others."""
    lines = [_row("th", head), *(_row("td", row) for row in rows)]
    return f"<table>{''.join(lines)}</table>"


@dataclass(frozen=True)
class Shown:
    """A value that a notebook shows as HTML; elsewhere its `text` is printed, and `save` writes it as a page."""

    html: str
    text: str

    def __repr__(self) -> str:
        return readable(self.text)

    def _repr_html_(self) -> str:
        return self.html

    def save(self, path: str | Path) -> Path:
        """Write the value as a page of its own, atomically. Raises OSError."""
        from graft.files import write_aside

        place = Path(path).expanduser()
        page = f'<!doctype html><meta charset="utf-8"><title>{escaped(self.text)}</title>{self.html}'
        write_aside(place, lambda file: file.write(page.encode()))
        return place


def gallery(images: Iterable[tuple[bytes | None, str]]) -> str:
    """Return images side by side, each a PNG and its caption; without a PNG, the caption alone."""
    parts = []
    for png, line in images:
        source = "" if png is None else f"data:image/png;base64,{b64encode(png).decode()}"
        image = f'<img src="{source}" alt="{escaped(line)}">' if png is not None else "<span>no image</span>"
        parts.append(
            f'<figure style="display: inline-block; margin: 4px; vertical-align: top; max-width: 120px">{image}'
            f'<figcaption style="font-size: 11px; overflow-wrap: anywhere">{escaped(line)}</figcaption></figure>'
        )
    return f"<div>{''.join(parts)}</div>"


def _row(tag: str, cells: Sequence[object]) -> str:
    first, *figures = cells
    right = "".join(f'<{tag} style="text-align: right">{escaped(cell)}</{tag}>' for cell in figures)
    return f'<tr><th style="text-align: left">{escaped(first)}</th>{right}</tr>'
