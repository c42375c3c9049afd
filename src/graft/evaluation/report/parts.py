"""The building blocks of sections: headings, tables that scroll by themselves, images with captions."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import replace

from graft.evaluation.report.values import Shown
from graft.html import escaped
from graft.names import readable
from graft.words import in_percent

# The page shows only the beginning and the end of longer names; `report.json` has all of them.
LONGEST_NAME = 80


def shortened(name: object, most: int = LONGEST_NAME) -> str:
    """Return a name as the page shows it, escaped."""
    text = readable(str(name))
    if len(text) > most:
        text = f"{text[: most // 2]}…{text[-most // 2 :]}"
    return escaped(text)


def section(anchor: str, title: str, *parts: str) -> str:
    heading = f'<h2 id="{anchor}-h">{title}</h2>'
    return f'<section id="{anchor}" aria-labelledby="{anchor}-h">{heading}{"".join(parts)}</section>'


def sentence(text: object, style: str = "") -> str:
    return f'<p class="{style}">{escaped(text)}</p>' if style else f"<p>{escaped(text)}</p>"


def sentences(texts: Iterable[object]) -> str:
    return "".join(f"<li>{escaped(text)}</li>" for text in texts)


def scrolling(label: str, head: Sequence[object], rows: Iterable[Sequence[object]], texts: Sequence[int] = ()) -> str:
    """Return a table that scrolls sideways on a phone, by touch or keys; columns numbered in `texts` hold words."""
    # An empty header cell has nothing to say to a screen reader.
    lines = "".join(f'<th scope="col">{shortened(cell)}</th>' if cell else "<td></td>" for cell in head)
    body = []
    for first, *cells in rows:
        figures = "".join(
            f'<td class="text">{shortened(cell, 200)}</td>' if number in texts else f"<td>{shortened(cell)}</td>"
            for number, cell in enumerate(cells, start=1)
        )
        body.append(f'<tr><th scope="row">{shortened(first)}</th>{figures}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escaped(label)}"><table><caption>'
        f"{escaped(label)}</caption><thead><tr>{lines}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def definitions(pairs: Iterable[tuple[str, object]]) -> str:
    rows = "".join(f"<dt>{escaped(name)}</dt><dd>{shortened(value, 300)}</dd>" for name, value in pairs)
    return f"<dl>{rows}</dl>"


def charts(*drawn: tuple[str, str]) -> str:
    """Return charts side by side where there is room, each with its caption."""
    shown = "".join(f"<figure>{svg}<figcaption>{escaped(caption)}</figcaption></figure>" for svg, caption in drawn)
    return f'<div class="charts">{shown}</div>' if drawn else ""


def sheet(images: Sequence[Shown]) -> str:
    """Return thumbnails with their names and captions; an empty string without images."""
    return f'<div class="sheet">{"".join(map(_figure, images))}</div>' if images else ""


def _figure(shown: Shown) -> str:
    name = shortened(shown.name.replace("\\", "/").rpartition("/")[2], 40)
    lines = "".join(f"<br>{shortened(line)}" for line in shown.lines)
    image = _image(shown.jpeg, shown) if shown.jpeg is not None else '<div class="none">no thumbnail</div>'
    style = ""
    if shown.map_jpeg is not None:
        style = ' class="wide"'
        map_of = replace(shown, size=shown.map_size)
        image = f'<div class="both">{image}{_image(shown.map_jpeg, map_of, "where the evidence lies in ")}</div>'
    below = ""
    if shown.nearest:
        style = ' class="wide"'
        nearest = "".join(
            f'<li title="{shortened(each.name, 160)}">'
            f"{'' if each.jpeg is None else _image(each.jpeg, each, 'a nearest training image, ')}"
            f"{'<br>'.join(shortened(line, 40) for line in each.lines)}</li>"
            for each in shown.nearest
        )
        below = f'<div class="nearest">nearest training images<ul>{nearest}</ul></div>'
    return (
        f'<figure{style} title="{shortened(shown.name, 160)}">{image}<figcaption><bdi>{name}</bdi>{lines}{below}'
        "</figcaption></figure>"
    )


def _image(jpeg: bytes, shown: Shown, what: str = "") -> str:
    width, height = shown.size
    alt = f"{what}{shortened(shown.name)}{''.join(f', {shortened(line)}' for line in shown.lines[:2])}"
    small = ' class="small"' if max(width, height) < 64 else ""
    if small:
        factor = max(1, 96 // max(width, height, 1))
        width, height = width * factor, height * factor
    data = base64.b64encode(jpeg).decode()
    return f'<img{small} src="data:image/jpeg;base64,{data}" width="{width}" height="{height}" alt="{alt}">'


def percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else in_percent(value, digits)


def interval(ends: tuple[float, float] | None) -> str:
    return "–" if ends is None else f"{in_percent(ends[0])} to {in_percent(ends[1])}"
