"""The concatenating shortcut, and the channels it adds up to."""

from itertools import pairwise

import pytest
import torch

from graft.accounting.counting import account
from graft.models.catalog import build, default_config
from graft.models.densenet import SPECS, DenseLayer, Transition
from graft.models.network import Network, parameter_count


def without_data(name: str) -> Network:
    with torch.device("meta"):
        return build(default_config(name))


@torch.no_grad()
def test_a_dense_layer_appends_new_maps_to_what_it_was_given():
    torch.manual_seed(0)
    layer = DenseLayer(5, growth=3).eval()
    x = torch.randn(2, 5, 6, 7)
    given = x.clone()
    y = layer(x)
    assert y.shape == (2, 8, 6, 7)
    assert torch.equal(y[:, :5], given)
    assert torch.equal(x, given)
    assert y[:, 5:].std() > 0


@torch.no_grad()
@pytest.mark.parametrize("channel", range(5))
def test_new_maps_see_every_old_one(channel):
    torch.manual_seed(0)
    layer = DenseLayer(5, growth=3).eval()
    x = torch.rand(1, 5, 6, 6)
    changed = x.clone()
    changed[:, channel] += 1
    assert not torch.isclose(layer(x)[:, 5:], layer(changed)[:, 5:]).all(dim=(0, 2, 3)).any()


@torch.no_grad()
def test_a_later_layer_sees_what_every_earlier_one_made():
    torch.manual_seed(0)
    block = build(default_config("densenet121")).get_submodule("features.denseblock1").eval()
    x = torch.randn(1, 64, 4, 4)
    outputs = [x]
    for layer in block:
        outputs.append(layer(outputs[-1]))
    assert [output.shape[1] for output in outputs] == [64, 96, 128, 160, 192, 224, 256]
    for before, after in pairwise(outputs):
        assert torch.equal(after[:, : before.shape[1]], before)
    assert torch.equal(block(x), outputs[-1])


def test_gradients_reach_the_input_through_the_shortcut_and_through_the_new_maps():
    layer = DenseLayer(4, growth=2).eval()
    x = torch.randn(1, 4, 3, 3, requires_grad=True)
    (through_both,) = torch.autograd.grad(layer(x).sum(), x)
    (through_new,) = torch.autograd.grad(layer(x)[:, 4:].sum(), x)
    assert through_new.abs().sum() > 0
    assert torch.allclose(through_both, through_new + 1, atol=1e-6)


@pytest.mark.parametrize(("inputs", "growth", "bottleneck"), [(64, 32, 4), (10, 6, 2)])
def test_a_dense_layer_has_the_parameters_and_multiply_adds_of_its_formula(inputs, growth, bottleneck):
    layer = DenseLayer(inputs, growth, bottleneck=bottleneck)
    hidden = bottleneck * growth
    assert parameter_count(layer) == inputs * (2 + hidden) + 2 * hidden + 9 * hidden * growth
    assert account(layer, (inputs, 5, 7)).macs == 35 * (inputs * hidden + 9 * hidden * growth)


@torch.no_grad()
@pytest.mark.parametrize(("side", "half"), [(8, 4), (7, 3)])
def test_a_transition_halves_channels_and_map(side, half):
    assert Transition(12, eps=1e-5)(torch.randn(2, 12, side, side)).shape == (2, 6, half, half)


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("densenet121", [64, 128, 256, 512, 1024, 1024]),
        ("densenet169", [64, 128, 256, 640, 1664, 1664]),
        ("densenet201", [64, 128, 256, 896, 1920, 1920]),
        ("densenet161", [96, 192, 384, 1056, 2208, 2208]),
    ],
)
def test_channels_are_the_stems_and_what_every_layer_added_halved_between_blocks(name, channels):
    assert [stage.channels for stage in without_data(name).stages[:-1]] == channels


@pytest.mark.parametrize("name", SPECS)
def test_the_name_counts_the_layers(name):
    # Two per dense layer, one per transition, the first and the last.
    assert name == f"densenet{2 * sum(SPECS[name].layers) + 3 + 2}"
    layers = [module for module in without_data(name).modules() if isinstance(module, DenseLayer)]
    assert len(layers) == sum(SPECS[name].layers)
