"""Advice on real images."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from calling import graft as command
from written_letters import write_letters

from graft.errors import DataError, InputError, WeightsError
from graft.images.letters import CYRILLIC
from graft.progress import Reporter
from graft.training.recipe import Recipe
from graft.transfer.advisor import plausible
from graft.transfer.chart import draw_advice
from graft.weights.base import load_base
from graft.workflows.advise import advise, advise_bases
from graft.workflows.prepare import BaseOptions
from graft.workflows.train import train

BASE = "mobilenet_v1_025_imagenet.safetensors"


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_letters(tmp_path_factory.mktemp("data") / "letters", CYRILLIC[:4], 12)


@pytest.mark.parametrize(("data", "scenario"), [("ants_bees", 1), ("pacs_sketch", 3)])
def test_photographs_are_like_imagenet_and_sketches_are_not(data: str, scenario: int, shared: Path) -> None:
    told: list[tuple[str, int, int]] = []
    reporter = Reporter(step=lambda name, done, total: told.append((name, done, total)))
    advice = advise(shared / "datasets" / data, str(shared / "weights" / BASE), with_race=False, reporter=reporter)
    assert advice.scenario == scenario
    assert ("features for the head", advice.evidence.n, advice.evidence.n) in told
    assert told[-1] == ("measuring", 64, 64)
    # The probe rises with depth; chance is a half for two classes and a seventh for seven.
    assert advice.evidence.probe[-1].accuracy > advice.evidence.probe[0].accuracy + 0.15
    assert advice.race == () and advice.plan.level == advice.textbook


def test_the_race_tries_levels_on_the_images_and_the_same_seed_says_the_same(letters: Path, shared: Path) -> None:
    base = str(shared / "weights" / "resnet20-12fca82f.th")
    start = BaseOptions(base, image_size=32)
    found = [advise(letters, start, recipe=Recipe(epochs=1)) for _ in range(2)]
    advice = found[0]
    assert [each.level for each in advice.race] == [each.level for each in plausible(load_base(base).network)]
    head, stages, crown = advice.race
    # Heads are compared on all images, levels that train stages on held-out images.
    assert (head.level, head.n, stages.n, stages.n_gain) == ("head", 48, 48, 48)
    # Eight val images are too few, so three more sets of that size are set aside.
    assert crown.n == crown.n_gain == 32 and crown.gain is not None
    assert advice.plan.level in {each.level for each in advice.race}
    assert advice.cost is not None and advice.cost.peak_bytes > 10**6
    without_seconds = [[replace(each, seconds=0.0) for each in one.race] for one in found]
    assert without_seconds[0] == without_seconds[1]


def test_advice_without_a_race_states_memory_and_cache_and_no_seconds(letters: Path) -> None:
    advice = advise(letters, "latin_letters", with_race=False)
    cost = advice.to_dict()["cost"]
    assert cost["seconds"] is None and cost["peak_bytes"] > 10**5 and cost["cache_bytes"] > 0
    told = command("advise", letters, "--base", "latin_letters", "--no-race", "--quiet").stdout
    assert "MiB" in told and "s of training" not in told


def test_automatic_training_follows_the_advice_and_says_why(letters: Path, shared: Path, tmp_path: Path) -> None:
    base = str(shared / "weights" / "resnet20-12fca82f.th")
    settings = {"recipe": Recipe(epochs=2), "image_size": 32}
    run = train(letters, base, "auto", out=tmp_path / "run", **settings)
    said = json.loads((run.folder / "plan.json").read_text())
    assert (said["level"], said["cut"]) == (run.level, run.cut)
    assert said["scenario"] in (1, 2, 3, 4)
    assert said["evidence"]["race"][0]["level"] == "head"
    assert said["cost"].keys() == {"seconds", "peak_bytes", "cache_bytes"}
    advice = advise(letters, BaseOptions(base, image_size=32), recipe=settings["recipe"])
    assert run.level == advice.plan.level


def test_several_bases_are_ordered_by_what_is_expected_of_them(letters: Path, shared: Path, tmp_path: Path) -> None:
    bases = ["latin_letters", str(shared / "weights" / "resnet20-12fca82f.th")]
    found = advise_bases(letters, [BaseOptions(name, image_size=32) for name in bases], recipe=Recipe(epochs=2))
    assert {each.base for each in found} == set(bases)
    accuracies = [each.advice.accuracy for each in found]
    assert accuracies == sorted(accuracies, reverse=True)
    # A network that knows Latin letters is the better start for Cyrillic ones.
    assert found[0].base == "latin_letters"
    draw_advice(found[0].advice, tmp_path / "advice.png")
    assert (tmp_path / "advice.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="each base only once"):
        advise_bases(letters, ["latin_letters", "latin_letters"])


def test_a_name_without_weights_is_refused(shared: Path) -> None:
    with pytest.raises(WeightsError, match="resnet20"):
        advise(shared / "datasets" / "ants_bees", "resnet20")


def test_too_little_time_for_one_epoch_is_said_with_what_one_takes(letters: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`time_limit`"):
        train(letters, "latin_letters", "all", time_limit=0.5, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_time_budget_is_kept(letters: Path, tmp_path: Path) -> None:
    recipe = Recipe(epochs=100_000, batch_size=8)
    run = train(letters, "latin_letters", "all", time_limit=8.0, recipe=recipe, out=tmp_path / "run")
    assert 4.0 < run.seconds["total"] <= 8.0
    epochs = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert 2 < len(epochs) < 100_000


def test_a_resumed_run_keeps_the_plan_it_was_begun_with(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"recipe": Recipe(epochs=2), "out": tmp_path / "run"}

    def stop(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr("graft.workflows.train.fit_level", stop)
        train(letters, "latin_letters", "auto", **settings)
    planned = json.loads((tmp_path / "run" / "plan.json").read_text())
    # The race has measured the level: neither racing nor measuring is repeated.
    monkeypatch.setattr("graft.workflows.deciding.decide_on", stop)
    monkeypatch.setattr("graft.workflows.train.measure_each", stop)
    run = train(letters, "latin_letters", "auto", resume=True, **settings)
    assert run.level == planned["level"]
    assert json.loads((run.folder / "plan.json").read_text())["reasons"] == planned["reasons"]


def test_one_image_per_class_is_said_or_trained_on_where_val_is_given(tmp_path: Path) -> None:
    alone = write_letters(tmp_path / "alone", CYRILLIC[:3], 1)
    with pytest.raises(DataError, match="two images or more"):
        advise(alone, "latin_letters")
    split = tmp_path / "split"
    write_letters(split / "train", CYRILLIC[:3], 1)
    write_letters(split / "val", CYRILLIC[:3], 4, seed=1)
    run = train(split, "latin_letters", "auto", out=tmp_path / "run")
    assert run.val.n == 12
    assert any("only one image" in note for note in run.notes)
