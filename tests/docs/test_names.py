"""Every module, name and path that pages, benchmarks and recipes speak of exists."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [path for folder in ("benchmarks", "docs", "recipes") for path in sorted((ROOT / folder).rglob("*.py"))]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("benchmarks/*.md"))]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def resolves(dotted: str) -> bool:
    """Whether `graft.room.module`, or a name inside of one, can be had."""
    names = dotted.split(".")
    for count in range(len(names), 0, -1):
        try:
            found = import_module(".".join(names[:count]))
        except ModuleNotFoundError:
            continue
        for name in names[count:]:
            if not hasattr(found, name):
                return False
            found = getattr(found, name)
        return True
    return False


@pytest.mark.parametrize("script", SCRIPTS, ids=relative)
def test_what_a_script_imports_from_graft_exists(script: Path) -> None:
    imports = [each for each in ast.walk(ast.parse(script.read_text())) if isinstance(each, ast.ImportFrom)]
    imported = [f"{each.module}.{name.name}" for each in imports for name in each.names]
    missing = [name for name in imported if name.startswith("graft.") and not resolves(name)]
    assert not missing


@pytest.mark.parametrize("text", [*PAGES, *SCRIPTS], ids=relative)
def test_modules_and_paths_that_a_text_names_exist(text: Path) -> None:
    words = text.read_text()
    modules = re.findall(r"`(graft(?:\.\w+)+)", words)
    paths = re.findall(r"\b(?:benchmarks|docs|recipes|tests)/[\w/]+\.\w+", words)
    missing = [name for name in modules if not resolves(name)]
    missing += [path for path in paths if not (ROOT / path).is_file()]
    assert not missing
