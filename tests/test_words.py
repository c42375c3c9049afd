"""Messages count as a person would, and name options to users of the command, arguments to callers in Python."""

import sys
from pathlib import Path

import pytest

from graft.errors import InputError
from graft.words import as_called, counted, in_options, in_percent, program


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


@pytest.mark.parametrize(
    ("share", "digits", "expected"),
    [
        (0.9674, 1, "96.7%"),
        (1.0, 1, "100.0%"),
        (0.0, 1, "0.0%"),
        (0.9999, 1, "99.99%"),
        (4_999_999 / 5_000_000, 1, "99.99998%"),
        (1 / 5_000_000, 1, "0.00002%"),
        (0.9995, 1, "99.95%"),
        (0.996, 0, "99.6%"),
        (0.5, 0, "50%"),
    ],
)
def test_a_share_reads_as_all_or_none_only_if_it_is(share, digits, expected):
    assert in_percent(share, digits) == expected


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


SPOKEN = [
    ("lower --image-size or --batch-size", "lower `image_size` or `batch_size`"),
    ("expected --lr or --find-lr, got both (--lr 0.01)", "`learning_rate` or `find_learning_rate`, got both (`learn"),
    ("recipe options are ignored at --level head: no stage", "are ignored at `level='head'`: no stage"),
    ("use --level stages:1 or --level all.", "use `level='stages:1'` or `level='all'`."),
    ("such as --sets 90%", "such as `sets='90%'`"),
    ("assign them with --class-map FILE", "assign them with `class_map=FILE`"),
    ("--no-audit divides them", "`audit=False` divides them"),
    ("`graft train DATA --base FILE` goes on, or --base", "`graft train DATA --base FILE` goes on, or `base`"),
    ("'/a/.venv/bin/graft' train --resume runs/a; or --out", "graft' train --resume runs/a; or `out`"),
    ("pip install --no-deps x, or --base FILE", "pip install --no-deps x, or `base=FILE`"),
    ("got 'photos/--level/a--base.jpg'", "got 'photos/--level/a--base.jpg'"),
]


@pytest.mark.parametrize(("options", "arguments"), SPOKEN)
def test_a_program_that_imports_graft_reads_of_arguments_and_the_command_of_options(
    options: str, arguments: str
) -> None:
    assert arguments in as_called(options)
    assert arguments in str(InputError(options))
    # A sentence quoted within another, such as the error that caused it.
    assert as_called(as_called(options)) == as_called(options)
    error = InputError(options)
    with in_options():
        assert str(error) == options
    assert arguments in str(error)
