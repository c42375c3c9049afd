"""Inception v3, its blocks and its auxiliary classifier."""

import json
from dataclasses import replace

import pytest
import torch
from test_outputs import agrees, image, tensor_for

from graft.models.catalog import build, default_config
from graft.models.inception_v3 import InceptionA, InceptionB, InceptionC, InceptionD, InceptionE
from graft.models.network import Network, parameter_count, state_shapes


def made(auxiliary: bool, classes: int = 10) -> Network:
    torch.manual_seed(0)
    return build(replace(default_config("inception_v3"), auxiliary=auxiliary, classes=classes))


@pytest.mark.parametrize(
    ("block", "inputs", "side", "outputs"),
    [
        (lambda: InceptionA(192, 32), 192, 35, (256, 35, 35)),
        (lambda: InceptionB(288), 288, 35, (768, 17, 17)),
        (lambda: InceptionC(768, 128), 768, 17, (768, 17, 17)),
        (lambda: InceptionD(768), 768, 17, (1280, 8, 8)),
        (lambda: InceptionE(1280), 1280, 8, (2048, 8, 8)),
    ],
    ids="ABCDE",
)
def test_a_block_has_the_shapes_of_its_docstring(block, inputs, side, outputs):
    with torch.device("meta"):
        assert block()(torch.zeros(2, inputs, side, side)).shape == (2, *outputs)


def test_maps_have_the_sides_of_table_1():
    with torch.device("meta"):
        features = made(auxiliary=False).eval().feature_maps(torch.zeros(1, 3, 299, 299))
    sides = {"stem": (192, 35, 35), "stage1": (288, 35, 35), "stage2": (768, 17, 17), "stage3": (2048, 8, 8)}
    assert {name: tuple(each.shape[1:]) for name, each in features.items()} == {**sides, "pool": (2048,)}


def test_the_average_pools_count_the_zeros_of_their_padding():
    pool = made(auxiliary=False).Mixed_5b.pool
    assert pool(torch.ones(1, 1, 3, 3))[0, 0, 0].tolist() == pytest.approx([4 / 9, 6 / 9, 4 / 9])


def test_half_of_the_vector_is_dropped_before_the_head():
    network = made(auxiliary=False)
    assert network.stages[-1].parts == ("dropout", "fc")
    assert network.dropout.p == 0.5


def test_the_auxiliary_classifier_is_built_on_demand():
    for auxiliary, expected in ((False, 23_834_568), (True, 27_161_264)):
        with torch.device("meta"):
            network = build(replace(default_config("inception_v3"), auxiliary=auxiliary))
        assert parameter_count(network) == expected
        assert [(each.part, each.after, each.weight) for each in network.auxiliaries] == (
            [("AuxLogits", "Mixed_6e", 0.3)] if auxiliary else []
        )


@torch.no_grad()
def test_auxiliary_logits_are_those_of_the_reference(shared):
    from safetensors import safe_open

    outputs = json.loads((shared / "reference" / "outputs.json").read_text(encoding="utf-8"))["inception_v3"]
    with torch.device("meta"):
        network = build(default_config("inception_v3"))
    state = {key: tensor_for(key, shape, outputs["gain"]) for key, shape in state_shapes(network).items()}
    network.load_state_dict(state, assign=True)
    trunk, _ = network.eval().double().split("stage2")
    _, logits = trunk.with_auxiliaries(image(3, 299, 299)[None].double())
    with safe_open(shared / "reference" / "outputs.safetensors", "pt") as stored:
        theirs = stored.get_tensor("inception_v3.AuxLogits")
    assert (logits["AuxLogits"] - theirs).abs().max() <= 1e-5 * theirs.std()


@torch.no_grad()
@pytest.mark.parametrize("side", [17, 20, 21])
def test_the_auxiliary_classifier_agrees_with_torchvisions_where_that_runs(side):
    models = pytest.importorskip("torchvision").models
    ours = made(auxiliary=True).AuxLogits.eval().double()
    theirs = models.inception.InceptionAux(768, 10).eval().double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 768, side, side, dtype=torch.float64)
    assert torch.allclose(ours(x), theirs(x), atol=1e-12)


@pytest.mark.parametrize("side", [107, 299])
def test_the_auxiliary_loss_trains_every_parameter_whatever_the_size(side):
    network = made(auxiliary=True).train()
    logits, auxiliary = network.with_auxiliaries(torch.randn(2, 3, side, side))
    targets = torch.tensor([0, 1])
    loss = torch.nn.functional.cross_entropy(logits, targets)
    (loss + 0.3 * torch.nn.functional.cross_entropy(auxiliary["AuxLogits"], targets)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in network.parameters())


@pytest.mark.parametrize("auxiliary", [True, False])
def test_torchvision_agrees(auxiliary):
    models = pytest.importorskip("torchvision").models
    torch.manual_seed(5)
    config = replace(default_config("inception_v3"), auxiliary=auxiliary)
    agrees(config, lambda: models.inception_v3(aux_logits=auxiliary, init_weights=False), side=96)


def test_a_new_head_replaces_the_last_layer_of_the_auxiliary_classifier_too():
    network = made(auxiliary=True).eval()
    before = state_shapes(network)
    network.new_head(3)
    changed = {key for key, shape in state_shapes(network).items() if shape != before[key]}
    assert changed == {f"{layer}.{kind}" for layer in ("fc", "AuxLogits.fc") for kind in ("weight", "bias")}


@pytest.mark.parametrize(("cut", "owner"), [("stage1", 1), ("stage2", 0)])
def test_the_auxiliary_classifier_goes_with_the_stage_it_is_attached_to(cut, owner):
    network = made(auxiliary=True)
    sections = network.split(cut)
    assert [len(each.auxiliaries) for each in sections] == [int(owner == 0), int(owner == 1)]
    ours, theirs = (each.state_dict(keep_vars=True) for each in sections)
    assert not ours.keys() & theirs.keys()
    whole = network.state_dict(keep_vars=True)
    assert (ours | theirs).keys() == whole.keys()
    assert all(tensor is whole[key] for key, tensor in (ours | theirs).items())
