"""What is particular to Xception."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft.accounting.counting import account
from graft.models.catalog import build, default_config
from graft.models.network import Network, Section, parameter_count
from graft.models.xception import Block, Row, SeparableConvolution

CONFIG = default_config("xception")


def image(side: int = 67) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return build(CONFIG)


@torch.no_grad()
def test_a_separable_convolution_is_a_full_one_whose_kernels_are_products():
    torch.manual_seed(0)
    layer = SeparableConvolution(5, 7)
    x = torch.randn(2, 5, 8, 9)
    # (7, 5, 1, 1) times (1, 5, 3, 3): nothing but linear maps in between, so the two halves are one convolution.
    product = layer.pointwise.weight * layer.conv1.weight.transpose(0, 1)
    assert torch.allclose(layer(x), F.conv2d(x, product, padding=1), atol=1e-5)


def test_a_separable_convolution_costs_what_its_docstring_states():
    layer = SeparableConvolution(5, 7)
    assert parameter_count(layer) == 9 * 5 + 5 * 7
    assert account(layer, (5, 8, 9)).macs == (9 * 5 + 5 * 7) * 8 * 9


def test_the_network_has_the_36_convolutional_layers_of_the_paper(network):
    layers = [*(network.conv1, network.conv2), *(m for m in network.modules() if isinstance(m, SeparableConvolution))]
    assert len(layers) == 36


@torch.no_grad()
@pytest.mark.parametrize("row", [Row((6, 6)), Row((4, 4, 4), halves=False)])
def test_the_shortcut_of_a_block_takes_the_input_before_its_activation(row):
    torch.manual_seed(0)
    block = Block(4, row, activate=True, config=CONFIG).eval()
    x = torch.randn(1, 4, 7, 8)
    kept = block.skipbn(F.conv2d(x, block.skip.weight, stride=2)) if row.halves else x
    assert torch.allclose(block(x) - block.rep(x.relu()), kept, atol=1e-6)
    assert not torch.allclose(block(x) - block.rep(x.relu()), kept.relu(), atol=1e-2)


@torch.no_grad()
def test_the_first_block_takes_its_input_as_it_is(network):
    network.eval()
    x = torch.randn(1, 64, 9, 9)
    assert isinstance(network.block1.rep[0], SeparableConvolution)
    assert all(isinstance(network.get_submodule(f"block{number}").rep[0], nn.ReLU) for number in range(2, 13))
    assert not torch.allclose(network.block1(x), network.block1(x.relu()))


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
@pytest.mark.parametrize("side", [65, 66, 67, 68])
def test_padding_by_tensorflows_rule_moves_the_max_pools_and_keeps_the_maps(network, side):
    converted = build(replace(CONFIG, padding="tensorflow", batch_norm_eps=1e-3)).eval()
    converted.load_state_dict(network.state_dict())
    assert {module.eps for module in converted.modules() if isinstance(module, nn.BatchNorm2d)} == {1e-3}
    theirs, ours = converted.feature_maps(image(side)), network.eval().feature_maps(image(side))
    assert [output.shape for output in theirs.values()] == [output.shape for output in ours.values()]
    x = torch.arange(8.0).expand(1, 1, 8, 8)
    # The zeros of an even map come after it: the window starts at the first pixel, not before it.
    assert converted.block2.rep[-1](x)[0, 0, 0].tolist() == [2, 4, 6, 7]
    assert network.block2.rep[-1](x)[0, 0, 0].tolist() == [1, 3, 5, 7]
