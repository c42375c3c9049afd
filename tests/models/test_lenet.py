"""LeNet-5 as the paper has it: sub-sampling with weights, the table of C3, scaled tanh, fixed codes at the output."""

import math

import pytest
import torch
from torch import Tensor, nn

from graft.accounting.counting import account
from graft.models.catalog import build, default_config
from graft.models.lenet import PartialConvolution, RadialBasis, ScaledTanh, Subsampling
from graft.models.network import Config, Network, parameter_count

# Table I of the paper by row: for each map of S2 the maps of C3 that see it.
READERS = {
    0: {0, 4, 5, 6, 9, 10, 11, 12, 14, 15},
    1: {0, 1, 5, 6, 7, 10, 11, 12, 13, 15},
    2: {0, 1, 2, 6, 7, 8, 11, 13, 14, 15},
    3: {1, 2, 3, 6, 7, 8, 9, 12, 14, 15},
    4: {2, 3, 4, 7, 8, 9, 10, 12, 13, 15},
    5: {3, 4, 5, 8, 9, 10, 11, 13, 14, 15},
}


def made(name: str = "lenet5_1998") -> Network:
    torch.manual_seed(0)
    return build(default_config(name)).eval()


def image(side: int, channels: int = 1) -> Tensor:
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("source", READERS)
def test_a_map_of_s2_reaches_the_maps_of_c3_that_the_paper_lists(source):
    layer = PartialConvolution()
    x = torch.randn(1, 6, 14, 14)
    other = x.clone()
    other[:, source] += 1
    changed = (layer(other) - layer(x)).abs().amax((0, 2, 3))
    assert set(changed.nonzero().flatten().tolist()) == READERS[source]


def test_c3_has_the_parameters_and_multiply_adds_of_the_paper():
    assert parameter_count(PartialConvolution()) == 60 * 25 + 16 == 1516
    assert account(PartialConvolution(), (6, 14, 14)).macs == 60 * 25 * 100 == 150_000
    # 151,600 connections in the paper: those and the biases.
    assert 150_000 + 16 * 100 == 151_600


@torch.no_grad()
def test_each_map_of_c3_is_a_convolution_of_its_own_sources():
    layer = PartialConvolution().double()
    x = torch.randn(1, 6, 9, 9, dtype=torch.float64)
    maps = [kernels for part in layer for kernels in zip(part.weight, part.bias, strict=True)]
    expected = []
    for number, (weight, bias) in enumerate(maps):
        sources = [source for source, readers in READERS.items() if number in readers]
        expected.append(nn.functional.conv2d(x[:, sources], weight[None], bias[None]))
    assert len(maps) == 16
    # The kernels of a map stand in the order of its sources.
    assert torch.allclose(layer(x), torch.cat(expected, dim=1), atol=1e-12)


@torch.no_grad()
def test_subsampling_multiplies_the_sum_of_four_adds_a_bias_and_squashes():
    layer = Subsampling(2).double()
    layer.coefficient.copy_(torch.tensor([0.5, -2.0]))
    layer.bias.copy_(torch.tensor([0.25, 1.0]))
    x = torch.tensor([[[[1.0, 2.0, 0.0, 0.0], [3.0, -4.0, 0.5, 0.5]], [[0.1, 0.2, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]]]])
    sums = torch.tensor([[[[2.0, 1.0]], [[0.3, 1.0]]]], dtype=torch.float64)
    weighted = torch.stack([0.5 * sums[:, 0] + 0.25, -2.0 * sums[:, 1] + 1.0], dim=1)
    assert torch.allclose(layer(x.double()), 1.7159 * torch.tanh(weighted * 2 / 3), atol=1e-7)
    assert (parameter_count(Subsampling(6)), parameter_count(Subsampling(16))) == (12, 32)


@torch.no_grad()
def test_subsampling_starts_as_the_squashed_mean():
    x = image(8)
    assert torch.allclose(Subsampling(1)(x), ScaledTanh()(nn.functional.avg_pool2d(x, 2)), atol=1e-6)


def test_the_scaled_tanh_keeps_plus_and_minus_one():
    ends = ScaledTanh()(torch.tensor([-100.0, -1.0, 0.0, 1.0, 100.0])).tolist()
    assert ends == pytest.approx([-1.7159, -1.0, 0.0, 1.0, 1.7159], abs=1e-4)


