"""The rows of tables 1 and 2, the stages they make, and the inverted bottleneck with its excitation."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from graft.accounting.counting import account
from graft.models.blocks import InvertedBottleneck, SqueezeExcite
from graft.models.catalog import build, default_config
from graft.models.mobilenet_v3 import SPECS
from graft.models.network import Network, parameter_count

# By stage: first and last number under `features`.
STAGES = {
    "mobilenet_v3_large": [(0, 0), (1, 1), (2, 3), (4, 6), (7, 10), (11, 12), (13, 15), (16, 16)],
    "mobilenet_v3_small": [(0, 0), (1, 1), (2, 3), (4, 6), (7, 8), (9, 11), (12, 12)],
}


def without_data(name: str) -> Network:
    with torch.device("meta"):
        return build(default_config(name))


@pytest.mark.parametrize("name", SPECS)
def test_a_stage_is_the_rows_of_one_output_width(name):
    network = without_data(name)
    expected = [tuple(f"features.{n}" for n in range(first, last + 1)) for first, last in STAGES[name]]
    maps = [stage for stage in network.stages if stage.stride is not None]
    assert [stage.parts for stage in maps] == expected
    assert maps[-1].stride == 32
    assert network.stages[-2].name == "fc"
    assert network.stages[-2].parts == ("classifier.0", "classifier.1")


@pytest.mark.parametrize("name", SPECS)
def test_blocks_excite_and_activate_as_the_rows_say(name):
    blocks = [module for module in without_data(name).modules() if isinstance(module, InvertedBottleneck)]
    for row, block in zip(SPECS[name].rows, blocks, strict=True):
        excitations = [layer for layer in block.block if isinstance(layer, SqueezeExcite)]
        assert len(excitations) == row.excites
        kinds = {type(layer) for layer in block.block.modules()}
        assert row.activation in kinds
        assert (nn.Hardswish in kinds) == (row.activation is nn.Hardswish)


@pytest.mark.parametrize(
    ("path", "squeezed", "expanded"),
    # A quarter of 72 is 18, nearest to 16, which is below 90 % of it.
    [("features.4.block.2", 24, 72), ("features.5.block.2", 32, 120), ("features.15.block.2", 240, 960)],
)
def test_an_excitation_squeezes_to_a_rounded_quarter_of_the_expanded_channels(path, squeezed, expanded):
    excitation = without_data("mobilenet_v3_large").get_submodule(path)
    assert excitation.fc1.weight.shape == (squeezed, expanded, 1, 1)
    assert excitation.fc2.weight.shape == (expanded, squeezed, 1, 1)


@torch.no_grad()
def test_the_excitation_weighs_channels_by_a_gate_that_sees_their_means():
    torch.manual_seed(0)
    excitation = SqueezeExcite(6, 4, nn.ReLU, nn.Hardsigmoid)
    x = 3 * torch.randn(2, 6, 5, 7)
    hidden = (x.mean((2, 3)) @ excitation.fc1.weight.flatten(1).T + excitation.fc1.bias).clamp(min=0)
    gate = ((hidden @ excitation.fc2.weight.flatten(1).T + excitation.fc2.bias) / 6 + 0.5).clamp(0, 1)
    assert torch.allclose(excitation(x), x * gate[..., None, None], atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
def test_an_inverted_bottleneck_has_the_parameters_and_multiply_adds_of_its_formula(stride):
    inputs, hidden, outputs, kernel, side = 16, 72, 24, 5, 8
    block = InvertedBottleneck(inputs, hidden, outputs, kernel, nn.ReLU, norm=nn.BatchNorm2d, stride=stride)
    assert parameter_count(block) == hidden * (inputs + kernel**2 + outputs + 4) + 2 * outputs
    macs = hidden * (inputs * side**2 + (kernel**2 + outputs) * (side // stride) ** 2)
    assert account(block, (inputs, side, side)).macs == macs


@torch.no_grad()
def test_the_input_is_added_only_where_the_shapes_agree():
    x = torch.randn(1, 16, 8, 8)
    for outputs, stride, adds in ((16, 1, True), (16, 2, False), (24, 1, False)):
        block = InvertedBottleneck(16, 32, outputs, 3, nn.ReLU, norm=nn.BatchNorm2d, stride=stride).eval()
        assert torch.equal(block(x), block.block(x) + x if adds else block.block(x))


@pytest.mark.parametrize("name", SPECS)
def test_batch_norm_keeps_a_hundredth_of_every_batch(name):
    norms = [module for module in without_data(name).modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.01, 1e-3)}


@torch.no_grad()
@pytest.mark.parametrize("side", [64, 97])
@pytest.mark.parametrize("size", ["large", "small"])
def test_weights_from_tensorflow_give_what_timm_gives(size, side):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs = timm.create_model(f"tf_mobilenetv3_{size}_100", pretrained=False).eval()
    ours = build(replace(default_config(f"mobilenet_v3_{size}"), padding="tensorflow")).eval()
    # Other names in the same order; theirs keep the layer after the pooling as a 1 x 1 convolution.
    shapes = {name: tensor.shape for name, tensor in ours.state_dict().items()}
    values = zip(shapes.items(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict({name: tensor.reshape(shape) for (name, shape), tensor in values})
    x = torch.randn(1, 3, side, side + 3, dtype=torch.float64)
    expected, got = theirs.double()(x), ours.double()(x)
    assert expected.std() > 0
    assert (got - expected).abs().max() <= 1e-5 * expected.std()
