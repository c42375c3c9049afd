"""Recognizing an architecture from its tensors, and saying what does not fit."""

from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from repeating import repeating_draws
from torch import Tensor

from graft.errors import WeightsError
from graft.models.catalog import CATALOG, build, default_config
from graft.models.network import Network
from graft.weights.architectures import resolve
from graft.weights.filling import fill
from graft.weights.matching import Match, match, recognize


def made(name: str, classes: int = 5, channels: int | None = None) -> Network:
    torch.manual_seed(0)
    config = default_config(name)
    return build(replace(config, classes=classes, channels=channels or config.channels)).eval()


@lru_cache(maxsize=2)
def without_data(name: str, channels: int) -> Network:
    with torch.device("meta"):
        return build(replace(default_config(name), channels=channels))


def shapes_alone(name: str, classes: int, channels: int) -> dict[str, Tensor]:
    network = without_data(name, channels)
    network.new_head(classes)
    return network.state_dict()


def matched(tensors: dict[str, Tensor], name: str) -> Match:
    architecture = resolve(name)
    return match(tensors, architecture, architecture.config)


# A plain network for CIFAR has the tensors of the residual one, whose shortcuts have none: it needs --arch.
UNMISTAKABLE = [name for name in CATALOG if name not in ("plain20", "plain32", "plain44", "plain56", "plain110")]


@pytest.mark.parametrize("name", UNMISTAKABLE)
def test_every_architecture_is_recognized_from_its_tensors_with_and_without_a_head(name):
    for classes, channels in ((7, 3), (21_843, 1)):
        found = recognize(shapes_alone(name, classes, channels), "a file")
        assert found.config == replace(default_config(name), classes=classes, channels=channels)
        assert found.exact
        assert found.has_head
        assert found.strangers == 0
    head = without_data(name, 3).head_name
    tensors = {
        key: tensor
        for key, tensor in shapes_alone(name, 10, 3).items()
        if not key.startswith(f"{head}.") and not key.endswith("num_batches_tracked")
    }
    found = recognize(tensors, "a file")
    # They also lack batch norm's counters of batches, as older files do.
    assert (found.architecture.name, found.has_head) == (name, False)
    assert found.config.classes == CATALOG[name].classes


def test_half_a_head_is_no_head():
    for missing in ("bias", "weight"):
        tensors = made("resnet20").state_dict()
        del tensors[f"linear.{missing}"]
        assert not recognize(tensors, "a file").has_head
    tensors = made("resnet20").state_dict()
    for weight, bias in (
        (torch.ones(5, 64), torch.ones(6)),
        (torch.ones(5, 63), torch.ones(5)),
        (torch.ones(0, 64),) * 2,
    ):
        tensors["linear.weight"], tensors["linear.bias"] = weight, bias
        assert not recognize(tensors, "a file").has_head


@torch.no_grad()
@pytest.mark.parametrize("name", ["lenet5", "resnet20", "resnet18", "mobilenet_v1_025", "mobilenet_v2"])
def test_a_filled_network_is_the_one_the_weights_came_from(name):
    source, side = made(name), 28 if name == "lenet5" else 32
    tensors = {key: tensor.clone() for key, tensor in source.state_dict().items()}
    found = recognize(tensors, "a file")
    torch.manual_seed(9)
    network = build(found.config).eval()
    x = torch.randn(2, CATALOG[name].input_size[0], side, side)
    assert not torch.equal(network(x), source(x))
    fill(network, tensors, found, "a file")
    assert torch.equal(network(x), source(x))


@torch.no_grad()
@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
@pytest.mark.parametrize("auxiliary", [True, False])
def test_checkpoints_with_and_without_auxiliary_classifiers_are_recognized(name, auxiliary):
    with repeating_draws():
        network = build(replace(default_config(name), classes=7, auxiliary=auxiliary)).eval()
    found = recognize(network.state_dict(), "a file")
    assert found.config == network.config
    with torch.device("meta"):
        filled = build(found.config)
    filled.to_empty(device="cpu")
    fill(filled, network.state_dict(), found, "a file")
    assert all(torch.equal(tensor, filled.state_dict()[key]) for key, tensor in network.state_dict().items())


