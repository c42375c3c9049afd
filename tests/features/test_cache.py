"""Activations in the cache: what was written is read, and the name depends on everything that affects the numbers."""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from trunks import COLOUR, make_network

from graft.data.dataset import Images
from graft.data.readers.folder import Files
from graft.features.cache import as_bytes, entry_facts, entry_path, read_entry, section_digest
from graft.files import cache_folder, keep
from graft.progress import NOBODY


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GRAFT_CACHE_BYTES", raising=False)
    return tmp_path / "cache" / "activations"


def write(path: Path, values: torch.Tensor, failures: dict[int, str] | None = None) -> None:
    facts = entry_facts(tuple(values.shape), str(values.dtype).removeprefix("torch."), failures or {})
    keep(path, as_bytes(values), NOBODY, facts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(5, 3, 2, 2), (1, 4), (0, 4), (3, 0)])
def test_what_was_written_is_read(own_cache: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    values = torch.randn(shape).to(dtype)
    write(own_cache / "x", values)
    found = read_entry(own_cache / "x", NOBODY)
    assert found is not None and found.cached
    assert torch.equal(found.values, values) and found.values.dtype == dtype
    assert found.indices.tolist() == list(range(shape[0])) and found.failures == {}


def test_failures_are_kept_and_rows_belong_to_the_others(own_cache: Path) -> None:
    write(own_cache / "x", torch.arange(6.0).view(3, 2), {1: "cut short", 4: 'a "quoted" \udcff reason'})
    found = read_entry(own_cache / "x", NOBODY)
    assert found is not None and found.indices.tolist() == [0, 2, 3]
    assert found.failures == {1: "cut short", 4: 'a "quoted" \udcff reason'}


def listed(folder: Path, names: list[str]) -> Images:
    files = Files.of(names, folder)
    return Images(files, np.arange(len(names)), np.zeros(len(names), np.int64))


def test_the_key_follows_the_images(tmp_path: Path) -> None:
    names = ["a.jpg", "b\nc.jpg", os.fsdecode(b"\xff.jpg")]
    for name in names:
        (tmp_path / name).write_bytes(b"one")
    images = listed(tmp_path, names)
    key = entry_path("section", images)
    assert key.parent == cache_folder() / "activations"
    assert key == entry_path("section", listed(tmp_path, names))
    assert key != entry_path("another", images)
    assert key != entry_path("section", images.take(np.array([0, 1])))
    assert key != entry_path("section", images.take(np.array([1, 0, 2])))
    # The labels are not in it: the activations are the same.
    assert key == entry_path("section", replace(images, labels=images.labels + 1))


def test_the_key_follows_content_of_the_same_size_and_restored_time(tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    image.write_bytes(b"one")
    before, key = image.stat(), entry_path("section", listed(tmp_path, ["a.jpg"]))
    # The clock of the file system ticks every few milliseconds.
    time.sleep(0.05)
    image.write_bytes(b"two")
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = image.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert entry_path("section", listed(tmp_path, ["a.jpg"])) != key


def test_the_key_follows_all_that_decides_the_numbers() -> None:
    network = make_network("resnet20")
    trunk, _ = network.split("stage1")
    digest = section_digest(trunk, COLOUR, "float32", "torch")
    assert digest == section_digest(make_network("resnet20").split("stage1")[0], COLOUR, "float32", "torch")
    others = [
        section_digest(network.split("stage2")[0], COLOUR, "float32", "torch"),
        section_digest(trunk, replace(COLOUR, resize_mode="squash"), "float32", "torch"),
        section_digest(trunk, replace(COLOUR, size=33), "float32", "torch"),
        section_digest(trunk, replace(COLOUR, mean=(0.485, 0.456, 0.4061)), "float32", "torch"),
        section_digest(trunk, replace(COLOUR, crop_fraction=1.0), "float32", "torch"),
        section_digest(trunk, COLOUR, "bfloat16", "torch"),
        section_digest(trunk, COLOUR, "float32", "openvino"),
    ]
    with torch.no_grad():
        network.conv1.weight[0, 0, 0, 0] += 1e-6
    others.append(section_digest(trunk, COLOUR, "float32", "torch"))
    network.bn1.running_var[3] *= 1.0001
    others.append(section_digest(trunk, COLOUR, "float32", "torch"))
    assert len({digest, *others}) == 1 + len(others)


def test_the_key_follows_what_a_trunk_gathers() -> None:
    # The same layers and weights; one hands on only the last vector, the others the vectors of several stages.
    network = make_network("resnet20")
    kinds = ("last", "stages", "stages:stem", "stages:stage1")
    keys = {section_digest(network.before_head(kind), COLOUR, "float32", "torch") for kind in kinds}
    assert len(keys) == len(kinds)


def test_the_key_follows_what_no_tensor_shows() -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=1e-5))
    digest = section_digest(layer, COLOUR, "float32", "torch")
    layer[1].eps = 1e-3
    assert section_digest(layer, COLOUR, "float32", "torch") != digest
    plain, same = (make_network("mobilenet_v2", padding).split("stage2")[0] for padding in ("torch", "tensorflow"))
    assert [*plain.state_dict()] == [*same.state_dict()]
    assert section_digest(plain, COLOUR, "float32", "torch") != section_digest(same, COLOUR, "float32", "torch")
    # A whole network, which prints itself in two lines.
    plain, same = (make_network("resnet20", padding) for padding in ("torch", "tensorflow"))
    assert section_digest(plain, COLOUR, "float32", "torch") != section_digest(same, COLOUR, "float32", "torch")
