"""Messages count as a person would."""

import sys
from pathlib import Path

import pytest

from graft.words import counted, program


@pytest.mark.parametrize(
    ("number", "words", "expected"),
    [
        (1, ("image",), "1 image"),
        (2, ("image",), "2 images"),
        (0, ("image",), "0 images"),
        (1, ("class", "classes"), "1 class"),
        (1024, ("class", "classes"), "1,024 classes"),
        (1, ("image is", "images are"), "1 image is"),
        (3, ("image is", "images are"), "3 images are"),
    ],
)
def test_a_noun_agrees_with_its_number(number, words, expected):
    assert counted(number, *words) == expected


def test_a_command_that_the_shell_does_not_find_is_called_by_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "my project" / ".venv" / "bin"
    installed.mkdir(parents=True)
    (installed / "graft").touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(installed / "graft"), "train"])
    monkeypatch.setenv("PATH", "")
    assert program() == "'my project/.venv/bin/graft'"
    monkeypatch.setenv("PATH", str(installed))
    assert program() == "graft"
    monkeypatch.setattr(sys, "argv", ["notebook.py"])
    monkeypatch.setenv("PATH", "")
    assert program() == "graft"
