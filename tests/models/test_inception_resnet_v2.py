"""What is particular to Inception-ResNet v2."""

import pytest
import torch
from torch import Tensor, nn

from graft.models.catalog import build, default_config
from graft.models.inception_resnet_v2 import Mixed5b, ReductionA, ReductionB, ResidualA, ScaledResidual
from graft.models.network import Network, Section


def image(side: int = 107) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return build(default_config("inception_resnet_v2"))


def scales(blocks: nn.Module) -> list[float]:
    found = [block for block in blocks.modules() if isinstance(block, ScaledResidual)]
    return [1.0 if block.last else block.scale for block in found]


def test_residuals_are_scaled_as_in_the_published_weights_and_the_last_one_is_not(network):
    assert scales(network.repeat) == [0.17] * 10
    assert scales(network.repeat_1) == [0.1] * 20
    assert scales(network.repeat_2) == [0.2] * 9
    assert scales(network.block8) == [1.0]


@torch.no_grad()
def test_a_block_adds_its_scaled_branches_to_its_input():
    torch.manual_seed(0)
    x = torch.randn(1, 320, 4, 5)
    block = ResidualA(320, eps=1e-3).eval()
    last = ResidualA(320, eps=1e-3, last=True).eval()
    last.load_state_dict(block.state_dict())
    residual = block.conv2d(torch.cat([block.branch0(x), block.branch1(x), block.branch2(x)], dim=1))
    assert residual.std() > 0.01
    assert torch.allclose(block(x), (x + 0.17 * residual).relu(), atol=1e-6)
    # The last one may give negative values.
    assert torch.allclose(last(x), x + residual, atol=1e-6)
    assert last(x).min() < 0


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "inputs", "side", "output"),
    [
        (Mixed5b, 192, 35, (320, 35)),
        (ReductionA, 320, 35, (1088, 17)),
        (ReductionB, 1088, 17, (2080, 8)),
    ],
)
def test_blocks_have_the_maps_of_the_published_weights(kind, inputs, side, output):
    assert kind(inputs, eps=1e-3)(torch.zeros(1, inputs, side, side)).shape == (1, *output, output[1])


def test_the_linear_convolution_of_a_block_has_a_bias_and_the_others_have_none(network):
    with_bias = {name for name, layer in network.named_modules() if getattr(layer, "bias", None) is not None}
    convolutions = {name for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)}
    assert {name for name in convolutions if name.endswith("conv2d")} == convolutions & with_bias
    assert len(convolutions & with_bias) == 10 + 20 + 9 + 1


def test_average_pools_do_not_count_the_padding(network):
    pools = [module for module in network.modules() if isinstance(module, nn.AvgPool2d)]
    assert len(pools) == 1
    ones = torch.ones(1, 1, 5, 5)
    assert torch.equal(pools[0](ones), ones)


@torch.no_grad()
@pytest.mark.parametrize("training", [False, True])
def test_a_stage_leaves_the_output_of_the_one_before_as_it_is(network, training):
    network.train(training)
    x = image()
    for stage in network.stages:
        before = x.clone()
        output = Section(network, (stage,))(x)
        assert torch.equal(x, before), stage.name
        x = output


@torch.no_grad()
def test_a_fresh_network_neither_fades_nor_explodes(network):
    features = network.eval().feature_maps(image())
    assert all(0.1 < feature.std() < 10 for feature in features.values())
