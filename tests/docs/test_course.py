"""The course is made from recorded outcomes: its outputs are those of the commands that it names."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


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