def test_a_plain_network_is_taken_for_the_residual_one_unless_it_is_named():
    tensors = made("plain20").state_dict()
    assert recognize(tensors, "a file").architecture.name == "resnet20"
    assert matched(tensors, "plain20").exact


def test_what_does_not_fit_is_named_in_both_directions_with_the_nearest_architecture():
    tensors = made("resnet18").state_dict()
    del tensors["layer1.0.conv1.weight"], tensors["bn1.running_var"]
    tensors["layer9.conv.weight"] = torch.ones(2, 2)
    tensors["layer2.0.conv1.weight"] = torch.ones(128, 64, 5, 5)
    with pytest.raises(WeightsError) as caught:
        recognize(tensors, "torn.pth")
    text = str(caught.value)
    assert "resnet18" in text
    assert "torn.pth" in text
    assert "2 missing (bn1.running_var, layer1.0.conv1.weight)" in text
    assert "1 unknown to it (layer9.conv.weight)" in text
    assert "1 of another shape (layer2.0.conv1.weight is (128, 64, 5, 5) for (128, 64, 3, 3))" in text
    assert "nearest" in text


def test_only_a_few_of_many_names_are_listed():
    tensors = {key: tensor for key, tensor in made("resnet18").state_dict().items() if not key.startswith("layer1.0")}
    with pytest.raises(WeightsError, match=r"10 missing \(layer1\.0\.conv1\.weight, [^)]*, …\)"):
        recognize(tensors, "torn.pth")


def test_tensors_of_something_else_altogether_fit_none():
    with pytest.raises(WeightsError, match=r"a\.pth, none of whose tensors \(encoder\.weight\) fits any"):
        recognize({"encoder.weight": torch.ones(3)}, "a.pth")


@pytest.mark.parametrize("channels", [2, 4, 13])
def test_the_stem_says_for_how_many_channels_the_network_is(channels):
    assert recognize(shapes_alone("resnet18", 5, channels), "a.pth").config.channels == channels


def test_weights_of_another_architecture_name_the_one_they_fit():
    tensors = made("resnet34").state_dict()
    found = matched(tensors, "resnet18")
    with pytest.raises(WeightsError, match=r"resnet18.*those of resnet34: name .* \(`arch='resnet34'`\)"):
        fill(build(found.config), tensors, found, "a.pth")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e300])
@pytest.mark.parametrize("where", ["conv1.weight", "linear.bias", "layer3.2.bn2.running_var"])
def test_weights_that_are_not_finite_are_refused(where, bad):
    tensors = {key: tensor.clone().double() for key, tensor in made("resnet20").state_dict().items()}
    tensors[where].view(-1)[-1] = bad
    found = recognize(tensors, "a.pth")
    with pytest.raises(WeightsError, match=rf"finite.*'{where}' of a\.pth"):
        fill(build(found.config), tensors, found, "a.pth")


def test_quantised_weights_are_refused():
    tensors = made("resnet20").state_dict()
    tensors["conv1.weight"] = tensors["conv1.weight"].to(torch.int8)
    found = recognize(tensors, "a.pth")
    with pytest.raises(WeightsError, match=r"floating-point.*torch\.int8 in 'conv1\.weight'"):
        fill(build(found.config), tensors, found, "a.pth")


def test_half_precision_weights_fill_a_network_of_single_precision():
    tensors = {
        key: tensor.half() if tensor.is_floating_point() else tensor
        for key, tensor in made("resnet20").state_dict().items()
    }
    found = recognize(tensors, "a.pth")
    network = build(found.config)
    fill(network, tensors, found, "a.pth")
    assert network.conv1.weight.dtype == torch.float32
    assert torch.equal(network.conv1.weight, tensors["conv1.weight"].float())


def test_a_batch_counter_of_another_shape_is_passed_over():
    tensors = made("resnet20").state_dict()
    tensors["bn1.num_batches_tracked"] = torch.zeros(1, dtype=torch.int64)
    found = recognize(tensors, "a.pth")
    fill(build(found.config), tensors, found, "a.pth")
