"""Intervals cover what they say they cover; the simulations at full length are in `benchmarks/evidence.py`."""

import numpy as np
import pytest
from scipy.special import stdtrit

from graft.evaluation import intervals
from graft.evaluation.error_budget import _binomial_tails
from graft.evaluation.intervals import (
    Z95,
    Interval,
    accuracy_interval,
    bootstrap_interval,
    chance_of_at_most,
    effective_count,
    f1_interval,
    mean_interval,
    wilson_interval,
)
from graft.evaluation.paired import accuracy


def test_f1_of_all_and_of_none() -> None:
    assert f1_interval(0, 10)[0] == 0 and f1_interval(10, 10)[1] == 1
    low, high = f1_interval(8, 12)
    assert low < 2 * 8 / (8 + 12) < high


def test_a_mean_of_rates_that_are_all_one_is_not_certain() -> None:
    low, high = mean_interval([10, 10], [10, 10])
    assert high == 1 and wilson_interval(10, 10)[0] < low < 1


def test_a_mean_of_one_rate_has_its_interval() -> None:
    assert mean_interval([7], [10]) == pytest.approx(wilson_interval(7, 10))


def test_the_mean_of_many_classes_is_covered_as_often_as_that_of_few() -> None:
    random = np.random.default_rng(0)
    for classes, rate in ((2, 0.9), (10, 0.9), (20, 0.8)):
        covered = 0
        for _ in range(600):
            low, high = mean_interval(random.binomial([300 // classes] * classes, rate), [300 // classes] * classes)
            covered += low <= rate <= high
        assert 0.93 <= covered / 600 <= 0.985, (classes, covered)


def test_images_of_a_group_that_are_all_alike_are_worth_one() -> None:
    right = np.repeat(np.random.default_rng(0).random(400) < 0.7, 5)
    assert effective_count(right, np.repeat(np.arange(400), 5)) == pytest.approx(400, rel=0.02)
    independent = np.random.default_rng(1).random(2000) < 0.7
    assert effective_count(independent, np.repeat(np.arange(400), 5)) > 1500


def test_one_group_is_worth_one_image() -> None:
    assert effective_count(np.array([True, False, True]), np.zeros(3, int)) == 1


def test_of_groups_without_an_error_each_is_worth_one_image_at_most() -> None:
    assert effective_count(np.ones(100, bool), np.arange(100) // 5) <= 20


@pytest.mark.parametrize("correct", range(1, 10))
def test_groups_of_which_the_same_share_is_correct_are_worth_the_same_whatever_rounding_leaves(correct: int) -> None:
    # At a half the sums of the groups are exactly zero, at other shares nearly.
    right, groups = np.tile(np.arange(10) < correct, 10), np.repeat(np.arange(10), 10)
    assert effective_count(right, groups) == pytest.approx(100 * (Z95 / stdtrit(9, 0.975)) ** 2)
    seeds = np.zeros(100, np.int64)
    assert accuracy(right, np.arange(100), seeds, groups).ci95 == pytest.approx(accuracy_interval(right, groups))


def test_the_bootstrap_draws_whole_groups() -> None:
    groups = np.array([7, 7, 7, 3, 3])

    def statistic(drawn: np.ndarray) -> np.ndarray:
        assert (drawn[:, 1:3] == drawn[:, :1]).all() and (drawn[:, 3] == drawn[:, 4]).all()
        return drawn.sum(1, keepdims=True)

    ((low, high),) = bootstrap_interval(statistic, 5, groups)
    assert (low, high) == (4, 6)


def test_the_bootstrap_of_a_mean_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(0).normal(size=400)
    ((low, high),) = bootstrap_interval(lambda drawn: (drawn @ values / drawn.sum(1))[:, None], 400)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.08)
    assert low < values.mean() < high


def test_accuracy_in_groups_is_covered() -> None:
    random, covered = np.random.default_rng(3), 0
    groups = np.repeat(np.arange(30), 6)
    for _ in range(300):
        # Patients differ: the rate of each is drawn.
        right = random.random(180) < np.repeat(random.beta(4, 1, 30), 6)
        worth = effective_count(right, groups)
        low, high = wilson_interval(right.mean() * worth, worth)
        covered += low <= 0.8 <= high
    assert 0.91 <= covered / 300 <= 0.99


def test_the_bootstrap_draws_the_same_images_together_and_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    values, groups = np.random.default_rng(0).normal(size=90), np.arange(90) // 4

    def interval(together: int) -> tuple[Interval, ...]:
        monkeypatch.setattr(intervals, "DRAWN_TOGETHER", together)
        return bootstrap_interval(lambda drawn: (drawn @ values / drawn.sum(1))[:, None], 90, groups)

    one_by_one = interval(1)
    for together in (1000, 2**20):
        np.testing.assert_allclose(interval(together), one_by_one, rtol=1e-12)


def test_binomial_chances_are_those_of_scipy() -> None:
    special = pytest.importorskip("scipy.special")
    random = np.random.default_rng(0)
    for count in (1, 2, 10, 300, 20_000):
        for rate in (0.0, 0.01, 0.3, 1.0):
            wrong = np.cumsum(random.random(count) < rate)
            for budget in (0.001, 0.02, 0.5, 0.9):
                expected = special.bdtr(wrong, np.arange(1, count + 1), budget)
                np.testing.assert_allclose(_binomial_tails(wrong, budget), expected, atol=1e-9)
                few = int(wrong[-1])
                assert chance_of_at_most(few, count, budget) == pytest.approx(expected[-1], abs=1e-9)
    assert not len(_binomial_tails(np.empty(0, np.int64), 0.1))
