"""A search over levels and recipes."""

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from calling import graft as command
from written_letters import files, write_letters

import graft
from graft.errors import InputError
from graft.evaluation.paired import paired_difference
from graft.features import extraction
from graft.files import write_aside
from graft.images.letters import CYRILLIC
from graft.training.fitting import measure
from graft.training.recipe_file import read_recipe, settings_of, with_settings
from graft.training.tuning import SPACE, Trial, best_of, propose, searched_around
from graft.transfer.levels import plan_level
from graft.workflows.deciding import decide
from graft.workflows.prepare import DataOptions

pytest.importorskip("optuna", reason="needs graft-vision[tune]")

OPTIONS: dict[str, Any] = {"levels": "head,stages:1", "settings": {"epochs": 2, "augment": "none"}, "seed": 1}
OPTIONS |= {"engine": "torch", "precision": "float32", "quiet": True}


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tuned") / "letters"
    write_letters(root / "train", CYRILLIC[:3], 8, seed=0)
    write_letters(root / "test", CYRILLIC[:3], 4, seed=2)
    return root


def asked(trials: tuple[Trial, ...]) -> list[tuple]:
    return [(each.number, each.level, each.settings, each.top1, each.loss) for each in trials]


def test_a_search_that_was_stopped_goes_on_with_the_same_trials_and_no_second_extraction(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, calls = files(letters), []
    whole = graft.tune(letters, "latin_letters", trials=5, out=tmp_path / "whole", **OPTIONS)
    compute = extraction._compute

    def stop_in_the_fourth(done: list[Trial], *more: Any) -> Any:
        if len(done) == 3:
            raise KeyboardInterrupt
        return propose(done, *more)

    said = "stopped; 3 trials are kept in .*, and the same call continues from them"
    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt, match=said):
        stopping.setattr("graft.workflows.tune.propose", stop_in_the_fourth)
        graft.tune(letters, "latin_letters", trials=5, out=tmp_path / "stopped", **OPTIONS)
    assert len((tmp_path / "stopped" / "trials.jsonl").read_text().splitlines()) == 3
    monkeypatch.setattr(extraction, "_compute", lambda *given: calls.append(given) or compute(*given))
    again = graft.tune(letters, "latin_letters", trials=5, out=tmp_path / "stopped", **OPTIONS)
    assert asked(again.trials) == asked(whole.trials) and len(again.trials) == 5
    assert not calls and files(letters) == before
    assert whole.trials[0] == whole.usual and {each.level for each in whole.trials[1:]} <= {"head", "stages:1"}


def test_the_best_recipe_trains_and_the_verdict_is_by_test(letters: Path, tmp_path: Path) -> None:
    found = graft.tune(letters, "latin_letters", trials=3, out=tmp_path / "search", **OPTIONS)
    best = found.best
    assert best.top1 == max(each.top1 for each in found.trials)
    if best.number == found.usual.number:
        assert found.verdict == "no trial was better than what graft train does anyway"
    else:
        assert found.n == 12 and found.difference.value == pytest.approx(found.test[0] - found.test[1])
    written = yaml.safe_load(found.recipe.read_text())
    assert written["level"] == best.level and written["base"] == "latin_letters"
    # A trial's reported settings are valid for a recipe.
    assert best.settings.items() <= written.items()
    run = graft.train(letters, recipe=found.recipe, out=tmp_path / "run", quiet=True)
    assert (run.level, run.base) == (best.level, "latin_letters")
    assert json.loads(json.dumps(found.to_dict()))["best"]["number"] == best.number


