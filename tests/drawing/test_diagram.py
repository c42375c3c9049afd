"""The image of a network: text fits, boxes keep apart, and what it says is true of the network."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
import torch
from matplotlib.ft2font import FT2Font
from torch import Tensor, nn

from graft.accounting.graph import trace
from graft.drawing.anatomy import Anatomy, dissect
from graft.drawing.diagram import draw_diagram
from graft.drawing.layout import place
from graft.drawing.marks import text_width
from graft.drawing.steps import Sort, in_words
from graft.models.catalog import CATALOG, build, default_config

WANTED = ["lenet5", "vgg16", "googlenet", "inception_v3", "resnet20", "resnet50", "densenet121", "mobilenet_v2"]
NAMES = [name for name in [*WANTED, "inception_resnet_v2", "efficientnet_b7"] if name in CATALOG]


def network_of(name: str) -> nn.Module:
    with torch.device("meta"):
        return build(default_config(name))


def drawing_of(name: str) -> str:
    network = network_of(name)
    stages = [(stage.name, stage.parts) for stage in network.stages]
    return draw_diagram(trace(network, CATALOG[name].input_size), name, stages)


def anatomy_of(name: str) -> Anatomy:
    network = network_of(name)
    return dissect(trace(network, CATALOG[name].input_size), [(stage.name, stage.parts) for stage in network.stages])


@dataclass(frozen=True)
class Area:
    left: float
    top: float
    right: float
    bottom: float
    words: str = ""

    def within(self, other: "Area") -> bool:
        return (
            other.left - 0.06 <= self.left
            and self.right <= other.right + 0.06
            and other.top - 0.06 <= self.top
            and self.bottom <= other.bottom + 0.06
        )

    def meets(self, other: "Area") -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


# DejaVu Sans, which matplotlib brings, is the widest of the faces that a viewer may choose.
FACES = {
    bold: FT2Font(str(Path(matplotlib.get_data_path(), "fonts", "ttf", f"DejaVuSans{'-Bold' * bold}.ttf")))
    for bold in (False, True)
}


def measured(words: str, size: float, bold: bool) -> float:
    FACES[bold].set_size(100, 72)
    FACES[bold].set_text(words, 0.0)
    return FACES[bold].get_width_height()[0] / 64 * size / 100


def areas(svg: str) -> tuple[Area, list[Area], list[Area]]:
    """The page, the rectangles on it and the lines of text, as a viewer places them."""
    root = ElementTree.fromstring(svg)
    texts, boxes = [], []
    for element, x, y in _placed(root, 0.0, 0.0):
        at = element.attrib
        if element.tag.endswith("}text"):
            size, words = float(at["font-size"]), element.text or ""
            wide = measured(words, size, "font-weight" in at)
            left = x + float(at["x"]) - wide * {"start": 0, "middle": 0.5, "end": 1}[at["text-anchor"]]
            base = y + float(at["y"])
            texts.append(Area(left, base - 0.76 * size, left + wide, base + 0.22 * size, words))
        elif element.tag.endswith("}rect") and "x" in at:
            left, top = x + float(at["x"]), y + float(at["y"])
            boxes.append(Area(left, top, left + float(at["width"]), top + float(at["height"])))
    return Area(0, 0, float(root.attrib["width"]), float(root.attrib["height"])), boxes, texts


def _placed(element: ElementTree.Element, x: float, y: float) -> Iterator[tuple[ElementTree.Element, float, float]]:
    moved = re.fullmatch(r"translate\((\S+) (\S+)\)", element.get("transform", "translate(0 0)"))
    assert moved
    x, y = x + float(moved[1]), y + float(moved[2])
    yield element, x, y
    for child in element:
        yield from _placed(child, x, y)


@pytest.mark.parametrize("name", NAMES)
def test_text_fits_its_box_and_covers_no_other_text(name: str) -> None:
    page, boxes, texts = areas(drawing_of(name))
    for text in texts:
        assert text.within(page), text
        # The last box below it covers the others, as in a pile of sheets.
        below = [box for box in boxes if text.meets(box)]
        assert not below or text.within(below[-1]), (text, below[-1])
    for one, other in combinations(texts, 2):
        assert not one.meets(other), (one, other)


@pytest.mark.parametrize(
    "words", ["3×3 or 5×5 depthwise convolution, 288–3840", "efficientnet_b7", "WMwm%@QG", "37.7 G"]
)
@pytest.mark.parametrize("bold", [False, True])
def test_text_is_never_wider_than_thought(words: str, bold: bool) -> None:
    assert measured(words, 12, bold) <= text_width(words, 12, bold)


@pytest.mark.parametrize("name", NAMES)
def test_a_drawing_stands_alone(name: str) -> None:
    svg = drawing_of(name)
    root = ElementTree.fromstring(svg)
    kinds = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert kinds <= {"svg", "title", "g", "rect", "path", "circle", "text"}
    assert not re.search(r"\bid=|href|url\(|<style|class=|@import", svg)
    assert svg.count("http") == 1  # the name of the SVG namespace
    first = root[1]
    assert (first.get("width"), first.get("height"), first.get("fill")) == (
        root.get("width"),
        root.get("height"),
        "#ffffff",
    )


def test_names_are_escaped() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    svg = draw_diagram(trace(layers, (3, 8, 8)), "a <b> & 'c'", [("<stage> & so", ("0", "1"))])
    words = [element.text for element in ElementTree.fromstring(svg).iter()]
    assert words.count("a <b> & 'c'") == 2
    assert "<stage> & so" in words


def test_the_title_gives_input_parameters_and_multiply_adds() -> None:
    _, _, texts = areas(drawing_of("resnet50"))
    words = [text.words for text in texts]
    assert words[:2] == ["resnet50", "input 3 × 224 × 224 · 25,557,032 parameters · 4,089,184,256 multiply-adds"]


def test_stages_add_up_to_the_network() -> None:
    anatomy, row = anatomy_of("mobilenet_v2"), CATALOG["mobilenet_v2"]
    assert tuple(stage.name for stage in anatomy.stages) == row.stages
    assert sum(sum(stage.macs.values()) for stage in anatomy.stages) == row.macs
    assert sum(sum(stage.params.values()) for stage in anatomy.stages) == row.params
    assert [stage.stride for stage in anatomy.stages] == [2, 2, 4, 8, 16, 16, 32, 32, 32, None, None]


def test_blocks_of_one_kind_are_counted_together() -> None:
    anatomy = anatomy_of("resnet50")
    assert [(kind.title, kind.variant) for kind in anatomy.kinds] == [
        ("Bottleneck", "projection shortcut"),
        ("Bottleneck", "identity shortcut"),
    ]
    assert anatomy.kinds[1].uses == (("stage1", 2), ("stage2", 3), ("stage3", 5), ("stage4", 2))
    repeats = [(repeat.kind, len(repeat.steps), repeat.strides[0]) for repeat in anatomy.stages[2].repeats]
    assert repeats == [(0, 1, 2), (1, 3, 1)]


def test_normalisation_and_activation_join_their_convolution() -> None:
    (stem, pool) = anatomy_of("resnet50").stages[0].repeats
    assert [(step.words, step.window, step.stride, step.after) for step in stem.steps] == [
        ("convolution", (7, 7), 2, ("batch norm", "ReLU"))
    ]
    assert pool.steps[0].sort is Sort.POOL


@pytest.mark.skipif("efficientnet_b7" not in CATALOG, reason="not built yet")
def test_a_deep_network_has_few_kinds_of_block() -> None:
    anatomy = anatomy_of("efficientnet_b7")
    assert sum(len(kind.blocks) for kind in anatomy.kinds) == 55
    assert [kind.variant for kind in anatomy.kinds] == [
        "no shortcut, no expansion",
        "identity shortcut, no expansion",
        "no shortcut",
        "identity shortcut",
    ]
    # The gate and the shortcut are in the drawing of the last kind.
    words = [step.words for step in anatomy.kinds[-1].blocks[0].steps]
    assert ("multiply" in words, words[-1]) == (True, "add")
    assert {step.window for block in anatomy.kinds[-1].blocks for step in block.steps[2:3]} == {(3, 3), (5, 5)}


@pytest.mark.skipif("densenet121" not in CATALOG, reason="not built yet")
def test_what_precedes_a_convolution_joins_it_where_nothing_else_uses_it() -> None:
    layer = anatomy_of("densenet121").kinds[0].blocks[0]
    assert [step.words for step in layer.steps] == ["input", "convolution", "convolution", "concatenate"]
    assert layer.steps[1].before == layer.steps[1].after == ("batch norm", "ReLU")
    assert layer.steps[3].inputs == (0, 2)


class Sharing(nn.Module):
    """Two layers that share an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.relu = nn.Linear(4, 5), nn.Linear(5, 6), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.other(self.relu(self.one(x.mean((2, 3))))))


