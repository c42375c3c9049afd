"""The page on Python names every public name, and no other."""

import re
from pathlib import Path

import graft

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


def test_every_public_name_is_on_the_page_and_exists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in graft.__all__:
        assert re.search(rf"\b{name}\b", text), name
    for name in re.findall(r"graft\.(\w+)", text):
        assert name in graft.__all__ or name in ("models", "sklearn"), name
