"""A module that is computed on another device leaves the caller's copy where it is."""

import pytest
import torch
from trunks import make_network, preprocessing_of

from graft.features.torch_engine import TorchEngine
from graft.models.placing import on_device


def test_a_module_that_is_already_there_is_itself_and_any_other_is_copied() -> None:
    trunk, _ = make_network("resnet20").split("stage2")
    assert on_device(trunk, "cpu") is trunk
    elsewhere = on_device(trunk, "meta")
    assert {tensor.device.type for tensor in elsewhere.state_dict().values()} == {"meta"}
    assert {tensor.device.type for tensor in trunk.state_dict().values()} == {"cpu"}


def test_a_module_of_which_a_part_is_elsewhere_is_copied_whole() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2, device="meta"))
    assert {tensor.device.type for tensor in on_device(module, "meta").parameters()} == {"meta"}
    assert module[0].weight.device.type == "cpu"


def test_an_engine_of_another_device_leaves_the_network_where_its_other_users_have_it() -> None:
    network, preprocessing = make_network("mobilenet_v2"), preprocessing_of("mobilenet_v2", 64)
    trunk, _ = network.split("head")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    # `meta` computes nothing, so the engine gives up; its section was placed there before.
    with pytest.raises(RuntimeError):
        TorchEngine(trunk, preprocessing, "float32", "meta")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
