"""An option on the command line is followed or refused: none is silently ignored."""

import csv
import json
from pathlib import Path

import pytest
from calling import graft
from PIL import Image

from graft.images.letters import LATIN, dejavu_fonts, render_letters


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "letters"
    images, labels = render_letters(LATIN[:3], dejavu_fonts(), 5, seed=0)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        (root / LATIN[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(root / LATIN[label] / f"{index}.png")
    return root


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("explain RUN --method rise", "expected images with --method, got none: add it, or leave --method out"),
        ("explain RUN --stage stage1", "expected images with --stage"),
        ("explain RUN --class A", "expected images with --class"),
        ("explain RUN --no-test", "expected images with --test/--no-test"),
        ("explain RUN --nearest 3", "expected images with --nearest"),
        ("explain RUN --engine torch", "expected images with --engine"),
        ("explain RUN --precision float32", "expected images with --precision"),
        ("evaluate RUN DATA --robustness-time 3s", "expected --robustness with --robustness-time"),
        ("evaluate RUN RUN DATA --robustness-time 3s", "expected --robustness with --robustness-time"),
        ("evaluate RUN DATA --classes names.json", "expected no --classes for the run"),
        ("evaluate RUN DATA --mean 0.5 --std 0.5", "expected no --mean for the run"),
        ("evaluate RUN DATA --image-size 32", "expected no --image-size for the run"),
        ("evaluate RUN RUN DATA --std 0.5", "expected --std with one run, got two"),
        ("report RUN --robustness-time 3s", "expected --robustness with --robustness-time"),
        ("train DATA --max-restarts 3", "expected --processes with --max-restarts"),
        ("train --resume RUN --contact-sheet x.png", "expected no --contact-sheet with --resume, got x.png"),
        ("train DATA RUN --resume", "if the data have moved, `graft train DATA --resume --out RUN`"),
        ("train DATA DATA", "give images of other splits with --val and --test"),
        ("compare RUN RUN", "`graft report A B` compares two runs, and `graft evaluate A B DATA` measures both"),
        ("train DATA --base RUN --arch resnet18", "expected no --arch for the run"),
        ("audit DATA --drop blurry", "expected --fix-list or --fix-split with --drop"),
        ("audit DATA --no-features --base resnet18", "expected --features with --base, got --no-features"),
        ("audit DATA --no-features --mean 0.5 --std 0.5", "expected --features with --mean"),
        ("audit DATA --no-features --image-size 64", "expected --features with --image-size"),
        ("lab all --data DATA", "expected the name of one experiment with --data, got all"),
        ("lab --quick", "expected the name of an experiment with --quick"),
        ("lab --data DATA", "expected the name of an experiment with --data"),
        ("models lenet5 --batch-size 8", "expected --cut with --batch-size"),
        ("cache --json clear", "expected --json after clear, got it before: graft cache clear --json"),
        ("walk RUN DATA/A/0.png --random", "expected the name of an architecture with --random"),
    ],
)
def test_an_option_without_what_it_is_about_is_refused(
    call: str, sentence: str, letters: Path, latin_run: str, tmp_path: Path
) -> None:
    words = [word.replace("RUN", latin_run).replace("DATA", str(letters)) for word in call.split()]
    done = graft(*words, cwd=tmp_path)
    assert done.returncode == 2 and sentence in done.stderr, done.stderr
    assert not any(tmp_path.iterdir())


def test_the_same_options_are_followed_with_what_they_are_about(letters: Path, latin_run: str, tmp_path: Path) -> None:
    told = json.loads(graft("models", "resnet18", "--cut", "stage1", "--batch-size", 8, "--json").stdout)
    assert told["training_step"]["batch_size"] == 8
    options = ("--no-features", "--drop", "low_information", "--fix-list", tmp_path / "left.csv")
    assert graft("audit", letters, *options, "--quiet").returncode == 0 and (tmp_path / "left.csv").exists()
    # The default stands where the option is not given: nothing is refused.
    assert graft("explain", latin_run, "--out", tmp_path / "network", "--quiet").returncode == 0


def test_the_architecture_of_a_file_is_stated_to_evaluate_and_refused_for_runs(letters: Path, latin_run: str) -> None:
    done = graft("evaluate", "latin_letters", letters, "--arch", "nonsense")
    assert done.returncode == 2 and "nonsense" in done.stderr and "architecture" in done.stderr, done.stderr
    done = graft("evaluate", latin_run, letters, "--arch", "lenet5")
    assert done.returncode == 2 and "expected no --arch for the run" in done.stderr, done.stderr
    done = graft("evaluate", latin_run, latin_run, letters, "--arch", "lenet5")
    assert done.returncode == 2 and "expected --arch with one run, got two" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--robustness", "--robustness-time", "abc"), "for --robustness-time, got 'abc'"),
        (("--unlike", "LETTERS"), "that keeps features of its training images for --unlike"),
        (("--unlike", "nowhere"), "nowhere"),
    ],
)
def test_what_is_wrong_with_an_evaluation_is_told_before_an_image_is_decoded(
    options: tuple[str, ...], sentence: str, letters: Path, latin_run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graft.workflows.evaluate.extract", lambda *_, **__: pytest.fail("images were decoded"))
    words = [word.replace("LETTERS", str(letters)) for word in options]
    done = graft("evaluate", latin_run, letters, *words)
    assert done.returncode == 2 and sentence in done.stderr, done.stderr


def test_the_answers_are_written_though_what_is_measured_beside_them_fails(
    letters: Path, latin_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("graft.workflows.robustness.robustness", fail)
    out = tmp_path / "answers.csv"
    done = graft("evaluate", latin_run, letters, "--out", out, "--robustness", "--quiet")
    assert done.returncode == 1 and len([*csv.DictReader(out.read_text(encoding="utf-8").splitlines())]) == 15