def test_images_in_groups_are_compared_by_groups(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = []

    def kept(right: np.ndarray, other: np.ndarray, images: np.ndarray, seeds: np.ndarray, groups: np.ndarray) -> Any:
        known.append(groups)
        return paired_difference(right, other, images, seeds, groups)

    monkeypatch.setattr("graft.workflows.tune.paired_difference", kept)
    # The best trial is another than the usual one, and is compared with it on test.
    monkeypatch.setattr("graft.workflows.tune.best_of", lambda done, stages: done[-1])
    data = DataOptions(letters, group=r"(\d)\.png")
    found = graft.tune(data, "latin_letters", trials=2, out=tmp_path / "search", **OPTIONS)
    (groups,) = known
    assert len(groups) == found.n and 1 < len(np.unique(groups)) < found.n


def test_the_command_searches_and_trains_by_what_it_found(letters: Path, tmp_path: Path) -> None:
    options = ("--levels", "stages:1", "--set", "epochs=1", "--set", "augment=none", "--base", "latin_letters")
    done = command("tune", letters, "--trials", 2, "--out", tmp_path / "search", "--json", "--quiet", *options)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["trials"]) == 2 and found["verdict"]
    file = tmp_path / "recipe.yaml"
    file.write_text("level: stages:1\nbase: latin_letters\nepochs: 1\nlearning_rate: 1e-3\n")
    run = tmp_path / "run"
    given = ("--recipe", file, "--set", "label_smoothing=0.05", "--batch-size", 8, "--out", run, "--quiet")
    assert command("train", letters, *given).returncode == 0
    arguments = yaml.safe_load((run / "args.yaml").read_text())
    wanted = {"level": "stages:1", "base": "latin_letters", "epochs": 1, "learning_rate": 0.001, "batch_size": 8}
    assert arguments | wanted | {"label_smoothing": 0.05} == arguments


def test_a_folder_of_another_search_or_of_something_else_is_refused(letters: Path, tmp_path: Path) -> None:
    graft.tune(letters, "latin_letters", trials=1, out=tmp_path / "search", **OPTIONS)
    with pytest.raises(InputError, match=r"got another \(images, seed differ\)"):
        graft.tune(letters, "latin_letters", trials=1, out=tmp_path / "search", **{**OPTIONS, "seed": 2})
    question = tmp_path / "search" / "tune.json"
    began = question.read_text()
    question.write_text(json.dumps({**json.loads(began), "weights": "others"}))
    with pytest.raises(InputError, match=r"got another \(weights differ\)"):
        graft.tune(letters, "latin_letters", trials=1, out=tmp_path / "search", **OPTIONS)
    question.write_text("[]")
    with pytest.raises(InputError, match="the trials of a search"):
        graft.tune(letters, "latin_letters", trials=1, out=tmp_path / "search", **OPTIONS)
    question.write_text(began)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="which holds something"):
        # Before anything is looked at: the images are not there.
        graft.tune(letters / "train", "no base", trials=1, out=tmp_path / "other", **OPTIONS)
    (tmp_path / "search" / "trials.jsonl").write_text("{")
    with pytest.raises(InputError, match="the trials of a search"):
        graft.tune(letters, "latin_letters", trials=1, out=tmp_path / "search", **OPTIONS)


