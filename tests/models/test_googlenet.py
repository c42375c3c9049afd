"""GoogLeNet in both forms, its auxiliary classifiers, and its module as the textbook teaches it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from test_outputs import agrees, image, tensor_for

from graft.accounting.counting import account
from graft.models.catalog import build, default_config
from graft.models.googlenet import Inception, NaiveInception
from graft.models.network import Network, parameter_count, state_shapes

BOTH = ["googlenet", "googlenet_2014"]


def made(name: str, auxiliary: bool, classes: int = 10) -> Network:
    torch.manual_seed(0)
    return build(replace(default_config(name), auxiliary=auxiliary, classes=classes))


def worked(shared: Path, example: str) -> dict:
    examples = json.loads((shared / "reference" / "worked_examples.json").read_text(encoding="utf-8"))
    return next(each for each in examples if each["id"] == example)


def test_the_naive_module_keeps_every_channel_of_its_pool(shared):
    example = worked(shared, "inception_naive_depth")
    module = NaiveInception(200, 64, 128, 32)
    with torch.no_grad():
        depth = module(torch.randn(1, *example["inputs"]["input"])).shape[1:]
    assert list(depth) == example["correct_answer"] == [424, 32, 32]
    reduced = Inception(200, 64, 96, 128, 16, 32, 32)
    with torch.no_grad():
        assert reduced(torch.randn(1, 200, 32, 32)).shape == (1, example["depth_with_pool_projection_32"], 32, 32)


def test_the_reduction_makes_the_5_x_5_ten_times_cheaper(shared):
    size = (200, 32, 32)
    naive = {layer.name: layer.macs for layer in account(NaiveInception(200, 64, 128, 32), size).layers}
    reduced = {layer.name: layer.macs for layer in account(Inception(200, 64, 96, 128, 16, 32, 32), size).layers}
    assert naive["branch3.conv"] == worked(shared, "inception_5x5_cost")["correct_answer"]
    assert reduced["branch3.0.conv"] == worked(shared, "inception_reduce_1x1")["correct_answer"]
    assert reduced["branch3.1.conv"] == worked(shared, "inception_reduce_5x5")["correct_answer"]
    both = reduced["branch3.0.conv"] + reduced["branch3.1.conv"]
    assert both == worked(shared, "inception_reduced_cost")["correct_answer"] == naive["branch3.conv"] / 10


def test_a_module_costs_what_its_formula_says():
    naive, weights = NaiveInception(200, 64, 128, 32), 200 * (64 + 9 * 128 + 25 * 32)
    assert parameter_count(naive) == weights + 64 + 128 + 32
    assert account(naive, (200, 32, 32)).macs == 32 * 32 * weights
    for kernel in (3, 5):
        module = Inception(192, 64, 96, 128, 16, 32, 24, largest=kernel)
        weights = 192 * (64 + 96 + 16 + 24) + 9 * 96 * 128 + kernel**2 * 16 * 32
        assert parameter_count(module) == weights + 64 + 96 + 128 + 16 + 32 + 24
        assert account(module, (192, 28, 28)).macs == 28 * 28 * weights


def test_the_papers_network_agrees_with_its_layer_table(shared):
    table = json.loads((shared / "reference" / "architectures.json").read_text(encoding="utf-8"))
    theirs = next(row for row in table["entries"] if row["name"] == "googlenet_2014")["layers"]
    branches = {
        "1x1": "branch1",
        "3x3 reduce": "branch2.0",
        "3x3": "branch2.1",
        "5x5 reduce": "branch3.0",
        "5x5": "branch3.1",
        "pool proj": "branch4.1",
    }
    outside = {"conv1": "conv1.conv", "conv2 reduce": "conv2.conv", "conv2": "conv3.conv", "linear": "fc"}
    outside |= {f"pool{number}": f"maxpool{number}" for number in range(1, 5)} | {"global average": "pool.0"}
    with torch.device("meta"):
        ours = {layer.name: layer for layer in account(build(default_config("googlenet_2014")), (3, 224, 224)).layers}
    for row in theirs:
        module, _, column = row["name"].partition(" ")
        layer = ours[outside.get(row["name"]) or f"inception{module}.{branches[column]}.conv"]
        assert list(layer.output_shape) == row["output"], row["name"]
        assert (layer.params, layer.macs) == (row["params"], row["macs"]), row["name"]


@pytest.mark.parametrize(
    ("name", "without", "with_them"), [("googlenet_2014", 6_998_552, 13_378_280), ("googlenet", 6_624_904, 13_004_888)]
)
def test_auxiliary_classifiers_are_built_on_demand(name, without, with_them):
    for auxiliary, expected in ((False, without), (True, with_them)):
        with torch.device("meta"):
            network = build(replace(default_config(name), auxiliary=auxiliary))
        assert parameter_count(network) == expected
        assert [each.part for each in network.auxiliaries] == (["aux1", "aux2"] if auxiliary else [])
        assert all(each.weight == 0.3 for each in network.auxiliaries)


@torch.no_grad()
def test_auxiliary_logits_are_those_of_the_reference(shared):
    from safetensors import safe_open

    outputs = json.loads((shared / "reference" / "outputs.json").read_text(encoding="utf-8"))["googlenet"]
    with torch.device("meta"):
        network = build(default_config("googlenet"))
    state = {key: tensor_for(key, shape, outputs["gain"]) for key, shape in state_shapes(network).items()}
    network.load_state_dict(state, assign=True)
    _, logits = network.eval().double().with_auxiliaries(image(3, 224, 224)[None].double())
    with safe_open(shared / "reference" / "outputs.safetensors", "pt") as stored:
        for part in ("aux1", "aux2"):
            theirs = stored.get_tensor(f"googlenet.{part}")
            assert (logits[part] - theirs).abs().max() <= 1e-5 * theirs.std(), part


@torch.no_grad()
def test_the_papers_stem_normalises_before_the_first_1_x_1_and_after_the_3_x_3():
    network, x = made("googlenet_2014", auxiliary=False).eval(), torch.randn(1, 3, 64, 64)

    def norm(maps: torch.Tensor) -> torch.Tensor:
        squares = F.pad(maps.square(), (0, 0, 0, 0, 2, 2)).unfold(1, 5, 1).sum(-1)
        return maps / (2 + 1e-4 * squares) ** 0.75

    def layer(maps: torch.Tensor, name: str, **options: int) -> torch.Tensor:
        conv = network.get_submodule(name).conv
        return F.conv2d(maps, conv.weight, conv.bias, **options).relu()

    reduced = layer(norm(F.max_pool2d(layer(x, "conv1", stride=2, padding=3), 3, 2, ceil_mode=True)), "conv2")
    expected = F.max_pool2d(norm(layer(reduced, "conv3", padding=1)), 3, 2, ceil_mode=True)
    assert torch.allclose(network.feature_maps(x)["stem"], expected, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", BOTH)
def test_weights_from_tensorflow_find_the_odd_zero_of_the_first_convolution_below_and_to_the_right(name):
    with torch.device("meta"):
        unit = build(replace(default_config(name), padding="tensorflow")).conv1.to_empty(device="cpu")
    torch.nn.init.ones_(unit.conv.weight)
    x = torch.randn(1, 3, 64, 64)
    bias = unit.conv.bias if unit.conv.bias is None else unit.conv.bias.zero_()
    expected = F.conv2d(F.pad(x, (2, 3, 2, 3)), unit.conv.weight, bias, stride=2)
    assert torch.equal(unit.conv(x), expected)


def test_dropout_is_that_of_each_form():
    for name, before_the_head in (("googlenet_2014", 0.4), ("googlenet", 0.2)):
        network = made(name, auxiliary=True)
        assert [network.get_submodule(each).p for each in ("dropout", "aux1.dropout", "aux2.dropout")] == [
            before_the_head,
            0.7,
            0.7,
        ]


@torch.no_grad()
def test_the_papers_auxiliary_pool_is_5_x_5_with_stride_3():
    network = made("googlenet_2014", auxiliary=True).eval()
    x = torch.randn(1, 512, 14, 14)
    assert torch.equal(network.aux1.pool(x), F.avg_pool2d(x, 5, 3))
    assert network.aux1.pool(x).shape == (1, 512, 4, 4)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("side", [64, 224, 256])
def test_auxiliary_losses_train_every_parameter_whatever_the_size(name, side):
    network = made(name, auxiliary=True).train()
    logits, auxiliary = network.with_auxiliaries(torch.randn(2, 3, side, side))
    targets, weights = torch.tensor([0, 1]), {each.part: each.weight for each in network.auxiliaries}
    loss = F.cross_entropy(logits, targets)
    for part, theirs in auxiliary.items():
        loss = loss + weights[part] * F.cross_entropy(theirs, targets)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in network.parameters())


@torch.no_grad()
def test_a_fresh_network_without_batch_norm_keeps_the_spread_of_its_input():
    network = made("googlenet_2014", auxiliary=False).eval()
    for stage, features in network.feature_maps(torch.randn(1, 3, 96, 96)).items():
        assert 0.5 < features.std() < 4, stage


@pytest.mark.parametrize("auxiliary", [True, False])
def test_torchvision_agrees(auxiliary):
    models = pytest.importorskip("torchvision").models
    torch.manual_seed(5)
    config = replace(default_config("googlenet"), auxiliary=auxiliary)
    agrees(config, lambda: models.googlenet(aux_logits=auxiliary, init_weights=False), side=96)


@pytest.mark.parametrize("name", BOTH)
def test_a_new_head_replaces_the_last_layer_of_every_classifier(name):
    network = made(name, auxiliary=True).eval()
    before = state_shapes(network)
    network.new_head(3)
    changed = {key for key, shape in state_shapes(network).items() if shape != before[key]}
    assert changed == {f"{layer}.{kind}" for layer in ("fc", "aux1.fc2", "aux2.fc2") for kind in ("weight", "bias")}
    with torch.no_grad():
        logits, auxiliary = network.with_auxiliaries(torch.randn(2, 3, 64, 64))
    assert [each.shape for each in (logits, *auxiliary.values())] == [(2, 3)] * 3


@pytest.mark.parametrize(("cut", "in_trunk"), [("stage1", set()), ("stage2", {"aux1", "aux2"})])
def test_auxiliary_classifiers_go_with_the_stage_they_are_attached_to(cut, in_trunk):
    network = made("googlenet", auxiliary=True).eval()
    trunk, crown = network.split(cut)
    assert {each.part for each in trunk.auxiliaries} == in_trunk
    assert {each.part for each in crown.auxiliaries} == {"aux1", "aux2"} - in_trunk
    ours, theirs = trunk.state_dict(keep_vars=True), crown.state_dict(keep_vars=True)
    assert not ours.keys() & theirs.keys()
    whole = network.state_dict(keep_vars=True)
    assert (ours | theirs).keys() == whole.keys()
    assert all(tensor is whole[key] for key, tensor in (ours | theirs).items())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        features, early = trunk.with_auxiliaries(x)
        logits, late = crown.with_auxiliaries(features)
        expected, auxiliary = network.with_auxiliaries(x)
    assert torch.equal(logits, expected)
    assert all(torch.equal((early | late)[part], auxiliary[part]) for part in ("aux1", "aux2"))
