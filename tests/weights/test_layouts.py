"""Checkpoints whose tensors have other names than graft's fill the network that they belong to."""

import re

import pytest
import torch
from repeating import repeating_draws

from graft.models.catalog import build
from graft.models.network import Network
from graft.weights.architectures import resolve
from graft.weights.filling import fill
from graft.weights.matching import match, recognize


def made(name: str) -> Network:
    torch.manual_seed(0)
    return build(resolve(name).config).eval()


@torch.no_grad()
@pytest.mark.parametrize(
    ("theirs", "ours", "layout"),
    [
        ("mobilenetv2_100", "mobilenet_v2", "timm"),
        ("mobilenetv3_small_100", "mobilenet_v3_small", "timm"),
        ("mobilenetv3_large_100", "mobilenet_v3_large", "timm"),
        ("efficientnet_b0", "efficientnet_b0", "timm"),
        ("efficientnet_b1", "efficientnet_b1", "timm"),
        ("efficientnet_lite0", "efficientnet_lite0", "timm"),
        ("vgg11", "vgg11", "timm"),
        ("inception_v3", "inception_v3", "graft"),
        ("densenet121", "densenet121", "graft"),
        ("resnetv2_18", "preact_resnet18", "graft"),
        ("legacy_xception", "xception", "graft"),
    ],
)
def test_timms_networks_are_recognized_and_give_their_outputs(theirs, ours, layout):
    timm = pytest.importorskip("timm")
    torch.manual_seed(2)
    with repeating_draws():
        network = timm.create_model(theirs, pretrained=False, num_classes=6).eval()
    with_statistics(network)
    tensors = network.state_dict()
    found = recognize(tensors, "a file")
    assert (found.architecture.name, found.config.classes, found.layout) == (ours, 6, layout)
    with repeating_draws():
        filled = build(found.config).eval()
    fill(filled, tensors, found, "a file")
    x = torch.randn(1, 3, 128, 128)
    expected = network(x)
    assert (filled(x) - expected).abs().max() <= 1e-4 * expected.std()


@torch.no_grad()
@pytest.mark.parametrize("theirs", ["tf_efficientnet_b0", "tf_efficientnet_lite1", "tf_mobilenetv3_small_100"])
def test_timms_networks_from_tensorflow_give_their_outputs_at_an_odd_size(theirs):
    timm = pytest.importorskip("timm")
    torch.manual_seed(2)
    network = timm.create_model(theirs, pretrained=False, num_classes=6).eval()
    with_statistics(network)
    # The name alone says how they pad and normalize.
    architecture = resolve(theirs)
    found = match(network.state_dict(), architecture, architecture.config)
    filled = build(found.config).eval()
    fill(filled, network.state_dict(), found, "a file")
    x = torch.randn(1, 3, 97, 97)
    assert (filled(x) - network(x)).abs().max() <= 1e-4 * network(x).std()


@torch.no_grad()
@pytest.mark.parametrize("name", ["efficientnet_b1", "efficientnet_lite1"])
def test_the_first_port_of_efficientnet_keeps_tensorflows_rules(name):
    timm = pytest.importorskip("timm")
    torch.manual_seed(2)
    network = timm.create_model(f"tf_{name}", pretrained=False, num_classes=6).eval()
    with_statistics(network)
    tensors = as_in_the_first_port(network.state_dict())
    assert {"_bn1.weight", "_blocks.0._project_conv.weight", "_blocks.2._bn0.bias", "_fc.bias"} <= tensors.keys()
    found = recognize(tensors, "a file")
    assert (found.architecture.name, found.layout) == (name, "efficientnet_pytorch")
    filled = build(found.config).eval()
    fill(filled, tensors, found, "a file")
    x = torch.randn(1, 3, 97, 97)
    assert (filled(x) - network(x)).abs().max() <= 1e-5 * network(x).std()


def as_in_the_first_port(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """timm's tensors of an EfficientNet under the names of `efficientnet_pytorch`."""
    ends = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    layers = {
        "conv_pw": "_expand_conv",
        "bn1": "_bn0",
        "conv_dw": "_depthwise_conv",
        "bn2": "_bn1",
        "se.conv_reduce": "_se_reduce",
        "se.conv_expand": "_se_expand",
        "conv_pwl": "_project_conv",
        "bn3": "_bn2",
    }
    # Blocks of the first row do not expand.
    unexpanded = {**layers, "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    numbers: dict[str, int] = {}
    renamed = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        if match := re.match(r"(blocks\.(\d+)\.\d+)\.(.+)", layer):
            number = numbers.setdefault(match[1], len(numbers))
            layer = f"_blocks.{number}.{(layers if match[2] != '0' else unexpanded)[match[3]]}"
        renamed[f"{ends.get(layer, layer)}.{kind}"] = tensor
    return renamed


def with_statistics(network: torch.nn.Module) -> None:
    """As after training, so that a wrong epsilon shows."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.01, 1.0)


def test_the_published_spelling_of_densenets_tensors_is_understood():
    network = made("densenet121")
    tensors = {re.sub(r"(norm|conv)([12])\.", r"\1.\2.", key): tensor for key, tensor in network.state_dict().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in tensors
    found = recognize(tensors, "a file")
    assert (found.architecture.name, found.exact) == ("densenet121", True)


def test_a_cifar_resnet_whose_head_is_named_fc_is_recognized():
    tensors = {key.replace("linear.", "fc."): tensor for key, tensor in made("resnet32").state_dict().items()}
    found = recognize(tensors, "a file")
    assert (found.architecture.name, found.has_head, found.config.classes) == ("resnet32", True, 10)
    network = made("resnet32")
    fill(network, {**tensors, "fc.bias": torch.full((10,), 3.0)}, found, "a file")
    assert network.head.bias.tolist() == [3.0] * 10
