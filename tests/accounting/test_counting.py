"""`account` against reference figures and torch's own counter; the network itself must stay untouched."""

import importlib
import json
import subprocess
import sys
from collections import Counter, OrderedDict
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from graft.accounting.counting import NOT_RUN, Account, Group, account, by_group
from graft.errors import InputError
from graft.models.catalog import CATALOG, build, default_config
from graft.models.network import Network


@pytest.fixture(scope="module")
def reference(shared: Path) -> dict[str, dict]:
    entries = json.loads((shared / "reference" / "architectures.json").read_text())["entries"]
    return {entry["name"]: entry for entry in entries}


@cache
def network_of(name: str) -> Network:
    with torch.device("meta"):
        return build(default_config(name))


@cache
def account_of(name: str) -> Account:
    return account(network_of(name), CATALOG[name].input_size)


def with_weights(table: Account) -> list[tuple[tuple[int, ...], int, int]]:
    return [(layer.output_shape, layer.params, layer.macs) for layer in table.layers if layer.macs]


@pytest.mark.parametrize("name", CATALOG)
def test_every_architecture_of_the_catalogue_has_the_reference_counts(name: str, reference: dict[str, dict]) -> None:
    if name not in reference:
        pytest.skip(f"the reference has no figures of {name}")
    table, entry = account_of(name), reference[name]
    assert (table.params, table.macs) == (entry["params"], entry["macs"])
    assert table.input_shape == tuple(entry["input_size"])
    if "auxiliary_params" not in entry:  # evaluation does not run these, so no layer has them
        assert sum(layer.params for layer in table.layers) == table.params


@pytest.mark.parametrize("name", CATALOG)
def test_stages_end_in_the_shapes_they_promise_and_add_up_to_the_network(name: str) -> None:
    network, table = network_of(name), account_of(name)
    rows = by_group(table, {stage.name: stage.parts for stage in network.stages})
    assert table.macs == CATALOG[name].macs
    promised = [(stage.name, stage.channels, stage.stride) for stage in network.stages]
    assert [(row.name, row.output_shape[0], row.stride) for row in rows if row.name != NOT_RUN] == promised
    for column in ("params", "trainable_params", "macs", "activation_bytes"):
        assert sum(getattr(row, column) for row in rows) == getattr(table, column)
    auxiliary = sum(p.numel() for each in network.auxiliaries for p in network.get_submodule(each.part).parameters())
    assert [row.params for row in rows if row.name == NOT_RUN] == ([auxiliary] if auxiliary else [])


@pytest.mark.parametrize("name", [name for name in ("lenet5", "alexnet_2012", "vgg16", "resnet20") if name in CATALOG])
def test_layers_with_weights_are_those_of_the_reference_table(name: str, reference: dict[str, dict]) -> None:
    rows = [row for row in reference[name]["layers"] if row["type"] in ("conv", "linear")]
    # The reference counts the batch normalisation of the CIFAR networks with their convolutions.
    normalised = Counter(layer.type for layer in account_of(name).layers)["BatchNorm2d"] > 0
    ours = with_weights(account_of(name))
    assert [(shape, macs) for shape, _, macs in ours] == [(tuple(row["output"]), row["macs"]) for row in rows]
    if not normalised:
        assert [params for _, params, _ in ours] == [row["params"] for row in rows]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet110"])
def test_parameters_add_up_by_part(name: str, reference: dict[str, dict]) -> None:
    parts: Counter[str] = Counter()
    for layer in account_of(name).layers:
        # A CIFAR network's reference has the first normalisation in the first part, and calls the classifier fc.
        part = layer.name.partition(".")[0]
        cifar = "bn1" not in reference[name]["params_by_part"]
        parts[{"bn1": "conv1", "linear": "fc"}.get(part, part) if cifar else part] += layer.params
    assert {part: count for part, count in parts.items() if count} == reference[name]["params_by_part"]


@pytest.mark.parametrize(
    "name", ["vgg16_bn", "googlenet", "inception_v3", "densenet121", "efficientnet_b0", "mobilenet_v3_small"]
)
def test_networks_of_a_library_have_the_reference_counts(name: str, reference: dict[str, dict]) -> None:
    pytest.importorskip("torchvision")
    entry = reference[name]
    package, _, constructor = entry["reference"]["constructor"].rpartition(".")
    with torch.device("meta"):
        network = getattr(importlib.import_module(package), constructor)(**entry["reference"]["kwargs"])
    table = account(network, tuple(entry["input_size"]))
    assert (table.params, table.macs) == (entry["params"], entry["macs"])
    # Auxiliary heads are in the total, although evaluation does not run them.
    assert table.params - sum(layer.params for layer in table.layers) == sum(entry.get("auxiliary_params", {}).values())


