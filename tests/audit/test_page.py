"""The page: complete in itself, and safe whatever the names of the images are."""

from html.parser import HTMLParser

import numpy as np

from graft.audit.page import Sheet, Tile, render_page

PIXELS = np.full((20, 40, 3), 90, dtype=np.uint8)
HOSTILE = 'a/<script>alert("x")</script>\u202egpj.\udcff\n.jpg'


class Reader(HTMLParser):
    """Collects elements with their attributes, and text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: bytes) -> Reader:
    reader = Reader()
    reader.feed(page.decode("utf-8"))
    return reader


def page(*rows: tuple[Tile, ...], total: int = 0) -> Reader:
    return read(render_page("Audit of <b>", ["one & two"], [Sheet("near_duplicates", "error", "a < b", rows, total)]))


def test_images_are_within_the_page_and_nothing_is_fetched_or_run() -> None:
    found = page((Tile(PIXELS, "a.jpg", "ants"),))
    assert "script" not in {tag for tag, _ in found.elements}
    addresses = [
        value for _, attributes in found.elements for name, value in attributes.items() if name in ("src", "href")
    ]
    assert all(address.startswith(("data:image/jpeg;base64,", "#")) for address in addresses)
    assert sum(address.startswith("data:") for address in addresses) == 1


def test_names_and_sentences_are_escaped() -> None:
    found = page((Tile(PIXELS, HOSTILE, '"><img src=x>'),))
    assert [tag for tag, _ in found.elements].count("img") == 1
    assert "a < b" in found.text
    assert "one & two" in found.text
    title = next(attributes["title"] for tag, attributes in found.elements if tag == "figure")
    assert title == 'a/<script>alert("x")</script>\\xe2\\x80\\xaegpj.\\xff\\x0a.jpg'


def test_images_that_belong_together_stand_in_one_frame() -> None:
    tile = Tile(PIXELS, "a.jpg", "ants")
    groups = page((tile, tile), (tile, tile, tile))
    assert sum(attributes.get("class") == "group" for _, attributes in groups.elements) == 2
    alone = page((tile,), (tile,))
    assert not any(attributes.get("class") == "group" for _, attributes in alone.elements)


def test_it_says_how_many_are_not_shown_and_shows_what_cannot_be_decoded_by_name() -> None:
    found = page((Tile(None, "broken.jpg", "cut short"),), total=30)
    assert "1 of 30 images shown" in found.text
    assert "broken.jpg" in found.text
    assert "cut short" in found.text
    assert "img" not in {tag for tag, _ in found.elements}


def test_tiny_images_are_shown_enlarged() -> None:
    found = page((Tile(PIXELS[:8, :8], "a.png", ""),))
    sizes = [(each["width"], each["height"]) for tag, each in found.elements if tag == "img"]
    assert sizes == [("96", "96")]


def test_an_audit_without_findings_says_so() -> None:
    assert "Nothing was found" in read(render_page("Audit", [], [])).text
