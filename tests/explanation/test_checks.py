"""Whether a map tells: one that marks what the network looks at passes, others do not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from tests.explanation.models import images, of_catalogue, spots
from tests.explanation.test_class_maps import orange_square

from graft.explanation.class_maps import ClassMap, exact_maps
from graft.explanation.faithfulness import Hiding, in_cells
from graft.explanation.model import answers_of
from graft.explanation.randomisation import cascade, cascaded


def hiding(model, pixels: torch.Tensor) -> Hiding:
    return Hiding(model, pixels[0], 0, answers_of(model))


def test_the_map_of_what_the_network_looks_at_beats_random_orders():
    model, pixels = spots(), orange_square(24, 8)
    found = hiding(model, pixels).test(exact_maps(model, pixels, [0])[0].values)
    assert found.passed and found.beaten == found.orders == 20
    assert found.deletion < found.deletion_random < found.insertion
    # Hidden is the mean colour, in which a little of the square is left.
    assert found.whole > found.hidden


def test_other_maps_do_not():
    model, pixels = spots(), orange_square(24, 8)
    tested, right = hiding(model, pixels), exact_maps(model, pixels, [0])[0].values
    against = tested.test(-right)
    assert not against.passed and against.beaten == 0
    shuffled = np.random.default_rng(0).permutation(right.ravel()).reshape(right.shape)
    assert not tested.test(shuffled).passed


def test_the_order_of_a_map_in_reverse_deletes_what_it_inserted():
    model, pixels = spots(), orange_square(24, 8)
    values = np.arange(49, dtype=np.float32).reshape(7, 7)
    there, back = (hiding(model, pixels).test(each) for each in (values, -values))
    assert there.deletion == pytest.approx(back.insertion) and there.insertion == pytest.approx(back.deletion)


def test_an_answer_that_does_not_depend_on_the_image_has_no_map_that_tells():
    model, pixels = spots(), orange_square(24, 8)
    flat = replace(model, temperature=1000.0)
    found = hiding(flat, pixels).test(exact_maps(flat, pixels, [0])[0].values)
    assert found.beaten == 20 and not found.passed


def test_a_flat_map_has_no_order_that_could_beat_random_ones_wherever_the_network_looks():
    model, pixels = spots(), orange_square(0, 0)
    for value in (0.0, 0.3):
        found = hiding(model, pixels).test(np.full((1, 1), value, np.float32))
        assert found.beaten == 0 and not found.passed


def test_cells_that_a_map_holds_alike_are_not_hidden_row_by_row():
    model, marks_one = spots(), np.zeros((7, 7), np.float32)
    marks_one[6, 6] = 1
    passed = [
        Hiding(model, orange_square(0, left)[0], 0, answers_of(model), seed).test(marks_one).passed
        for left in (0, 8, 24)
        for seed in range(4)
    ]
    assert sum(passed) <= 2


def test_random_orders_are_the_same_for_one_seed():
    pixels = orange_square(24, 8)
    first, second = (hiding(spots(), pixels).random for _ in range(2))
    assert (first.deletion == second.deletion).all()


def test_cells_are_those_of_the_image_from_its_top_left():
    values = np.zeros((14, 14), dtype=np.float32)
    values[4:6, 10:12] = 1
    cells = in_cells(values)
    assert cells.shape == (7, 7) and np.unravel_index(cells.argmax(), cells.shape) == (2, 5)


def test_the_cascade_runs_from_the_head_down_and_leaves_the_model_as_it_is():
    model = of_catalogue("mobilenet_v1_025", 128)
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    seen, own = [], model.network.state_dict()
    for stage, randomised in cascaded(model):
        seen.append(stage)
        changed = {
            name.split(".")[0]
            for name, tensor in randomised.network.state_dict().items()
            if not torch.equal(tensor, own[name])
        }
        assert ("classifier" in changed) and (("conv_stem" in changed) == (stage == "stem"))
    assert seen == ["head", "stage5", "stage4", "stage3", "stage2", "stage1", "stem"]
    assert all(torch.equal(tensor, own[name]) for name, tensor in before.items())


def test_the_likeness_of_maps_is_spearmans_also_where_many_cells_are_equal():
    random = np.random.default_rng(0)
    for _ in range(50):
        own, other = ((random.random((7, 7)) < 0.05).astype(np.float32) for _ in range(2))
        own[0, 0] = other[6, 6] = 1
        (found,) = cascade(
            spots(), [ClassMap(own, "rise", None)], lambda _, other=other: [ClassMap(other, "rise", None)]
        )
        theirs = spearmanr(*(in_cells(each).round(6).ravel() for each in (own, other))).statistic
        assert found.alike == pytest.approx(abs(theirs))


def test_a_map_that_does_not_depend_on_the_weights_fails_the_cascade():
    model = of_catalogue("mobilenet_v1_025", 128)
    pixels = images(model, 1)

    def edges(_: object) -> list[ClassMap]:
        return [ClassMap(pixels[0, 0].float().diff(dim=0, append=pixels[0, 0, -1:].float()).numpy(), "rise", None)]

    (same,) = cascade(model, edges(model), edges)
    assert not same.passed and same.alike == pytest.approx(1)
    (own,) = cascade(model, exact_maps(model, pixels, [0]), lambda changed: exact_maps(changed, pixels, [0]))
    assert own.alike < 0.9 and next(stage for stage, _ in own.cascade) == "head"
