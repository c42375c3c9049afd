"""Networks that are filled with a checkpoint's tensors, without a random start that these would replace."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from graft.models.catalog import build, default_config
from graft.models.network import Network, state_shapes
from graft.weights.architectures import resolve
from graft.weights.base import load_base
from graft.weights.filling import fill, unfilled
from graft.weights.matching import match

NAMES = ("resnet18", "mobilenet_v2", "efficientnet_b0", "lenet5", "googlenet")


def with_nothing(name: str) -> Network:
    """The network with values that no network has, where `unfilled` leaves what the memory held."""
    network = unfilled(resolve(name), default_config(name))
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.fill_(torch.nan if tensor.is_floating_point() else -1)
    return network


@pytest.mark.parametrize("name", NAMES)
def test_every_value_is_the_checkpoints(name):
    theirs, network = build(default_config(name)), with_nothing(name)
    assert state_shapes(network) == state_shapes(theirs) and network.training is theirs.training
    assert network.config == theirs.config and network.input_size == theirs.input_size
    tensors = dict(theirs.state_dict())
    fill(network, tensors, match(tensors, resolve(name), default_config(name)), "a file")
    for key, value in network.state_dict().items():
        assert torch.equal(value, tensors[key]), key
        assert value.data_ptr() != tensors[key].data_ptr(), key


@pytest.mark.parametrize("name", NAMES)
def test_a_head_that_did_not_come_starts_at_random_and_counters_at_zero(name):
    theirs, network = build(default_config(name)), with_nothing(name)
    heads = theirs.head_names
    tensors = {
        key: value
        for key, value in theirs.state_dict().items()
        if key.rpartition(".")[0] not in heads and not key.endswith("num_batches_tracked")
    }
    fill(network, tensors, match(tensors, resolve(name), default_config(name)), "a file")
    for key, value in network.state_dict().items():
        if key.endswith("num_batches_tracked"):
            assert value == 0, key
        elif key in tensors:
            assert torch.equal(value, tensors[key]), key
        else:
            assert value.isfinite().all() and value.std() > 0, key


def test_loading_draws_no_numbers_and_gives_tensors_of_its_own():
    before = torch.get_rng_state()
    one, other = load_base("latin_letters"), load_base("latin_letters")
    assert torch.equal(torch.get_rng_state(), before)
    with torch.no_grad():
        for tensor in one.network.state_dict().values():
            tensor.zero_()
    assert all(parameter.any() for parameter in other.network.parameters() if parameter.ndim > 1)
    one.network.new_head(3)
    assert other.network.config.classes != 3
    assert load_base("latin_letters").network.config == other.network.config


def test_it_is_of_the_default_dtype_and_on_the_default_device_of_the_moment():
    def dtypes() -> set[torch.dtype]:
        return {parameter.dtype for parameter in unfilled(resolve("resnet20"), default_config("resnet20")).parameters()}

    assert dtypes() == {torch.float32}
    torch.set_default_dtype(torch.float64)
    try:
        assert dtypes() == {torch.float64}
    finally:
        torch.set_default_dtype(torch.float32)
    assert dtypes() == {torch.float32}
    with torch.device("meta"):
        assert next(unfilled(resolve("resnet20"), default_config("resnet20")).parameters()).is_meta


def test_threads_that_fill_the_same_architecture_at_once_get_networks_of_their_own():
    config = replace(default_config("resnet20"), classes=4)
    made = [build(config).state_dict() for _ in range(8)]

    def filled(tensors: dict[str, torch.Tensor]) -> Network:
        network = unfilled(resolve("resnet20"), config)
        fill(network, tensors, match(tensors, resolve("resnet20"), config), "a file")
        return network

    with ThreadPoolExecutor(4) as pool:
        for tensors, network in zip(made, pool.map(filled, made), strict=True):
            assert all(torch.equal(value, tensors[key]) for key, value in network.state_dict().items())
