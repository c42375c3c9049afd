"""The notes on a training run that improved nothing, or learnt nothing."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graft.errors import GraftError
from graft.images.letters import CYRILLIC, LATIN, dejavu_fonts, render_letters
from graft.progress import Reporter
from graft.training.history import Epoch
from graft.training.notes import notes_on_baseline, notes_on_curve
from graft.training.recipe import Recipe
from graft.workflows.compare import compare
from graft.workflows.train import train

RECIPE = Recipe(epochs=2, learning_rate=9.9).resolve()


def curve(*epochs: tuple[float, float]) -> list[Epoch]:
    """Val loss and accuracy by epoch, the start first."""
    return [Epoch(number, None, loss, top1, 0.0) for number, (loss, top1) in enumerate(epochs)]


def test_a_training_whose_best_epoch_is_its_start_says_so() -> None:
    (note,) = notes_on_curve(curve((0.34, 0.86), (4.9, 0.5), (0.81, 0.54)), 0, RECIPE)
    assert note == (
        "training improved nothing (val loss 0.340 and accuracy 86.0% before training, val loss 0.810 and accuracy "
        "54.0% after 2 epochs), so the start is kept: lower --lr (its peak was 9.9), or keep more of the base, as "
        "--level head does"
    )


def test_a_loss_that_ended_above_its_start_is_told_and_one_below_is_not() -> None:
    (note,) = notes_on_curve(curve((0.34, 0.86), (0.4, 0.87)), 1, RECIPE)
    assert note.startswith("the val loss ended above its start (val loss 0.340 and accuracy 86.0% before training, ")
    assert "after 1 epoch)" in note
    assert not list(notes_on_curve(curve((0.34, 0.86), (0.3, 0.86)), 1, RECIPE))


def test_a_training_that_lost_its_patience_says_when_it_stopped_and_what_is_kept() -> None:
    impatient = replace(RECIPE, epochs=9, patience=2)
    better, same = (0.3, 0.9), (0.31, 0.88)
    (note,) = notes_on_curve(curve((0.5, 0.5), better, same, same), 1, impatient)
    assert note == (
        "stopped after epoch 3 of 9, as val did best after epoch 1 (--patience 2); the weights of epoch 1 are kept"
    )
    (note,) = notes_on_curve(curve((0.5, 0.5), better, same, same), 3, impatient, refit=True)
    assert "the weights of epoch 3 are kept, and the fit on all images" in note and "--no-refit" in note
    # One that ran out of time or came to its end did not stop for that.
    assert not list(notes_on_curve(curve((0.5, 0.5), better, same), 1, impatient))
    assert not list(notes_on_curve(curve((0.5, 0.5), better, same, same), 1, replace(impatient, epochs=3)))


def test_no_epochs_train_nothing() -> None:
    (note,) = notes_on_curve(curve((0.34, 0.86)), 0, replace(RECIPE, epochs=0))
    assert note == "nothing was trained, as --epochs is 0: the scores are those of the start"


@pytest.mark.parametrize(
    ("right", "said"),
    [
        (46, "val accuracy 46.0% (95 % interval 36.6% to 55.7%) is no better than always answering the majority class"),
        (58, "val accuracy 58.0% (95 % interval 48.2% to 67.2%) cannot be told from always answering the majority"),
        (80, ""),
    ],
)
def test_an_accuracy_that_the_majority_class_explains_is_told(right: int, said: str) -> None:
    labels = np.repeat([0, 1], [54, 46])
    answers = np.where(np.arange(100) < right, labels, 1 - labels)
    notes = list(notes_on_baseline(np.eye(2)[answers], labels))
    assert [note.startswith(said) for note in notes] == ([True] if said else [])
    assert all("(54.0%)" in note for note in notes)


def test_an_accuracy_over_few_groups_is_told_even_where_as_many_images_would_prove_it() -> None:
    labels, groups = np.repeat([0, 1], [54, 46]), np.arange(100) // 25
    answers = np.where(np.arange(100) < 80, labels, 1 - labels)
    (note,) = notes_on_baseline(np.eye(2)[answers], labels, groups)
    assert "over 4 groups) cannot be told from always answering" in note


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six Cyrillic letters, ten images of each."""
    root = tmp_path_factory.mktemp("letters") / "cyrillic"
    images, labels = render_letters(CYRILLIC[:6], dejavu_fonts(), 10, 0)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / CYRILLIC[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(folder / f"{index:02}.png")
    return root


# With a refit on all images there is no val to choose an epoch by, so nothing goes back to the start.
@pytest.mark.parametrize(
    ("refit", "said"), [(False, "training improved nothing"), (True, "the val loss ended above its start")]
)
def test_a_diverged_run_says_so_on_stderr_in_its_result_and_in_its_report(
    refit: bool, said: str, letters: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    recipe = Recipe(epochs=3, learning_rate=9.9, optimizer="adamw")
    reporter = Reporter(note=told.append)
    run = train(letters, "latin_letters", "all", recipe=recipe, out=tmp_path / "run", reporter=reporter, refit=refit)
    notes = [note for note in run.notes if note.startswith(f"level all: {said}")]
    assert len(notes) == 1 and "its peak was 9.9" in notes[0]
    assert told.count(notes[0]) == 1
    assert said in (run.folder / "report.html").read_text()


def test_a_run_of_no_epochs_says_that_nothing_was_trained(letters: Path, tmp_path: Path) -> None:
    run = train(letters, "latin_letters", "all", epochs=0, out=tmp_path / "none", quiet=True)
    assert "level all: nothing was trained, as --epochs is 0: the scores are those of the start" in run.notes


def test_a_comparison_says_which_level_learnt_nothing(letters: Path) -> None:
    recipe = Recipe(epochs=1, learning_rate=1e-6)
    found = compare(letters, "latin_letters", ["head", "scratch"], seeds=1, recipe=recipe, quiet=True)
    learnt_nothing = [note for note in found.notes if "always answering the majority class" in note]
    assert learnt_nothing and all(note.startswith("level scratch: ") for note in learnt_nothing)


def test_what_is_not_finite_ends_in_no_file(letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from graft.training import heads

    def spoiled(*arguments: object, **more: object) -> object:
        head = usual(*arguments, **more)
        return replace(head, bias=np.full_like(head.bias, np.nan))

    usual = heads.fit_head
    monkeypatch.setattr(heads, "fit_head", spoiled)
    with pytest.raises(GraftError, match="expected finite scores of val at level head, got NaN or infinity in"):
        train(letters, "latin_letters", "head", out=tmp_path / "run", quiet=True)
    assert not list((tmp_path / "run").rglob("*.safetensors"))


@pytest.mark.parametrize(("level", "what"), [("head", "a head is solved"), ("as-is", "the base is scored")])
def test_work_that_is_not_cut_short_says_how_long_after_its_time_it_ended(
    level: str, what: str, tmp_path: Path
) -> None:
    letters = LATIN[:3] if level == "as-is" else CYRILLIC[:3]
    images, labels = render_letters(letters, dejavu_fonts(), 8, seed=0)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        (tmp_path / "data" / letters[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(tmp_path / "data" / letters[label] / f"{index}.png")
    told: list[str] = []
    options = {"reporter": Reporter(note=told.append), "audit": False}
    late = train(tmp_path / "data", "latin_letters", level, time_limit="1ms", out=tmp_path / "late", **options)
    (note,) = (note for note in late.notes if "however long it takes" in note)
    assert re.fullmatch(rf"{what} however long it takes: \d+\.\d s past --time", note) and told.count(note) == 1
    in_time = train(tmp_path / "data", "latin_letters", level, time_limit="1h", out=tmp_path / "in-time", **options)
    assert not any("however long" in note for note in in_time.notes)
