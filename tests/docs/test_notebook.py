"""The notebook of the documentation runs from top to bottom, and shows something where it says so."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "notebook.ipynb"


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell, and return what its last line comes to if that is an expression, as a notebook does."""
    tree = ast.parse(source)
    last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(NOTEBOOK), "exec"), names)
    return None if last is None else eval(compile(last, str(NOTEBOOK), "eval"), names)


def test_the_notebook_runs_and_shows_images_and_charts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn", reason="needs graft-vision[sklearn]")
    monkeypatch.chdir(tmp_path)
    notebook, names = json.loads(NOTEBOOK.read_text(encoding="utf-8")), dict[str, Any]()
    assert notebook["nbformat"] == 4 and not any(cell.get("outputs") for cell in notebook["cells"])
    found = [run_cell("".join(cell["source"]), names) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    pages = [each._repr_html_() for each in found if hasattr(each, "_repr_html_")]
    assert [page.count("<img") for page in pages] == [8, 0, 6]
    assert "<svg" in names["run"].plot()._repr_svg_()
    assert repr(names["dataset"].show()).startswith("letters: ")
