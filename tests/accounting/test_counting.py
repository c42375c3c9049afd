"""What `account` counts, held to reference figures, to torch's own counter and to the network it must not touch."""

import importlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from graft.accounting.counting import Account, account
from graft.errors import InputError
from graft.models.catalog import CATALOG, build, default_config


@pytest.fixture(scope="module")
def reference(shared: Path) -> dict[str, dict]:
    entries = json.loads((shared / "reference" / "architectures.json").read_text())["entries"]
    return {entry["name"]: entry for entry in entries}


def account_of(name: str) -> Account:
    with torch.device("meta"):
        network = build(default_config(name))
    return account(network, CATALOG[name].input_size)


def with_weights(table: Account) -> list[tuple[tuple[int, ...], int, int]]:
    return [(layer.output_shape, layer.params, layer.macs) for layer in table.layers if layer.macs]


@pytest.mark.parametrize("name", CATALOG)
def test_every_architecture_of_the_catalogue_has_the_reference_counts(name: str, reference: dict[str, dict]) -> None:
    table, entry = account_of(name), reference[name]
    assert (table.params, table.macs) == (entry["params"], entry["macs"])
    assert table.input_shape == tuple(entry["input_size"])
    if "auxiliary_params" not in entry:  # which evaluation does not run, so that no layer has them
        assert sum(layer.params for layer in table.layers) == table.params


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
    # A crown begins at an image of its own, so receptive fields do not add up.
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
    ("name", "shape", "layer", "reason"),
    [
        ("lenet5", (3, 28, 28), "'c1' (Conv2d)", "1 channels, not 3"),
        ("lenet5", (1, 8, 8), "'c3' (Conv2d)", "a window of 5 does not fit a map of 4"),
        ("lenet5", (1, 64, 64), "'f6' (Linear)", "a layer of 120 inputs got 12000"),
    ],
)
def test_a_wrong_input_names_the_layer_that_broke(
    name: str, shape: tuple[int, int, int], layer: str, reason: str
) -> None:
    with pytest.raises(InputError) as raised:
        account(build(default_config(name)), shape)
    assert layer in str(raised.value) and reason in str(raised.value) and str(shape) in str(raised.value)


@pytest.mark.parametrize("shape", [(224, 224), (3, 0, 224), (3, 224.0, 224)])
def test_an_input_that_is_no_image_is_refused(shape: tuple) -> None:
    with pytest.raises(InputError, match="three positive sizes"):
        account(nn.Identity(), shape)


def test_counting_a_convolutional_network_does_not_load_the_compiler_of_torch() -> None:
    # It takes longer to load than anything counted here.
    program = (
        "import sys, torch\n"
        "from graft.accounting.counting import account\n"
        "from graft.models.catalog import build, default_config\n"
        "with torch.device('meta'): networks = [build(default_config(n)) for n in ('resnet20', 'mobilenet_v2')]\n"
        "print([account(network, (3, 64, 64)).params for network in networks])\n"
        "print(sorted({'torch._dynamo', 'torch._inductor', 'sympy', 'torchvision'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[269722, 3504872]", "[]"]
