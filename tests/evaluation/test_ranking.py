"""The interval of an area under the ROC curve: what it is where it is known, and how often it holds."""

from math import erf, sqrt

import numpy as np
import pytest

from graft.evaluation.ranking import roc_area, roc_area_interval

RUNS = 400


def area_and_interval(
    figures: np.ndarray, positive: np.ndarray, groups: np.ndarray | None = None
) -> tuple[float, float, float]:
    area = roc_area(figures, positive)
    assert area is not None
    return area, *roc_area_interval(area, figures, positive, groups)


@pytest.mark.parametrize(("positives", "negatives"), [(5, 40), (30, 30), (20, 200)])
@pytest.mark.parametrize("apart", [0.0, 1.5, 3.0])
def test_it_holds_the_true_area_as_often_as_it_says(positives: int, negatives: int, apart: float) -> None:
    random, held = np.random.default_rng(0), 0
    positive = np.arange(positives + negatives) < positives
    for _ in range(RUNS):
        figures = random.normal(size=len(positive)) + apart * positive
        area, low, high = area_and_interval(figures, positive)
        assert low <= area <= high
        held += low <= 0.5 * (1 + erf(apart / 2)) <= high
    # Of 400 intervals that hold in 95 % of cases, 368 or more do so in all but 1 % of tests.
    assert held >= 368


@pytest.mark.parametrize("by_group", [True, False])
def test_so_it_does_for_images_in_groups_and_would_not_if_they_were_taken_for_independent(by_group: bool) -> None:
    random, held, alone = np.random.default_rng(1), 0, 0
    groups = np.repeat(np.arange(20), 8)
    for _ in range(RUNS):
        positive = groups % 2 == 0 if by_group else random.random(len(groups)) < 0.3
        figures = 1.2 * positive + random.normal(size=20)[groups] + random.normal(size=len(groups))
        true = 0.5 * (1 + erf(1.2 / (2 * sqrt(2))))
        _, low, high = area_and_interval(figures, positive, groups)
        held += low <= true <= high
        _, low, high = area_and_interval(figures, positive)
        alone += low <= true <= high
    assert held >= 368
    # Within groups, positives and negatives share what the group adds.
    assert (alone < 320) == by_group


def test_groups_that_are_all_ranked_alike_are_no_less_than_independent_but_for_their_number() -> None:
    # Each group of four has an area of a half, so the groups do not differ at all.
    figures, positive = np.tile([0.0, 1.0, 2.0, 3.0], 12), np.tile([True, False, False, True], 12)
    groups = np.repeat(np.arange(12), 4)
    area, low, high = area_and_interval(figures, positive, groups)
    _, lower, higher = area_and_interval(figures, positive)
    assert area == 0.5 and 1 < (high - low) / (higher - lower) < 1.2


def test_no_perfect_area_is_certain_and_one_group_tells_nothing() -> None:
    figures, positive = np.arange(30) / 30, np.arange(30) >= 15
    area, low, high = area_and_interval(figures, positive)
    assert (area, high) == (1.0, 1.0) and 0.75 < low < 0.95
    area, low, high = area_and_interval(-figures, positive)
    assert (area, low) == (0.0, 0.0) and 0.05 < high < 0.25
    assert area_and_interval(figures, positive, np.zeros(30, np.int64))[1:] == (0.0, 1.0)
    # Groups of one image are independent, but for Student's quantile.
    wide = area_and_interval(figures, positive, np.arange(30))
    assert wide[1] < area_and_interval(figures, positive)[1] < wide[1] + 0.05
    tied = area_and_interval(np.zeros(30), positive)
    assert tied[0] == 0.5 and tied[1] == pytest.approx(1 - tied[2])
