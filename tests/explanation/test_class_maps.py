"""Class maps: exact ones add up to what the network says, Grad-CAM elsewhere, both on frozen networks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.explanation.models import images, of_catalogue, spots

from graft.errors import InputError
from graft.explanation.class_maps import exact_maps, gradient_maps, resized
from graft.explanation.model import answers_of, class_scores, log_odds
from graft.explanation.perturbation import rise_map
from graft.models.network import freeze
from graft.weights.creating import create

# With a head on the mean of its last map, and one whose stages before it end in vectors.
POOLED, DENSE = "mobilenet_v1_025", "lenet5"


def orange_square(top: int, left: int, side: int = 16) -> torch.Tensor:
    pixels = torch.full((1, 3, 56, 56), 128, dtype=torch.uint8)
    pixels[:, :, top : top + side, left : left + side] = torch.tensor([255, 128, 0], dtype=torch.uint8)[:, None, None]
    return pixels


@pytest.mark.parametrize("head", ["last", "stages", "middle"])
def test_an_exact_map_adds_up_to_the_log_odds_of_the_class(head):
    model = of_catalogue(POOLED, 128, head)
    pixels = images(model)
    maps = exact_maps(model, pixels, [0, 2])
    scores = class_scores(model, answers_of(model)(pixels))
    for number, (found, odds) in enumerate(zip(maps, log_odds(scores, [0, 2]).tolist(), strict=True)):
        assert found.method == "exact" and found.stage == {"last": "stage5", "stages": "all"}.get(head, "after stage2")
        assert found.values.sum() + found.constant == pytest.approx(odds, abs=1e-3)
        others = [scores[number, other] for other in range(3) if other != (0, 2)[number]]
        own = scores[number, (0, 2)[number]]
        assert odds == pytest.approx(float(own - torch.stack(others).logsumexp(0)), abs=1e-3)


@pytest.mark.parametrize("head", ["last", "stages"])
def test_in_half_the_precision_a_map_shows_the_same(head):
    model = of_catalogue(POOLED, 128, head)
    pixels = images(model)
    for exact, quick in zip(
        exact_maps(model, pixels, [0, 2]), exact_maps(model, pixels, [0, 2], "bfloat16"), strict=True
    ):
        assert np.corrcoef(exact.values.ravel(), quick.values.ravel())[0, 1] > 0.97
        assert quick.constant == pytest.approx(exact.constant, abs=0.05)


def test_a_position_adds_what_its_map_says():
    """Removing one position from the last map changes the difference of two logits by the value at that position."""
    model = replace(of_catalogue(POOLED, 128), temperature=1.0)
    network, pixels = model.network, images(model, 1)
    network.new_head(2)
    model = replace(model, classes=("a", "b"))
    (found,) = exact_maps(model, pixels, [1])
    trunk, crown = network.split("stage5")
    with torch.no_grad():
        maps = trunk((pixels / 255 - 0.5) / 0.25)
        before = crown(maps)[0]
        maps[:, :, 2, 1] = 0
        after = crown(maps)[0]
    change = (before[1] - before[0]) - (after[1] - after[0])
    assert found.values[2, 1] == pytest.approx(float(change), abs=1e-4)


def test_a_class_of_several_outputs_has_an_exact_map_too():
    model = replace(of_catalogue(POOLED, 128), outputs=((0, 2), (1,)), classes=("ac", "b"))
    pixels = images(model)
    maps = exact_maps(model, pixels, [0, 0])
    odds = log_odds(class_scores(model, answers_of(model)(pixels)), [0, 0])
    assert [each.values.sum() + each.constant for each in maps] == pytest.approx(odds.tolist(), abs=1e-3)


def test_a_head_behind_dense_layers_has_no_exact_map():
    for head in ("last", "stages", "middle"):
        assert exact_maps(of_catalogue(DENSE, 28, head), images(of_catalogue(DENSE, 28)), [0, 1]) is None


def test_a_map_of_one_position_says_nothing_and_an_earlier_stage_is_looked_at():
    model = of_catalogue(POOLED, 32)
    assert exact_maps(model, images(model), [0, 1]) is None
    found = gradient_maps(model, images(model), [0, 1])[0]
    assert found.stage == "stage3" and found.values.shape == (4, 4)


@pytest.mark.parametrize(("name", "side"), [(DENSE, 28), ("lenet5_1998", 32), ("mobilenet_v3_small", 64)])
@pytest.mark.parametrize("head", ["last", "stages", "middle"])
def test_frozen_networks_without_an_exact_map_have_gradients(name, side, head):
    model = of_catalogue(name, side, head)
    with torch.inference_mode():
        maps = gradient_maps(model, images(model), [0, 1])
    assert all(each.values.any() and np.isfinite(each.values).all() for each in maps)
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_grad_cam_is_in_the_order_of_the_exact_map_where_there_is_one():
    model = of_catalogue(POOLED, 128)
    exact, gradient = (make(model, images(model), [0, 1])[0].values.ravel() for make in (exact_maps, gradient_maps))
    assert np.corrcoef(exact, gradient)[0, 1] > 0.9999


def test_every_method_finds_the_square_that_a_network_looks_at():
    model, pixels = spots(), orange_square(24, 8)
    found = [
        exact_maps(model, pixels, [0])[0],
        gradient_maps(model, pixels, [0], "stage1")[0],
        rise_map(model, pixels[0], 0, answers_of(model)),
    ]
    for each in found:
        row, column = np.unravel_index(resized(each.values, 56).argmax(), (56, 56))
        assert 24 <= row < 40 and 8 <= column < 24
    assert rise_map(model, pixels[0], 1, answers_of(model)).values[32, 16] < 0


def test_rise_is_the_same_for_one_seed():
    model, pixels = spots(), orange_square(0, 40)[0]
    one, same, other = (rise_map(model, pixels, 0, answers_of(model), seed, 16).values for seed in (1, 1, 2))
    assert (one == same).all() and (one != other).any()


def test_a_stage_without_maps_is_refused_by_name():
    with pytest.raises(InputError, match="stem, stage1\\), got 'pool'"):
        gradient_maps(spots(), orange_square(0, 0), [0], "pool")


def test_a_network_of_timm_has_maps_too():
    pytest.importorskip("timm")
    network = create("timm:resnet10t", classes=3).eval()
    freeze(network)
    model = replace(of_catalogue(POOLED, 128), network=network)
    exact, gradient = (make(model, images(model), [0, 1])[0] for make in (exact_maps, gradient_maps))
    assert exact.stage == gradient.stage and exact.values.shape == (4, 4)
    assert np.isfinite(gradient.values).all() and gradient.values.any()
