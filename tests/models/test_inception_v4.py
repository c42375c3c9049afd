"""What is particular to Inception v4."""

import pytest
import torch
from torch import Tensor, nn

from graft.models.blocks import Branches, Conv, Pool, inception_layer
from graft.models.catalog import build, default_config
from graft.models.inception_v4 import InceptionA, InceptionB, InceptionC, ReductionA, ReductionB
from graft.models.network import Network, Section


def image(side: int = 107) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return build(default_config("inception_v4"))


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "inputs", "side", "output"),
    [
        (InceptionA, 384, 35, (384, 35)),
        (ReductionA, 384, 35, (1024, 17)),
        (InceptionB, 1024, 17, (1024, 17)),
        (ReductionB, 1024, 17, (1536, 8)),
    ],
)
def test_blocks_have_the_maps_that_the_figures_state(kind, inputs, side, output):
    block = kind(inputs, eps=1e-3)
    assert block(torch.zeros(1, inputs, side, side)).shape == (1, *output, output[1])
    assert block.outputs == output[0]


def test_a_fork_reads_its_branch_once_and_joins_both_of_its_ends():
    torch.manual_seed(0)
    block = InceptionC(8, eps=1e-3).eval()
    calls: list[str] = []
    for name, layer in block.named_children():
        layer.register_forward_hook(lambda module, inputs, output, name=name: calls.append(name))
    x = torch.randn(1, 8, 5, 6)
    joined = block(x)
    assert joined.shape == (1, 1536, 5, 6)
    assert sorted(calls) == sorted(name for name, _ in block.named_children())
    long = block.branch2_2(block.branch2_1(block.branch2_0(x)))
    assert torch.equal(joined[:, 768:1024], block.branch2_3a(long))
    assert torch.equal(joined[:, 1024:1280], block.branch2_3b(long))


def test_average_pools_do_not_count_the_padding(network):
    pools = [module for module in network.modules() if isinstance(module, nn.AvgPool2d)]
    assert len(pools) == 4 + 7 + 3
    ones = torch.ones(1, 1, 5, 5)
    assert all(torch.equal(pool(ones), ones) for pool in pools)


def test_branches_are_joined_in_order_under_their_names():
    class Three(Branches):
        rows = ((Pool.MAX,), (Conv(5, 3, stride=2, valid=True),), (Conv(4), Conv(6, (1, 3)), Conv(7, 3, 2, valid=True)))
        names = ("pool", "single", "several")

    block = Three(3, eps=1e-3).eval()
    x = torch.randn(1, 3, 9, 11)
    joined = block(x)
    assert joined.shape == (1, block.outputs, 4, 5) == (1, 3 + 5 + 7, 4, 5)
    assert torch.equal(joined[:, :3], nn.functional.max_pool2d(x, 3, 2))
    assert torch.equal(joined[:, 3:8], block.single(x))
    names = {name.rpartition(".bn.")[0] for name in block.state_dict() if ".bn." in name}
    assert names == {"single", "several.0", "several.1", "several.2"}
    assert {module.eps for module in block.modules() if isinstance(module, nn.BatchNorm2d)} == {1e-3}


@pytest.mark.parametrize("kernel", [1, 3, 5, (1, 7), (7, 1)])
def test_a_convolution_keeps_the_map_unless_it_is_valid(kernel):
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    x = torch.zeros(1, 2, 9, 11)
    assert inception_layer(2, Conv(3, kernel), 1e-3)(x).shape == (1, 3, 9, 11)
    assert inception_layer(2, Conv(3, kernel, valid=True), 1e-3)(x).shape == (1, 3, 10 - height, 12 - width)


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
