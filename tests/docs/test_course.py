"""The course is made from recorded outcomes: its outputs are those of the commands that it names, which run offline."""

import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from offline import run_offline

from graft.lab.catalog import EXPERIMENTS

DOCS = Path(__file__).resolve().parents[2] / "docs"
# In the suite the lessons whose experiments take so long on an idle core at most; `make course` runs all of them.
SECONDS = float("inf") if os.environ.get("GRAFT_LAB") == "all" else 3


@pytest.fixture(scope="module")
def course() -> ModuleType:
    spec = importlib.util.spec_from_file_location("course_page", DOCS / "course.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_recorded_outcomes_give(course: ModuleType) -> None:
    assert course.page() == course.PAGE.read_text(encoding="utf-8")


def test_each_of_ten_lessons_has_a_command_a_figure_and_three_questions(course: ModuleType) -> None:
    assert len(course.LESSONS) == 10
    for number, each in enumerate(course.LESSONS, start=1):
        text = course.lesson(number, each)
        assert f"$ graft lab {each.experiment}" in text
        assert "The claim held." in text or "did not hold" in text or "undecided" in text
        assert text.count("<details>") == 3
        figure = DOCS / text.partition("](")[2].partition(")")[0]
        assert figure.is_file()


def test_its_commands_run_in_order_offline_in_an_empty_home(course: ModuleType, tmp_path: Path) -> None:
    page = course.PAGE.read_text(encoding="utf-8")
    lessons = re.findall(r"^\$ graft (.+)\n(.+)\n(?:.*\n)*?(The claim .+)$", page, re.MULTILINE)
    assert len(lessons) == 10
    chosen = [each for each in lessons if EXPERIMENTS[each[0].split()[1]].seconds <= SECONDS]
    assert len(chosen) >= 6
    printed = run_offline([command.split() for command, _, _ in chosen], tmp_path)
    told = re.findall(r"^(\w+ \([NT].+)\n(?:.*\n)*?(The claim .+)$", printed.replace("\n\n", "\n"), re.MULTILINE)
    assert told == [(claim, verdict) for _, claim, verdict in chosen]
    # The outcome is printed, and nothing left behind.
    assert {path.name for path in tmp_path.iterdir()} <= {"home", "cache"}
