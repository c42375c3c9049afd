"""Outputs of every network under reproducible weights, against those of other implementations.

The rule for weights and images is that of section 3 of `reference/README.md`; it is written out here again, so
that a slip in either copy shows.
"""

import json
import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from repeating import repeating_draws
from torch import Tensor

from graft.models.catalog import build, default_config
from graft.models.network import Config, Network
from graft.models.resnet import ZeroPadShortcut

# The stored networks: an architecture, or one in another form after the dot.
STORED = (
    *("lenet5", "alexnet_2012", "alexnet", "vgg11", "vgg11_lrn", "vgg16_c", "vgg16", "vgg16_bn", "vgg19"),
    *("googlenet", "inception_v3", "inception_v4", "inception_resnet_v2", "plain18", "plain34", "plain20", "plain56"),
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "preact_resnet18", "preact_resnet50"),
    *("resnet20", "resnet20.pad_end", "resnet56", "resnet110", "densenet121", "densenet161", "xception"),
    *("mobilenet_v1", "mobilenet_v1_050", "mobilenet_v1_025", "mobilenet_v2"),
    *("mobilenet_v1.tf", "mobilenet_v1_025.tf", "mobilenet_v2.tf", "mobilenet_v3_small", "mobilenet_v3_large"),
    *(f"efficientnet_b{number}" for number in range(8)),
)


def uniform(key: str, count: int, transformed: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
    """`count` numbers in (-1, 1), float64: the finaliser of MurmurHash3 over the position, seeded by the text.

    With `transformed` they are its float32 outputs, computed block by block, so that no large array waits in memory.
    """
    numbers = np.empty(count, np.float64 if transformed is None else np.float32)
    for start in range(0, count, 1 << 16):
        x = np.arange(start, min(count, start + (1 << 16)), dtype=np.uint32)
        x *= np.uint32(0x9E3779B1)
        x += np.uint32(zlib.crc32(key.encode()))
        x ^= x >> np.uint32(16)
        x *= np.uint32(0x85EBCA6B)
        x ^= x >> np.uint32(13)
        x *= np.uint32(0xC2B2AE35)
        x ^= x >> np.uint32(16)
        block = (2.0 * x + 1.0) / 2.0**32 - 1.0
        numbers[start : start + len(x)] = block if transformed is None else transformed(block)
    return numbers


def tensor_for(key: str, shape: torch.Size, gain: float) -> Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)

    def transformed(numbers: np.ndarray) -> np.ndarray:
        if len(shape) >= 2:
            return numbers * (gain * math.sqrt(3 / math.prod(shape[1:])))
        if key.endswith(("running_mean", "bias")):
            return numbers * 0.1
        return 1 + (0.75 if key.endswith("running_var") else 0.25) * numbers

    return torch.from_numpy(uniform(key, math.prod(shape), transformed)).reshape(shape)


def image(channels: int, height: int, width: int) -> Tensor:
    """(C, H, W) float32."""
    coarse = uniform("input.coarse", channels * 64).reshape(channels, 8, 8)
    fine = uniform("input.fine", channels * height * width).reshape(channels, height, width)
    rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
    return torch.from_numpy((coarse[:, rows][:, :, columns] + 0.5 * fine).astype(np.float32))