def test_a_table_reads_like_a_summary() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    network.append(nn.Linear(8 * 4 * 5, 10))
    network[1].requires_grad_(False)
    table = account(network, (3, 8, 10))
    assert [(layer.name, layer.type, layer.output_shape) for layer in table.layers] == [
        ("0", "Conv2d", (8, 8, 10)),
        ("1", "BatchNorm2d", (8, 8, 10)),
        ("2", "ReLU", (8, 8, 10)),
        ("3", "MaxPool2d", (8, 4, 5)),
        ("4", "Flatten", (160,)),
        ("5", "Linear", (10,)),
    ]
    assert [layer.params for layer in table.layers] == [3 * 8 * 9 + 8, 16, 0, 0, 0, 1610]
    assert [layer.trainable_params for layer in table.layers] == [3 * 8 * 9 + 8, 0, 0, 0, 0, 1610]
    assert [layer.macs for layer in table.layers] == [8 * 8 * 10 * 3 * 9, 0, 0, 0, 0, 1600]
    assert [layer.activation_bytes for layer in table.layers] == [4 * n for n in (640, 640, 640, 160, 160, 10)]
    assert (table.params, table.trainable_params) == (1850, 1834)
    assert (table.macs, table.activation_bytes) == (17280 + 1600, 4 * 2250)


def test_bytes_follow_the_dtype_of_the_parameters() -> None:
    assert account(nn.Conv2d(3, 2, 1).bfloat16(), (3, 5, 7)).activation_bytes == 2 * 5 * 7 * 2


def test_a_layer_called_twice_multiplies_twice_and_has_its_parameters_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.tied = nn.Linear(4, 4, bias=False)
            self.tied.weight = self.layer.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.tied(self.layer(self.layer(x.flatten(1))))

    table = account(Twice(), (1, 2, 2))
    assert [(layer.name, layer.params, layer.macs) for layer in table.layers] == [
        ("layer", 20, 16),
        ("layer", 0, 16),
        ("tied", 0, 16),
    ]
    assert table.params == 20


def test_work_outside_layers_counts_under_the_module_that_does_it() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.zeros(6, 3, 5, 5))
            self.unused = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = F.conv2d(x, self.kernel).mean((2, 3))
            return x @ self.unused.weight.T  # the bias stays out

    table = account(nn.Sequential(nn.Identity(), Functional()), (3, 9, 9))
    (work,) = [layer for layer in table.layers if layer.macs]
    assert (work.name, work.type, work.output_shape) == ("1", "Functional", (2,))
    assert work.macs == 6 * 5 * 5 * 3 * 25 + 6 * 2
    assert (work.params, table.params) == (450 + 12, 450 + 14)


def test_attention_counts_its_projections_and_both_products() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2).transpose(1, 2)  # (N, HW, C)
            return self.attention(tokens, tokens, tokens, need_weights=False)[0]

    table = account(Attention(), (8, 4, 4))
    assert table.macs == 16 * 8 * 24 + 2 * 16 * 16 * 8 + 16 * 8 * 8
    assert sum(layer.params for layer in table.layers) == table.params == 8 * 24 + 24 + 8 * 8 + 8


class Flattened(nn.Linear):
    """A linear layer whose weight is that of a 1 x 1 convolution."""

    def __init__(self) -> None:
        super().__init__(8, 5)
        self.weight = nn.Parameter(self.weight.detach()[..., None, None])

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input.flatten(1), self.weight.flatten(1), self.bias)


