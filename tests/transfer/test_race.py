"""The race of levels."""

import numpy as np
import pytest

from graft.transfer.race import ALLOWANCE, RACE_FOLDS, SHARES, Contestant, Trial, paired_gain, race, winner

CONTESTANTS = (
    Contestant("head", 0.0, 0.0, 1.0),
    Contestant("stages:1", 0.02, 0.03, 10.0),
    Contestant("stages:2", 0.04, 0.03, 20.0),
    Contestant("all", 0.03, 0.03, 60.0),
)


class Recorded:
    """Trials of made-up levels: `right` of 200 held-out images, the first ones, by level; what was asked for."""

    def __init__(self, right: dict[str, int]) -> None:
        self.right = right
        self.asked: list[tuple[str, int, float]] = []

    def __call__(self, level: str, fold: int, share: float) -> Trial:
        self.asked.append((level, fold, share))
        return Trial(np.arange(200) < self.right[level], seconds=2.0 * share)


def test_a_level_that_is_much_better_on_held_out_images_wins() -> None:
    fit = Recorded({"head": 120, "stages:1": 125, "stages:2": 180, "all": 124})
    standings = race(CONTESTANTS, fit)
    assert [each.level for each in standings] == ["head", "stages:1", "stages:2", "all"]
    best = winner(standings)
    assert best.level == "stages:2"
    assert best.gain == pytest.approx(0.3)
    # Between what was expected and what was measured.
    assert 0.04 < best.expected < 0.3
    assert best.whole_seconds == pytest.approx(2.0)
    assert best.share == SHARES[-1]


def test_every_round_keeps_the_better_half_and_lengthens_the_trials() -> None:
    fit = Recorded({"head": 120, "stages:1": 180, "stages:2": 182, "all": 100})
    race(CONTESTANTS, fit)
    crowns = [(level, share) for level, _, share in fit.asked if level != "head"]
    assert {level for level, share in crowns if share == SHARES[0]} == {"stages:1", "stages:2", "all"}
    assert {level for level, share in crowns if share == SHARES[1]} == {"stages:1", "stages:2"}
    assert [fold for level, fold, _ in fit.asked if level == "head"] == list(range(RACE_FOLDS))


def test_trials_cost_no_more_than_their_allowance() -> None:
    fit = Recorded({"head": 120, "stages:1": 121, "stages:2": 140, "all": 150})
    race(CONTESTANTS, fit)
    costs = {each.level: each.cost for each in CONTESTANTS}
    spent = sum(share * costs[level] for level, _, share in fit.asked if level != "head")
    assert 0 < spent <= ALLOWANCE * sum(costs.values())


def test_a_level_that_was_not_entered_is_tried_before_it_can_win() -> None:
    field = (*CONTESTANTS[:1], Contestant("stages:1", 0.005, 0.03, 10.0), *CONTESTANTS[2:])
    fit = Recorded({"head": 120, "stages:1": 119, "stages:2": 60, "all": 60})
    standings = race(field, fit)
    assert ("stages:1", 0, SHARES[0]) not in fit.asked
    assert ("stages:1", 0, SHARES[-1]) in fit.asked
    assert winner(standings).level == "head"


def test_where_nothing_is_gained_the_head_stays() -> None:
    alike = [
        Contestant("head", 0.0, 0.0, 1.0),
        Contestant("stages:1", -0.01, 0.02, 10.0),
        Contestant("all", -0.05, 0.02, 60.0),
    ]
    fit = Recorded({"head": 190, "stages:1": 190, "all": 100})
    standings = race(alike, fit)
    assert winner(standings).level == "head"
    # What is expected to end far below is not even tried.
    assert not any(level == "all" for level, _, _ in fit.asked)
    assert standings[-1].gain is None
    assert standings[-1].expected == -0.05


@pytest.mark.parametrize(("expected", "shares"), [(-0.01, SHARES[:1]), (0.01, (SHARES[0], *[SHARES[1]] * 2))])
def test_what_was_expected_to_lose_and_does_is_tried_once(expected: float, shares: tuple[float, ...]) -> None:
    field = (
        Contestant("head", 0.0, 0.0, 1.0),
        Contestant("stages:1", expected, 0.02, 10.0),
        Contestant("all", -0.05, 0.02, 60.0),
    )
    fit = Recorded({"head": 190, "stages:1": 180, "all": 0})
    race(field, fit)
    assert tuple(share for level, _, share in fit.asked if level == "stages:1") == shares


def test_a_gain_within_its_uncertainty_does_not_unseat_the_head() -> None:
    doubtful = [Contestant("head", 0.0, 0.0, 1.0), Contestant("stages:1", -0.01, 0.02, 10.0)]
    # Two of two hundred more, where none were expected.
    standings = race(doubtful, Recorded({"head": 150, "stages:1": 152}))
    assert standings[1].gain == pytest.approx(0.01)
    assert 0 < standings[1].expected < standings[1].deviation
    assert winner(standings).level == "head"
    assert winner(race(doubtful, Recorded({"head": 150, "stages:1": 170}))).level == "stages:1"


def test_the_cheaper_of_two_that_are_as_good_wins() -> None:
    even = [
        Contestant("head", 0.0, 0.0, 1.0),
        Contestant("stages:1", 0.04, 0.03, 10.0),
        Contestant("all", 0.041, 0.03, 10.0),
    ]
    assert winner(race(even, Recorded({"head": 100, "stages:1": 150, "all": 150}))).level == "stages:1"


def test_what_there_is_no_time_for_is_judged_by_what_was_expected() -> None:
    fit = Recorded({"head": 120, "stages:1": 10, "stages:2": 10, "all": 10})
    standings = race(CONTESTANTS, fit, out_of_time=lambda: True)
    assert {level for level, _, _ in fit.asked} == {"head"}
    assert winner(standings).level == "stages:2"


def test_a_paired_gain_counts_only_images_that_differ() -> None:
    right = np.array([True] * 60 + [False] * 40)
    other = np.array([True] * 50 + [False] * 10 + [True] * 4 + [False] * 36)
    gain, error = paired_gain(right, other)
    # Ten better, four worse: a gain of six in a hundred, with a variance of (14 + 1 - 100 * 0.06^2) / 100^2.
    assert gain == pytest.approx(0.06)
    assert error == pytest.approx(np.sqrt(15 - 0.36) / 100)
    assert paired_gain(right, right)[1] == pytest.approx(0.01)