def test_what_a_killed_search_left_before_its_first_trial_is_no_obstacle(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def die_at(file: Path, write: Any) -> None:
        written.append(file.name)
        if file.name == "trials.jsonl":
            file.with_name(f".{file.name}.0123abcd.partial").write_text("{")
            raise SystemExit(137)
        write_aside(file, write)

    with monkeypatch.context() as dying, pytest.raises(SystemExit):
        dying.setattr("graft.training.tuning.write_aside", die_at)
        graft.tune(letters, "latin_letters", trials=1, out=tmp_path / "search", **OPTIONS)
    # Trials without tune.json, the question that they answer, could belong to any search.
    assert written == ["tune.json", "trials.jsonl"]
    (tmp_path / "search" / "tune.json").unlink()
    found = graft.tune(letters, "latin_letters", trials=1, out=tmp_path / "search", **OPTIONS)
    assert len(found.trials) == 1
    assert {each.name for each in (tmp_path / "search").iterdir()} == {"tune.json", "trials.jsonl", "best.yaml"}


def test_a_random_start_is_random_and_searched_around_what_suits_it(letters: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "levels": "head,scratch", "out": tmp_path / "search"}
    found = graft.tune(letters, "latin_letters", trials=4, **options)
    usual, *others = (each for each in found.trials if each.level == "scratch")
    assert not usual.settings and all("start_share" not in each.settings for each in others)
    assert all(4e-4 <= each.settings["learning_rate"] <= 1e-2 for each in others)
    alone = graft.tune(letters, "latin_letters", trials=1, **{**options, "levels": "scratch", "out": tmp_path / "one"})
    run = graft.train(letters, recipe=alone.recipe, seed=1, engine="torch", out=tmp_path / "run", quiet=True)
    assert run.level == "scratch"
    # Two epochs from nothing know less than the base does, here as there.
    assert alone.usual.top1 == usual.top1 == run.val.top1 < max(each.top1 for each in found.trials)


def test_levels_that_are_one_are_tried_once(letters: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    options = {**OPTIONS, "levels": "head,frozen:1,frozen:.8", "quiet": False}
    told = graft.Reporter(note=notes.append)
    found = graft.tune(letters, "latin_letters", trials=9, out=tmp_path / "search", reporter=told, **options)
    assert len(found.trials) <= 2
    assert "level frozen:1 is not tried: in latin_letters it is the same as head" in notes
    assert set(notes) >= {each for each in found.notes if "not tried" in each or "nothing is left" in each} != set()


def test_trials_that_fail_are_told_and_the_search_goes_on(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing: set[str] = {"stages:1"}
    monkeypatch.setattr(
        "graft.workflows.tune.decide", lambda *given, **named: replace(decide(*given, **named), measured=None)
    )

    def fail(task: Any, plan: Any, *more: Any) -> Any:
        if plan.level in failing:
            raise InputError("expected room for a step, got none: take smaller batches")
        return measure(task, plan, *more)

    monkeypatch.setattr("graft.workflows.tune.measure", fail)
    found = graft.tune(letters, "latin_letters", trials=2, out=tmp_path / "second", **OPTIONS)
    assert [each.error is None for each in found.trials] == [True, False] and found.best == found.usual
    failing.add("head")
    # The first trial's refusal shows an error in the request.
    with pytest.raises(InputError, match="room for a step"):
        graft.tune(letters, "latin_letters", trials=2, out=tmp_path / "input", **OPTIONS)
    monkeypatch.setattr("graft.workflows.tune.InputError", OSError)
    with pytest.raises(
        graft.GraftError, match="expected at least one trial to succeed, got 2 that fail, the last with: expec"
    ):
        graft.tune(letters, "latin_letters", trials=2, out=tmp_path / "both", **OPTIONS)
    failing.remove("stages:1")
    found = graft.tune(letters, "latin_letters", trials=2, out=tmp_path / "first", **OPTIONS)
    assert found.best.level == "stages:1" and found.test is None
    assert "what graft train does anyway fails: expected room" in found.verdict


def test_a_search_shows_its_verdict_in_a_notebook(letters: Path, tmp_path: Path) -> None:
    settings = {"epochs": np.int64(2), "augment": "none", "learning_rate": np.float32(1e-3)}
    options = {**OPTIONS, "settings": settings, "out": tmp_path / "search", "trials": 2}
    found = graft.tune(letters, "latin_letters", **options)
    assert found.verdict in found._repr_html_() and str(found.recipe) in found._repr_html_()
    # numpy's numbers are stored and read back as Python's.
    assert asked(graft.tune(letters, "latin_letters", **options).trials) == asked(found.trials)


def test_what_is_tried_next_follows_from_the_trials_before() -> None:
    trials = [Trial(0, "auto", {}, 0.5, 1.0, 1.0), Trial(1, "head", {}, None, None, 1.0, "diverged")]
    usual = graft.Recipe().resolve(pretrained=True)
    searched = searched_around(usual, ("dropout",))
    assert searched["learning_rate"].low < usual.learning_rate < searched["learning_rate"].high < 0.01
    assert searched.keys() == SPACE.keys() - {"dropout"}
    assert "start_share" not in searched_around(graft.Recipe(batch_norm="batch").resolve(pretrained=True), ())
    assert "learning_rate" not in searched_around(graft.Recipe(find_learning_rate=True).resolve(pretrained=True), ())
    levels = ("head", "stages:1", "all")
    by_level = {"head": {}, "stages:1": searched, "all": searched}
    trials += [Trial(2, "stages:1", {}, 0.6, 1.0, 1.0), Trial(3, "all", {}, 0.5, 1.0, 1.0)]
    assert propose(trials, levels, by_level, 0) == propose(trials, levels, by_level, 0)
    for number in range(4, 30):
        level, settings = propose(trials, levels, by_level, 0)
        assert level in ("stages:1", "all") and settings.keys() == searched.keys()
        assert all(searched[name].low <= value <= searched[name].high for name, value in settings.items())
        top1 = 0.9 - abs(settings["label_smoothing"] - 0.05) - 0.3 * (level == "all")
        trials.append(Trial(number, level, settings, top1, 1.0, 1.0))
    # Settings that do well are tried more often than at random.
    assert sum(each.level == "stages:1" for each in trials[10:]) > 12


def test_of_equally_accurate_trials_the_cheapest_level_is_the_best() -> None:
    stages = {"head": 1, "stages:1": 2, "all": 6}
    dear, cheap = Trial(0, "all", {}, 0.9, 0.1, 1.0), Trial(1, "stages:1", {}, 0.9, 0.4, 1.0)
    lower, failed = Trial(2, "stages:1", {}, 0.9, 0.3, 1.0), Trial(3, "head", {}, None, None, 1.0, "diverged")
    less = Trial(4, "head", {}, 0.89, 0.1, 1.0)
    assert best_of([dear, cheap, lower, failed, less], stages) is lower
    assert best_of([dear, less], stages) is dear
    assert best_of([cheap, Trial(5, "stages:1", {}, 0.9, 0.4, 1.0)], stages) is cheap
    assert best_of([failed, less], stages) is less


def test_no_loss_outweighs_an_image_of_val() -> None:
    accurate, surer = Trial(0, "head", {}, 0.9010, 2.5, 1.0), Trial(1, "head", {}, 0.9000, 0.4, 1.0)
    assert accurate.value > surer.value and best_of([surer, accurate], {"head": 1}) is accurate
    # One image in five million, and the highest loss beside none.
    one_more, one_less = (Trial(0, "head", {}, top1, loss, 1.0) for top1, loss in ((1.0, 1e3), (1 - 2e-7, 0.0)))
    assert one_more.value > one_less.value
    # Among equals the lower loss, as long as losses differ at all.
    for top1 in (0.0, 0.5, 1.0):
        lower, higher = (Trial(0, "head", {}, top1, loss, 1.0) for loss in (0.40000, 0.40001))
        assert lower.value > higher.value > Trial(2, "head", {}, None, None, 1.0, "diverged").value


def test_every_level_is_tried_with_the_usual_recipe_and_heads_once(letters: Path, tmp_path: Path) -> None:
    tried = [Trial(0, "all", {}, 0.5, 1.0, 1.0)]
    levels, usual = ("head", "all", "stages:1"), searched_around(graft.Recipe().resolve(True), ())
    searched = {"head": {}, "all": usual, "stages:1": usual}
    assert propose(tried, levels, searched, 0) == ("head", {})
    tried.append(Trial(1, "head", {}, None, None, 1.0, "diverged"))
    assert propose(tried, levels, searched, 0) == ("stages:1", {})
    tried.append(Trial(2, "stages:1", {}, 0.6, 1.0, 1.0))
    level, settings = propose(tried, levels, searched, 0)
    assert level != "head" and settings
    assert propose(tried, ("head",), searched, 0) is None
    notes: list[str] = []
    told = graft.Reporter(note=notes.append)
    heads = {**OPTIONS, "levels": "head", "quiet": False, "reporter": told}
    found = graft.tune(letters, "latin_letters", trials=9, out=tmp_path / "heads", **heads)
    assert len(found.trials) <= 2 and any("nothing is left to try" in each for each in notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a list", "got something else"),
        ("epoch: 3", "did you mean 'epochs'"),
        ("epochs: many", "epochs"),
        ("level: [1]", "put it in quotes"),
        ("level: haed", "level"),
        ("{", "check the file"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_in_a_sentence(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"^expected .*{said}"):
        read_recipe(tmp_path / "recipe.yaml")


def test_what_is_set_is_a_field_and_a_value() -> None:
    assert with_settings(graft.Recipe(), settings_of(["epochs=3", "flip=false", "learning_rate=1e-4"])) == graft.Recipe(
        epochs=3, flip=False, learning_rate=1e-4
    )
    for word in ("epochs", "=3", "epochs={"):
        with pytest.raises(InputError, match="expected KEY=VALUE"):
            settings_of([word])
    with pytest.raises(InputError, match="did you mean 'epochs'"):
        with_settings(graft.Recipe(), {"epoch": 3})
    with pytest.raises(InputError, match="levels that are trained"):
        graft.tune("photos", levels="auto", quiet=True)
    for levels in (None, 3, ["head", 1]):
        with pytest.raises(InputError, match="expected a list of levels, or a string with commas"):
            graft.tune("photos", levels=levels, quiet=True)
    for settings in ("epochs=1", graft.Recipe(), ["epochs=1"], {1: 2}):
        with pytest.raises(
            InputError, match=r"expected (fields of a recipe and their values|a field of a recipe) in se"
        ):
            graft.tune("photos", settings=settings, quiet=True)


def test_the_best_is_of_the_levels_asked_for_and_the_usual_trial_is_only_compared_with(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose_another(*given: Any, **named: Any) -> Any:
        decided = decide(*given, **named)
        plan = plan_level("frozen:0.4", decided.task.base.network, True)
        return replace(decided, plan=plan, measured=None)

    monkeypatch.setattr("graft.workflows.tune.decide", choose_another)
    monkeypatch.setattr("graft.workflows.tune.best_of", lambda trials, stages: trials[0])
    options = {**OPTIONS, "levels": "head", "trials": 1, "time_limit": 1e-3}
    found = graft.tune(letters, "latin_letters", out=tmp_path / "search", **options)
    assert [each.level for each in found.trials] == ["frozen:0.4", "head"]
    assert (found.usual.level, found.best.level) == ("frozen:0.4", "head")
    assert yaml.safe_load(found.recipe.read_text())["level"] == "head"
    assert any("frozen:0.4, is what graft train does anyway: it is only a baseline" in each for each in found.notes)
    # Under another name it is the same level, which is tried once, by the name that was asked for.
    options["levels"] = "frozen:.4"
    other = graft.tune(letters, "latin_letters", out=tmp_path / "other", **options)
    assert [each.level for each in other.trials] == ["frozen:.4"] and other.best == other.usual


def test_a_level_that_is_worse_than_the_usual_one_is_told_as_that() -> None:
    usual, best = Trial(0, "frozen:0.4", {}, 0.9, 0.1, 1.0), Trial(1, "head", {}, 0.8, 0.1, 1.0)
    found = graft.Tuning(Path("search"), Path("best.yaml"), (usual, best), best, usual, None, None, 0, 1.0)
    assert found.verdict == "-10.0 points on val: worse than what graft train does anyway, frozen:0.4"


def test_a_solved_head_keeps_the_weights_of_the_classes_in_its_recipe(letters: Path, tmp_path: Path) -> None:
    settings = {"class_weights": "balanced", "epochs": 2}
    options = {**OPTIONS, "levels": "head", "settings": settings, "trials": 2}
    found = graft.tune(letters, "latin_letters", out=tmp_path / "search", **options)
    written = yaml.safe_load(found.recipe.read_text())
    assert (written["level"], written["class_weights"]) == ("head", "balanced") and "epochs" not in written


def test_the_printed_command_trains_on_the_splits_of_the_search(letters: Path, tmp_path: Path) -> None:
    own, val = tmp_path / "my letters", tmp_path / "others for val"
    shutil.copytree(letters / "train", own)
    for path in write_letters(val, CYRILLIC[:3], 4, seed=5).rglob("*.png"):
        path.rename(path.with_name(f"{path.parent.name}-{path.name}"))
    options = ("--val", val, "--test", letters / "test", "--levels", "head", "--seed", 3, "--base", "latin_letters")
    told = command(
        "tune", own, "--trials", 1, "--out", "best of all", "--group", r"/(\w+)\.png", *options, cwd=tmp_path
    )
    assert told.returncode == 0, told.stderr
    (printed,) = re.findall("`(.*)`", told.stdout)
    assert printed in told.stderr
    words = shlex.split(printed)
    assert words[1:5] == ["train", "my letters", "--recipe", "best of all/best.yaml"]
    assert words[words.index("--val") + 1] == "others for val"
    assert words[words.index("--group") + 1] == r"/(\w+)\.png"
    trained = command(*words[1:], "--out", "run", "--quiet", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    arguments = yaml.safe_load((tmp_path / "run" / "args.yaml").read_text())
    wanted = {"val": str(val), "test": str(letters / "test"), "level": "head", "base": "latin_letters", "seed": 3}
    assert arguments | wanted == arguments


def test_images_in_memory_are_trained_by_the_recipe_in_python(letters: Path, tmp_path: Path) -> None:
    data = graft.Dataset.from_folder(letters / "train")
    found = graft.tune(data, "latin_letters", trials=1, out=tmp_path / "search", **OPTIONS)
    assert found.command == f"graft.train(images, recipe={str(found.recipe)!r})"
