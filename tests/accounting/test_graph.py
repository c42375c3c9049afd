"""The dataflow that `trace` records: branches, shortcuts and gates, however they are written."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft.accounting.counting import account
from graft.accounting.graph import IMAGE, Graph, Node, trace
from graft.errors import InputError
from graft.models.catalog import CATALOG, build, default_config


def graph_of(name: str) -> Graph:
    with torch.device("meta"):
        network = build(default_config(name))
    return trace(network, CATALOG[name].input_size)


def inside(graph: Graph, path: str) -> list[Node]:
    return [node for node in graph.nodes if node.path == path or node.path.startswith(f"{path}.")]


def only(graph: Graph, path: str, operation: str) -> Node:
    (node,) = [node for node in inside(graph, path) if node.operation == operation]
    return node


def back(graph: Graph, position: int, path: str) -> tuple[list[str], int]:
    """The operations of a branch, last first, back to the first node outside `path`; and that node."""
    operations = []
    while graph.nodes[position] in inside(graph, path):
        operations.append(graph.nodes[position].operation)
        position = graph.nodes[position].inputs[0]
    return operations, position


NAMES = ["lenet5", "lenet5_1998", "vgg16_bn", "googlenet", "densenet121", "resnet110", "efficientnet_b0"]


@pytest.mark.parametrize("name", [name for name in NAMES if name in CATALOG])
def test_parameters_and_multiply_adds_are_those_of_the_account(name: str) -> None:
    with torch.device("meta"):
        network = build(default_config(name))
    graph, table = trace(network, CATALOG[name].input_size), account(network, CATALOG[name].input_size)
    assert (graph.params, graph.macs) == (table.params, table.macs)
    assert sum(node.params for node in graph.nodes) == sum(layer.params for layer in table.layers)


def test_nodes_begin_with_the_image_and_follow_their_inputs() -> None:
    graph = graph_of("mobilenet_v2")
    assert (graph.nodes[0].operation, graph.nodes[0].output_shape) == (IMAGE, (3, 224, 224))
    for position, node in enumerate(graph.nodes[1:], start=1):
        assert node.inputs
        assert max(node.inputs) < position
    # All but the last are used.
    assert {each for node in graph.nodes for each in node.inputs} == set(range(len(graph.nodes) - 1))


@pytest.mark.skipif("googlenet" not in CATALOG, reason="not built yet")
def test_an_inception_module_has_four_branches_from_one_input() -> None:
    graph = graph_of("googlenet")
    join = only(graph, "inception3a", "concatenate")
    branches = [back(graph, each, "inception3a") for each in join.inputs]
    layer = ["ReLU", "batch norm", "convolution"]
    assert [operations for operations, _ in branches] == [layer, layer * 2, layer * 2, [*layer, "max pool"]]
    assert len({start for _, start in branches}) == 1
    assert join.output_shape == (64 + 128 + 32 + 32, 28, 28)


def test_a_shortcut_is_the_identity_or_a_projection() -> None:
    graph = graph_of("resnet50")
    first, second = (only(graph, f"layer2.{index}", "add") for index in (0, 1))
    assert [back(graph, each, "layer2.0")[0] for each in first.inputs] == [
        ["batch norm", *["convolution", "ReLU", "batch norm"] * 2, "convolution"],
        ["batch norm", "convolution"],
    ]
    assert [len(back(graph, each, "layer2.1")[0]) for each in second.inputs] == [8, 0]
    assert len({back(graph, each, "layer2.1")[1] for each in second.inputs}) == 1


def test_a_shortcut_of_zero_channels_is_padding() -> None:
    graph = graph_of("resnet20")
    join = only(graph, "layer2.0", "add")
    shortcut = graph.nodes[join.inputs[1]]
    assert (shortcut.operation, shortcut.type, shortcut.output_shape) == ("pad", "ZeroPadShortcut", (32, 16, 16))
    assert graph.nodes[shortcut.inputs[0]].output_shape == (16, 32, 32)


@pytest.mark.skipif("densenet121" not in CATALOG, reason="not built yet")
def test_a_dense_layer_concatenates_its_input() -> None:
    graph, path = graph_of("densenet121"), "features.denseblock1.denselayer1"
    join = only(graph, path, "concatenate")
    (_, kept), (operations, start) = (back(graph, each, path) for each in join.inputs)
    assert kept == start == join.inputs[0]
    assert operations == ["convolution", "ReLU", "batch norm"] * 2
    assert join.output_shape == (96, 56, 56)


@pytest.mark.skipif("efficientnet_b0" not in CATALOG, reason="not built yet")
def test_a_gate_multiplies_what_it_was_made_from() -> None:
    graph = graph_of("efficientnet_b0")
    (gate,) = [node for node in inside(graph, "features.1") if node.operation == "multiply"]
    weighed, weight = gate.inputs
    operations, position = [], weight
    while position != weighed:
        operations.append(graph.nodes[position].operation)
        (position,) = graph.nodes[position].inputs
    assert operations == ["sigmoid", "convolution", "SiLU", "convolution", "average pool"]


def test_windows_strides_and_groups_are_known() -> None:
    graph = graph_of("mobilenet_v1")
    depthwise = only(graph, "blocks.1.0.conv_dw", "convolution")
    assert (depthwise.window, depthwise.stride, depthwise.groups) == ((3, 3), 2, 64)
    pool = only(graph, "pool.0", "average pool")
    assert (pool.window, pool.output_shape) == ((7, 7), (1024, 1, 1))
    assert graph.strides[graph.nodes.index(depthwise)] == 4
    assert graph.strides[graph.nodes.index(pool)] is None


class Spelled(nn.Module):
    """A residual block in the functional style, in place where it can be."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu_(self.conv(x))
        y += x
        return torch.flatten(F.adaptive_avg_pool2d(y, 1), 1)


