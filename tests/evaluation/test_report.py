"""The report is one page, and nothing in it comes from a file name unescaped."""

import os
from html.parser import HTMLParser

import numpy as np

from graft.evaluation.report import html_report
from graft.evaluation.scores import score

EVIL = '<script>alert("1")</script>'


def page(classes: tuple[str, ...], title: str = "photos", **facts: object) -> str:
    found = score(np.full((4, len(classes)), 1 / len(classes)), np.array([0, 0, 0, 1]), classes)
    return html_report(title, facts, {"val": found})


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_every_text_is_escaped() -> None:
    text = page(
        (EVIL, "b"),
        title=EVIL,
        base=EVIL,
        engine=EVIL,
        notes=(EVIL,),
        skipped={EVIL: EVIL},
    )
    tags = Tags(text)
    assert "script" not in tags.tags and "<script" not in text
    # Twice the title, base, engine, note, skipped name and reason, the class in both tables.
    assert tags.text.count(EVIL) == 2 + 2 + 1 + 2 + 3


def test_the_figures_are_in_it() -> None:
    text = Tags(page(("ants", "bees"), level="head")).text
    assert "val: 75.0% of 4 images" in text and "30.1% to 95.4%" in text
    assert "always the majority class: 75.0%" in text and "head" in text


def test_the_worst_class_comes_first() -> None:
    text = Tags(page(("ants", "bees"))).text
    assert text.index("bees1") < text.index("ants3")


def test_names_that_are_not_utf8_do_not_spoil_the_page() -> None:
    name = os.fsdecode(b"\xff caf\xc3\xa9")
    text = page((name, "b"), skipped={name: "cut short"})
    assert "\\xff café" in text.encode("utf-8").decode("utf-8")


def test_many_classes_make_no_confusion_table() -> None:
    many = page(tuple(f"class {number}" for number in range(40)))
    assert "label \\ prediction" not in many and "label \\ prediction" in page(("a", "b"))
    assert "class 1<" in many and "class 39" not in many


def test_the_page_loads_nothing() -> None:
    text = page(("a", "b"))
    assert "http" not in text and "src=" not in text and "<link" not in text
