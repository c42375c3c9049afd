"""`graft train --recipe`: what a recipe file says, and what counts more."""

from pathlib import Path
from typing import Any

import pytest
from calling import graft
from written_letters import write_letters

from graft.data.table_options import TableOptions
from graft.errors import InputError
from graft.images.letters import LATIN
from graft.training.recipe import Recipe
from graft.weights.packaged import DEFAULT_BASE
from graft.workflows.prepare import DataOptions

# What differs from the usual in every setting that has a value by default.
FILE = """base: latin_letters
level: stages:1
batch_size: 64
optimizer: sgd
schedule: step
layer_decay: 0.5
class_weights: balanced
accumulate_steps: 4
sampling: balanced
mixup: 0.2
cutmix: 1.0
epochs: 3
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the training is asked for, which is refused."""
    found: dict[str, Any] = {}

    def refuse(data: object, base: str, level: str, recipe: Recipe, **others: object) -> None:
        found.update({**vars(recipe), "base": base, "level": level})
        raise InputError("expected a training, got a test: train again")

    monkeypatch.setattr("graft.workflows.train.train", refuse)
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(FILE)
    return tmp_path / "recipe.yaml"


def test_what_is_not_given_is_as_the_recipe_file_says(asked: dict[str, Any], file: Path) -> None:
    assert "got a test" in graft("train", "letters", "--no-audit", "--recipe", file).stderr
    settings = {"batch_size": 64, "optimizer": "sgd", "mixup": 0.2, "epochs": 3, "base": "latin_letters"}
    assert asked == asked | settings | {"level": "stages:1", "label_smoothing": None}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("base", DEFAULT_BASE),
        ("level", "auto"),
        ("batch_size", 32),
        ("optimizer", "adamw"),
        ("schedule", "cosine"),
        ("layer_decay", 1.0),
        ("class_weights", "none"),
        ("accumulate_steps", 1),
        ("sampling", "uniform"),
        ("mixup", 0.0),
        ("cutmix", 0.0),
        ("epochs", 9),
    ],
)
def test_an_option_that_is_given_counts_more_than_the_recipe_file_even_with_its_default(
    name: str, value: Any, asked: dict[str, Any], file: Path
) -> None:
    graft("train", "letters", "--no-audit", "--recipe", file)
    without = dict(asked)
    graft("train", "letters", "--no-audit", "--recipe", file, f"--{name.replace('_', '-')}", value)
    assert without[name] != value and asked == {**without, name: value}


def test_an_option_that_a_run_was_not_begun_with_is_refused_though_it_is_as_by_default(tmp_path: Path) -> None:
    letters, out = write_letters(tmp_path / "letters", LATIN[:2], 8), tmp_path / "run"
    begun = ("train", letters, "--base", "latin_letters", "--level", "head", "--batch-size", 16, "--no-audit")
    assert graft(*begun, "--out", out).returncode == 0
    given = {
        ("--level", "auto"): "level was 'head'",
        ("--batch-size", "32"): "batch_size was 16",
        ("--set", "batch_size=32"): "batch_size was 16",
        ("--audit",): "--no-audit was given",
        ("--time", "5m"): "no --time was given",
    }
    for option, said in given.items():
        done = graft("train", "--resume", out, *option)
        assert done.returncode == 2 and f"got different ones ({said})" in done.stderr
    same = ("--level", "head", "--batch-size", "16", "--no-audit", "--seed", "0", "--engine", "auto", "--refit")
    assert "is finished already" in graft("train", "--resume", out, *same).stderr


def test_the_column_of_labels_is_given_again_for_each_of_several_labels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found: list[TableOptions] = []

    def refuse(data: DataOptions, *others: object, **more: object) -> None:
        found.append(data.table)
        raise InputError("expected a training, got a test: train again")

    monkeypatch.setattr("graft.workflows.train.train", refuse)
    one, other = ("--label-column", "banded"), ("--label-column", "bubbly")
    for options in ((), one, (*one, *other, "--multi-label")):
        assert "got a test" in graft("train", "letters", "--no-audit", *options).stderr
    both = TableOptions(label_column=("banded", "bubbly"), multi_label=True)
    assert found == [TableOptions(), TableOptions(label_column="banded"), both]
    (tmp_path / "x.csv").write_text("path,banded,bubbly\n")
    monkeypatch.undo()
    for command in ("train", "audit", "advise", "features"):
        refused = graft(command, tmp_path / "x.csv", *one, *other)
        assert refused.returncode == 2
        assert "expected one --label-column, got 2 ('banded' and 'bubbly'): keep one" in refused.stderr