def test_functions_and_writing_in_place_are_followed() -> None:
    graph = trace(Spelled(), (4, 8, 8))
    assert [(node.operation, node.inputs) for node in graph.nodes] == [
        (IMAGE, ()),
        ("convolution", (0,)),
        ("ReLU", (1,)),
        ("add", (2, 0)),
        ("average pool", (3,)),
    ]
    assert [node.type for node in graph.nodes] == ["", "Conv2d", "", "", ""]


class Twice(nn.Module):
    """One layer used on two halves of the channels: no half flows into the other."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        one, other = x.chunk(2, dim=1)
        return torch.cat([self.shared(one), self.shared(other)], dim=1)


def test_a_layer_used_twice_is_two_nodes_and_has_its_parameters_once() -> None:
    graph = trace(Twice(), (4, 8, 8))
    assert [(node.operation, node.inputs) for node in graph.nodes[1:]] == [
        ("convolution", (0,)),
        ("convolution", (0,)),
        ("concatenate", (1, 2)),
    ]
    assert [node.params for node in graph.nodes[1:]] == [38, 0, 0]
    assert graph.params == 38


def test_a_network_is_left_alone() -> None:
    network = Spelled().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    trace(network, (4, 8, 8))
    assert network.training
    assert not network.conv._forward_hooks
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_an_input_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"conv.*give the channels"):
        trace(Spelled(), (3, 8, 8))


def test_neither_recording_nor_drawing_loads_the_compiler() -> None:
    code = (
        "import sys, torch\n"
        "from graft.drawing.diagram import draw_diagram\n"
        "from graft.accounting.graph import trace\n"
        "from graft.models.catalog import build, default_config\n"
        "with torch.device('meta'): network = build(default_config('mobilenet_v2'))\n"
        "draw_diagram(trace(network, (3, 224, 224)), 'mobilenet_v2')\n"
        "print([name for name in ('torch._inductor', 'torch._dynamo', 'matplotlib') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_graph_prints_its_totals_on_one_line() -> None:
    found = trace(nn.Sequential(nn.Conv2d(3, 40, 5), nn.ReLU()), (3, 20, 20))
    assert repr(found) == "Graph(nodes=3, params=3,040, macs=768,000)"
