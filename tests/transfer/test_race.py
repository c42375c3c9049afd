"""The standings of levels that were fitted, and compared on held-out images."""

from dataclasses import replace

import numpy as np
import pytest

from graft.transfer.race import TIE, Contestant, Standing, Trial, paired_gain, standings_of, winner

CONTESTANTS = (
    Contestant("head", 0.0, 0.0, 1.0),
    Contestant("head:stages", 0.01, 0.03, 2.0),
    Contestant("frozen:0.4", 0.02, 0.03, 60.0),
)


def right(count: int, of: int = 200) -> np.ndarray:
    """Answers of which the first `count` are correct."""
    return np.arange(of) < count


def trials(folds: bool = True, **counts: int) -> dict[str, Trial]:
    """Made-up trials on 200 images held out from all, and for heads on 800 more in folds, as many of them right."""
    found = {}
    for level, count in counts.items():
        level = {"stages": "head:stages", "crown": "frozen:0.4"}.get(level, level)
        once = np.concatenate([right(count), right(4 * count, 800)]) if folds and level != "frozen:0.4" else None
        found[level] = Trial(right(count), once, 2.0)
    return found


def by_level(standings: tuple[Standing, ...]) -> dict[str, Standing]:
    return {each.level: each for each in standings}


def test_a_level_that_is_much_better_on_held_out_images_wins() -> None:
    standings = standings_of(CONTESTANTS, trials(head=120, stages=125, crown=180))
    assert [each.level for each in standings] == ["head", "head:stages", "frozen:0.4"]
    best = winner(standings)
    assert best.level == "frozen:0.4"
    assert best.gain == pytest.approx(0.3)
    # Between what was expected and what was measured.
    assert 0.02 < best.expected < 0.3
    assert best.seconds == 2.0


def test_heads_are_compared_on_all_images_and_other_levels_on_those_held_out_from_every_level() -> None:
    found = by_level(standings_of(CONTESTANTS, trials(head=120, stages=130, crown=130)))
    assert (found["head"].n, found["head:stages"].n, found["frozen:0.4"].n) == (1000, 1000, 200)
    assert (found["head:stages"].n_gain, found["frozen:0.4"].n_gain) == (1000, 200)
    assert found["head:stages"].gain == pytest.approx(found["frozen:0.4"].gain) == pytest.approx(0.05)
    # As large a gain on five times as many images is the stronger evidence.
    assert found["head:stages"].error < 0.5 * found["frozen:0.4"].error


def test_a_gain_that_heads_have_only_in_folds_counts() -> None:
    found = {
        "head": Trial(right(150), np.concatenate([right(150), right(500, 800)]), 1.0),
        "head:stages": Trial(right(150), np.concatenate([right(150), right(600, 800)]), 1.0),
    }
    assert by_level(standings_of(CONTESTANTS[:2], found))["head:stages"].gain == pytest.approx(0.1)


def test_heads_without_the_same_folds_are_compared_on_the_images_held_out_alone() -> None:
    found = {"head": Trial(right(120), right(820, 1000), 1.0), "head:stages": Trial(right(130), None, 1.0)}
    standing = by_level(standings_of(CONTESTANTS[:2], found))["head:stages"]
    assert (standing.n_gain, standing.gain) == (200, pytest.approx(0.05))


def test_the_measured_gain_counts_by_its_certainty_against_the_expectation() -> None:
    standing = by_level(standings_of(CONTESTANTS, trials(head=120, crown=140)))["frozen:0.4"]
    assert standing.gain == pytest.approx(0.1)
    # Twenty better, none worse.
    error = np.sqrt(20 + 1 - 200 * 0.1**2) / 200
    assert standing.error == pytest.approx(error)
    weights = np.array([1 / error**2, 1 / 0.03**2])
    assert standing.expected == pytest.approx(weights @ [0.1, 0.02] / weights.sum())
    assert standing.deviation == pytest.approx(weights.sum() ** -0.5)


def test_a_gain_far_beyond_the_expectation_is_believed_and_grows_without_a_jump() -> None:
    found = {count: standings_of(CONTESTANTS, trials(head=50, crown=50 + count)) for count in range(0, 150, 2)}
    gains = {count: by_level(standings)["frozen:0.4"] for count, standings in found.items()}
    expected = [each.expected for each in gains.values()]
    # Half of all images more: what was expected, two points, hardly counts any more.
    assert gains[100].gain == pytest.approx(0.5) and gains[100].expected > 0.48
    # A gain within the usual range is still drawn to it.
    assert gains[20].expected < 0.1
    steps = np.diff(expected)
    assert (steps > 0).all() and steps.max() < 0.03


