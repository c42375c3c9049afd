"""Levels become cuts."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

from graft.errors import CutError
from graft.models.catalog import CATALOG, build, default_config
from graft.models.network import Network
from graft.transfer.levels import check_level, plan_level, weight_layers


@cache
def network(name: str) -> Network:
    """A network of the catalogue without weights, which no test here changes."""
    with torch.device("meta"):
        return build(replace(default_config(name), auxiliary=False))


@pytest.mark.parametrize(
    ("name", "level", "cut"),
    [
        ("resnet18", "as-is", "head"),
        ("resnet18", "head", "pool"),
        ("resnet18", "head:stages", "pool"),
        ("resnet18", "stages:1", "stage3"),
        ("resnet18", "stages:4", "stem"),
        ("resnet18", "stages:5", "input"),
        ("resnet18", "all", "input"),
        ("resnet18", "scratch", "input"),
        ("resnet18", "frozen:0", "input"),
        ("resnet18", "frozen:1", "pool"),
        ("mobilenet_v2", "stages:2", "stage6"),
        ("lenet5", "head", "stage4"),
        ("lenet5", "stages:1", "stage3"),
        # Weight layers of LeNet: 1, 1, 1, 1, 1. Two of five are 0.4.
        ("lenet5", "frozen:0.4", "stage2"),
        # 21 weight layers of ResNet-18 with its shortcuts: 1 + 4 + 5 of them are 0.476 of all.
        ("resnet18", "frozen:0.5", "stage2"),
    ],
)
def test_a_level_is_a_cut(name: str, level: str, cut: str) -> None:
    assert plan_level(level, network(name), pretrained=True).cut == cut


@pytest.mark.parametrize("level", ["frozen:0.7", "stages:2", "head", "as-is", "all"])
# The head of 1998 does not train; it has a test of its own.
@pytest.mark.parametrize("name", [name for name in CATALOG if name != "lenet5_1998"])
def test_every_level_has_a_cut_in_every_network(name: str, level: str) -> None:
    built = network(name)
    trunk, crown = built.split(plan_level(level, built, pretrained=True).cut)
    both = sum(1 for part in (trunk, crown) for module in part.modules() if isinstance(module, nn.Conv2d | nn.Linear))
    assert both == sum(weight_layers(built).values())


def test_a_frozen_fraction_takes_the_nearest_cut() -> None:
    built = network("resnet50")
    layers = weight_layers(built)
    total = sum(layers.values())
    for fraction in (0.1, 0.35, 0.6, 0.8, 0.95):
        cut = plan_level(f"frozen:{fraction}", built, pretrained=True).cut
        frozen = sum(layers[name] for name in built.cuts[1 : built.cuts.index(cut) + 1])
        others = [
            sum(layers[name] for name in built.cuts[1 : index + 1]) / total for index in range(len(built.cuts) - 1)
        ]
        assert abs(frozen / total - fraction) == pytest.approx(min(abs(share - fraction) for share in others))


@pytest.mark.parametrize("level", ["heads", "stages:0", "stages:", "stages:x", "frozen:1.5", "frozen:-1", "", "frozen"])
def test_a_level_that_is_none_is_refused_with_the_ones_there_are(level: str) -> None:
    with pytest.raises(CutError, match="stages:K"):
        check_level(level)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("head:stage", "head:stages"),
        ("hed", "head"),
        ("stage:2", "stages:2"),
        ("frozen", "frozen:0.4"),
        ("frozen:2", "frozen:0.4"),
    ],
)
def test_a_level_spelled_wrong_suggests_the_right_one(typed: str, meant: str) -> None:
    with pytest.raises(CutError, match=f"did you mean '{meant}'"):
        check_level(typed)


def test_more_stages_than_there_are_is_refused_with_their_names() -> None:
    with pytest.raises(CutError, match="stem, stage1, stage2, stage3, stage4"):
        plan_level("stages:6", network("resnet18"), pretrained=True)


def test_without_weights_auto_starts_from_scratch() -> None:
    assert plan_level("auto", network("resnet18"), pretrained=False).level == "scratch"
    assert plan_level("auto", network("resnet18"), pretrained=True).level == "head"


def test_a_head_of_fixed_codes_cannot_be_all_that_trains():
    network = build(default_config("lenet5_1998"))
    for level in ("head", "auto"):
        with pytest.raises(CutError, match="lenet5_1998 has nothing to train; use `level='stages:1'`"):
            plan_level(level, network, pretrained=True)
    assert plan_level("stages:1", network, pretrained=True).cut == "stage3"
    assert plan_level("head:stages", network, pretrained=True).cut == "stage4"
