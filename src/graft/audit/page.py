"""The findings of an audit as one page that opens offline, with a contact sheet for each.

Images are small JPEGs embedded in the page, which has no script and fetches nothing. Names come from whoever made the
data, so all text is escaped and isolated from the writing direction around it.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graft.html import escaped

# JPEG quality; a thumbnail takes about 4 KB.
QUALITY = 80
# Side of the smallest image shown, px.
SMALL = 96


@dataclass(frozen=True)
class Tile:
    """A thumbnail, uint8 (H, W, 3) or None for an image that cannot be decoded, with its name and a caption."""

    pixels: np.ndarray | None
    name: str
    caption: str


@dataclass(frozen=True)
class Sheet:
    """One finding: its kind, its message, and some of its images, with those that belong together in one row.

    `total` counts all images of the finding, shown or not.
    """

    kind: str
    severity: str
    message: str
    rows: tuple[tuple[Tile, ...], ...]
    total: int


def render_page(title: str, summary: Sequence[str], sheets: Sequence[Sheet]) -> bytes:
    """Render the page as HTML in UTF-8. `summary` are sentences above the findings."""
    links = "".join(
        f'<li><a href="#{number}"><b class="{escaped(sheet.severity)}">{escaped(sheet.severity)}</b> '
        f"{_words(sheet.kind)}</a>{f' · {sheet.total:,}' if sheet.total else ''}</li>"
        for number, sheet in enumerate(sheets)
    )
    body = "".join(_section(number, sheet) for number, sheet in enumerate(sheets))
    page = _PAGE.format(
        title=escaped(title),
        style=_STYLE,
        summary="".join(f"<p>{escaped(sentence)}</p>" for sentence in summary),
        contents=f"<ul>{links}</ul>" if sheets else "<p>Nothing was found.</p>",
        body=body,
    )
    return page.encode()


def _section(number: int, sheet: Sheet) -> str:
    shown = sum(map(len, sheet.rows))
    more = f'<p class="more">{shown:,} of {sheet.total:,} images shown</p>' if shown < sheet.total else ""
    alone = all(len(row) == 1 for row in sheet.rows)
    # Single images run on in one line; each group has a frame.
    opening = "<div>" if alone else '<div class="group">'
    rows = "".join(f"{opening}{''.join(map(_figure, row))}</div>" for row in sheet.rows)
    return (
        f'<section id="{number}"><h2><b class="{escaped(sheet.severity)}">{escaped(sheet.severity)}</b> '
        f'{_words(sheet.kind)}</h2><p>{escaped(sheet.message)}</p><div class="sheet">{rows}</div>{more}</section>'
    )


def _figure(tile: Tile) -> str:
    image = '<div class="none">no image</div>' if tile.pixels is None else _image(tile.pixels)
    # A narrow caption shows the end of the path, which says more than its beginning; a tooltip shows all of it.
    name = escaped(tile.name.rpartition("/")[2])
    return (
        f'<figure title="{escaped(tile.name)}">{image}<figcaption><bdi>{name}</bdi><br>'
        f"<span>{escaped(tile.caption)}</span></figcaption></figure>"
    )


def _image(pixels: np.ndarray) -> str:
    import simplejpeg

    data = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=QUALITY)
    # Tiny images are enlarged by an integer factor.
    height, width = (side * max(1, SMALL // max(pixels.shape[:2])) for side in pixels.shape[:2])
    return f'<img src="data:image/jpeg;base64,{base64.b64encode(data).decode()}" width={width} height={height} alt="">'


def _words(kind: str) -> str:
    return escaped(kind.replace("_", " "))


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title><style>{style}</style></head>
<body><header><h1>{title}</h1>{summary}</header><nav>{contents}</nav><main>{body}</main></body></html>
"""

_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1c1c1c; --faint: #626262; --line: #ddd; --card: #f6f6f6;
  --error: #b3261e; --warning: #8a5a00; --info: #2b5f9e }
@media (prefers-color-scheme: dark) { :root { --ground: #161616; --ink: #e6e6e6; --faint: #a0a0a0; --line: #383838;
  --card: #212121; --error: #ff8a80; --warning: #f2b84b; --info: #8ab8f0 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin: 0 0 .25rem }
header p, .more, span { color: var(--faint) } p { margin: .25rem 0 }
nav ul { padding: 0; list-style: none; columns: 16rem } a { color: inherit }
b.error { color: var(--error) } b.warning { color: var(--warning) } b.info { color: var(--info) }
section { border-top: 1px solid var(--line); margin-top: 1.25rem; padding-top: 1.25rem }
.sheet { display: flex; flex-wrap: wrap; gap: .75rem; margin: .75rem 0 }
.group { display: flex; flex-wrap: wrap; gap: .5rem; padding: .5rem; border: 1px solid var(--line); border-radius: 6px;
  background: var(--card) }
figure { margin: 0; width: 8.5rem; font-size: .8rem; line-height: 1.35 }
img { display: block; max-width: 100%; height: auto; border-radius: 3px; image-rendering: pixelated }
.none { height: 6rem; display: grid; place-items: center; border: 1px dashed var(--line); color: var(--faint) }
figcaption { margin-top: .25rem }
"""