def test_a_level_that_was_not_tried_keeps_what_was_expected_and_cannot_win() -> None:
    hopeful = (CONTESTANTS[0], Contestant("frozen:0.4", 0.2, 0.05, 60.0))
    standings = standings_of(hopeful, trials(head=120))
    untried = by_level(standings)["frozen:0.4"]
    assert (untried.gain, untried.error, untried.accuracy, untried.n) == (None, None, None, 0)
    assert (untried.expected, untried.deviation) == (0.2, 0.05)
    assert winner(standings).level == "head"


def test_where_nothing_is_gained_the_head_stays() -> None:
    assert winner(standings_of(CONTESTANTS, trials(head=190, stages=188, crown=150))).level == "head"


@pytest.mark.parametrize(("more", "best"), [(0, "head"), (20, "frozen:0.4")])
def test_a_level_of_which_a_loss_was_expected_wins_by_what_is_measured_alone(more: int, best: str) -> None:
    doubtful = (CONTESTANTS[0], Contestant("frozen:0.4", -0.01, 0.02, 10.0))
    assert winner(standings_of(doubtful, trials(head=150, crown=150 + more))).level == best


def test_a_gain_that_chance_makes_of_few_images_is_drawn_to_what_was_expected() -> None:
    doubtful = (CONTESTANTS[0], Contestant("frozen:0.4", -0.03, 0.02, 10.0))
    # One of twenty more: a gain of five points that the expectation outweighs.
    found = {"head": Trial(right(15, 20), None, 1.0), "frozen:0.4": Trial(right(16, 20), None, 1.0)}
    standings = standings_of(doubtful, found)
    assert standings[1].gain == pytest.approx(0.05)
    assert -0.03 < standings[1].expected < 0
    assert winner(standings).level == "head"


def test_a_level_that_goes_beyond_another_stands_on_what_that_one_gained() -> None:
    field = (*CONTESTANTS[:2], Contestant("frozen:0.4", 0.03, 0.03, 60.0, beyond="head:stages"))
    # Over 40 images held out the head over all stages has luck; over all 200 it gains ten points.
    found = {
        "head": Trial(right(30, 40), right(150, 200), 1.0),
        "head:stages": Trial(right(39, 40), right(170, 200), 1.0),
        "frozen:0.4": Trial(right(38, 40), None, 9.0),
    }
    standings = standings_of(field, found)
    _, stages, crown = standings
    gain, error = paired_gain(found["frozen:0.4"].right, found["head:stages"].right)
    weights = np.array([1 / error**2, 1 / 0.03**2])
    beyond = weights @ [gain, 0.03] / weights.sum()
    assert gain < 0 < beyond
    assert crown.expected == pytest.approx(stages.expected + beyond)
    assert crown.deviation == pytest.approx(np.sqrt(stages.deviation**2 + 1 / weights.sum()))
    # The measured gain is that over the head, as for every level.
    assert (stages.beyond, crown.beyond) == (None, "head:stages")
    assert crown.gain == pytest.approx(8 / 40) and winner(standings).level == "frozen:0.4"
    # If the other level was not tried, it is compared with the head.
    alone = standings_of(field, {name: found[name] for name in ("head", "frozen:0.4")})
    assert alone[2] == standings_of((*field[:2], replace(field[2], beyond=None)), found)[2]


@pytest.mark.parametrize(("behind", "best"), [(0.9 * TIE, "head:stages"), (1.1 * TIE, "frozen:0.4")])
def test_the_cheaper_of_two_that_are_as_good_wins(behind: float, best: str) -> None:
    def standing(level: str, expected: float) -> Standing:
        return Standing(level, 200, 0.7, 200, expected, 0.01, expected, 0.01, 1.0)

    standings = [standing("head", 0.0), standing("head:stages", 0.05 - behind), standing("frozen:0.4", 0.05)]
    assert winner(standings).level == best


def test_a_paired_gain_counts_only_images_that_differ() -> None:
    one = np.array([True] * 60 + [False] * 40)
    other = np.array([True] * 50 + [False] * 10 + [True] * 4 + [False] * 36)
    gain, error = paired_gain(one, other)
    # Ten better, four worse: a gain of six in a hundred, with a variance of (14 + 1 - 100 * 0.06^2) / 100^2.
    assert gain == pytest.approx(0.06)
    assert error == pytest.approx(np.sqrt(15 - 0.36) / 100)
    assert paired_gain(one, one)[1] == pytest.approx(0.01)


def test_answers_for_one_image_held_out_again_are_not_new_evidence() -> None:
    random = np.random.default_rng(0)
    one, other = random.random(60) < 0.8, random.random(60) < 0.7
    again = np.tile(np.arange(60), 4)
    once, apart = paired_gain(one, other), paired_gain(np.tile(one, 4), np.tile(other, 4))
    together = paired_gain(np.tile(one, 4), np.tile(other, 4), again)
    assert once[0] == pytest.approx(apart[0]) == pytest.approx(together[0])
    assert apart[1] < 0.55 * once[1] and together[1] == pytest.approx(once[1], rel=0.05)
    assert paired_gain(one, other, np.arange(60)) == pytest.approx(once)
