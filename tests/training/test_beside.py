"""Fits side by side: each is bit for bit what it is alone, whatever they draw, and all stop when one fails."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from written_letters import write_letters

from graft.data.dataset import TEST, TRAIN, VAL
from graft.data.opening import open_dataset
from graft.data.splitting import with_validation
from graft.errors import GraftError
from graft.features.engine import choose
from graft.images.letters import CYRILLIC
from graft.progress import Reporter
from graft.seeding import draw_from, generator, seeded
from graft.training import crowns, fitting
from graft.training.beside import fits_at_once, in_a_lane, lanes, refits_ahead, side_by_side
from graft.training.fitting import fit_level, measure_each, refit
from graft.training.inputs import Inputs
from graft.training.loop import crown_logits
from graft.training.racing import race
from graft.training.recipe import Recipe
from graft.training.task import Task
from graft.training.time_budget import Budget
from graft.transfer.levels import Plan, plan_level
from graft.transfer.race import Contestant
from graft.weights.base import load_base
from graft.workflows.advise import decide_on

NOBODY = Reporter()


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_letters(tmp_path_factory.mktemp("letters") / "cyrillic", CYRILLIC[:4], 10)


def task_of(letters: Path, **settings: object) -> Task:
    recipe = Recipe(epochs=3, flip=False, dropout=0.5)
    task = Task.of(with_validation(open_dataset(letters), 0), load_base("latin_letters"), choose("torch"), recipe)
    return replace(task, refit=True, **settings)  # type: ignore[arg-type]


def plan_of(task: Task, level: str = "all") -> Plan:
    return plan_level(level, task.base.network, True)


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: values.clone() for name, values in network.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_outcomes_are_in_the_order_of_the_jobs_and_the_first_lane_tells() -> None:
    told = []
    reporter = Reporter(step=lambda name, done, total, text="": told.append((name, done)))

    def job(number: int, its: Reporter) -> tuple[int, int]:
        its.step(f"job {number}", 1, 1)
        return number, torch.get_num_threads()

    jobs = [lambda its, number=number: job(number, its) for number in range(5)]
    for at_once in (1, 2):
        assert side_by_side(jobs, reporter, at_once) == [(number, 1) for number in range(5)]
    assert told == [(f"job {number}", 1) for number in (*range(5), 0, 2, 4)]
    assert torch.get_num_threads() == 2


def test_what_a_job_draws_is_what_it_draws_alone_and_the_process_draws_on_as_before() -> None:
    def drawn(seed: int) -> Tensor:
        parts = []
        with seeded(seed):
            for number in range(50):
                draw_from(seed + number)
                parts += [F.dropout(torch.ones(64)), torch.rand(3, generator=generator())]
                time.sleep(1e-4)
        return torch.cat(parts)

    before = torch.get_rng_state()
    alone = [drawn(0), drawn(1), drawn(2)]
    beside = side_by_side([lambda _, seed=seed: drawn(seed) for seed in range(3)], NOBODY)
    assert all(map(torch.equal, alone, beside)) and torch.equal(torch.get_rng_state(), before)
    assert generator() is torch.default_generator


def test_where_one_fails_the_others_stop_and_its_error_is_raised() -> None:
    steps = []

    def going_on(its: Reporter) -> None:
        for number in range(10_000):
            its.step("steps", number, 10_000)
            steps.append(number)
            time.sleep(1e-3)

    def failing(its: Reporter) -> None:
        time.sleep(0.02)
        raise GraftError("expected this")

    for jobs in ([going_on, failing], [failing, going_on]):
        steps.clear()
        with pytest.raises(GraftError, match="expected this"):
            side_by_side(jobs, NOBODY)
        assert len(steps) < 5000 and torch.get_num_threads() == 2
        assert not any(each.name.startswith("lane") for each in threading.enumerate())


def test_an_interruption_stops_the_other_lane() -> None:
    def waiting(its: Reporter) -> None:
        while True:
            its.step("steps", 0, 1)
            time.sleep(1e-3)

    def interrupted(its: Reporter) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        side_by_side([interrupted, waiting], NOBODY)
    assert not any(each.name.startswith("lane") for each in threading.enumerate())


def test_a_refit_ahead_is_to_the_bit_the_refit_that_has_its_turn(letters: Path) -> None:
    task = task_of(letters)
    assert refits_ahead(task, task.base.network)
    (measured,) = measure_each([task], plan_of(task), ahead=True)
    assert measured.ahead is not None
    one, other = task.on_a_copy(), task.on_a_copy()
    ahead = refit(one, plan_of(one), measured)
    # As in a run that was interrupted.
    later = refit(other, plan_of(other), replace(measured, ahead=None, examples=None))
    assert same(weights(one.base.network), weights(other.base.network)) and not one.base.network.training
    assert not same(weights(one.base.network), weights(task.base.network))
    np.testing.assert_array_equal(ahead.logits[VAL], later.logits[VAL])
    # Fits that ran at once took no longer than the longer of the two.
    took = measured.ahead.trained.training_seconds
    assert ahead.training_seconds == pytest.approx(max(took, measured.trained.training_seconds))
    assert ahead.temperature == later.temperature == measured.trained.temperature


def test_what_is_measured_beside_a_refit_is_to_the_bit_what_is_measured_in_a_lane_alone(letters: Path) -> None:
    task = task_of(letters)
    (beside,) = measure_each([task], plan_of(task), ahead=True)
    copy = task.on_a_copy()
    examples = fitting.examples_of(copy, plan_of(copy))
    with seeded(copy.seed):
        start = fitting.start_crown(copy, plan_of(copy), examples, None)
        alone = in_a_lane(lambda: fitting.measure_crown(copy, plan_of(copy), examples, start, None))
    np.testing.assert_array_equal(beside.trained.logits[VAL], alone.logits[VAL])


def test_what_is_set_aside_in_turn_is_measured_as_one_by_one(letters: Path) -> None:
    from graft.training.racing import _set_aside_anew

    task = task_of(letters, raced=True)
    parts = [task, _set_aside_anew(task, 1), _set_aside_anew(task, 2)]
    beside = measure_each(parts, plan_of(task), ahead=True)
    assert [each.ahead is not None for each in beside] == [False] * 3
    torch.set_num_threads(1)
    for part, found in zip(parts, beside, strict=True):
        alone = fitting.measure(part.on_a_copy(), plan_of(part))
        assert found.trained.labels[VAL].tolist() == alone.trained.labels[VAL].tolist()
        np.testing.assert_array_equal(found.trained.logits[VAL], alone.trained.logits[VAL])


def test_a_refit_that_fails_ahead_of_its_time_fails_when_it_has_its_turn(
    letters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise GraftError("expected a finite loss")

    monkeypatch.setattr("graft.training.fitting.refit_crown", failing)
    task = task_of(letters)
    (measured,) = measure_each([task], plan_of(task), ahead=True)
    assert measured.ahead is None and measured.trained.history
    with pytest.raises(GraftError, match="expected a finite loss"):
        fit_level(task, plan_of(task), measured=measured)


def test_fits_wait_for_each_other_where_they_would_share_draws_or_have_one_core(letters: Path) -> None:
    task = task_of(letters)
    crown = task.base.network
    assert fits_at_once(task, crown) == lanes(task, crown) == 2
    assert lanes(replace(task, choice=replace(task.choice, device="cuda")), crown) == 1
    for count in (1, 2):
        # Requested processes, even a single one, cut batches into pieces, with draws and cores of their own.
        asked = replace(task.processes, count=count, job="job")
        assert lanes(replace(task, processes=asked), crown) == 1

    class Stranger(nn.Module):
        pass

    assert lanes(task, nn.Sequential(crown, Stranger())) == 1
    torch.set_num_threads(1)
    assert lanes(task, crown) == 1 and not refits_ahead(task, crown) and fits_at_once(task, crown) == 1


def test_fits_side_by_side_have_all_the_time_and_fits_in_turn_divide_it(letters: Path) -> None:
    def shares(tasks: list[Task], level: str = "all", **others: object) -> list[float]:
        seen: list[float] = []
        with pytest.MonkeyPatch.context() as patch:
            budget = crowns._budget
            patch.setattr(
                crowns,
                "_budget",
                lambda task, scored, share=1.0, after=0.0: seen.append(share) or budget(task, scored, share, after),
            )
            measure_each(tasks, plan_of(tasks[0], level), **others)  # type: ignore[arg-type]
        return sorted(seen)

    task = task_of(letters, deadline=time.perf_counter() + 600)
    train, val = (len(task.dataset.splits[name]) for name in (TRAIN, VAL))
    before_refit = train / (2 * train + val)
    assert shares([task]) == [pytest.approx(before_refit)]
    # Measured fit and refit run at once; of three measured fits in turn with it, one in each lane goes first.
    assert shares([task], ahead=True) == [1.0, 1.0]
    assert shares([task, task, task], ahead=True) == [0.5, 0.5, 1.0, 1.0]
    assert shares([task, task]) == [pytest.approx(before_refit)] * 2
    torch.set_num_threads(1)
    assert shares([task, task]) == [pytest.approx(before_refit)] * 2


def test_time_for_test_images_is_kept_for_the_fit_that_scores_them(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Budget] = []
    train = crowns.fit_crown
    monkeypatch.setattr(
        crowns, "fit_crown", lambda *these, budget, **those: given.append(budget) or train(*these, budget=None, **those)
    )
    # Scoring an image takes a second, by the clock that the time is counted with.
    monkeypatch.setattr(crowns, "crown_logits", lambda crown, inputs, *_: passed(inputs) or logits(crown, inputs, *_))
    logits, clock = crown_logits, [0.0]

    def passed(inputs: Inputs) -> None:
        clock[0] += len(inputs.labels)

    monkeypatch.setattr(crowns.time, "perf_counter", lambda: clock[0])
    write_letters(tmp_path / "test", CYRILLIC[:4], 25)
    dataset = with_validation(open_dataset(letters), 0)
    dataset = replace(dataset, splits={**dataset.splits, TEST: open_dataset(tmp_path / "test").splits["all"]})
    for refits, scorings in ((True, 2.5), (False, 2.5 + 100 / 8)):
        given.clear()
        clock[0] = 0.0
        task = replace(task_of(letters, deadline=1000.0), dataset=dataset, refit=refits)
        torch.set_num_threads(1)
        fit_level(task, plan_of(task))
        assert given[0].scorings == pytest.approx(scorings)
        if refits:
            # Of what is left, 100 seconds are needed in the end; 64 and 64 tell so.
            before = (1000 - 2 - 64 - 100) * 32 / 72
            assert given[0].seconds == pytest.approx(before) and given[1].scorings == 0.0
            assert given[1].seconds == pytest.approx(1000 - 2 - 100 - 64 - 64 - 2 * 8)


@pytest.mark.parametrize("enough", [40, 8])
def test_a_race_with_time_to_spare_ends_as_one_without_a_limit(
    letters: Path, enough: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With 8 images enough to compare, as many as are set aside, the race is not repeated.
    monkeypatch.setattr("graft.training.beside.ENOUGH_TO_COMPARE", enough)
    task = task_of(letters, raced=True)
    unlimited, measured = decide_on(task, ahead=True)
    limited, of_limited = decide_on(replace(task, deadline=time.perf_counter() + 1e5), ahead=True)
    assert [replace(each, seconds=0.0) for each in limited.race] == [
        replace(each, seconds=0.0) for each in unlimited.race
    ]
    val = len(task.dataset.splits[VAL])
    assert val == 8 and limited.race[-1].n == (8 if enough == 8 else 4 * val)
    assert limited.plan == unlimited.plan and limited.accuracy_ci95 == unlimited.accuracy_ci95
    assert measured is not None and of_limited is not None
    assert np.array_equal(measured.trained.logits[VAL], of_limited.trained.logits[VAL])


def test_where_time_is_short_levels_are_tried_once_and_what_ran_ahead_needs_no_more(
    letters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graft.transfer.advisor.winner", lambda race: race[-1])
    # Time for the trials, however long they take here, and none after them.
    monkeypatch.setattr("graft.training.racing.SAVING_SECONDS", 1e6)
    task = task_of(letters, raced=True, deadline=time.perf_counter() + 1e4)
    val = len(task.dataset.splits[VAL])
    advice, measured = decide_on(task, ahead=True)
    assert advice.race[-1].n == advice.race[-1].n_gain == val
    assert advice.plan.level == "frozen:0.4" and measured is not None and measured.ahead is not None


def test_a_race_that_advises_only_trains_nothing_ahead(letters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.training.beside.ENOUGH_TO_COMPARE", 1)
    task = task_of(letters, raced=True)
    plans = {level: plan_of(task, level) for level in ("head", "all")}
    field = [Contestant("head", 0.0, 0.1, 1.0), Contestant("all", 0.0, 0.1, 2.0)]
    for ahead in (False, True):
        _, measured = race(task, plans, field, ahead)
        assert (measured["all"].ahead is not None) is ahead and measured["head"].ahead is None
