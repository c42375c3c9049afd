"""Render explanations as one page that opens offline: image, map, whether the map tells, nearest training images.

Images are small JPEGs inside the page, which has no script and fetches nothing. Names come from whoever made the data,
so all text is escaped.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graft.explanation.channels import Favourites, FeatureMaps, filters_as_pixels, filters_moved, map_as_pixels
from graft.explanation.class_maps import ClassMap
from graft.explanation.explaining import Explanation
from graft.explanation.overlay import enlarged, overlay, tiled
from graft.explanation.similarity import Similarity
from graft.html import escaped, table

QUALITY = 85

_METHODS = {
    "exact": "exact: what each position adds to the log-odds of the class",
    "grad-cam": "Grad-CAM",
    "rise": "RISE: parts of the image hidden at random",
}


@dataclass(frozen=True)
class Figure:
    """Pixels, uint8 (H, W, 3) or None for what cannot be shown, with a name, a caption and an optional link."""

    pixels: np.ndarray | None
    name: str
    caption: str
    link: str | None = None


@dataclass(frozen=True)
class Section:
    """A heading, sentences, and rows of figures."""

    title: str
    sentences: tuple[str, ...]
    figures: tuple[Figure, ...] = ()
    # Markup made here, for example a table; never text from elsewhere.
    markup: str = ""


def explanation_section(explanation: Explanation, more: Sequence[Figure] = ()) -> Section:
    """Return the section for one image: as the network saw it, its map, and `more`, for example training images."""
    found = explanation
    figures = (
        Figure(enlarged(found.pixels), found.path, "as the network sees it"),
        Figure(enlarged(overlay(found.pixels, found.map)), found.path, f"for (orange) and against {found.explained}"),
    )
    sentences = (
        f"{found.label}, {found.probability:.1%}"
        + ("" if found.label == found.explained else f"; explained: {found.explained}"),
        f"{found.verdict} ({_how(found.map)})",
        *_tests(found),
    )
    return Section(found.path.rpartition("/")[2], sentences, (*figures, *more))


def _how(of: ClassMap) -> str:
    at = "" if of.stage is None else ", all stages" if of.stage == "all" else f", {of.stage}"
    return _METHODS[of.method] + at


def _tests(found: Explanation) -> list[str]:
    faithful, sensitive = found.faithfulness, found.sensitivity
    if faithful is None or sensitive is None:
        return []
    return [
        f"Log-odds of {found.explained}: {faithful.whole:.1f}, with all hidden {faithful.hidden:.1f}. On the way there "
        f"{faithful.deletion:.1f} in the order of the map and {faithful.deletion_random:.1f} in random order; on the "
        f"way back {faithful.insertion:.1f} and {faithful.insertion_random:.1f}; {faithful.beaten} of "
        f"{faithful.orders} random orders are beaten.",
        f"With weights randomised from the head down, the map correlates with the original by {sensitive.alike:.2f} "
        "on average.",
    ]


def maps_figure(maps: FeatureMaps) -> Figure:
    """Return one figure with the maps of a stage's most active channels."""
    shown = np.stack([map_as_pixels(each) for each in maps.maps])
    channels = ", ".join(map(str, maps.channels))
    return Figure(tiled(shown, 4, 56), maps.stage, f"{maps.stage}, the most active channels first: {channels}")


def filters_section(before: np.ndarray | None, after: np.ndarray) -> Section:
    """Show the first layer's filters (n, inputs, h, w), and those of the base if known and of the same shape."""
    count, inputs, height, width = after.shape
    sentences = [f"{count} filters of {inputs} x {height} x {width}; the largest weight of each has the full colour."]
    figures = [Figure(tiled(filters_as_pixels(after), 8), "filters", "after training")]
    moved = filters_moved(before, after)
    if before is not None and moved is not None:
        sentences.append(
            f"Training moved them by {moved:.1%} of their length." if moved else "Training did not change them."
        )
        figures.insert(0, Figure(tiled(filters_as_pixels(before), 8), "filters", "before training"))
    return Section("Filters of the first layer", tuple(sentences), tuple(figures))


