"""`graft.create`: a network by name."""

import pytest
import torch
from safetensors.torch import save_file

from graft.errors import InputError, WeightsError
from graft.models.catalog import CATALOG, build
from graft.models.network import Config
from graft.weights.creating import create


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    source = build(Config("resnet20", 4)).eval()
    path = tmp_path / "resnet20.safetensors"
    save_file(source.state_dict(), path, {"classes": '["a", "b", "c", "d"]'})
    return path, source


def test_a_name_alone_gives_the_usual_network_in_evaluation_mode():
    network = create("resnet20")
    assert network.config == Config("resnet20", 10)
    assert not any(module.training for module in network.modules())


def test_numbers_are_as_stated():
    network = create("mobilenet_v1_025", 3, channels=1, padding="tensorflow", batch_norm_eps=1e-3)
    assert network.config == Config("mobilenet_v1_025", 3, 1, "tensorflow", 1e-3)
    assert network(torch.zeros(1, 1, 32, 32)).shape == (1, 3)
    assert network.bn1.eps == 1e-3


@torch.no_grad()
def test_weights_come_with_their_head_and_a_head_of_another_size_is_fresh(weights):
    path, source = weights
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(create("resnet20", weights=path)(x), source(x))
    assert torch.equal(create("resnet20", 4, weights=str(path))(x), source(x))
    other = create("resnet20", 7, weights=path)
    assert other(x).shape == (2, 7)
    assert torch.equal(other.pooled(x), source.pooled(x))
    assert not other.training


@torch.no_grad()
def test_a_stated_rule_goes_before_that_of_the_weights(weights):
    path, source = weights
    network = create("resnet20", weights=path, batch_norm_eps=0.1)
    assert network.config == Config("resnet20", 4, batch_norm_eps=0.1)
    assert torch.equal(network.conv1.weight, source.conv1.weight)
    x = torch.randn(1, 3, 32, 32)
    assert not torch.equal(network(x), source(x))


def test_weights_of_another_architecture_are_refused(weights):
    with pytest.raises(WeightsError, match="resnet20"):
        create("resnet56", weights=weights[0])


def test_weights_for_other_channels_are_refused(weights):
    with pytest.raises(WeightsError, match="1 input channel"):
        create("resnet20", weights=weights[0], channels=1)
    assert create("resnet20", weights=weights[0], channels=3).config.channels == 3


@pytest.mark.parametrize(
    "wrong",
    [{"classes": 0}, {"classes": -1}, {"channels": 0}, {"padding": "same"}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_numbers_that_make_no_network_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        create("resnet20", **wrong)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'resnet20'"):
        create("resnet_20")
    assert "resnet_20" not in CATALOG


def test_auxiliary_classifiers_are_there_when_asked_for(tmp_path):
    assert create("googlenet_2014", 3).auxiliaries == ()
    paper = create("googlenet_2014", auxiliary=True)
    assert sum(parameter.numel() for parameter in paper.parameters()) == 13_378_280
    path = tmp_path / "with.safetensors"
    with_them = create("googlenet", 3)
    save_file(with_them.state_dict(), path)
    without = create("googlenet", 3, weights=path, auxiliary=False)
    assert without.auxiliaries == ()
    assert all(torch.equal(tensor, with_them.state_dict()[key]) for key, tensor in without.state_dict().items())
    save_file(without.state_dict(), path)
    again = create("googlenet", 3, weights=path, auxiliary=True)
    assert [each.part for each in again.auxiliaries] == ["aux1", "aux2"]
    assert torch.equal(again.head.weight, with_them.head.weight)
    with pytest.raises(InputError, match=r"googlenet, inception_v3.*'resnet18'"):
        create("resnet18", auxiliary=True)
