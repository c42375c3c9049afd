"""The gallery is what the code says, and what it shows can be trusted to be read."""

import gc
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import gallery
import pytest
from families import FAMILIES, Family

from graft.models.catalog import CATALOG

PAGE = (gallery.DOCS / gallery.PAGE).read_text(encoding="utf-8")


@pytest.fixture(scope="module", autouse=True)
def uncollected() -> Iterator[None]:
    """Every network there is stays in memory here; searching all their modules for garbage is a third of the time."""
    gc.disable()
    yield
    gc.enable()


def chunks(page: str) -> list[str]:
    """The page in pieces, each from one heading of the second level to the next."""
    return re.split(r"^(?=## )", page, flags=re.MULTILINE)


@pytest.mark.parametrize("family", FAMILIES, ids=[family.module for family in FAMILIES])
def test_section_and_diagram_are_current(family: Family) -> None:
    (written,) = (each for each in chunks(PAGE) if each.startswith(f"## {gallery.heading(family)}\n"))
    assert written.rstrip() == gallery.section(family).rstrip(), "run python docs/gallery.py"
    diagram = gallery.DOCS / gallery.DIAGRAMS / f"{family.shown}.svg"
    assert diagram.read_text(encoding="utf-8") == gallery.diagram(family), "run python docs/gallery.py"


def test_the_rest_of_the_page_is_current() -> None:
    sections = [f"## {gallery.heading(family)}" for family in FAMILIES]
    around = chunks(f"{gallery.opening()}\n{gallery.closing()}")
    transfer = next(index for index, each in enumerate(around) if each.startswith("## Transfer"))
    expected = [*around[:transfer], *sections, *around[transfer:]]
    written = [each.splitlines()[0] if each.splitlines()[0] in sections else each for each in chunks(PAGE)]
    assert written == expected, "run python docs/gallery.py"


def test_every_network_is_in_the_gallery_once() -> None:
    assert {family.module for family in FAMILIES} == {entry.family for entry in CATALOG.values()}
    assert len({family.module for family in FAMILIES}) == len(FAMILIES)
    assert all(CATALOG[family.shown].family == family.module for family in FAMILIES)
    years = [CATALOG[family.shown].year for family in FAMILIES]
    assert years == sorted(years)


def test_links_lead_somewhere() -> None:
    titles = {gallery.anchor(family) for family in FAMILIES}
    assert set(re.findall(r"\]\(#(.*?)\)", PAGE)) == titles
    for target in re.findall(r"\]\(([^#)]+)\)", PAGE):
        assert (gallery.DOCS / target).is_file()


def test_rows_of_a_table_have_as_many_cells_as_its_head() -> None:
    for block in re.findall(r"(?:^\|.*\|\n)+", PAGE, flags=re.MULTILINE):
        assert len({line.count(" | ") for line in block.splitlines()}) == 1, block


def test_diagrams_are_well_formed_and_small() -> None:
    paths = list((gallery.DOCS / gallery.DIAGRAMS).glob("*.svg"))
    assert {path.stem for path in paths} == {family.shown for family in FAMILIES}
    for path in paths:
        ElementTree.parse(path)
    assert sum(path.stat().st_size for path in paths) < 600_000


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0"), (850, "850"), (61_706, "61.7 k"), (999_949_999, "1000 M"), (25_557_032, "25.6 M"), (10**9, "1.00 G")],
)
def test_quantities_have_three_digits(count: int, words: str) -> None:
    assert gallery.quantity(count) == words


def test_check_names_what_is_stale_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {gallery.PAGE: "new\n", f"{gallery.DIAGRAMS}/one.svg": "<svg/>\n"}
    monkeypatch.setattr(gallery, "DOCS", tmp_path)
    monkeypatch.setattr(gallery, "files", lambda: made)
    monkeypatch.setattr(sys, "argv", ["gallery.py"])
    assert gallery.main() == 0
    (tmp_path / gallery.DIAGRAMS / "old.svg").write_text("<svg/>")
    (tmp_path / gallery.PAGE).write_text("changed\n")
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["gallery.py", "--check"])
    assert gallery.main() == 1
    assert capsys.readouterr().out == "docs/architectures.md is stale\ndocs/architectures/old.svg is stale\n"
    assert (tmp_path / gallery.PAGE).read_text() == "changed\n"
    monkeypatch.setattr(sys, "argv", ["gallery.py"])
    assert gallery.main() == 0
    assert not (tmp_path / gallery.DIAGRAMS / "old.svg").exists()
    monkeypatch.setattr(sys, "argv", ["gallery.py", "--check"])
    assert gallery.main() == 0