def test_a_module_that_stages_share_is_in_each_of_them() -> None:
    anatomy = dissect(trace(Sharing(), (4, 8, 8)), [("one", ("one", "relu")), ("other", ("other", "relu"))])
    assert [stage.repeats[-1].steps[0].after for stage in anatomy.stages] == [("ReLU",), ("ReLU",)]
    assert [stage.output_shape for stage in anatomy.stages] == [(5,), (6,)]
    assert not anatomy.kinds


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.left(x), self.right(x)], dim=1)


def test_any_module_can_be_drawn_without_stages() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), Branching(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 2))
    graph = trace(network, (3, 16, 16))
    anatomy = dissect(graph)
    assert [stage.name for stage in anatomy.stages] == ["0", "1", "2", "4"]
    assert [(kind.title, kind.variant) for kind in anatomy.kinds] == [("Branching", "")]
    _, _, texts = areas(draw_diagram(graph, "branching"))
    assert {"input, 4", "1×1 convolution, 4", "3×3 convolution, 8", "concatenate, 12"} <= {text.words for text in texts}


def test_a_stage_that_changes_no_value_has_the_shape_before_it() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(), nn.Conv2d(4, 5, 3))
    stages = dissect(trace(network, (3, 8, 8)), [("a", ("0",)), ("b", ("1",)), ("c", ("2",))]).stages
    assert [stage.output_shape for stage in stages] == [(4, 6, 6), (4, 6, 6), (5, 4, 4)]
    assert not stages[1].repeats


