"""Outputs of every network under weights that anybody can make again, against those of other implementations.

The rule for weights and pictures is that of section 3 of `reference/README.md`; it is written out here again, so
that a slip in either copy shows.
"""

import json
import math
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from graft.models.catalog import build, default_config
from graft.models.network import Network

STORED = (
    "lenet5",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet20",
    "resnet56",
    "resnet110",
    "mobilenet_v1",
    "mobilenet_v1_050",
    "mobilenet_v1_025",
    "mobilenet_v2",
    "mobilenet_v1.tf",
    "mobilenet_v1_025.tf",
    "mobilenet_v2.tf",
)


def uniform(key: str, count: int) -> np.ndarray:
    """`count` numbers in (-1, 1), float64: the finaliser of MurmurHash3 over the position, seeded by the text."""
    numbers = np.empty(count)
    for start in range(0, count, 1 << 18):
        x = np.arange(start, min(count, start + (1 << 18)), dtype=np.uint32)
        x *= np.uint32(0x9E3779B1)
        x += np.uint32(zlib.crc32(key.encode()))
        x ^= x >> np.uint32(16)
        x *= np.uint32(0x85EBCA6B)
        x ^= x >> np.uint32(13)
        x *= np.uint32(0xC2B2AE35)
        x ^= x >> np.uint32(16)
        numbers[start : start + len(x)] = (2.0 * x + 1.0) / 2.0**32 - 1.0
    return numbers


def tensor_for(key: str, shape: torch.Size, gain: float) -> Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    numbers = uniform(key, math.prod(shape))
    if len(shape) >= 2:
        numbers *= gain * math.sqrt(3 / math.prod(shape[1:]))
    elif key.endswith(("running_mean", "bias")):
        numbers *= 0.1
    else:
        numbers = 1 + (0.75 if key.endswith("running_var") else 0.25) * numbers
    return torch.from_numpy(numbers.astype(np.float32)).reshape(shape)


def picture(channels: int, height: int, width: int) -> Tensor:
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
    assert picture(3, 224, 224).flatten()[:3].tolist() == [
        0.14934194087982178,
        0.5841081738471985,
        0.17387568950653076,
    ]


@torch.no_grad()
@pytest.mark.parametrize("name", STORED)
def test_logits_and_pooled_features_are_those_of_the_reference(name, stored):
    table, tensors = stored
    facts = table[name]
    architecture, _, converted = name.partition(".")
    config = default_config(architecture)
    if converted:
        config = replace(config, padding="tensorflow", batch_norm_eps=1e-3)
    with torch.device("meta"):
        network = build(config)
    weights = {key: tensor_for(key, tensor.shape, facts["gain"]) for key, tensor in network.state_dict().items()}
    network.load_state_dict(weights, assign=True)
    network.eval().double()
    x = picture(*facts["input_shape"][1:])[None].double()
    pooled = network.pooled(x)
    logits = network.split(network.cuts[-2])[1](pooled)
    # A wrong padding or epsilon moves a logit by 0.03 and more.
    assert (logits - tensors[name]).abs().max() <= 1e-5 * facts["std"]
    if f"{name}.features" in tensors:
        theirs = tensors[f"{name}.features"]
        assert (pooled - theirs).abs().max() <= 1e-5 * theirs.std()


def with_random_statistics(network: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(3)
    for name, tensor in network.named_buffers():
        if name.endswith("running_mean"):
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
        elif name.endswith("running_var"):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))


@torch.no_grad()
def agrees(ours: Network, theirs: torch.nn.Module, side: int = 96) -> None:
    """Under the other implementation's random weights, loaded strictly, in double precision."""
    with_random_statistics(theirs)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    expected, got = theirs.eval().double()(x), ours.eval().double()(x)
    assert expected.std() > 0
    assert (got - expected).abs().max() <= 1e-5 * expected.std()


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2"])
def test_torchvision_agrees(name):
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(5)
    agrees(build(default_config(name)), getattr(torchvision.models, name)())


@pytest.mark.parametrize(("name", "theirs"), [("mobilenet_v1", "mobilenetv1_100"), ("resnet18", "resnet18")])
def test_timm_agrees(name, theirs):
    timm = pytest.importorskip("timm")
    torch.manual_seed(5)
    agrees(build(default_config(name)), timm.create_model(theirs, pretrained=False))


def test_timm_agrees_on_padding_by_tensorflows_rule():
    timm = pytest.importorskip("timm")
    torch.manual_seed(5)
    config = replace(default_config("mobilenet_v1"), padding="tensorflow", batch_norm_eps=1e-3)
    theirs = timm.create_model("mobilenetv1_100", pretrained=False, pad_type="same", bn_eps=1e-3)
    agrees(build(config), theirs, side=97)
