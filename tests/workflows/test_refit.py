"""If graft set val aside itself, val is first measured on and finally trained on."""

import csv
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from written_letters import write_letters

from graft.data.dataset import TEST, TRAIN, VAL, Dataset
from graft.data.opening import open_dataset
from graft.data.splitting import with_validation
from graft.evaluation.intervals import accuracy_interval, wilson_interval
from graft.features.engine import choose
from graft.images.letters import CYRILLIC
from graft.training import fitting
from graft.training.examples import frozen_features
from graft.training.fitting import fit_level, measure
from graft.training.loop import CrownFit, crown_logits, fit_crown
from graft.training.recipe import Recipe
from graft.training.task import Task
from graft.transfer.levels import plan_level
from graft.weights.base import load_base
from graft.workflows.evaluate import evaluate
from graft.workflows.run import read_run, was_refitted
from graft.workflows.train import train

TENSOR_FILE = "model/model.safetensors"


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four letters, ten images of each, in no splits."""
    return write_letters(tmp_path_factory.mktemp("letters") / "cyrillic", CYRILLIC[:4], 10)


@pytest.fixture(scope="module")
def with_test(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a test split, and without val."""
    folder = tmp_path_factory.mktemp("letters") / "cyrillic"
    write_letters(folder / "train", CYRILLIC[:4], 10)
    write_letters(folder / "test", CYRILLIC[:4], 5, seed=2)
    return folder


def said(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "plan.json").read_text())


@pytest.mark.parametrize("level", ["head", "head:stages"])
def test_figures_are_those_of_the_measuring_and_the_classifier_is_another(
    level: str, letters: Path, tmp_path: Path
) -> None:
    once = train(letters, "latin_letters", level, out=tmp_path / "once", refit=False, quiet=True)
    twice = train(letters, "latin_letters", level, out=tmp_path / "twice", quiet=True)
    assert once.val == twice.val and once.images == twice.images == 40
    one, other = load_file(once.folder / TENSOR_FILE), load_file(twice.folder / TENSOR_FILE)
    different = [name for name in one if not torch.equal(one[name], other[name])]
    network = load_base("latin_letters").network
    head = next(name for name, module in network.named_modules() if module is network.head)
    assert sorted(different) == [f"{head}.bias", f"{head}.weight"]
    assert said(twice.folder)["refit"] and not said(once.folder)["refit"]
    assert was_refitted(twice.folder) and not was_refitted(once.folder)


