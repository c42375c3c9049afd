"""transformers' model folders: layouts of the families that graft has too, and what lies beside the weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from graft.errors import WeightsError
from graft.models.catalog import build
from graft.models.network import Config, Network
from graft.weights.base import load_base
from graft.weights.layouts import TRANSFORMERS, layouts_of

NORM = ("weight", "bias", "running_mean", "running_var")


def unit(*layers: str) -> list[str]:
    """A convolution and its norm, under transformers' names."""
    return [
        f"{layer}.{name}"
        for layer in layers
        for name in ("convolution.weight", *(f"normalization.{kind}" for kind in NORM))
    ]


def ends(name: str) -> list[str]:
    return [f"{name}.weight", f"{name}.bias"]


def resnet(depths: tuple[int, ...], layers: int) -> list[str]:
    names = unit("resnet.embedder.embedder")
    for stage, depth in enumerate(depths):
        for block in range(depth):
            path = f"resnet.encoder.stages.{stage}.layers.{block}"
            names += unit(*(f"{path}.layer.{layer}" for layer in range(layers)))
            if block == 0 and (stage > 0 or layers == 3):
                names += unit(f"{path}.shortcut")
    return names + ends("classifier.1")


def mobilenet_v1() -> list[str]:
    layers = [f"mobilenet_v1.layer.{number}" for number in range(26)]
    return unit("mobilenet_v1.conv_stem", *layers) + ends("classifier")


def mobilenet_v2() -> list[str]:
    layers = [f"conv_stem.{part}" for part in ("first_conv", "conv_3x3", "reduce_1x1")]
    layers += [f"layer.{n}.{part}" for n in range(16) for part in ("expand_1x1", "conv_3x3", "reduce_1x1")]
    return unit(*(f"mobilenet_v2.{layer}" for layer in (*layers, "conv_1x1"))) + ends("classifier")


def efficientnet_b0() -> list[str]:
    parts = {
        "expansion": ("expand_conv", "expand_bn"),
        "depthwise_conv": ("depthwise_conv", "depthwise_norm"),
        "projection": ("project_conv", "project_bn"),
    }
    layers = [("embeddings.convolution", "embeddings.batchnorm"), ("encoder.top_conv", "encoder.top_bn")]
    names = []
    for number in range(16):
        block = f"encoder.blocks.{number}"
        wanted = [part for part in parts if number > 0 or part != "expansion"]
        layers += [(f"{block}.{part}.{parts[part][0]}", f"{block}.{part}.{parts[part][1]}") for part in wanted]
        names += [*ends(f"{block}.squeeze_excite.reduce"), *ends(f"{block}.squeeze_excite.expand")]
    for convolution, norm in layers:
        names += [f"{convolution}.weight", *(f"{norm}.{kind}" for kind in NORM)]
    return [f"efficientnet.{name}" for name in names] + ends("classifier")


@pytest.mark.parametrize(
    ("architecture", "family", "names"),
    [
        ("resnet18", "resnet", resnet((2, 2, 2, 2), 2)),
        ("resnet50", "resnet", resnet((3, 4, 6, 3), 3)),
        ("mobilenet_v1", "mobilenet_v1", mobilenet_v1()),
        ("mobilenet_v2", "mobilenet_v2", mobilenet_v2()),
        ("efficientnet_b0", "efficientnet", efficientnet_b0()),
    ],
)
def test_the_tensors_of_transformers_have_each_a_place(architecture, family, names):
    with torch.device("meta"):
        network = build(Config(architecture, 5))
    layout = next(layout for layout in layouts_of(family) if layout.name == TRANSFORMERS)
    renamed = [layout.renaming(network)(name) for name in names]
    assert len(set(renamed)) == len(renamed)
    assert set(renamed) == {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}


def as_transformers(network: Network, names: list[str]) -> dict[str, Tensor]:
    layout = next(layout for layout in layouts_of("resnet") if layout.name == TRANSFORMERS)
    rename = layout.renaming(network)
    return {name: network.state_dict()[rename(name)].clone() for name in names}


def written(folder: Path, **config: object) -> tuple[Path, Network]:
    torch.manual_seed(0)
    network = build(Config("resnet18", 2)).eval()
    save_file(as_transformers(network, resnet((2, 2, 2, 2), 2)), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "resnet", **config}))
    return folder, network


@torch.no_grad()
def test_a_folder_of_transformers_comes_with_its_classes_and_its_images(tmp_path):
    folder, network = written(tmp_path, id2label={"0": "ant", "1": "bee"})
    images = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.5, 0.5], "size": {"shortest_edge": 160}}
    (folder / "preprocessor_config.json").write_text(json.dumps({**images, "crop_pct": 0.9}))
    base = load_base(str(folder))
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(base.network(x), network(x))
    assert base.classes == ("ant", "bee")
    assert (base.preprocessing.mean, base.preprocessing.size) == ((0.1, 0.2, 0.3), 160)
    assert base.preprocessing.crop_fraction == 0.9
    assert base.notes == ()


def test_names_that_transformers_made_up_are_no_classes(tmp_path):
    folder, _ = written(tmp_path, id2label={"0": "LABEL_0", "1": "LABEL_1"})
    assert load_base(str(folder)).classes is None


def test_a_network_that_computes_something_else_is_refused(tmp_path):
    folder, _ = written(tmp_path, downsample_in_bottleneck=True)
    with pytest.raises(WeightsError, match="downsample_in_bottleneck"):
        load_base(str(folder))