@pytest.fixture(scope="module")
def stored(shared: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors.torch import load_file

    folder = shared / "reference"
    table = json.loads((folder / "outputs.json").read_text(encoding="utf-8"))
    return table, load_file(folder / "outputs.safetensors")


def test_the_rule_gives_the_numbers_that_its_text_states():
    assert uniform("conv1.weight", 3).tolist() == [-0.35700628790073097, -0.0019470795523375273, -0.022836311487480998]
    weights = tensor_for("conv1.weight", torch.Size((64, 3, 7, 7)), 0.91).flatten()[:3].tolist()
    assert weights == [-0.04641081765294075, -0.0002531203499529511, -0.002968720393255353]
    assert image(3, 224, 224).flatten()[:3].tolist() == [
        0.14934194087982178,
        0.5841081738471985,
        0.17387568950653076,
    ]


def rule_names(network: Network) -> dict[str, str]:
    """By graft's tensor name, the name that seeds it in the reference; the same for all that have library names."""
    names = {name: name for name in network.state_dict()}
    if network.config.architecture in ("vgg11_lrn", "vgg16_c"):
        layers = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
        theirs = [*(f"conv{number}" for number in range(1, len(layers) - 2)), "fc1", "fc2", "fc3"]
        renamed = dict(zip(layers, theirs, strict=True))
        names = {name: f"{renamed[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}" for name in names}
    return names


def with_zeros_at_the_end(network: Network) -> None:
    for module in network.modules():
        if isinstance(module, ZeroPadShortcut):
            module.before, module.after = 0, module.before + module.after


@torch.no_grad()
@pytest.mark.parametrize("name", STORED)
def test_logits_and_pooled_features_are_those_of_the_reference(name, stored):
    table, tensors = stored
    facts = table[name]
    architecture, _, form = name.partition(".")
    config = default_config(architecture)
    if form == "tf":
        config = replace(config, padding="tensorflow", batch_norm_eps=1e-3)
    with torch.device("meta"):
        network = build(config)
    if form == "pad_end":
        with_zeros_at_the_end(network)
    names = rule_names(network)
    weights = {key: tensor_for(names[key], tensor.shape, facts["gain"]) for key, tensor in network.state_dict().items()}
    network.load_state_dict(weights, assign=True)
    network.eval().double()
    x = image(*facts["input_shape"][1:])[None].double()
    pooled = network.pooled(x)
    logits = network.split(network.cuts[-2])[1](pooled)
    # A wrong padding or epsilon moves a logit by 0.03 and more.
    assert (logits - tensors[name]).abs().max() <= 1e-5 * facts["std"]
    if f"{name}.features" in tensors:
        theirs = tensors[f"{name}.features"]
        assert (pooled - theirs).abs().max() <= 1e-5 * theirs.std()


def test_every_stored_network_is_among_them(stored):
    assert set(STORED) == set(stored[0])


def with_random_statistics(network: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(3)
    for name, tensor in network.named_buffers():
        if name.endswith("running_mean"):
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
        elif name.endswith("running_var"):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))


@torch.no_grad()
def agrees(config: Config, create: Callable[[], torch.nn.Module], side: int) -> None:
    """Under the other implementation's random weights, loaded strictly, in double precision."""
    torch.manual_seed(5)
    with repeating_draws():
        theirs = create()
    with torch.device("meta"):
        ours = build(config)
    with_random_statistics(theirs)
    theirs.eval().double()
    ours.eval().load_state_dict(theirs.state_dict(), strict=True, assign=True)
    x = torch.randn(2, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    expected, got = theirs(x), ours(x)
    assert expected.std() > 0
    assert (got - expected).abs().max() <= 1e-5 * expected.std()


@pytest.mark.parametrize(
    ("name", "side", "options"),
    [
        ("alexnet", 96, {}),
        ("vgg11", 64, {}),
        ("vgg13_bn", 64, {}),
        ("googlenet", 96, {"aux_logits": True, "init_weights": False, "transform_input": False}),
        ("inception_v3", 107, {"aux_logits": True, "init_weights": False, "transform_input": False}),
        ("resnet18", 96, {}),
        ("resnet50", 96, {}),
        ("densenet121", 97, {}),
        ("densenet169", 64, {}),
        ("mobilenet_v2", 96, {}),
        ("mobilenet_v3_small", 97, {}),
        ("mobilenet_v3_large", 96, {}),
        ("efficientnet_b0", 97, {}),
        ("efficientnet_b5", 64, {}),
    ],
)
def test_torchvision_agrees(name, side, options):
    torchvision = pytest.importorskip("torchvision")
    agrees(default_config(name), lambda: getattr(torchvision.models, name)(weights=None, **options), side)


@pytest.mark.parametrize(
    ("name", "theirs", "side"),
    [
        ("inception_v4", "inception_v4", 139),
        ("inception_resnet_v2", "inception_resnet_v2", 139),
        ("resnet18", "resnet18", 96),
        ("preact_resnet18", "resnetv2_18", 97),
        ("preact_resnet50", "resnetv2_50", 96),
        ("densenet121", "densenet121", 64),
        ("xception", "legacy_xception", 96),
        ("mobilenet_v1", "mobilenetv1_100", 96),
    ],
)
def test_timm_agrees(name, theirs, side):
    timm = pytest.importorskip("timm")
    agrees(default_config(name), lambda: timm.create_model(theirs, pretrained=False), side)


def test_timm_agrees_on_padding_by_tensorflows_rule():
    timm = pytest.importorskip("timm")
    config = replace(default_config("mobilenet_v1"), padding="tensorflow", batch_norm_eps=1e-3)
    name, options = "mobilenetv1_100", {"pad_type": "same", "bn_eps": 1e-3}
    agrees(config, lambda: timm.create_model(name, pretrained=False, **options), side=97)
