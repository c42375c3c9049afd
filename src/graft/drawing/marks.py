"""The marks of a drawing, as SVG elements: text, boxes, lines and arrows."""

from dataclasses import dataclass
from xml.sax.saxutils import escape

INK, PALE, RULE, PAPER = "#0f172a", "#56657a", "#dbe2ea", "#ffffff"
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', Arial, sans-serif"

# Character widths in thousandths of the font size, from DejaVu Sans, which is wider than any usual face of the list.
_WIDTHS = {
    **dict.fromkeys("'", 275), **dict.fromkeys("ijl", 278), **dict.fromkeys("I", 295), **dict.fromkeys(" .,·", 318),
    **dict.fromkeys("/:;|", 337), **dict.fromkeys("ft", 392), **dict.fromkeys("()[]", 390), **dict.fromkeys("-r", 411),
    **dict.fromkeys("_–sz", 525), **dict.fromkeys("ck", 579), **dict.fromkeys("vxy", 592), **dict.fromkeys("L", 557),
    **dict.fromkeys("F", 575), **dict.fromkeys("mM", 974), **dict.fromkeys("wG", 818), **dict.fromkeys("W%", 989),
    **dict.fromkeys("×+→", 838), **dict.fromkeys("NHDOQU", 788), **dict.fromkeys("@", 1000),
}  # fmt: skip
_OTHER_WIDTH = 686
_BOLD = 1.13


@dataclass(frozen=True)
class Canvas:
    """Marks on an area of `width` x `height` pixels, relative to its upper left corner."""

    width: float
    height: float
    marks: tuple[str, ...]

    def at(self, x: float, y: float) -> str:
        """The marks, moved to (x, y)."""
        return f'<g transform="translate({x:.1f} {y:.1f})">{"".join(self.marks)}</g>'


def text_width(words: str, size: float, bold: bool = False) -> float:
    """Return an upper bound on the width in pixels of a line of text in the faces of `FONTS`."""
    return sum(_WIDTHS.get(each, _OTHER_WIDTH) for each in words) / 1000 * size * (_BOLD if bold else 1)


def text(
    x: float, y: float, words: str, size: float = 12, *, colour: str = INK, bold: bool = False, anchor: str = "start"
) -> str:
    """A line of text with its baseline at `y`; `anchor` says which part of it is at `x`."""
    weight = ' font-weight="600"' if bold else ""
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}"{weight}>{escape(words)}</text>'


def rectangle(
    x: float, y: float, width: float, height: float, fill: str, line: str, corner: float = 5, thick: float = 1.2
) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{corner:g}"'
    return f'<rect {place} fill="{fill}" stroke="{line}" stroke-width="{thick:g}"/>'


def path(points: str) -> str:
    return f'<path d="{points}" fill="none" stroke="{PALE}" stroke-width="1.3"/>'


def tip(x: float, y: float, towards: tuple[int, int] = (0, 1)) -> str:
    """The head of an arrow that ends at (x, y) and points `towards` (across, down)."""
    across, down = towards
    back, side = (x - 7 * across, y - 7 * down), (3.5 * down, 3.5 * across)
    corners = f"L{back[0] - side[0]:.1f} {back[1] - side[1]:.1f}L{back[0] + side[0]:.1f} {back[1] + side[1]:.1f}"
    return f'<path d="M{x:.1f} {y:.1f}{corners}Z" fill="{PALE}"/>'
