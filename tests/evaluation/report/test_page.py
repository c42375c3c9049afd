"""The page of a run is one file that opens offline, is valid, and has nothing in it unescaped."""

import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import EVIL, report

from graft.evaluation.error_budget import find_threshold
from graft.evaluation.mcnemar import Difference, compare_answers
from graft.evaluation.report.beside import render_beside
from graft.evaluation.report.page import SECTIONS, render_report
from graft.evaluation.report.values import Beside

VOID = ("meta", "img", "br", "rect", "path", "circle")


class Page(HTMLParser):
    """The tags of a page, which are closed in order, its attributes, identifiers and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.values: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert len({name for name, _ in attributes}) == len(attributes), tag
        self.values += [(tag, name, value or "") for name, value in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [(tag, name, value or "") for name, value in attributes]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_every_text_is_escaped_wherever_names_come_from() -> None:
    text = render_report(report(name=EVIL))
    page = Page(text)
    assert "script" not in page.tags and "<script" not in text
    assert page.text.count(EVIL) > 20
    assert not [value for tag, name, value in page.values if name.startswith("on")]


def test_identifiers_are_unique_and_every_link_leads_to_one() -> None:
    page = Page(render_report(report()))
    names = [value for _, name, value in page.values if name == "id"]
    links = [value for tag, name, value in page.values if (tag, name) == ("a", "href")]
    assert len(names) == len(set(names)) and {link.removeprefix("#") for link in links} <= set(names)
    assert len(links) == len(SECTIONS) + 1


def test_every_image_and_chart_says_in_words_what_it_shows() -> None:
    page = Page(render_report(report()))
    alts = [value for tag, name, value in page.values if (tag, name) == ("img", "alt")]
    labels = [value for tag, name, value in page.values if (tag, name) == ("svg", "aria-label")]
    assert len(alts) == page.tags.count("img") > 0 and all(alts)
    assert len(labels) == page.tags.count("svg") == 8 and all(labels)
    regions = [value for _, name, value in page.values if (name, value) == ("role", "region")]
    assert len(regions) == sum((name, value) == ("tabindex", "0") for _, name, value in page.values)


def test_the_page_loads_nothing() -> None:
    text = render_report(report())
    sources = [value for _, name, value in Page(text).values if name in ("src", "href")]
    assert all(value.startswith(("data:image/jpeg;base64,", "#")) for value in sources)
    assert "http:" not in text and "https:" not in text and "url(" not in text


def test_budgets_that_are_out_of_reach_say_why_once_for_each_reason() -> None:
    made = report()
    budgets = tuple(
        find_threshold(np.linspace(1, 0.5, 100), np.arange(100) % 3 > 0, each) for each in (0.01, 0.02, 0.1)
    )
    text = Page(render_report(replace(made, trust=replace(made.trust, budgets=budgets)))).text
    assert text.count("At most 1% wrong cannot be guaranteed with 100 images: it takes 299 without an error.") == 1
    assert "At most 10% wrong cannot be guaranteed with 100 images: too many of the surest answers are wrong." in text


def test_sections_are_there_only_for_what_was_measured() -> None:
    bare = replace(
        report(), plan={}, history=(), mistakes=(), doubtful=(), trust=None, slices=(), robustness={}, pairs=()
    )
    page = Page(render_report(bare))
    names = [value for tag, name, value in page.values if (tag, name) == ("section", "id")]
    assert names == ["verdict", "data", "classes", "provenance"]
    nothing = Page(render_report(replace(bare, splits=(), judged=None)))
    assert "classes" not in [value for tag, name, value in nothing.values if (tag, name) == ("section", "id")]


def test_two_thousand_classes_with_long_names_make_a_small_page_and_full_values() -> None:
    made = report(2000, "n" * 300, thumbnails=12, images=2000)
    text = render_report(made)
    assert len(text.encode()) < 2_000_000
    assert len(made.to_dict()["splits"]["val"]["classes"]) == 2000
    assert "60 of 2,000" in text and "label \\ prediction" not in text


def test_names_that_are_not_utf8_do_not_spoil_the_page() -> None:
    name = os.fsdecode(b"\xff caf\xc3\xa9")
    text = render_report(report(name=name))
    assert "\\xff café" in text.encode("utf-8").decode("utf-8")


def test_two_runs_stand_side_by_side_with_their_difference() -> None:
    one, other = report(), replace(report(name="other"), classes=report().classes)
    other = replace(other, splits=one.splits)
    found = Difference(100, -0.07, (-0.14, -0.01), 1, 8, 0.039)
    page = Page(render_beside(Beside(one, other, found)))
    assert "-7.0 points" in page.text and "more than chance explains" in page.text
    apart = Page(render_beside(Beside(one, other, None, "their images in val differ")))
    assert "their images in val differ" in apart.text
    assert "<script" not in render_beside(Beside(report(name=EVIL), other, None, EVIL))


@pytest.mark.parametrize("only", [0, 1, 4, 5, 6, 12])
def test_what_is_said_of_a_difference_contradicts_neither_its_interval_nor_its_test(only: int) -> None:
    rows = np.arange(100)
    found = compare_answers(rows >= 0, rows >= only)
    text = Page(render_beside(Beside(report(), report(), found))).text
    assert found.p_value is not None
    assert ("more than chance explains" in text) == (found.ci95[0] > 0 and found.p_value <= 0.05) == (only > 5)
    assert ("chance can explain that" in text) == (found.ci95[0] <= 0 and found.p_value > 0.05) == (only < 5)
    assert ("at the edge of what chance explains" in text) == (only == 5)


def test_the_curve_of_a_run_that_starts_with_nothing_right_begins_at_zero() -> None:
    history = tuple({"epoch": epoch, "val_top1": epoch / 2} for epoch in range(2))
    made = replace(report(), history=history)
    page = render_beside(Beside(made, made, None, "they are one"))
    assert "accuracy on val by epoch of both runs" in page


CONTRAST = """() => {
  const c = document.createElement('canvas').getContext('2d', {willReadFrequently: true}), known = {};
  const channels = (text) => known[text] ??= (c.clearRect(0, 0, 1, 1), c.fillStyle = text, c.fillRect(0, 0, 1, 1),
    [...c.getImageData(0, 0, 1, 1).data]);
  const light = (rgb) => { const [r, g, b] = rgb.map(v => { v /= 255; return v <= .03928 ? v / 12.92
    : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
  const over = (top, below) => { const a = top[3] / 255; return [0, 1, 2].map(i => top[i] * a + below[i] * (1 - a)); };
  const ground = (node) => { const all = []; for (let e = node; e; e = e.parentElement)
      all.push(channels(getComputedStyle(e).backgroundColor));
    return all.reverse().reduce((below, top) => over(top, below), channels('white').slice(0, 3)); };
  let worst = [99, ''];
  for (const node of document.querySelectorAll('p,td,th,a,li,b,h1,h2,h3,dt,dd,figcaption,caption,text')) {
    if (!node.textContent.trim() || node.classList.contains('skip')) continue;
    const style = getComputedStyle(node), ink = channels(node.tagName === 'text' ? style.fill : style.color);
    const back = ground(node.closest('svg')?.parentElement ?? node);
    const one = light(over(ink, back)), two = light(back);
    const ratio = (Math.max(one, two) + .05) / (Math.min(one, two) + .05);
    if (ratio < worst[0]) worst = [ratio, node.tagName + ' ' + node.textContent.slice(0, 30)];
  }
  return worst;
}"""


def test_in_a_browser_nothing_overflows_is_pale_or_asks_for_anything(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs a browser, chromium")
    names = ("report.html", "beside.html")
    many = report(16, "a class with a name that is " + "long" * 12)
    (tmp_path / names[0]).write_text(render_report(many), encoding="utf-8")
    (tmp_path / names[1]).write_text(render_beside(Beside(many, many, None, "x")), encoding="utf-8")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for theme, width in (("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)):
            context = browser.new_context(color_scheme=theme, viewport={"width": width, "height": 900})
            page = context.new_page()
            asked: list[Any] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.on("console", lambda message, asked=asked: asked.append(message.text))
            for name in names[: 2 if (theme, width) == ("light", 390) else 1]:
                page.goto((tmp_path / name).as_uri())
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (theme, width, name)
                worst, where = page.evaluate(CONTRAST)
                assert worst >= 4.5, (theme, name, where)
            assert [url for url in asked if not re.match(r"data:|file:.*(report|beside)\.html$", url)] == []
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.className") == "skip"
        browser.close()