class Constant(nn.Module):
    """A linear layer whose weight is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(5, 8))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.flatten(1), self.weight)


class Selected(nn.Module):
    """A grouped convolution of selected channels, written as a loop that ends in a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("chosen", torch.tensor([0, 1, 1, 0]))
        self.layer = nn.Conv2d(4, 6, 3, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        chosen = x[:, self.chosen]
        return torch.cat([self.layer(chosen), self.layer(x.index_select(1, self.chosen))], 1)


class Gated(nn.Module):
    """Squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 1, 1), nn.SiLU(), nn.Conv2d(1, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.gate(x))


@pytest.mark.parametrize(
    ("layer", "shape", "params", "macs"),
    [
        (Flattened(), (8, 1, 1), 8 * 5 + 5, 8 * 5),
        (Constant(), (2, 2, 2), 0, 8 * 5),
        (Selected(), (2, 7, 9), 6 * 2 * 9 + 6, 2 * 6 * 5 * 7 * 2 * 9),
        (Gated(), (2, 7, 9), 3 + 4, 2 + 2),
        (nn.LocalResponseNorm(5), (8, 7, 9), 0, 0),
        (nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(2, 3, 1, bias=False)), (2, 8, 8), 6, 4 * 4 * 6),
        (nn.Sequential(nn.AdaptiveAvgPool2d((6, 7)), nn.Flatten(), nn.Linear(84, 3)), (2, 9, 9), 84 * 3 + 3, 84 * 3),
        (nn.Sequential(nn.Conv2d(2, 2, 1), nn.Hardswish(True), nn.Dropout(0.5, True)), (2, 7, 9), 6, 4 * 63),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_the_parts_that_networks_are_made_of(
    layer: nn.Module, shape: tuple[int, int, int], params: int, macs: int
) -> None:
    table = account(layer, shape)
    assert (table.params, sum(row.params for row in table.layers), table.macs) == (params, params, macs)


def test_groups_are_sums_that_end_where_their_last_module_does() -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.narrow = nn.Conv2d(3, 4, 5, stride=2, padding=2), nn.Conv2d(3, 2, 1, stride=2)
            self.narrow.requires_grad_(False)
            self.beside = nn.Linear(6, 10)  # like an auxiliary classifier in evaluation

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.wide(x), self.narrow(x)], 1)

    network = nn.Sequential(nn.ReLU(), Joined(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))
    first, second = by_group(account(network, (3, 8, 10)), {"body": ("0", "1"), "head": ("2", "3", "4")})[:2]
    trained, frozen = 4 * 75 + 4, 2 * 3 + 2
    # The concatenation is no layer; the module that owns it ends the group.
    assert first == Group(
        "body", (6, 4, 5), trained + frozen, trained, 20 * (4 * 75 + 2 * 3), 4 * (240 + 80 + 40), 5, 2
    )
    assert second == Group("head", (10,), 70, 70, 60, 4 * (6 + 6 + 10), 10 - 1 + 2 + 2, None)
    *_, rest = by_group(account(network, (3, 8, 10)), {"all": ("",)})
    assert rest == Group(NOT_RUN, (), 70, 70, 0, 0, 0, None)


def test_a_module_that_two_groups_share_counts_in_each_by_its_call() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.relu = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 3), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.second(self.relu(self.first(x))))

    rows = by_group(account(Shared(), (3, 6, 6)), {"one": ("first", "relu"), "two": ("second", "relu")})
    facts = [(row.output_shape, row.activation_bytes, row.receptive_field) for row in rows]
    assert facts == [((4, 6, 6), 2 * 4 * 4 * 36, 1), ((2, 4, 4), 2 * 4 * 2 * 16, 3)]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"body": ("0",)}, "one of the groups body, got 1, 2 outside"),
        ({"body": ("0",), "head": ("2",)}, "one of the groups body, head, got 1 outside"),
        ({"body": ("0", "1", "2"), "head": ("3",)}, "got '3' in head, which does not run"),
        ({"body": ("1", "2"), "head": ("0",)}, "got '0' in head, which does not run after"),
    ],
)
def test_groups_that_do_not_fit_the_network_are_refused(groups: dict[str, tuple[str, ...]], message: str) -> None:
    table = account(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Flatten()), (3, 4, 4))
    with pytest.raises(InputError, match=message):
        by_group(table, groups)


def test_multiply_adds_are_half_of_the_operations_that_torch_counts() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.Conv2d(8, 8, (1, 5), groups=4, padding="same", bias=False),
        nn.ConvTranspose2d(8, 6, 4, stride=2, groups=2),
        nn.AdaptiveAvgPool2d((3, 2)),
        nn.Flatten(2),
        nn.Linear(6, 5),
        nn.Flatten(),
        nn.Linear(30, 10, bias=False),
    ).eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.rand(1, 3, 21, 18))
    assert account(network, (3, 21, 18)).macs == counter.get_total_flops() / 2


def test_the_network_is_left_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.ReLU(inplace=True))
    network[1].eval()
    network[0].weight.requires_grad_(False)
    network[0].offset = torch.ones(2)  # a tensor that is neither parameter nor buffer
    calls = []
    network[0].register_forward_hook(lambda *_: calls.append("hook"))
    network[0].register_forward_pre_hook(lambda *_: calls.append("pre-hook"))
    tensors = {**network.state_dict(keep_vars=True), "offset": network[0].offset}
    values = {name: tensor.clone() for name, tensor in tensors.items()}
    seed = torch.get_rng_state()
    account(network, (3, 8, 8))
    assert calls == []
    assert [module.training for module in network] == [True, False, True, True] and network.training
    assert all(len(m._forward_hooks) == len(m._forward_pre_hooks) == (m is network[0]) for m in network.modules())
    after = {**network.state_dict(keep_vars=True), "offset": network[0].offset}
    assert all(after[name] is tensor and torch.equal(tensor, values[name]) for name, tensor in tensors.items())
    assert [p.requires_grad for p in network.parameters()] == [False, True, True, True]
    assert torch.equal(torch.get_rng_state(), seed)


def test_a_network_without_data_is_counted_like_one_with() -> None:
    network = build(default_config("lenet5"))
    assert account(network, (1, 28, 28)) == account_of("lenet5")


def test_a_trunk_and_a_crown_add_up_to_their_network() -> None:
    network = build(default_config("resnet20"))
    trunk, crown = network.split("stage2")
    whole = account(network, (3, 32, 32))
    # A crown starts from an input of its own, so receptive fields do not add up.
    columns = [(layer.name, layer.output_shape, layer.params, layer.macs) for layer in whole.layers]
    halves = account(trunk, (3, 32, 32)).layers + account(crown, (32, 16, 16)).layers
    assert [(layer.name, layer.output_shape, layer.params, layer.macs) for layer in halves] == columns


def test_an_exception_that_the_network_handles_is_none_of_ours() -> None:
    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.narrow = nn.Conv2d(3, 2, 9), nn.Conv2d(3, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.wide(x)
            except (RuntimeError, ValueError):
                return self.narrow(x)

    assert [layer.name for layer in account(Careful(), (3, 5, 5)).layers] == ["narrow"]


@pytest.mark.parametrize(
    ("shape", "layer", "reason"),
    [
        ((3, 28, 28), "'first' (Conv2d)", "1 channels, not 3"),
        ((1, 8, 8), "'second' (Conv2d)", "a window of 5 does not fit a map of 4"),
        ((1, 64, 64), "'dense' (Linear)", "a layer of 800 inputs got 6272"),
    ],
)
def test_a_wrong_input_names_the_layer_that_failed(shape: tuple[int, int, int], layer: str, reason: str) -> None:
    network = nn.Sequential(OrderedDict(first=nn.Conv2d(1, 6, 5, padding=2), pool=nn.AvgPool2d(2)))
    network.add_module("second", nn.Conv2d(6, 8, 5))
    network.add_module("flat", nn.Flatten())
    network.add_module("dense", nn.Linear(800, 10))
    with pytest.raises(InputError) as raised:
        account(network, shape)
    assert layer in str(raised.value) and reason in str(raised.value) and str(shape) in str(raised.value)


def test_a_network_that_knows_what_it_can_take_speaks_for_itself() -> None:
    with pytest.raises(InputError, match=r"^expected images of 28 px or more for lenet5, got 8 x 8"):
        account(build(default_config("lenet5")), (1, 8, 8))


@pytest.mark.parametrize("shape", [(224, 224), (3, 0, 224), (3, 224.0, 224)])
def test_an_input_that_is_no_image_is_refused(shape: tuple) -> None:
    with pytest.raises(InputError, match=r"expected (an input of three|positive) sizes"):
        account(nn.Identity(), shape)


def test_counting_a_convolutional_network_does_not_load_the_compiler_of_torch() -> None:
    # Loading it takes longer than counting anything here.
    program = (
        "import sys, torch\n"
        "from graft.accounting.counting import account\n"
        "from graft.models.catalog import build, default_config\n"
        "from graft.accounting.memory import forward_memory, training_memory\n"
        "for name in ('alexnet_2012', 'googlenet', 'preact_resnet20', 'densenet121', 'mobilenet_v3_small'):\n"
        "    with torch.device('meta'): network = build(default_config(name))\n"
        "    account(network, (3, 96, 96))\n"
        "    forward_memory(network, (3, 96, 96))\n"
        "    training_memory(*network.split('input'), (3, 96, 96), 2)\n"
        "print(sorted({'torch._dynamo', 'torch._inductor', 'sympy', 'torchvision'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_account_prints_its_totals_on_one_line() -> None:
    found = account(nn.Sequential(nn.Conv2d(3, 40, 5), nn.ReLU()), (3, 20, 20))
    assert repr(found) == "Account(input_shape=(3, 20, 20), layers=2, params=3,040, macs=768,000)"
