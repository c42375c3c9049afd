"""The recorder writes down the networks of the catalogue; what it does not know goes to OpenVINO's converter."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from trunks import preprocessing_of, relative_error

from graft.features.extraction import output_shape
from graft.images.preprocessing import Preprocessing, normalise
from graft.models.catalog import CATALOG, build, default_config
from graft.models.network import Network, PaddingRule, freeze

openvino = pytest.importorskip("openvino")

from graft.features.openvino_functions import UnknownFunctionError  # noqa: E402
from graft.features.openvino_graph import convert, record  # noqa: E402

SMALL = Preprocessing(16, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
# One of each kind of block is recorded at every cut; a cut adds no function that the whole network does not call.
EACH_KIND = ("lenet5", "resnet18", "resnet20", "mobilenet_v1_025", "mobilenet_v2", "mobilenet_v3_small")
# One of each family and form; the others differ from these only in numbers. The network of 1998 is left to the
# converter, as its sub-sampling indexes weights.
RECORDED = (
    *("lenet5", "alexnet_2012", "alexnet", "vgg11_lrn", "vgg11_bn", "googlenet_2014", "googlenet", "inception_v3"),
    *("inception_v4", "inception_resnet_v2", "plain18", "resnet18", "resnet50", "resnet20", "preact_resnet18"),
    *("preact_resnet20", "densenet121", "xception", "mobilenet_v1", "mobilenet_v1_025", "mobilenet_v2"),
    *("mobilenet_v3_large", "mobilenet_v3_small", "efficientnet_b0", "efficientnet_b7", "efficientnet_lite0"),
)


def side_of(name: str) -> int:
    row = CATALOG[name]
    return max(row.smallest_input, min(row.input_size[-1], 64))


def empty_network(name: str, padding: PaddingRule) -> Network:
    """A network with zero weights: their values do not matter here, and drawing random ones takes seconds."""
    with torch.device("meta"):
        network = build(replace(default_config(name), padding=padding))
    network = network.to_empty(device="cpu")
    for tensor in network.state_dict().values():
        tensor.zero_()
    freeze(network)
    return network


@pytest.mark.parametrize(
    ("name", "padding"), [*((name, "torch") for name in RECORDED), *((name, "tensorflow") for name in EACH_KIND)]
)
def test_every_kind_of_network_is_recorded(name: str, padding: PaddingRule) -> None:
    network, preprocessing = empty_network(name, padding), preprocessing_of(name, side_of(name))
    shape = (2, preprocessing.channels, preprocessing.size, preprocessing.size)
    for cut in network.cuts if name in EACH_KIND and padding == "torch" else ("head",):
        trunk, _ = network.split(cut)
        graph = record(trunk, preprocessing, 2)
        assert tuple(graph.output(0).shape) == (2, *output_shape(trunk, preprocessing)), cut
        assert tuple(graph.input(0).shape) == shape and graph.input(0).element_type == openvino.Type.u8


@pytest.mark.parametrize("name", EACH_KIND)
def test_a_trunk_that_gathers_all_stages_is_recorded(name: str) -> None:
    network, preprocessing = empty_network(name, "torch"), preprocessing_of(name, side_of(name))
    graph = record(network.before_head("stages"), preprocessing, 2)
    assert tuple(graph.output(0).shape) == (2, sum(network.head_blocks("stages")))


def agree(section: nn.Module, way: Callable = record) -> None:
    """OpenVINO, from what `record` or `convert` makes of the section, computes what torch does."""
    section.eval()
    pixels = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, 3, 16, 16), dtype=np.uint8))
    with torch.no_grad():
        expected = section(normalise(pixels, SMALL))
    options = {"INFERENCE_PRECISION_HINT": openvino.Type.f32}
    compiled = openvino.Core().compile_model(way(section, SMALL, len(pixels)), "CPU", options)
    assert relative_error(torch.from_numpy(compiled(pixels.numpy())[0]), expected) < 1e-4


class Calls(nn.Module):
    """A function as a module, with a convolution before it."""

    def __init__(self, function) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.convolution(x))


KNOWN = {
    "residual": lambda x: F.relu(x) + x,
    "residual in place": lambda x: F.relu(x).add_(x),
    "number": lambda x: x + 2,
    "product": lambda x: x * torch.sigmoid(x),
    "silu": F.silu,
    "relu6": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 0.25),
    "tanh": torch.tanh,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "local response norm": lambda x: F.local_response_norm(x, 3, 0.5, 0.75, 2.0),
    "max pool": lambda x: F.max_pool2d(x, 3, 2, 1),
    "average pool": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "average pool without zeros": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "global pool": lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
    "pool to windows that overlap": lambda x: F.adaptive_avg_pool2d(x, (5, 7)),
    "pool to more than there is": lambda x: F.adaptive_avg_pool2d(x, 20),
    "max pool rounded up": lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True),
    "mean": lambda x: x.mean((2, 3)),
    "maximum": lambda x: x.amax((2, 3)),
    "mean kept": lambda x: x.mean((2, 3), keepdim=True) * x,
    "concatenation": lambda x: torch.cat([x, x + 1], 1),
    "slices": lambda x: x[:, 1:3, ::2, -5:],
    "padding": lambda x: F.pad(x, (1, 2, 0, 3), value=0.5),
    "padding below": lambda x: F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 3, 2),
    "view": lambda x: x.view(len(x), -1),
    "dropout": lambda x: F.dropout(x, 0.5, False),
    "subtraction": lambda x: x - torch.sigmoid(x) - 1,
    "transposition": lambda x: x.transpose(1, -1),
    "permutation": lambda x: x.permute(0, 2, 3, 1) + 1,
    "chunks": lambda x: x.chunk(2, 1)[1] + 1,
    "split": lambda x: torch.cat([part * (number + 1) for number, part in enumerate(x.split([1, 3], dim=1))], 1),
    "sum": lambda x: x.reshape(len(x), 2, 2, 16, 16).sum(dim=1),
    "softmax": lambda x: F.softmax(x, dim=1),
    "layer norm": lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (4,), eps=0.1),
    "gelu": F.gelu,
    "gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "leaky": lambda x: F.leaky_relu(x, 0.2),
    "stack": lambda x: torch.stack([x, x + 1], dim=1),
    "average pool rounded up": lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True),
}


@pytest.mark.parametrize("name", KNOWN)
def test_functions_of_the_table(name: str) -> None:
    agree(Calls(KNOWN[name]))


class Dilated(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 4, (3, 1), (2, 1), (1, 0), bias=False),
            nn.Conv2d(4, 8, 3, dilation=2, padding=2, groups=2),
            nn.BatchNorm2d(8, 1e-2),
            nn.Flatten(),
            nn.Linear(8 * 8 * 16, 5, bias=False),
        )
        self[2].running_mean.uniform_(-1, 1)
        self[2].running_var.uniform_(0.1, 2)


class Standardised(nn.Module):
    """A convolution that standardises its own weights, as NFNet's do."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.gain = nn.Parameter(torch.randn(4, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, 4, -1)
        weight = F.batch_norm(flat, None, None, self.gain.view(-1), training=True, eps=1e-3).reshape_as(self.weight)
        return F.conv2d(x, weight)