@pytest.mark.parametrize(
    ("type", "words"),
    [
        ("InvertedResidual", "Inverted residual"),
        ("InceptionA", "Inception A"),
        ("MBConv", "MBConv"),
        ("_DenseLayer", "Dense layer"),
    ],
)
def test_a_class_is_told_in_words(type: str, words: str) -> None:
    assert in_words(type) == words


# Each box's inputs: a chain, an inception module, a bottleneck, a gate inside a shortcut, a fork inside a branch.
GRAPHS = [
    [(), (0,), (1,)],
    [(), (0,), (0,), (2,), (0,), (4,), (0,), (6,), (1, 3, 5, 7)],
    [(), (0,), (1,), (2,), (3, 0), (4,)],
    [(), (0,), (1,), (2,), (3,), (1, 4), (5,), (0, 6)],
    [(), (0,), (0,), (2,), (2,), (1, 3, 4)],
]


@pytest.mark.parametrize("inputs", GRAPHS)
def test_boxes_keep_apart_and_below_their_inputs(inputs: list[tuple[int, ...]]) -> None:
    joins = frozenset(box for box, each in enumerate(inputs) if len(each) == 2)
    sizes = [
        (26.0, 26.0) if box in joins else (90.0 + 37 * box % 80, 30.0 + 9 * box % 20) for box in range(len(inputs))
    ]
    layout = place(sizes, inputs, joins, frozenset({0, len(inputs) - 1} - joins))
    placed = [Area(box.x, box.y, box.right, box.bottom) for box in layout.boxes]
    for area in placed:
        assert area.within(Area(0, 0, layout.width, layout.height))
    for one, other in combinations(placed, 2):
        assert not one.meets(other)
    for (start, end), route in layout.routes.items():
        assert placed[start].bottom < placed[end].top
        for x, top, bottom in route:
            assert not any(Area(x - 1, top, x + 1, bottom).meets(area) for area in placed)


def test_the_main_branch_of_a_sum_is_straight_and_the_shortcut_beside_it() -> None:
    sizes = [(60.0, 24.0), (150.0, 40.0), (120.0, 40.0), (26.0, 26.0), (60.0, 24.0)]
    layout = place(sizes, [(), (0,), (1,), (2, 0), (3,)], frozenset({3}), frozenset({0}))
    assert len({round(box.port, 3) for box in layout.boxes}) == 1
    assert all(x > layout.boxes[1].right for x, _, _ in layout.routes[0, 3])
