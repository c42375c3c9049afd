"""AlexNet: response normalisation by the paper's formula, two towers, overlapping pools, sizes."""

import pytest
import torch
from torch import Tensor, nn

from graft.models.blocks import LocalResponseNorm
from graft.models.catalog import build, default_config
from graft.models.network import Network

NAMES = ("alexnet_2012", "alexnet")


@pytest.fixture(scope="module", params=NAMES)
def network(request: pytest.FixtureRequest) -> Network:
    torch.manual_seed(0)
    return build(default_config(request.param)).eval()


def without_data(name: str) -> Network:
    with torch.device("meta"):
        return build(default_config(name))


def image(side: int) -> Tensor:
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_response_normalisation_is_the_papers_formula():
    # Section 3.3, with i the channel, n = 5 neighbours, and alpha on their sum.
    channels, n, k, alpha, beta = 9, 5, 2.0, 1e-4, 0.75
    x = 20 * torch.randn(1, channels, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.empty_like(x)
    for i in range(channels):
        for row in range(2):
            for column in range(3):
                first, last = max(0, i - n // 2), min(channels - 1, i + n // 2)
                total = sum(float(x[0, j, row, column]) ** 2 for j in range(first, last + 1))
                expected[0, i, row, column] = x[0, i, row, column] / (k + alpha * total) ** beta
    assert torch.allclose(LocalResponseNorm()(x), expected, rtol=1e-12)


def test_responses_are_normalised_behind_the_first_two_relus_of_2012_alone():
    old = without_data("alexnet_2012")
    kinds = [[type(module).__name__ for module in old.get_submodule(f"conv{n}_out")] for n in range(1, 6)]
    assert kinds == [
        ["ReLU", "LocalResponseNorm", "MaxPool2d"],
        ["ReLU", "LocalResponseNorm", "MaxPool2d"],
        ["ReLU"],
        ["ReLU"],
        ["ReLU", "MaxPool2d"],
    ]
    assert not any(isinstance(module, LocalResponseNorm) for module in without_data("alexnet").modules())


@torch.no_grad()
@pytest.mark.parametrize(("layer", "crosses"), [("conv2", False), ("conv3", True), ("conv4", False), ("conv5", False)])
def test_the_towers_of_2012_meet_in_the_third_convolution_only(layer, crosses):
    convolution = without_data("alexnet_2012").get_submodule(layer).to_empty(device="cpu")
    nn.init.ones_(convolution.weight)
    nn.init.zeros_(convolution.bias)
    x = torch.zeros(1, convolution.in_channels, 3, 3)
    x[:, : convolution.in_channels // 2] = 1
    first, second = convolution(x).chunk(2, dim=1)
    assert (first > 0).all()
    assert (second > 0).all() if crosses else (second == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_pools_overlap(name):
    pools = [module for module in without_data(name).modules() if isinstance(module, nn.MaxPool2d)]
    assert [(pool.kernel_size, pool.stride, pool.padding) for pool in pools] == [(3, 2, 0)] * 3


@torch.no_grad()
def test_maps_have_the_sizes_of_the_paper(network):
    side = {"alexnet_2012": 227, "alexnet": 224}[network.config.architecture]
    sides = [features.shape[-1] for features in network.feature_maps(image(side)).values() if features.ndim == 4]
    assert sides == [27, 13, 13, 13, 6]


@torch.no_grad()
def test_the_pool_in_front_of_the_dense_layers_leaves_the_papers_map_alone(network):
    x = torch.randn(2, 256, 6, 6)
    assert torch.equal(network.pool(x), x.flatten(1))


@torch.no_grad()
def test_other_sizes_run_down_to_one_pixel_before_the_pool(network):
    smallest = {"alexnet_2012": 67, "alexnet": 63}[network.config.architecture]
    for side in (smallest, smallest + 1, 129):
        assert network(image(side)).isfinite().all()
    convolutions = nn.Sequential(*(network.get_submodule(part) for stage in network.stages[:5] for part in stage.parts))
    assert convolutions(image(smallest)).shape[2:] == (1, 1)
    with pytest.raises(RuntimeError):
        convolutions(image(smallest - 1))


def test_dropout_comes_before_each_dense_layer_that_the_paper_drops(network):
    dropped = {
        stage.name
        for stage in network.stages
        for part in stage.parts
        if isinstance(network.get_submodule(part), nn.Dropout)
    }
    # 2012 applies dropout to the outputs of fc6 and fc7, torchvision's single tower to their inputs.
    assert dropped == ({"fc7", "head"} if network.config.architecture == "alexnet_2012" else {"fc6", "fc7"})
