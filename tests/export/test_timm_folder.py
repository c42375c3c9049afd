"""A folder that timm and transformers open gives the network's logits and its class names."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from graft.errors import InputError
from graft.export import timm_folder
from graft.export.timm_folder import TimmModel, open_timm, timm_transform, write_timm
from graft.images.preprocessing import Preprocessing, normalise
from graft.images.resizing import to_square
from graft.models.catalog import CATALOG, build
from graft.models.network import Config, Network
from graft.weights.architectures import resolve
from graft.weights.base import load_base
from graft.weights.saved import SavedModel, class_logits

pytest.importorskip("timm", reason="needs graft-vision[timm]")
CLASSES = ("ant", "bee", "a <b>wasp</b>")


def network(config: Config) -> Network:
    """A network whose norms have seen images: an ordinary start hides a wrong epsilon or padding."""
    torch.manual_seed(0)
    built = build(config).eval()
    for norm in built.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_var is not None and norm.running_mean is not None
            norm.running_var.uniform_(0.5, 1.5)
            norm.running_mean.uniform_(-0.1, 0.1)
    head = built.get_submodule(built.head_name)
    with torch.no_grad():
        # Scales the logits to about one, whatever the depth of the network.
        largest = built(torch.ones(1, config.channels, 64, 64)).abs().max()
        for tensor in head.parameters():
            tensor.div_(largest)
    return built


def saved(config: Config, outputs: tuple[tuple[int, ...], ...] | None = None) -> SavedModel:
    color = config.channels == 3
    mean, std = ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3)) if color else ((0.4,), (0.3,))
    return SavedModel(network(config), Preprocessing(64, mean, std, "letterbox"), CLASSES, 1.7, outputs=outputs)


def images(model: SavedModel) -> torch.Tensor:
    shape = (2, model.network.config.channels, 64, 64)
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("config", "called"),
    [
        (Config("preact_resnet18", 3, batch_norm_eps=1e-3), "resnetv2_18"),
        (Config("mobilenet_v1", 3, channels=1, padding="tensorflow"), "mobilenetv1_100"),
        (Config("mobilenet_v3_small", 3, padding="tensorflow", batch_norm_eps=1e-3), "tf_mobilenetv3_small_100"),
    ],
    ids=lambda each: each if isinstance(each, str) else each.architecture,
)
def test_timms_network_gives_the_logits_and_graft_reads_the_folder_back(
    config: Config, called: str, tmp_path: Path
) -> None:
    model = saved(config)
    write_timm(tmp_path, model)
    assert {each.name for each in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    opened, x = open_timm(tmp_path), images(model)
    assert (opened.settings["architecture"], opened.classes) == (called, CLASSES)
    back = load_base(str(tmp_path))
    with torch.no_grad():
        expected = model.network(x)
        found, again = opened.network(x), back.network(x)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(again, expected, rtol=0, atol=1e-5)
    assert (back.classes, back.temperature, back.preprocessing.resize_mode) == (CLASSES, 1.7, "letterbox")
    assert (back.network.config.architecture, back.preprocessing.mean) == (
        config.architecture,
        model.preprocessing.mean,
    )


def test_transformers_opens_the_folder_with_the_class_names(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs graft-vision[transformers]")
    # The folder has to tell transformers of gray images, the padding rule and the epsilon.
    model = saved(Config("mobilenet_v1", 3, channels=1, padding="tensorflow", batch_norm_eps=1e-3))
    write_timm(tmp_path, model)
    opened = transformers.AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    x = images(model)
    with torch.no_grad():
        torch.testing.assert_close(opened(x).logits, model.network(x), rtol=0, atol=1e-5)
    assert tuple(opened.config.id2label.values()) == CLASSES


def test_timms_transform_sees_the_image_as_graft_does(tmp_path: Path) -> None:
    model = saved(Config("mobilenet_v3_small", 3))
    coarse = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)
    image = Image.fromarray(coarse).resize((180, 120), Image.Resampling.BICUBIC)
    for mode, crop_pct in (("crop", 0.8), ("squash", 1.0), ("letterbox", 1.0)):
        preprocessing = replace(model.preprocessing, resize_mode=mode, crop_fraction=0.8)
        write_timm(tmp_path, replace(model, preprocessing=preprocessing))
        settings = json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]
        assert settings["crop_pct"] == crop_pct
        expected = normalise(to_square(np.array(image), preprocessing)[None], preprocessing)[0]
        difference = (timm_transform(TimmModel(nn.Identity(), CLASSES, settings))(image) - expected).abs()
        assert float(difference.mean()) < 0.1, mode


def test_classes_of_one_output_each_keep_theirs(tmp_path: Path) -> None:
    model = saved(Config("mobilenet_v3_small", 7), outputs=((6,), (0,), (3,)))
    write_timm(tmp_path, model)
    x = images(model)
    with torch.no_grad():
        expected = class_logits(model.network(x), model.outputs).float()
        torch.testing.assert_close(open_timm(tmp_path).network(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "outputs", "words"),
    [
        (Config("lenet5", 3, channels=1), None, "timm has"),
        (Config("mobilenet_v1_025", 3), None, "mobilenet_v1_025"),
        (Config("resnet18", 3, channels=5), None, "5 channels"),
        (Config("resnet18", 3, padding="tensorflow"), None, "TensorFlow's"),
        (Config("resnet50", 3, early_stride=True), None, "3 x 3"),
        (Config("mobilenet_v3_small", 3, head="stages"), None, "`level='head'`"),
        (Config("mobilenet_v3_small", 4), ((0, 1), (2,), (3,)), "one output"),
    ],
    ids=lambda each: each.architecture if isinstance(each, Config) else "",
)
def test_what_timm_does_not_have_is_said_in_one_sentence(
    config: Config, outputs: tuple[tuple[int, ...], ...] | None, words: str, tmp_path: Path
) -> None:
    with torch.device("meta"):
        model = SavedModel(build(config), Preprocessing(64, (0.5,), (0.5,)), CLASSES, outputs=outputs)
    with pytest.raises(InputError, match=words) as caught:
        write_timm(tmp_path, model)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_a_run_of_several_labels_is_refused_since_timm_would_make_one_of_them(tmp_path: Path) -> None:
    model = replace(saved(Config("mobilenet_v3_small", 3)), thresholds=(0.5, 0.4, 0.3))
    with pytest.raises(InputError, match="gives each image one label for `format='timm'`, got one that gives several"):
        write_timm(tmp_path, model)
    assert not list(tmp_path.iterdir())


def test_networks_that_timm_lacks_are_those_that_the_guide_lists() -> None:
    lacking = set()
    for name in CATALOG:
        try:
            timm_folder._called(resolve(name).config)
        except InputError:
            lacking.add(name)
    families = ("lenet", "alexnet", "googlenet", "plain")
    listed = {name for name in CATALOG if name.startswith(families)}
    of_cifar = {f"{kind}resnet{depth}" for kind in ("", "preact_") for depth in (20, 32, 44, 56, 110)}
    narrow = {f"mobilenet_v1_{width}" for width in ("075", "050", "025")}
    assert lacking == listed | of_cifar | narrow | {"vgg11_lrn", "vgg16_c"}


def test_networks_of_timms_own_go_back_to_it(tmp_path: Path) -> None:
    architecture = resolve("timm:mobilenetv4_conv_small_050")
    torch.manual_seed(0)
    built = architecture.build(replace(architecture.config, classes=3)).eval()
    model = SavedModel(built, Preprocessing(64, (0.5,) * 3, (0.5,) * 3), CLASSES)
    write_timm(tmp_path, model)
    x = images(model)
    with torch.no_grad():
        torch.testing.assert_close(open_timm(tmp_path).network(x), built(x), rtol=0, atol=1e-5)
