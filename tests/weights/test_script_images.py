"""What a checkpoint says about the images it was trained on is used, and what it does not say is said to be assumed."""

import math
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from torch import nn

from graft.models.catalog import build, default_config
from graft.weights.base import load_base
from graft.weights.script_images import ScriptImages, script_images

HALF = [0.5, 0.5, 0.5]
CIFAR = ([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616])
OF_255 = ([125.307, 122.961, 113.8575], [62.985, 62.0925, 66.708])
MMENGINE = """
model = dict(backbone=dict(type='ResNet_CIFAR', depth=18), head=dict(num_classes=10))
data_preprocessor = dict(
    mean=[
        125.307,
        122.961,
        113.8575,
    ],
    num_classes=10,
    std=[
        62.985,
        62.0925,
        66.708,
    ],
    to_rgb=True)
"""


class Normalize:
    """Pickled as torchvision's transform is: an object with these attributes."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        self.mean, self.std, self.inplace = mean, std, False


def checkpoint(folder: Path, name: str = "resnet20", **beside: object) -> str:
    torch.manual_seed(0)
    tensors = build(default_config(name)).state_dict()
    torch.save({"state_dict": tensors, "epoch": 3, **beside}, folder / "script.pth")
    return str(folder / "script.pth")


@pytest.mark.parametrize(
    "beside",
    [
        {"mean": CIFAR[0], "std": CIFAR[1]},
        {"mean": torch.tensor(CIFAR[0]).view(1, 3, 1, 1), "std": torch.tensor(CIFAR[1]).view(1, 3, 1, 1)},
        {"normalize": {"mean": CIFAR[0], "std": CIFAR[1]}},
        {"normalize": CIFAR},
        {"normalize": Normalize(*CIFAR)},
        {"args": {"mean": CIFAR[0], "std": CIFAR[1]}},
        {"args": Namespace(mean=tuple(CIFAR[0]), std=tuple(CIFAR[1]), img_size=None, lr=0.1)},
        {"args": Namespace(lr=0.1, pretrained_cfg={"mean": CIFAR[0], "std": CIFAR[1]})},
        {"pretrained_cfg": {"mean": CIFAR[0], "std": CIFAR[1]}},
        {"default_cfg": {"mean": CIFAR[0], "std": CIFAR[1]}},
        {"hyper_parameters": {"lr": 0.1, "mean": CIFAR[0], "std": CIFAR[1]}},
        {"data_preprocessor": {"mean": OF_255[0], "std": OF_255[1], "to_rgb": True}},
        {"meta": {"cfg": MMENGINE}},
    ],
    ids=lambda beside: " ".join(f"{key} {type(value).__name__}" for key, value in beside.items()),
)
def test_the_mean_and_deviation_that_a_checkpoint_states_are_used_and_noted(tmp_path, beside):
    base = load_base(checkpoint(tmp_path, **beside))
    assert base.preprocessing.mean == pytest.approx(CIFAR[0], abs=1e-4)
    assert base.preprocessing.std == pytest.approx(CIFAR[1], abs=1e-4)
    said = (
        "script.pth states how its images were prepared, and this is used: mean 0.4914 0.4822 0.4465, std 0.247 "
        "0.2435 0.2616"
    )
    assert said in base.notes
    assert not any("does not state" in note and "images" in note for note in base.notes)


@pytest.mark.parametrize("size", [64, (64, 64), [3, 64, 64]])
def test_the_size_that_a_checkpoint_states_is_used(tmp_path, size):
    beside = {"pretrained_cfg": {"mean": HALF, "std": HALF, "input_size": size, "crop_pct": 0.9}}
    base = load_base(checkpoint(tmp_path, "mobilenet_v3_small", **beside))
    assert (base.preprocessing.size, base.preprocessing.crop_fraction) == (64, 0.9)
    assert any("std 0.5 0.5 0.5, 64 px" in note for note in base.notes)


@pytest.mark.parametrize(
    "beside",
    [
        {},
        {"mean": CIFAR[0]},
        {"mean": 0.5, "std": [0.5, 0.5]},
        {"mean": [0.5, 0.5], "std": [0.5, 0.5]},
        {"mean": HALF, "std": [0.5, 0.0, 0.5]},
        {"mean": HALF, "std": [0.5, -0.5, 0.5]},
        {"mean": [math.nan] * 3, "std": HALF},
        {"mean": HALF, "std": [math.inf] * 3},
        {"mean": [10**400] * 3, "std": HALF},
        {"mean": HALF, "std": [2.0, 2.0, 2.0]},
        {"mean": "0.5", "std": "0.5"},
        {"mean": [True] * 3, "std": HALF},
        {"mean": [[0.5]] * 3, "std": HALF},
        {"mean": torch.full((64,), 0.5), "std": torch.full((64,), 0.5)},
        {"input_size": 10**9},
        {"input_size": 0},
        {"input_size": [3, 64, 96]},
        {"args": "mean", "meta": {"cfg": "data_preprocessor = dict(" * 2000}},
        {"meta": {"cfg": MMENGINE.replace("to_rgb=True", "to_rgb=False")}},
    ],
    ids=str,
)
def test_what_is_no_mean_deviation_or_size_is_passed_over_and_what_is_assumed_is_said(tmp_path, beside):
    base = load_base(checkpoint(tmp_path, "mobilenet_v3_small", **beside))
    assert (base.preprocessing.mean, base.preprocessing.size) == ((0.485, 0.456, 0.406), 224)
    assert base.notes[-1] == (
        "script.pth does not state the scaling and size of its images; those of ImageNet were assumed (mean 0.485 "
        "0.456 0.406, std 0.229 0.224 0.225, resize 256, crop 224); if it was trained differently, state that with "
        "--mean, --std and --image-size"
    )


def test_a_checkpoint_that_holds_itself_in_itself_takes_no_longer():
    itself: dict[str, object] = {}
    itself |= dict.fromkeys(("args", "meta", "cfg", "normalize", "pretrained_cfg", "model"), itself)
    assert script_images(itself) == ScriptImages()
    assert script_images([itself, itself]) == ScriptImages()


def test_one_number_counts_for_every_channel_and_three_only_for_colour():
    said = script_images({"mean": 0.5, "std": [0.25]})
    assert said.metadata(3) == {"mean": "0.5,0.5,0.5", "std": "0.25,0.25,0.25"}
    assert said.metadata(1) == {"mean": "0.5", "std": "0.25"}
    assert script_images({"mean": CIFAR[0], "std": CIFAR[1]}).metadata(1) == {}


def test_a_layer_that_scales_images_inside_the_network_states_how_they_are_scaled(tmp_path):
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5))
            self.register_buffer("std", torch.full((1, 3, 1, 1), 0.25))
            self.model = build(default_config("resnet18"))

    torch.save(Scaled().state_dict(), tmp_path / "scaled.pth")
    base = load_base(str(tmp_path / "scaled.pth"))
    assert (base.preprocessing.mean, base.preprocessing.std) == ((0.5,) * 3, (0.25,) * 3)


def test_the_metadata_of_a_file_go_before_what_is_usual_and_the_caller_is_told_nothing_he_states(tmp_path):
    path = checkpoint(tmp_path)
    assert not any("of its images" in note for note in load_base(path, stated=frozenset({"mean"})).notes)
    sized = load_base(path, stated=frozenset({"input_size"})).notes[-1]
    assert "does not state the scaling of its images" in sized and "crop" not in sized
