"""VGG: the configurations of the paper, and what a stack of small convolutions sees and costs."""

import pytest
import torch
from torch import Tensor, nn

from graft.accounting.counting import account
from graft.models.blocks import LocalResponseNorm
from graft.models.catalog import build, default_config
from graft.models.network import Network, parameter_count
from graft.models.vgg import SPECS, stacked_convolutions


def without_data(name: str) -> Network:
    with torch.device("meta"):
        return build(default_config(name))


def convolutions(name: str) -> list[nn.Conv2d]:
    return [module for module in without_data(name).modules() if isinstance(module, nn.Conv2d)]


@pytest.mark.parametrize(("layers", "view"), [(1, 3), (2, 5), (3, 7)])
def test_a_stack_sees_as_much_as_one_large_convolution(layers, view):
    stack = stacked_convolutions(1, 1, (3,) * layers)
    assert account(stack, (1, 32, 32)).layers[-1].receptive_field == view
    for module in stack:
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
            nn.init.ones_(module.bias)
    x = torch.rand(1, 1, 15, 15, requires_grad=True)
    stack(x)[0, 0, 7, 7].backward()
    rows, columns = x.grad[0, 0].nonzero(as_tuple=True)
    assert (rows.unique().numel(), columns.unique().numel()) == (view, view)
    assert (rows.min(), rows.max()) == (7 - view // 2, 7 + view // 2)


@pytest.mark.parametrize(("layers", "stacked", "single"), [(2, 18, 25), (3, 27, 49)])
def test_a_stack_costs_less_than_one_large_convolution(layers, stacked, single):
    channels, side = 8, 10
    stack, large = (
        stacked_convolutions(channels, channels, (3,) * layers),
        nn.Conv2d(8, 8, 2 * layers + 1, padding=layers),
    )
    assert parameter_count(stack) == stacked * channels**2 + layers * channels
    assert parameter_count(large) == single * channels**2 + channels
    assert account(stack, (channels, side, side)).macs == stacked * channels**2 * side**2
    assert account(large, (channels, side, side)).macs == single * channels**2 * side**2
    assert stack(torch.zeros(1, channels, side, side)).shape == (1, channels, side, side)


def test_a_stack_can_normalise_and_see_single_pixels():
    stack = stacked_convolutions(3, 8, (3, 1), batch_norm_eps=1e-3)
    kinds = [type(module).__name__ for module in stack]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU"] * 2
    assert (stack[1].eps, stack[3].kernel_size, stack[3].in_channels) == (1e-3, (1, 1), 8)
    assert account(stack, (3, 9, 9)).layers[-1].receptive_field == 3


@pytest.mark.parametrize(
    ("name", "depth", "millions"),
    [("vgg11", 11, 133), ("vgg11_lrn", 11, 133), ("vgg13", 13, 133), ("vgg16_c", 16, 134), ("vgg16", 16, 138),
     ("vgg19", 19, 144)],
)  # fmt: skip
def test_weight_layers_and_parameters_are_those_of_the_papers_tables_1_and_2(name, depth, millions):
    network = without_data(name)
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in network.modules()) == depth
    # The paper rounds 133.64 million of column C up and 132.86 of column A alike.
    assert round(parameter_count(network) / 1e6) == millions


def test_column_c_has_single_pixel_kernels_in_the_last_three_stages():
    network = without_data("vgg16_c")
    for stage in network.stages[:5]:
        modules = [network.get_submodule(part) for part in stage.parts]
        sides = [module.kernel_size[0] for module in modules if isinstance(module, nn.Conv2d)]
        assert sides == ([3, 3] if stage.name in ("stage1", "stage2") else [3, 3, 1])
    assert {module.kernel_size for module in convolutions("vgg16")} == {(3, 3)}


def test_only_a_lrn_normalises_responses_and_behind_the_first_relu():
    kinds = [type(module).__name__ for module in without_data("vgg11_lrn").features[:5]]
    assert kinds == ["Conv2d", "ReLU", "LocalResponseNorm", "MaxPool2d", "Conv2d"]
    for name in SPECS:
        count = sum(isinstance(module, LocalResponseNorm) for module in without_data(name).modules())
        assert count == (name == "vgg11_lrn"), name


def test_the_networks_with_batch_norm_have_one_behind_each_convolution():
    for name in SPECS:
        norms = sum(isinstance(module, nn.BatchNorm2d) for module in without_data(name).modules())
        assert norms == (len(convolutions(name)) if name.endswith("_bn") else 0), name


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return build(default_config("vgg11")).eval()


def image(height: int, width: int) -> Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 70)])
def test_other_sizes_run(network, height, width):
    features = network.feature_maps(image(height, width))
    assert [tuple(features[f"stage{n}"].shape[2:]) for n in range(1, 6)] == [
        (height // 2**n, width // 2**n) for n in range(1, 6)
    ]
    assert features["pool"].shape == (1, 512 * 49)
    assert network(image(height, width)).isfinite().all()


@torch.no_grad()
def test_the_pool_in_front_of_the_dense_layers_leaves_the_papers_map_alone(network):
    x = torch.randn(2, 512, 7, 7)
    assert torch.equal(network.pool(x), x.flatten(1))


def test_an_image_that_the_pools_use_up_does_not_run(network):
    with pytest.raises(RuntimeError):
        network.features(image(31, 64))
