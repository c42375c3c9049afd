"""Weights that Keras saved: three containers, the layouts of `keras.applications`, and files that claim too much."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from graft.errors import WeightsError
from graft.models.catalog import build
from graft.models.network import Config, Network
from graft.weights.base import load_base
from graft.weights.layouts import KERAS, layouts_of

h5py = pytest.importorskip("h5py")
RULES = {"padding": "tensorflow", "batch_norm_eps": 1e-3}
NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def mobilenet() -> Network:
    torch.manual_seed(0)
    network = build(Config("mobilenet_v1_025", 5, **RULES)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.0)
    return network


def layers_of_keras(network: Network) -> Iterator[tuple[str, str, dict[str, np.ndarray]]]:
    """Keras' name of each layer of MobileNet, its class, and its arrays in Keras' order of axes."""
    tensors = network.state_dict()
    rows = [("conv1", "conv_stem"), ("conv1_bn", "bn1")]
    number = 0
    for stage, blocks in enumerate(network.blocks):
        for index in range(len(blocks)):
            number += 1
            path = f"blocks.{stage}.{index}"
            rows += [(f"conv_dw_{number}", f"{path}.conv_dw"), (f"conv_dw_{number}_bn", f"{path}.bn1")]
            rows += [(f"conv_pw_{number}", f"{path}.conv_pw"), (f"conv_pw_{number}_bn", f"{path}.bn2")]
    for theirs, ours in [*rows, ("conv_preds", "classifier")]:
        own = {name.rpartition(".")[2]: tensor for name, tensor in tensors.items() if name.rpartition(".")[0] == ours}
        if theirs.endswith("_bn"):
            yield theirs, "batch_normalization", {NORM[name]: own[name].numpy() for name in NORM}
            continue
        kernel = own["weight"] if own["weight"].ndim == 4 else own["weight"][:, :, None, None]
        order = (2, 3, 0, 1) if "_dw_" in theirs else (2, 3, 1, 0)
        arrays = {"kernel": kernel.permute(order).numpy()}
        yield (
            theirs,
            "depthwise_conv2d" if "_dw_" in theirs else "conv2d",
            arrays | ({"bias": own["bias"].numpy()} if "bias" in own else {}),
        )


def write_numbered(file: "h5py.File", network: Network) -> None:
    """As Keras 3 does: layers by their class and number, arrays by number."""
    count: dict[str, int] = {}
    for name, kind, arrays in layers_of_keras(network):
        number = count[kind] = count.get(kind, -1) + 1
        group = file.create_group(f"layers/{kind}_{number}/vars" if number else f"layers/{kind}/vars")
        group.attrs["name"] = name
        for index, array in enumerate(arrays.values()):
            group[str(index)] = array
    file["optimizer/vars/0"] = np.ones(3, np.float32)


def write_named(file: "h5py.File", network: Network) -> None:
    """As Keras 2 does, and Keras 3 where asked for `.h5`."""
    for name, _, arrays in layers_of_keras(network):
        for kind, array in arrays.items():
            theirs = "depthwise_kernel" if "_dw_" in name and kind == "kernel" else kind
            file[f"model_weights/{name}/{name}/{theirs}:0"] = array


def as_weights(folder: Path, network: Network) -> Path:
    with h5py.File(folder / "a.weights.h5", "w") as file:
        write_numbered(file, network)
    return folder / "a.weights.h5"


def as_model(folder: Path, network: Network) -> Path:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        write_numbered(file, network)
    with zipfile.ZipFile(folder / "a.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
        # A hostile file would put code into a Lambda layer, which is never looked at.
        archive.writestr("config.json", "{")
        archive.writestr("model.weights.h5", buffer.getvalue())
    return folder / "a.keras"


def as_old(folder: Path, network: Network) -> Path:
    with h5py.File(folder / "a.h5", "w") as file:
        write_named(file, network)
    return folder / "a.h5"


@torch.no_grad()
@pytest.mark.parametrize("write", [as_weights, as_model, as_old])
def test_a_network_of_keras_gives_its_outputs_at_an_odd_size(write, tmp_path):
    network = mobilenet()
    base = load_base(str(write(tmp_path, network)))
    x = torch.randn(1, 3, 37, 37)
    assert torch.equal(base.network(x), network(x))
    assert base.network.config == network.config
    assert base.preprocessing.mean == (0.5, 0.5, 0.5)
    assert any("keras.applications" in note for note in base.notes)


def test_a_torn_file_and_one_that_claims_too_much_are_refused(tmp_path):
    path = as_weights(tmp_path, mobilenet())
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(WeightsError, match="complete Keras weights"):
        load_base(str(path))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("conv1/kernel", (10**6, 10**6), np.float32, chunks=(1000, 1000))
    with pytest.raises(WeightsError, match="holds less than its shape says"):
        load_base(str(tmp_path / "b.h5"))


def names_of(layer: str, *kinds: str) -> list[str]:
    return [f"{layer}.{kind}" for kind in kinds]


def norm(layer: str) -> list[str]:
    return names_of(layer, *NORM)


def vgg16() -> list[str]:
    counts = (2, 2, 3, 3, 3)
    layers = [f"block{s}_conv{c}" for s, count in enumerate(counts, 1) for c in range(1, count + 1)]
    return [name for layer in [*layers, "fc1", "fc2", "predictions"] for name in names_of(layer, "weight", "bias")]


def resnet50() -> list[str]:
    names = [*names_of("conv1_conv", "weight"), *norm("conv1_bn"), *names_of("predictions", "weight", "bias")]
    for stage, blocks in zip((2, 3, 4, 5), (3, 4, 6, 3), strict=True):
        for block in range(1, blocks + 1):
            for number in range(0 if block == 1 else 1, 4):
                names += names_of(f"conv{stage}_block{block}_{number}_conv", "weight")
                names += norm(f"conv{stage}_block{block}_{number}_bn")
    return names


def xception() -> list[str]:
    names = names_of("predictions", "weight", "bias")
    for number in (1, 2):
        names += [*names_of(f"block1_conv{number}", "weight"), *norm(f"block1_conv{number}_bn")]
    for number in range(4):
        ending = f"_{number}" if number else ""
        names += [*names_of(f"conv2d{ending}", "weight"), *norm(f"batch_normalization{ending}")]
    for block in range(2, 15):
        for number in range(1, 3 if block in (2, 3, 4, 13, 14) else 4):
            layer = f"block{block}_sepconv{number}"
            names += [*names_of(layer, "depthwise", "pointwise"), *norm(f"{layer}_bn")]
    return names


def mobilenet_v2() -> list[str]:
    names = [*names_of("Conv1", "weight"), *norm("bn_Conv1"), *names_of("Conv_1", "weight"), *norm("Conv_1_bn")]
    for block in ("expanded_conv", *(f"block_{number}" for number in range(1, 17))):
        for part in ("depthwise", "project") if block == "expanded_conv" else ("expand", "depthwise", "project"):
            names += [*names_of(f"{block}_{part}", "weight"), *norm(f"{block}_{part}_BN")]
    return names + names_of("predictions", "weight", "bias")


def efficientnet_b0() -> list[str]:
    names = [*names_of("stem_conv", "weight"), *norm("stem_bn"), *names_of("top_conv", "weight"), *norm("top_bn")]
    for row, repeats in enumerate((1, 2, 2, 3, 3, 4, 1), start=1):
        for letter in "abcd"[:repeats]:
            block = f"block{row}{letter}"
            if row > 1:
                names += [*names_of(f"{block}_expand_conv", "weight"), *norm(f"{block}_expand_bn")]
            names += [*names_of(f"{block}_dwconv", "weight"), *norm(f"{block}_bn")]
            names += names_of(f"{block}_se_reduce", "weight", "bias") + names_of(f"{block}_se_expand", "weight", "bias")
            names += [*names_of(f"{block}_project_conv", "weight"), *norm(f"{block}_project_bn")]
    return names + names_of("predictions", "weight", "bias")


@pytest.mark.parametrize(
    ("architecture", "family", "names"),
    [
        ("vgg16", "vgg", vgg16()),
        ("resnet50", "resnet", resnet50()),
        ("xception", "xception", xception()),
        ("mobilenet_v2", "mobilenet_v2", mobilenet_v2()),
        ("efficientnet_b0", "efficientnet", efficientnet_b0()),
    ],
)
def test_the_layers_of_keras_applications_have_each_a_place(architecture, family, names):
    with torch.device("meta"):
        network = build(Config(architecture, 5))
    layout = next(layout for layout in layouts_of(family) if layout.name == KERAS)
    ours: dict[str, Tensor] = network.state_dict()
    renamed = [layout.renaming(network)(name) for name in names]
    assert len(set(renamed)) == len(renamed)
    assert set(renamed) == {name for name in ours if not name.endswith("num_batches_tracked")}


@torch.no_grad()
def test_a_bottleneck_with_an_early_stride_is_that_of_the_paper():
    torch.manual_seed(0)
    late, early = (build(Config("resnet50", 5, early_stride=is_early)) for is_early in (False, True))
    assert late.layer2[0].conv1.stride == early.layer2[0].conv2.stride == (1, 1)
    assert late.layer2[0].conv2.stride == early.layer2[0].conv1.stride == (2, 2)
    assert {k: v.shape for k, v in late.state_dict().items()} == {k: v.shape for k, v in early.state_dict().items()}
