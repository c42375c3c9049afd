"""How much time training has, on a clock of the test's own."""

import math

import pytest

from graft.errors import InputError
from graft.training.time_budget import Budget, Clock, counted_from, work_began


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which the test moves on."""
    time = [1000.0]
    monkeypatch.setattr("graft.training.time_budget.time.perf_counter", lambda: time[0])
    return time


def test_a_clock_without_a_budget_never_runs_out(now: list[float]) -> None:
    clock = Clock.start().within(None, scoring=3.0)
    now[0] += 1e9
    assert (clock.elapsed(), clock.share(), clock.limit) == (1e9, 0.0, math.inf)
    clock.check_epoch_fits(0.0, 0.01)


def test_a_budget_sets_aside_the_time_for_scoring(now: list[float]) -> None:
    clock = Clock.start().within(Budget(100.0, scorings=2.0), scoring=10.0)
    now[0] += 40
    assert clock.share() == pytest.approx(0.5)
    now[0] += 40
    assert clock.share() >= 1


def test_seconds_from_before_an_interruption_count(now: list[float]) -> None:
    clock = Clock.start(before=30.0, limit=60.0)
    now[0] += 15
    assert (clock.elapsed(), clock.share()) == (45.0, 0.75)


def test_an_epoch_that_will_not_fit_is_refused_with_what_it_takes(now: list[float]) -> None:
    clock = Clock.start(limit=50.0)
    now[0] += 6
    clock.check_epoch_fits(1.0, share=0.11)
    with pytest.raises(
        InputError, match=r"`time_limit` that leaves about 50 s for one epoch, got one that leaves 49 s"
    ):
        clock.check_epoch_fits(1.0, share=0.1)


def test_time_counts_from_now_unless_a_command_began_before(now: list[float]) -> None:
    assert work_began() == 1000.0
    with counted_from(990.0):
        assert work_began() == 990.0
        with counted_from(995.0):
            assert work_began() == 995.0
        assert work_began() == 990.0
    now[0] += 5
    assert work_began() == 1005.0