@torch.no_grad()
def test_the_output_is_minus_the_squared_distance_to_each_code():
    layer = RadialBasis(84, 10).double()
    x = 1.7 * torch.randn(5, 84, dtype=torch.float64).tanh()
    expected = [[-sum((a - b) ** 2 for a, b in zip(row, code, strict=True)) for code in layer.weight] for row in x]
    assert torch.allclose(layer(x), torch.tensor(expected, dtype=torch.float64), atol=1e-10)
    assert torch.equal(layer(layer.weight).argmax(1), torch.arange(10))
    assert layer(layer.weight).diagonal().abs().max() < 1e-10


def test_codes_are_plus_and_minus_one_evenly_and_the_same_in_every_network():
    codes = RadialBasis(84, 1000).weight
    assert set(codes.unique().tolist()) == {-1.0, 1.0}
    assert codes.mean().abs() < 4 / math.sqrt(codes.numel())
    assert len(codes.unique(dim=0)) == 1000
    before = torch.get_rng_state()
    assert torch.equal(RadialBasis(84, 10).weight, RadialBasis(84, 10).weight)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_output_layer_has_codes_in_its_state_and_nothing_to_train():
    network = made()
    assert parameter_count(network.head) == 0
    assert network.state_dict()["output.weight"].shape == (10, 84)
    assert "output.bias" not in network.state_dict()
    assert sum(buffer.numel() for buffer in network.buffers()) == 840
    other = made()
    other.output.weight.zero_()
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.output.weight, network.output.weight)


@torch.no_grad()
def test_a_new_head_has_a_code_for_each_new_class():
    network = made().double()
    new = network.new_head(26)
    assert isinstance(new, RadialBasis)
    assert new.weight.dtype == torch.float64
    assert (new.weight.abs() == 1).all()
    assert network(image(32).double()).shape == (2, 26)
    assert parameter_count(network) == 60_000


def test_without_data_nothing_is_drawn():
    with torch.device("meta"):
        network = build(default_config("lenet5_1998"))
    assert all(tensor.is_meta for tensor in network.state_dict().values())


def test_parameters_are_those_of_the_paper_layer_by_layer():
    network = made()
    counts = [parameter_count(network.get_submodule(part)) for part in ("c1", "s2", "c3", "s4", "c5", "f6", "output")]
    assert counts == [156, 12, 1516, 32, 48_120, 10_164, 0]
    assert sum(counts) == parameter_count(network) == 60_000


def test_multiply_adds_are_counted_where_weights_are_used():
    layers = account(made(), (1, 32, 32)).layers
    macs = {name: sum(layer.macs for layer in layers if layer.name.startswith(name)) for name in ("c3", "s2", "output")}
    assert macs == {"c3": 150_000, "s2": 0, "output": 840}
    # Connections, as the paper counts them: multiply-adds, biases, and five per output of a sub-sampling layer.
    biases = 6 * 28**2 + 16 * 10**2 + 120 + 84
    assert sum(layer.macs for layer in layers) + biases + 5 * (6 * 14**2 + 16 * 5**2) == 340_908


@torch.no_grad()
@pytest.mark.parametrize(("name", "smallest"), [("lenet5", 28), ("lenet5_1998", 32)])
def test_a_larger_image_is_classified_by_the_mean_of_c5(name, smallest):
    network = made(name)
    x = image(smallest + 8)
    squashed = network.c5_out[0](network.c5(network.split("stage2")[0](x)))
    assert squashed.shape[2:] == (3, 3)
    assert torch.allclose(network.feature_maps(x)["stage3"], squashed.mean((2, 3)), atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize(("name", "smallest"), [("lenet5", 28), ("lenet5_1998", 32)])
def test_sizes_run_from_that_at_which_c5_has_one_pixel(name, smallest):
    network = made(name)
    for side in (smallest, smallest + 1, 64):
        assert network(image(side)).shape == (2, 10)
    layers = nn.Sequential(*(network.get_submodule(part) for stage in network.stages[:3] for part in stage.parts))
    with pytest.raises(RuntimeError):
        layers(image(smallest - 1))


@torch.no_grad()
def test_the_two_forms_see_the_same_32_pixels():
    # The border of 28 px inputs stands in for the one that the paper's images have.
    textbook, original = made("lenet5"), made()
    original.c1.load_state_dict(textbook.c1.state_dict())
    x = image(28)
    assert torch.allclose(textbook.c1(x), original.c1(nn.functional.pad(x, (2, 2, 2, 2))), atol=1e-6)


def test_channels_and_classes_are_as_asked():
    network = build(Config("lenet5_1998", classes=4, channels=3))
    assert network(image(32, channels=3)).shape == (2, 4)
    network(image(32, channels=3)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
