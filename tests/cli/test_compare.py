"""graft compare as a user meets it."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from graft.cli.app import main
from graft.images.letters import CYRILLIC, dejavu_fonts, render_letters


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "letters"
    images, labels = render_letters(CYRILLIC[:4], dejavu_fonts(), 10, seed=0)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / CYRILLIC[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(folder / f"{index}.png")
    return root


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of the command, run in this process, which has imported what it needs."""
    monkeypatch.setattr(sys, "argv", ["graft", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


def test_compare_prints_tables_and_answers_and_draws_the_curves(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    options = ["--base", "latin_letters", "--seeds", "2", "--epochs", "2", "--plot", "curves.png"]
    assert run(monkeypatch, "compare", str(letters), *options) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0].split()[:2] == ["level", "val"]
    assert [line.split()[0] for line in lines[1:5]] == ["head", "stages:2", "all", "scratch"]
    assert not any("…" in line for line in lines[:11])
    assert any("all has a higher start than scratch: yes" in line for line in lines)
    assert "scratch, seed 1: val" in printed.err
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_compare_prints_json_alone_on_stdout(
    letters: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--levels", "head,scratch", "--seeds", "1", "--epochs", "1", "--seed", "4", "--json", "--quiet"]
    assert run(monkeypatch, "compare", str(letters), "--base", "latin_letters", *options) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    found = json.loads(printed.out)
    assert found["seeds"] == [4]
    assert found["batch_size"] == 32
    assert [level["level"] for level in found["levels"]] == ["head", "scratch"]
    assert set(found) >= {"data", "base", "split", "images", "epochs", "best", "as_good", "claims", "seconds"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--levels", "head,stages"], ["'stages'", "stages:K"]),
        (["--levels", "head,head"], ["'head' twice"]),
        (["--levels", "all,frozen:0"], ["'all' and 'frozen:0'", "leave one out"]),
        (["--levels", "as-is"], ["graft evaluate"]),
        (["--seeds", "0"], ["--seeds"]),
        (["--plot", "curves.jpg"], ["--plot", ".png"]),
        (["--resize", "stretch"], ["--resize", "letterbox"]),
        (["--base", "resnet20", "--levels", "head"], ["resnet20", "weights"]),
    ],
)
def test_a_wrong_call_is_one_sentence_and_exit_code_2(
    options: list[str],
    words: list[str],
    letters: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, "compare", str(letters), "--base", "latin_letters", *options) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    line = printed.err.strip().splitlines()[-1]
    assert line.startswith("error: expected")
    for word in words:
        assert word in line


def test_the_plot_may_not_lie_among_the_images(
    letters: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "compare", str(letters), "--plot", str(letters / "curves.png")) == 2
    assert "outside the images" in capsys.readouterr().err
