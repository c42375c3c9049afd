"""The page of a walk in a browser: offline, by keyboard, in both themes, on a phone, with the network's own numbers."""

import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from graft.drawing.walk_page import draw_walk
from graft.images.letters import LATIN, dejavu_fonts, render_letters
from graft.images.preprocessing import normalise
from graft.images.resizing import to_square
from graft.weights.base import load_base
from graft.workflows import walked_stage
from graft.workflows.walk import Walk, walk

CHROMIUM = shutil.which("chromium")
NASTY = "</script><script>alert(1)</script> & \u202e.png"


@pytest.fixture(scope="module")
def pixels() -> Any:
    images, _ = render_letters(LATIN[:1], dejavu_fonts(), 1, seed=0)
    return images[0][:, :, 0]


@pytest.fixture(scope="module")
def walked(pixels: Any, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    path = tmp_path_factory.mktemp("images") / "letter.png"
    Image.fromarray(pixels).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walked_stage, "DETAILS", ((6, 5), (2, 2), (1, 1)))
        return walk(["latin_letters", "lenet5"], str(path), random=False)


@pytest.fixture(scope="module")
def page_file(walked: Walk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    document = walked.to_dict()
    document["networks"][0]["name"] = NASTY
    document["networks"][0]["stages"][-1]["channels"][0]["name"] = NASTY
    path = tmp_path_factory.mktemp("pages") / "walk.html"
    path.write_bytes(draw_walk(document, NASTY))
    return path


def test_the_page_is_whole_and_refers_to_nothing_elsewhere(page_file: Path) -> None:
    text = page_file.read_text(encoding="utf-8")
    opened: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert not {name for name, _ in attrs} & {"src", "href", "srcset", "action"}, tag
            if tag not in ("meta", "link"):
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Reader().feed(text)
    assert not opened
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in text and "unsafe-inline'; script-src 'sha256-" in text
    assert "<script>alert" not in text and "{{" not in text.replace("${{", "")


def test_the_same_walk_gives_the_same_bytes(walked: Walk) -> None:
    assert draw_walk(walked.to_dict(), "a") == draw_walk(walked.to_dict(), "a")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs a browser, chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, page_file: Path) -> Iterator[Any]:
    """The page, opened offline; it may request nothing and log no error."""
    wrong: list[str] = []
    context = browser.new_context(viewport={"width": 390, "height": 800}, offline=True, color_scheme="dark")
    page = context.new_page()
    own = page_file.as_uri()
    page.on("request", lambda request: request.url.startswith((own, "data:")) or wrong.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    page.goto(own)
    page.wait_for_selector("main:not([aria-busy]) .strip button")
    yield page
    context.close()
    assert not wrong


def number(text: str) -> float:
    return float(text.rpartition(": ")[2].replace("−", "-"))


def test_keys_lead_to_a_number_that_is_the_networks_own(page: Any, pixels: Any) -> None:
    base = load_base("latin_letters")
    batch = normalise(to_square(pixels[:, :, None].repeat(3, 2), base.preprocessing)[None], base.preprocessing)
    with torch.no_grad():
        maps = base.network.feature_maps(batch)
    view = page.locator("section.network").first
    page.keyboard.press("Tab")
    view.locator(".strip button").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert view.locator(".strip button").nth(1).get_attribute("aria-pressed") == "true"
    view.locator(".channels button").nth(1).focus()
    page.keyboard.press("Enter")
    channel = int(view.locator(".channels button").nth(1).inner_text())
    canvas = view.locator(".frame canvas")
    canvas.focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    heading = view.locator("h3").last.inner_text()
    row, column = map(int, re.findall(r"row (\d+), column (\d+)", heading)[0])
    own = maps["stage2"][0, channel, row, column].item()
    assert number(heading) == pytest.approx(own, rel=5e-4)
    # The other network has the same stage, and follows.
    assert (
        page.locator("section.network").nth(1).locator(".strip button").nth(1).get_attribute("aria-pressed") == "true"
    )
    assert view.locator("svg rect").count() == 4


def test_a_click_takes_the_pixel_under_it_and_outlines_what_it_sees(page: Any) -> None:
    view = page.locator("section.network").first
    view.locator(".strip button").nth(1).click()
    canvas = view.locator(".frame canvas")
    box = canvas.bounding_box()
    canvas.click(position={"x": box["width"] * 0.5, "y": box["height"] * 0.1})
    assert "row 0, column 2" in view.locator("h3").last.inner_text()
    outlined = view.locator(".look figure").first.locator("rect").last
    # stage2 of LeNet-5: 16 px wide, 4 px apart, beginning 2 px outside the image.
    assert [outlined.get_attribute(name) for name in ("x", "y", "width", "height")] == ["6", "0", "16", "14"]
    assert "16 × 16 px, part of it outside the image" in view.locator(".look figcaption").first.inner_text()


def test_a_phone_needs_no_scrolling_sideways_and_names_are_text(page: Any) -> None:
    for place in range(5):
        page.locator("section.network").first.locator(".strip button").nth(place).click()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert "<script>alert(1)</script>" in page.locator("section.network").first.inner_text()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 26)"
