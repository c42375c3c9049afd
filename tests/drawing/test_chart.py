"""The chart of accuracy against cost: what each mark says, and names that can be read."""

from itertools import combinations
from xml.etree import ElementTree

import pytest
from matplotlib.collections import PathCollection
from matplotlib.text import Text

from graft.drawing.chart import Point, draw_figure, plot
from graft.errors import InputError

POINTS = [
    Point("small", "one", 300_000_000, 3_000_000, 72.0, "one crop"),
    Point("large", "one", 4_000_000_000, 27_000_000, 79.0, "one crop"),
    Point("largest", "one", 4_100_000_000, 28_000_000, 79.1, "ten crops"),
    Point("other", "two", 4_050_000_000, 60_000_000, 79.05, "one crop"),
]


@pytest.mark.parametrize(("ending", "magic"), [(".svg", b"<?xml"), ("png", b"\x89PNG"), (".PDF", b"%PDF")])
def test_the_ending_decides_the_format(ending: str, magic: bytes) -> None:
    assert plot(POINTS, ending).startswith(magic)


@pytest.mark.parametrize("ending", [".jpg", "", ".svgz"])
def test_other_endings_are_refused_naming_those_that_work(ending: str) -> None:
    with pytest.raises(InputError, match=r"\.svg, \.png or \.pdf"):
        plot(POINTS, ending)


def test_no_network_is_refused() -> None:
    with pytest.raises(InputError, match="got none"):
        plot([], ".svg")


def test_the_same_points_give_the_same_bytes() -> None:
    assert plot(POINTS[:2], "svg") == plot(POINTS[:2], "svg")


def test_text_stays_text() -> None:
    words = {element.text for element in ElementTree.fromstring(plot(POINTS, "svg")).iter() if element.text}
    assert {point.name for point in POINTS} <= words
    assert {"one crop", "ten crops", "multiply-adds of one image"} <= words


def test_the_area_of_a_disc_is_the_parameters() -> None:
    (axes,) = draw_figure(POINTS).axes
    drawn = {}
    for collection in axes.collections:
        assert isinstance(collection, PathCollection)
        if collection.get_alpha() is not None:
            for (x, _), area in zip(collection.get_offsets(), collection.get_sizes(), strict=True):
                drawn[x] = area
    assert {x: area / drawn[POINTS[0].macs] for x, area in drawn.items()} == pytest.approx(
        {point.macs: point.params / POINTS[0].params for point in POINTS}
    )


def test_only_accuracies_of_one_protocol_are_joined() -> None:
    (axes,) = draw_figure(POINTS).axes
    lines = [list(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) > 1]
    assert lines == [[300_000_000, 4_000_000_000]]


def test_names_neither_cover_each_other_nor_leave_the_chart() -> None:
    crowd = [
        Point(f"network_{number}", "one", 10**9 + 10**7 * number, 10**7, 75 + 0.1 * (number % 3), "one crop")
        for number in range(9)
    ]
    # Two more make room around them.
    crowd += [Point("cheap", "two", 10**8, 10**6, 65, "one crop"), Point("dear", "two", 10**10, 10**8, 80, "one crop")]
    (axes,) = draw_figure(crowd).axes
    boxes = []
    for text in axes.texts:
        text.get_window_extent()  # places the name, together with its leader line
        boxes.append(Text.get_window_extent(text))
    assert len(boxes) == len(crowd)
    assert not [(one, other) for one, other in combinations(boxes, 2) if one.overlaps(other)]
    page = axes.get_window_extent()
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1 for box in boxes)
