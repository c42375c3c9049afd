"""The page in a browser: images dropped, pasted, chosen; on a phone, in the dark, by keyboard; all of it offline."""

import csv
import re
import shutil
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crafted import encode, scene
from running import Served, served

from graft.serving.page import FILE

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser, chromium")
PNG = encode(scene(), "PNG")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any, service: Served) -> Iterator[Any]:
    """Opens the page at an address, by default the letters', and sees to it that it asks for nothing from elsewhere."""
    contexts, wrong = [], []

    def opened(url: str = service.url, **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: request.url.startswith((url, "blob:", "data:")) or wrong.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not wrong


def given(page: Any, event: str, *names: str) -> None:
    """Drop files on the page, or paste them into it."""
    page.evaluate(
        """([event, names, text]) => {
            const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
            const files = new DataTransfer();
            for (const name of names) files.items.add(new File([bytes], name, { type: "image/png" }));
            const data = event === "paste" ? { clipboardData: files } : { dataTransfer: files };
            const Kind = event === "paste" ? ClipboardEvent : DragEvent;
            const made = new Kind(event, { bubbles: true, cancelable: true, ...data });
            document.getElementById("drop").dispatchEvent(made);
        }""",
        [event, list(names), b64encode(PNG).decode()],
    )


def chosen(name: str, data: bytes = PNG) -> dict[str, Any]:
    return {"name": name, "mimeType": "image/png", "buffer": data}


def test_the_page_is_one_small_file_that_names_no_address() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert len(text.encode()) <= 60_000
    assert not re.findall(r"https?://|@import|url\(|\bsrc=|<link(?![^>]*data:)", text.replace("src: ", ""))
    assert " style=" not in text and not re.findall(r"\son\w+=", text)  # which its policy would not let run


@needs_browser
@pytest.mark.parametrize("event", ["drop", "paste"])
def test_images_that_are_dropped_or_pasted_get_bars(event: str, open_page: Any) -> None:
    page = open_page()
    given(page, event, "a.png", "b.png")
    page.locator("#gallery .bars").nth(1).wait_for()
    assert page.locator("#gallery h2").all_inner_texts() == ["a.png", "b.png"]
    rows = page.locator("#gallery .bars").first.locator("li").all_inner_texts()
    assert len(rows) == 5 and all(re.search(r"\d\.\d %$", row) for row in rows)
    assert re.fullmatch(r"[ab]\.png: \S+, \d+\.\d %", page.locator("#told").inner_text())


@needs_browser
def test_a_folder_that_is_dropped_has_its_images_at_any_depth(open_page: Any, tmp_path: Path) -> None:
    page = open_page()
    for name in ("folder/b.png", "folder/a/c.png", "folder/.hidden.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / "folder" / "notes.txt").write_text("of May")
    browser = page.context.new_cdp_session(page)

    def drop(**data: Any) -> None:
        for kind in ("dragEnter", "dragOver", "drop"):
            event = {"type": kind, "x": 200, "y": 150, "data": {"items": [], "dragOperationsMask": 1, **data}}
            browser.send("Input.dispatchDragEvent", event)

    drop(files=[str(tmp_path / "folder")])
    page.locator("#gallery .bars").nth(1).wait_for()
    assert page.locator("#gallery h2").all_inner_texts() == ["folder/a/c.png", "folder/b.png"]
    assert page.locator("#dropped").inner_text() == "1 other file was passed over."
    # What is no file is reported, and nothing else happens.
    drop(items=[{"mimeType": "text/plain", "data": "a.png"}])
    page.get_by_text("Nothing here is an image").wait_for()
    assert page.locator("#gallery li.card").count() == 2


@needs_browser
def test_maps_that_are_asked_for_later_come_to_images_that_have_an_answer(open_page: Any) -> None:
    page = open_page()
    page.set_input_files("#files", [chosen("a.png"), chosen("b.png")])
    page.locator("#gallery .bars").nth(1).wait_for()
    assert page.get_by_text("Orange marks evidence for").count() == 0
    page.check("#explain")
    page.get_by_text("Orange marks evidence for").nth(1).wait_for()
    assert page.locator("#gallery li.card").count() == 2


@needs_browser
def test_several_images_are_a_gallery_and_a_table_to_copy(open_page: Any) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    name = 'comma, "quote".png'
    page.set_input_files("#files", [chosen(name), chosen("broken.png", PNG[:99]), *map(chosen, "cdefgh")])
    page.locator("#gallery .bars").nth(6).wait_for()
    page.locator("#gallery .error").wait_for()
    page.get_by_role("button", name="Copy as CSV").click()
    page.get_by_text("Copied 8 rows.").wait_for()
    rows = list(csv.DictReader(page.evaluate("navigator.clipboard.readText()").splitlines()))
    assert [row["path"] for row in rows] == [name, "broken.png", *"cdefgh"]
    assert float(rows[0]["probability"]) > float(rows[0]["probability_5"]) and rows[0]["label"]
    assert rows[1]["error"].startswith("expected") and not rows[1]["label"]
    page.get_by_role("button", name="Remove all").click()
    assert page.locator("#gallery li").count() == 0 and page.locator("#actions").is_hidden()


@needs_browser
def test_a_narrow_phone_shows_everything_without_scrolling_sideways(open_page: Any) -> None:
    page = open_page(viewport={"width": 320, "height": 640}, is_mobile=True, has_touch=True)
    page.set_input_files("#camera", chosen("a name as long as those of cameras " * 3 + "without_a_break" * 4 + ".png"))
    page.locator("#gallery .bars").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert page.locator("#camera").get_attribute("capture") == "environment"
    for button in page.locator("button:visible, label.button").all():
        assert button.bounding_box()["height"] >= 44


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(scheme: str, open_page: Any) -> None:
    page = open_page(color_scheme=scheme)
    page.set_input_files("#files", [chosen("a.png"), chosen("broken.png", b"x")])
    page.locator("#gallery .bars").wait_for()
    page.locator("#gallery .error").wait_for()

    def brightness(color: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def color(selector: str, what: str) -> float:
        return brightness(page.locator(selector).first.evaluate(f"each => getComputedStyle(each)['{what}']"))

    behind = color("body", "background-color")
    assert (behind < 0.1) == (scheme == "dark")
    pairs = [
        ("h1", "body"),
        (".quiet", "body"),
        (".error", ".card"),
        (".bars span", ".bars .bar"),
        ("label.first",) * 2,
    ]
    for text, under in pairs:
        high, low = sorted((color(text, "color"), color(under, "background-color")), reverse=True)
        # The contrast that WCAG 2 asks of text, level AA.
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, under)


@needs_browser
def test_everything_is_reached_by_keyboard_and_has_a_name(open_page: Any) -> None:
    page = open_page()
    # From here on the browser hands over the dialog; subscribed just before the key, a busy one may show its own.
    page.on("filechooser", lambda dialog: None)
    page.set_input_files("#files", chosen("a.png"))
    page.locator("#gallery .bars").wait_for()
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(5):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
        if reached[-1] == "files":
            shown = "getComputedStyle(document.querySelector('label[for=files]')).outlineStyle"
            assert page.evaluate(shown) == "solid"
    assert reached == ["files", "camera", "explain", "copy", "clear"]
    page.keyboard.press("Enter")
    assert page.locator("#gallery li").count() == 0 and page.evaluate("document.activeElement.id") == "files"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(chosen("b.png"))
    page.locator("#gallery .bars").wait_for()
    tree = page.locator("body").aria_snapshot()
    for words in ('button "Copy as CSV"', 'button "Remove all"', "Choose images", "Take a photograph", "status"):
        assert words in tree, tree


@needs_browser
def test_axe_finds_nothing_in_light_or_dark(open_page: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    page = open_page()
    page.locator("#explain").check()
    page.set_input_files("#files", [chosen("a.png"), chosen("broken.png", PNG[:99])])
    page.locator("#gallery .bars").wait_for()
    page.locator("#gallery .error").wait_for()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        # Colours change over a moment.
        page.wait_for_function("document.getAnimations().length === 0")
        found = axe.run(page).response["violations"]
        assert not found, [(each["id"], [node["html"] for node in each["nodes"]]) for each in found]


@needs_browser
def test_a_key_is_asked_for_and_kept_out_of_the_address(open_page: Any, extra: None) -> None:
    with served("none", "--max-files", "1", model=False, GRAFT_API_KEY="0123456789") as running:
        page = open_page(running.url)
        page.set_input_files("#files", chosen("a.png", b"echo hello"))
        field = page.get_by_label("This service asks for a key")
        field.fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("This key is not valid.").wait_for()
        field.fill("0123456789")
        page.keyboard.press("Enter")
        page.get_by_text("echo hello").first.wait_for()
        assert page.url == f"{running.url}/" and field.is_hidden()


@needs_browser
def test_a_busy_service_is_asked_again(open_page: Any, extra: None, tmp_path: Path) -> None:
    options = ("--max-waiting", "1", "--max-files", "1", "--max-batch", "1")
    with served("none", *options, model=False) as running:
        page = open_page(running.url)
        page.set_input_files("#files", [chosen(name, b"slow") for name in "abc"])
        page.locator("#gallery .error").nth(2).wait_for(timeout=20_000)
        assert all("slow of 1" in text for text in page.locator("#gallery .error").all_inner_texts())