def test_what_is_computed_from_weights_alone_is_a_weight() -> None:
    torch.manual_seed(0)
    agree(Standardised())


def test_layers_with_unusual_settings() -> None:
    agree(Dilated())


def test_a_layer_norm_has_a_scale_and_a_shift() -> None:
    norm = nn.LayerNorm(16, eps=0.1)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    agree(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), norm))


# Functions that the table lacks, or calls that its row does not cover.
UNKNOWN = {
    "softplus": F.softplus,
    "subtraction from a number": lambda x: 1 - x,
    "transposed images": lambda x: x.transpose(0, 1).reshape(2, -1)[:, :8] if len(x) == 2 else x.transpose(0, 1),
    "square": torch.square,
    "scaled sum": lambda x: torch.add(x, x, alpha=3),
    "reflection": lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    "dilated pool": lambda x: F.max_pool2d(x, 2, dilation=2),
    "pool rounded up": lambda x: F.max_pool2d(x, 2, 3, 1, ceil_mode=True),
    "mean of all": lambda x: x.mean().reshape(1, 1) + x.mean((2, 3)),
    "some of the batch": lambda x: x + x[:1],
    "images side by side": lambda x: torch.cat([x, x], 0),
    "new axis": lambda x: x[:, None, 0],
    "convolution by words": lambda x: F.conv2d(x, torch.ones(1, 4, 3, 3), padding="same"),
    "statistics of the batch": lambda x: F.batch_norm(x, None, None, training=True),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_anything_else_goes_to_the_converter(name: str) -> None:
    section = Calls(UNKNOWN[name]).eval()
    with pytest.raises(UnknownFunctionError):
        record(section, SMALL, 2)
    if name in ("square", "some of the batch"):
        # The converter is the same for all of them, and slow.
        agree(section, convert)


def test_recording_changes_nothing_in_the_section() -> None:
    section = Dilated().eval()
    before = {name: tensor.clone() for name, tensor in section.state_dict().items()}
    record(section, SMALL, 2)
    after = section.state_dict()
    assert all(torch.equal(before[name], after[name]) and after[name].device.type == "cpu" for name in before)