def similarity_section(similarity: Similarity, other: str) -> Section:
    """Return a table of each stage's similarity to its counterpart, or to all other stages if they differ."""
    sentences = (
        f"How similarly the stages of this network and of {other} see {similarity.n:,} images: 1 is the same up to "
        "rotation and scale, 0 nothing in common (linear CKA, unbiased). Where it falls, features become specific.",
    )
    if similarity.stages == similarity.other_stages:
        alike = [(name, f"{similarity.values[at, at]:.2f}") for at, name in enumerate(similarity.stages)]
        return Section("From general to specific", sentences, markup=table(("stage", "alike"), alike))
    rows = [
        (name, *(f"{value:.2f}" for value in row))
        for name, row in zip(similarity.stages, similarity.values, strict=True)
    ]
    return Section("Two networks", sentences, markup=table((f"stage, and of {other}", *similarity.other_stages), rows))


def favourites_section(liked: Favourites) -> Section:
    """Show what a channel responds to most, each image cropped to what the channel sees of it."""
    figures = tuple(
        Figure(enlarged(each.pixels, 96), each.path, f"response {each.response:.2f}") for each in liked.likings
    )
    return Section(f"Channel {liked.channel} of {liked.stage}", (), figures)


def render_page(title: str, summary: Sequence[str], sections: Sequence[Section]) -> bytes:
    """Return the page, HTML in UTF-8. `summary` are sentences above the sections."""
    body = "".join(map(_section, sections))
    page = _PAGE.format(
        title=escaped(title),
        style=_STYLE,
        summary="".join(f"<p>{escaped(sentence)}</p>" for sentence in summary),
        body=body,
    )
    return page.encode()


def _section(section: Section) -> str:
    sentences = "".join(f"<p>{escaped(sentence)}</p>" for sentence in section.sentences)
    figures = "".join(map(_figure, section.figures))
    return (
        f"<section><h2><bdi>{escaped(section.title)}</bdi></h2>{sentences}{section.markup}"
        f'<div class="sheet">{figures}</div></section>'
    )


def _figure(figure: Figure) -> str:
    image = '<div class="none">no image</div>' if figure.pixels is None else _image(figure)
    if figure.link is not None:
        image = f'<a href="{escaped(figure.link)}">{image}</a>'
    return (
        f'<figure title="{escaped(figure.name)}">{image}<figcaption><bdi>{escaped(figure.caption)}</bdi></figcaption>'
        "</figure>"
    )


def _image(figure: Figure) -> str:
    import simplejpeg

    assert figure.pixels is not None
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(figure.pixels), quality=QUALITY)
    height, width = figure.pixels.shape[:2]
    alt = f"{figure.name.rpartition('/')[2]}, {figure.caption}"
    return (
        f'<img src="data:image/jpeg;base64,{base64.b64encode(data).decode()}" width={width} height={height} '
        f'alt="{escaped(alt)}">'
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title><style>{style}</style></head>
<body><header><h1>{title}</h1>{summary}</header><main>{body}</main></body></html>
"""

_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1c1c1c; --faint: #626262; --line: #ddd }
@media (prefers-color-scheme: dark) { :root { --ground: #161616; --ink: #e6e6e6; --faint: #a0a0a0; --line: #383838 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin: 0 0 .25rem }
p { margin: .25rem 0; max-width: 48rem } header p, figcaption { color: var(--faint) } a { color: inherit }
section { border-top: 1px solid var(--line); margin-top: 1.25rem; padding-top: 1.25rem }
.sheet { display: flex; flex-wrap: wrap; gap: .75rem; margin: .75rem 0 }
figure { margin: 0; max-width: min(14rem, 100%); font-size: .8rem; line-height: 1.35; break-inside: avoid }
img { display: block; max-width: 100%; height: auto; border-radius: 3px }
.none { height: 6rem; width: 6rem; display: grid; place-items: center; border: 1px dashed var(--line) }
table { border-collapse: collapse; margin: .5rem 0 } td, th { padding: .15rem .75rem .15rem 0; font-weight: normal }
"""
