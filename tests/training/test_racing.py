"""The race on real images: which levels enter, on which images, and which lack time or memory."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from written_letters import write_letters

from graft.data.dataset import TRAIN, VAL, Dataset, Images
from graft.data.handed_over import from_arrays
from graft.data.opening import open_dataset
from graft.data.splitting import with_validation
from graft.errors import DataError
from graft.features.engine import choose
from graft.images.letters import CYRILLIC
from graft.progress import Reporter
from graft.training.fitting import Measured
from graft.training.racing import contestants, for_the_race, planned, race, rows_to_race_on
from graft.training.recipe import Recipe
from graft.training.task import Task
from graft.transfer.advisor import CONTENDERS, TextbookRule, expected_gain
from graft.transfer.race import Standing, winner
from graft.weights.base import load_base
from graft.workflows.advise import decide_on

RULE = TextbookRule(3, "frozen:0.4", False, 20, ())


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Five letters, ten images of each; graft sets some aside as val."""
    folder = write_letters(tmp_path_factory.mktemp("letters") / "cyrillic", CYRILLIC[:5], 10)
    return with_validation(open_dataset(folder), 0)


@pytest.fixture(scope="module")
def split_letters(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The same letters with a val of the user's own."""
    folder = tmp_path_factory.mktemp("letters") / "split"
    write_letters(folder / "train", CYRILLIC[:5], 10)
    write_letters(folder / "val", CYRILLIC[:5], 4, seed=1)
    return open_dataset(folder)


def task_of(dataset: Dataset, **others: object) -> Task:
    base, recipe = load_base("latin_letters"), Recipe(epochs=2, flip=False)
    return Task.of(dataset, base, choose("torch", "float32"), recipe, **others)


def names(images: Images) -> set[str]:
    return {images.name(index) for index in range(len(images))}


def raced(task: Task) -> tuple[tuple[Standing, ...], dict[str, Measured]]:
    plans = planned(task)
    return race(task, plans, contestants(task, plans, RULE))


def test_every_level_enters_with_what_is_expected_of_it_and_what_it_costs(letters: Dataset) -> None:
    task = task_of(letters)
    plans = planned(task)
    field = contestants(task, plans, RULE)
    assert tuple(each.level for each in field) == CONTENDERS
    expected = [expected_gain(plans[each], False, 20) for each in CONTENDERS]
    assert [(each.expected, each.deviation) for each in field] == expected
    assert field[0].cost <= field[1].cost < field[2].cost


def test_heads_are_compared_on_all_images_and_levels_that_train_on_those_held_out(letters: Dataset) -> None:
    task = task_of(letters, refit=True)
    assert for_the_race(task, own_val=True) is task
    before = {name: tensor.clone() for name, tensor in task.base.network.state_dict().items()}
    standings, measured = raced(task)
    val, every = len(letters.splits[VAL]), len(letters)
    # Ten images of val are too few, so as many are set aside three more times.
    held_out = 4 * val
    assert [each.n for each in standings] == [every, every, held_out]
    assert [each.n_gain for each in standings] == [every, every, held_out]
    assert standings[0].gain == 0.0 and all(each.gain is not None and each.seconds > 0 for each in standings)
    # The measurement is that of the level alone, and leaves nothing in the network.
    assert measured.keys() == set(CONTENDERS)
    assert all(found.trained.logits[VAL].shape == (val, 5) for found in measured.values())
    assert all(np.array_equal(before[name], tensor) for name, tensor in task.base.network.state_dict().items())


@pytest.mark.parametrize("lacking", ["time", "memory"])
def test_a_level_too_expensive_is_left_untried_with_a_note_and_a_head_wins(
    lacking: str, letters: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    task = task_of(letters, reporter=Reporter(note=told.append))
    if lacking == "time":
        task = replace(task, deadline=time.perf_counter())
    else:
        monkeypatch.setattr("graft.training.memory.free_memory", lambda: 2**10)
    # Whatever is expected of it, a level that was not tried is not chosen.
    monkeypatch.setattr("graft.transfer.advisor.EXPECTED_OF_TUNING", {True: (0.5, 0.01), False: (0.5, 0.01)})
    advice, measured = decide_on(task)
    assert advice.plan.level in ("head", "head:stages") and measured is not None
    assert advice.race[-1].gain is None and advice.race[-1].expected > 0.4
    notes = [note for note in told if note.startswith("level frozen:0.4 was not tried: expected a")]
    assert len(notes) == 1 and ("`time_limit`" if lacking == "time" else "memory") in notes[0]


def test_no_level_is_chosen_that_no_time_is_left_to_train_again(
    letters: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graft.transfer.advisor.winner", lambda race: race[-1])
    task = task_of(letters, refit=True)
    assert decide_on(task)[0].plan.level == "frozen:0.4"
    # Time for the trials, however long they take here, and none after them.
    monkeypatch.setattr("graft.training.racing.SAVING_SECONDS", 1e6)
    advice, _ = decide_on(replace(task, deadline=time.perf_counter() + 1e4))
    assert advice.plan.level == "head:stages"
    assert "no time is left to train frozen:0.4 again" in advice.plan.reasons


def test_the_users_own_val_has_no_part_in_the_choice(split_letters: Dataset) -> None:
    task = task_of(split_letters, refit=False)
    tried_on = for_the_race(task, own_val=False)
    train, val = tried_on.dataset.splits[TRAIN], tried_on.dataset.splits[VAL]
    assert not names(train) & names(val)
    assert names(train) | names(val) == names(split_letters.splits[TRAIN])
    # A val in which every label is wrong changes nothing.
    own = split_letters.splits[VAL]
    spoiled = replace(own, labels=(own.labels + 1) % 5)
    other = replace(task, dataset=replace(split_letters, splits={**split_letters.splits, VAL: spoiled}))
    found = [decide_on(each, own_val=False) for each in (task, other)]
    standings = [[replace(each, seconds=0.0) for each in advice.race] for advice, _ in found]
    assert standings[0] == standings[1]
    # Results of the race do not stand for results on val.
    assert [measured for _, measured in found] == [None, None]


def test_of_many_images_some_are_raced(letters: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.training.racing.MOST_IMAGES", 20)
    task = task_of(letters, refit=True)
    tried_on = for_the_race(task, own_val=True)
    assert len(tried_on.dataset) == 20 and not tried_on.refit
    assert len(tried_on.dataset.splits[VAL]) < len(tried_on.dataset.splits[TRAIN])
    assert names(tried_on.dataset.splits[TRAIN]) < names(letters.splits[TRAIN])
    assert decide_on(task)[1] is None


def test_a_limited_time_is_divided_between_the_trials_and_the_training_after_them(
    split_letters: Dataset, letters: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def left(task: Task, own_val: bool) -> float:
        now = time.perf_counter()
        deadline = for_the_race(replace(task, deadline=now + 90.0), own_val).deadline
        assert deadline is not None
        return deadline - now

    # Four fifths of the images are tried on, then all are trained on.
    assert left(task_of(split_letters, refit=False), own_val=False) == pytest.approx(40, abs=1)
    # If the trial is the fit that is kept, the time for a refit is set apart elsewhere.
    assert left(task_of(letters, refit=True), own_val=True) == pytest.approx(90, abs=1)
    monkeypatch.setattr("graft.training.racing.MOST_IMAGES", 20)
    assert 22 < left(task_of(letters, refit=True), own_val=True) < 25
    assert for_the_race(task_of(letters, refit=True), own_val=True).deadline is None


def test_images_that_cannot_be_used_end_the_race_in_a_sentence(tmp_path: Path) -> None:
    data = write_letters(tmp_path / "letters", CYRILLIC[:2], 6)
    (data / "broken").mkdir()
    for number in range(3):
        (data / "broken" / f"{number}.png").write_bytes(b"\x89PNG")
    task = task_of(with_validation(open_dataset(data), 0))
    with pytest.raises(DataError, match="'broken'"):
        raced(task)


def test_the_winner_is_fitted_as_it_was_tried(letters: Dataset) -> None:
    task = task_of(letters, refit=True)
    advice, measured = decide_on(task)
    assert measured is not None and advice.plan.level == winner(advice.race).level
    right = measured.trained.logits[VAL].argmax(1) == measured.trained.labels[VAL]
    of_folds = measured.trained.cross_validated
    every = right if of_folds is None else np.concatenate([right, of_folds])
    standing = next(each for each in advice.race if each.level == advice.plan.level)
    assert standing.accuracy == pytest.approx(every.mean())


def test_a_sample_to_race_on_has_every_class_and_label_and_is_else_by_chance() -> None:
    labels = [f"common{number % 3}" for number in range(900)] + [f"rare{number % 40}" for number in range(80)] + ["one"]
    pixels = np.zeros((len(labels), 2, 2, 3), np.uint8)
    dataset = from_arrays(pixels, labels)
    images = dataset.splits["all"]
    rows = rows_to_race_on(dataset, images, 0, 200)
    sizes = np.bincount(images.labels[rows], minlength=len(dataset.classes))
    assert len(rows) == 200 and (np.diff(rows) > 0).all()
    assert sorted(sizes)[:41] == [1, *[2] * 40] and min(sorted(sizes)[-3:]) > 20
    assert len(rows_to_race_on(dataset, images, 0, 10)) == 2 * 43 + 1
    # Where chance has drawn all classes, the sample is what chance has drawn.
    drawn = np.sort(np.random.default_rng(1).permutation(900)[:500])
    common = images.take(np.arange(900))
    assert rows_to_race_on(dataset, common, 1, 500).tolist() == drawn.tolist()
    sets = [[label, "seen"] if label != "common0" else [] for label in labels]
    several = from_arrays(pixels, sets, multi_label=True)
    for block in (64, 2**16):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("graft.training.racing.BLOCK", block)
            rows = rows_to_race_on(several, several.splits["all"], 0, 200)
        having = several.label_matrix(several.splits["all"].labels[rows]).sum(0)
        assert len(rows) == 200
        assert having.min() == 1 and (np.sort(having)[1:41] == 2).all()
