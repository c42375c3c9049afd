"""Accuracy by images per class and by level, and the number of images from which the deeper level is better."""

import pytest
import torch

from graft.lab import crossing
from graft.lab.drawn_images import TILE, mosaic
from graft.lab.experiment import Conditions, Measure
from graft.lab.fitting import Steps, accuracy, fit
from graft.lab.transfer import ALL, CLASSES, CUTS, HEAD, MOST, RATES, cyrillic, reached, started

NUMBERS = (2, 10, 50)


def differences(*lows: float) -> list[Measure]:
    return [Measure("", low + 0.1, low, low + 0.2) for low in lows]


@pytest.mark.parametrize(
    ("lows", "found"),
    [
        ((-0.3, -0.1, 0.1), 50),
        ((-0.3, 0.1, 0.1), 10),
        ((0.1, 0.1, 0.1), 2),
        # Being better only in between is no crossing, and an interval that contains zero is chance.
        ((-0.3, 0.1, -0.1), None),
        ((0.1, -0.1, 0.1), 50),
        ((-0.3, -0.1, 0.0), None),
    ],
)
def test_the_curves_cross_where_the_deeper_level_is_better_from_then_on(lows, found):
    assert crossing.crossing(differences(*lows), NUMBERS) == found


def test_few_images_are_the_first_of_each_class_and_among_the_more():
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    images = torch.arange(6.0).reshape(6, 1, 1, 1)
    few, more = (crossing.few_of((images, labels), number) for number in (1, 2))
    assert few[0].flatten().tolist() == [0, 3] and few[1].tolist() == [0, 1]
    assert more[0].flatten().tolist() == [0, 1, 3, 4] and more[1].tolist() == [0, 0, 1, 1]


def test_a_mosaic_has_the_tiles_of_its_image_in_an_order_that_all_images_share():
    images = torch.arange(2.0 * 28 * 28).reshape(2, 1, 28, 28)
    made = mosaic(images)

    def tiles(image: torch.Tensor) -> list[tuple[float, ...]]:
        side = TILE
        cut = image[0].unfold(0, side, side).unfold(1, side, side).reshape(-1, side * side)
        return [tuple(each) for each in cut.tolist()]

    for before, after in zip(images, made, strict=True):
        assert tiles(after) != tiles(before) and sorted(tiles(after)) == sorted(tiles(before))
    assert torch.equal(made[1] - made[0], torch.full((1, 28, 28), 28.0 * 28))


@pytest.mark.parametrize("level", [HEAD, MOST, ALL])
def test_asking_the_trunk_once_trains_what_the_whole_network_would(level):
    train, test = cyrillic(2, 2, 0)
    network = started(level, CLASSES, 0)
    fit(network, *train, Steps(6, RATES[level], batch=32, optimizer="adam"), 0)
    assert reached(level, train, test, 6, 0) == pytest.approx(accuracy(network, *test), abs=0.026)
    assert CUTS[level]


def form() -> crossing.Form:
    return crossing.Form(NUMBERS, test=1, steps=1, seeds=2)


def test_the_claim_holds_where_head_wins_at_few_letters_and_all_at_many_and_sooner_on_mosaics():
    def ends(near: tuple[float, ...], far: tuple[float, ...]) -> dict[str, dict[str, list[list[float]]]]:
        return {
            task: {
                HEAD: [[0.5, 0.51]] * 3,
                MOST: [[0.5, 0.51]] * 3,
                ALL: [[0.5 + gain, 0.51 + gain] for gain in gains],
            }
            for task, gains in ((crossing.NEAR, near), (crossing.FAR, far))
        }

    crossed = crossing.outcome_of(ends((-0.2, -0.1, 0.1), (-0.1, 0.1, 0.2)), form())
    assert crossed.verdict == "held"
    assert "letters, all: from 50 on" in crossed.found and "mosaics, all: from 10 on" in crossed.found
    assert "letters, frozen:0.6: not within these" in crossed.found
    # Where all never wins, and where it does sooner on the letters, the claim fails.
    assert crossing.outcome_of(ends((-0.2, -0.2, -0.1), (-0.1, 0.1, 0.2)), form()).verdict == "did not hold"
    assert crossing.outcome_of(ends((-0.1, 0.2, 0.3), (-0.2, -0.1, 0.1)), form()).verdict == "did not hold"


def test_every_number_has_a_paired_difference_of_each_task_and_deeper_level(monkeypatch):
    monkeypatch.setattr(crossing, "QUICK", crossing.Form((1, 2), test=1, steps=2, seeds=2))
    outcome = crossing.run_crossing(Conditions(quick=True))
    names = [measure.name for measure in outcome.measures if "less head" in measure.name]
    assert len(names) == len(set(names)) == 2 * 2 * 2
    assert [series.name for series in outcome.figure.series] == [
        f"{task}, {level}" for task in crossing.CHANGES for level in crossing.LEVELS
    ]
    assert all(series.x == (1.0, 2.0) for series in outcome.figure.series)