def test_a_head_is_solved_on_train_and_then_on_all(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, solve = [], fitting.solve_head_on_crops

    def counted(task: Task, features: np.ndarray, shown: Any, *more: Any) -> Any:
        counts.append((features.shape[1], len(shown)))
        return solve(task, features, shown, *more)

    monkeypatch.setattr("graft.training.fitting.solve_head_on_crops", counted)
    run = train(letters, "latin_letters", "head", out=tmp_path / "run", quiet=True)
    assert counts == [(40 - run.val.n,) * 2, (40, 40)]


def test_a_crown_is_trained_on_train_and_then_on_all_up_to_the_last_epoch(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = []

    def seen(crown: Any, images: Any, val: Any, *more: Any, **others: Any) -> CrownFit:
        found = fit_crown(crown, images, val, *more, **others)
        fits.append((len(images.labels), None if val is None else len(val.labels), found.kept))
        return found

    monkeypatch.setattr("graft.training.crowns.fit_crown", seen)
    run = train(letters, "latin_letters", "all", out=tmp_path / "run", epochs=3, quiet=True)
    assert fits == [(40 - run.val.n, run.val.n, 3), (40, None, 3)]
    epochs = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    # The epochs are those measured on val, and the figure is that of the last one.
    assert [each["epoch"] for each in epochs] == [0, 1, 2, 3]
    assert run.val.top1 == pytest.approx(epochs[-1]["val_top1"])


@pytest.mark.parametrize("level", ["head", "head:stages", "stages:1", "all"])
def test_test_is_scored_by_the_classifier_that_is_kept_and_val_by_the_one_that_has_not_seen_it(
    level: str, with_test: Path
) -> None:
    dataset = with_validation(open_dataset(with_test), 0)
    task = Task.of(dataset, load_base("latin_letters"), choose("torch", "float32"), Recipe(epochs=2, flip=False))
    task = replace(task, refit=True)
    plan = plan_level(level, task.base.network, True)
    measured = measure(task.on_a_copy(), plan)
    trained = fit_level(task, plan)
    np.testing.assert_array_equal(trained.logits[VAL], measured.trained.logits[VAL])
    assert trained.temperature > 0 and trained.labels[VAL].tolist() == dataset.splits[VAL].labels.tolist()
    of_kept = {name: logits_of(task, dataset, name) for name in (VAL, TEST)}
    np.testing.assert_allclose(trained.logits[TEST], of_kept[TEST], atol=1e-3)
    assert np.abs(trained.logits[VAL] - of_kept[VAL]).max() > 0.01


def logits_of(task: Task, dataset: Dataset, split: str) -> np.ndarray:
    """The logits of the network of `task` for a split, from pixels."""
    from graft.training.examples import crown_inputs

    inputs, _ = crown_inputs(task, "input", split, dataset.splits[split], 1)
    return crown_logits(task.base.network, inputs)


def test_the_figures_of_test_are_those_of_the_saved_classifier(with_test: Path, tmp_path: Path) -> None:
    run = train(with_test, "latin_letters", "all", out=tmp_path / "run", epochs=4, quiet=True)
    assert run.test is not None and run.test.n == 20
    again = evaluate(run.folder, with_test, split="test", quiet=True)
    assert again.scores is not None and again.scores.top1 == pytest.approx(run.test.top1, abs=1.5 / 20)


def test_a_val_of_the_users_own_is_never_trained_on(tmp_path: Path) -> None:
    data = tmp_path / "letters"
    write_letters(data / "train", CYRILLIC[:3], 6)
    write_letters(data / "val", CYRILLIC[:3], 4, seed=1)
    given, other = (
        train(data, "latin_letters", "head", out=tmp_path / f"refit-{refit}", refit=refit, quiet=True)
        for refit in (True, False)
    )
    assert not said(given.folder)["refit"] and not was_refitted(given.folder)
    assert (given.folder / TENSOR_FILE).read_bytes() == (other.folder / TENSOR_FILE).read_bytes()


def test_all_images_tell_what_is_expected_of_a_head(letters: Path, tmp_path: Path) -> None:
    run = train(letters, "latin_letters", "head", out=tmp_path / "run", quiet=True)
    assert run.expected is not None and run.expected.n == run.images == 40 > run.val.n
    # Each image is answered by a head fitted without it, as in scikit-learn's folds.
    (images,) = open_dataset(letters).splits.values()
    dataset = Dataset("letters", tuple(CYRILLIC[:4]), {TRAIN: images})
    task = Task.of(dataset, load_base("latin_letters"), choose("torch", "float32"), Recipe())
    features, shown = frozen_features(task, images)
    folds = cross_val_score(LogisticRegression(max_iter=1000), features[0], shown.labels, cv=5)
    assert abs(run.expected.top1 - folds.mean()) < 0.1
    # Some letters have a copy in another font, and the two form one group.
    rows = list(csv.DictReader((run.folder / "split.csv").read_text().splitlines()))
    groups = np.array([int(row["group"]) for row in rows])
    assert len(set(groups)) < 40 and run.expected.top1 == 1
    assert run.expected.top1_ci95 == pytest.approx(accuracy_interval(np.ones(40, bool), groups))
    assert run.expected.top1_ci95[0] < wilson_interval(40, 40)[0]
    assert read_run(run.folder).expected == run.expected
    assert run.expected.groups == run.to_dict()["expected"]["groups"] == len(set(groups))
    assert f"over {len(set(groups))} groups" in str(run.expected)
    verdict = json.loads((run.folder / "report.json").read_text())["verdict"]["sentences"]
    assert str(run.expected) in verdict[0]


def test_of_stages_the_levels_that_were_compared_tell_what_is_expected(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graft.transfer.advisor.winner", lambda race: race[-1])
    run = train(letters, "latin_letters", "auto", out=tmp_path / "run", epochs=2, quiet=True)
    assert run.level == "frozen:0.4" and run.expected is not None
    plan = said(run.folder)
    told = run.to_dict()["expected"]
    assert told.pop("groups") == plan["accuracy_groups"] < 40
    assert told == {"top1": plan["accuracy"], "top1_ci95": plan["accuracy_ci95"], "n": 40}
    # What trying the levels took is part of the whole, and only where levels were tried.
    assert 0 < run.seconds["levels"] < run.seconds["total"]
    assert read_run(run.folder).seconds == run.seconds
    # The page says which fit its mistakes are of.
    assert "trained on all images, including these" in (run.folder / "report.html").read_text()


@pytest.mark.parametrize("refit", [False, True])
def test_where_val_stays_apart_or_no_level_was_compared_val_alone_tells(
    refit: bool, letters: Path, tmp_path: Path
) -> None:
    level = "all" if refit else "head"
    run = train(letters, "latin_letters", level, out=tmp_path / "run", refit=refit, epochs=1, quiet=True)
    assert run.expected is None and "expected" not in run.to_dict()


def test_many_images_are_not_fitted_twice(letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.workflows.deciding.REFIT_UP_TO", 20)
    run = train(letters, "latin_letters", "head", out=tmp_path / "run", quiet=True)
    assert not said(run.folder)["refit"]


def test_what_could_not_be_decoded_is_skipped_in_both(letters: Path, tmp_path: Path) -> None:
    data = write_letters(tmp_path / "letters", CYRILLIC[:3], 8)
    for letter in CYRILLIC[:3]:
        (data / letter / "empty.png").touch()
    run = train(data, "latin_letters", "all", out=tmp_path / "run", epochs=1, quiet=True)
    assert len(run.skipped) == 3 and run.images == 24 and said(run.folder)["refit"]


STOPPED = """
import sys
import time
import torch
torch.set_num_threads(1)  # as the tests do: sums in another order end in other bits
from graft.training import checkpoint
checkpoint.SHARE_OF_TIME = 1.0  # every epoch is kept
keep = checkpoint.write_checkpoint
told = []
def keep_and_tell(path, *arguments):
    keep(path, *arguments)
    told.append(path.name)
    print(path.name, flush=True)
    if told.count(sys.argv[3]) == 2:
        time.sleep(600)  # until it is killed
checkpoint.write_checkpoint = keep_and_tell
from graft.workflows.train import train
train(sys.argv[1], "latin_letters", "all", out=sys.argv[2], epochs=6, batch_size=8, deterministic=True, quiet=True)
"""


@pytest.mark.parametrize("during", ["last.safetensors", "refit.safetensors"])
def test_killed_while_it_is_measured_or_fitted_again_it_ends_in_the_same_bytes(
    during: str, letters: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-c", STOPPED, str(letters), str(out), during]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for told in process.stdout:
            if told.decode().strip() == during:
                break
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert not (out / "result.json").exists() and (out / "checkpoints" / during).is_file()
    assert (out / "checkpoints" / "measured.safetensors").exists() == (during == "refit.safetensors")
    run = train(out, resume=True, quiet=True)
    for name in ("model/config.json", TENSOR_FILE, "model/calibration.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    figures = json.loads((whole / "result.json").read_text())
    assert run.to_dict()["val"] == figures["val"] and run.notes == tuple(figures["notes"])
    epochs = [[json.loads(line)["val_loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
              for folder in (out, whole)]  # fmt: skip
    assert epochs[0] == epochs[1] and len(epochs[0]) == 7


@pytest.fixture(scope="module")
def whole(letters: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, uninterrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    settings = {"epochs": 6, "batch_size": 8, "deterministic": True, "quiet": True}
    return train(letters, "latin_letters", "all", out=out, **settings).folder


def test_what_is_measured_again_is_only_what_was_not(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stopping.setattr("graft.training.fitting.refit", stop)
        train(letters, "latin_letters", "stages:1", out=out, epochs=2, quiet=True)
    figures = (out / "checkpoints" / "measured.safetensors").read_bytes()
    monkeypatch.setattr("graft.workflows.train.measure_each", stop)
    monkeypatch.setattr("graft.workflows.deciding.with_flips_tried", stop)
    run = train(out, resume=True, quiet=True)
    assert (out / "checkpoints" / "measured.safetensors").read_bytes() == figures
    uninterrupted = tmp_path / "whole"
    monkeypatch.undo()
    whole = train(letters, "latin_letters", "stages:1", out=uninterrupted, epochs=2, quiet=True)
    assert (run.val, run.images) == (whole.val, whole.images)
    assert (out / TENSOR_FILE).read_bytes() == (uninterrupted / TENSOR_FILE).read_bytes()


@pytest.mark.parametrize("flip", [True, False, None])
def test_whether_flips_suited_the_images_is_written_down(flip: bool | None, letters: Path, tmp_path: Path) -> None:
    run = train(
        letters, "latin_letters", "stages:1", out=tmp_path / "run", recipe=Recipe(epochs=1, flip=flip), quiet=True
    )
    # Mirrored letters are different things.
    assert said(run.folder)["flip"] is bool(flip)


def test_train_and_val_are_both_known_to_have_been_trained_on(letters: Path, tmp_path: Path) -> None:
    run = train(letters, "latin_letters", "head", out=tmp_path / "run", quiet=True)
    splits = with_validation(open_dataset(letters), 0).splits
    assert len(splits[TRAIN]) + len(splits[VAL]) == 40
    found = evaluate(run.folder, letters, quiet=True)
    assert found.scores is None and len(found.trained_on) == 40
    assert found.notes[-1].endswith("nothing is measured")
