"""The cache on disk: whole entries or none, whoever is killed, and within its budget."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from trunks import COLOUR, make_network, painted

from graft.data.dataset import Images
from graft.data.readers.folder import Files
from graft.errors import InputError
from graft.features import cache
from graft.features.cache import entry_path, new_entry, read_entry, section_digest
from graft.files import cache_budget, cache_folder, make_room, write_aside


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GRAFT_CACHE_BYTES", raising=False)
    return tmp_path / "cache" / "activations"


def write(path: Path, values: torch.Tensor, failures: dict[int, str] | None = None, needed: int = 0) -> None:
    with new_entry(path, needed) as writer:
        for part in values.split(2):
            writer.append(part)
        writer.finish(tuple(values.shape[1:]), str(values.dtype).removeprefix("torch."), failures or {})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(5, 3, 2, 2), (1, 4), (0, 4), (3, 0)])
def test_what_was_written_is_read(own_cache: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    values = torch.randn(shape).to(dtype)
    write(own_cache / "x", values)
    found = read_entry(own_cache / "x")
    assert found is not None and found.cached
    assert torch.equal(found.values, values) and found.values.dtype == dtype
    assert found.indices.tolist() == list(range(shape[0])) and found.failures == {}


def test_failures_are_kept_and_rows_belong_to_the_others(own_cache: Path) -> None:
    write(own_cache / "x", torch.arange(6.0).view(3, 2), {1: "cut short", 4: 'a "quoted" \udcff reason'})
    found = read_entry(own_cache / "x")
    assert found is not None and found.indices.tolist() == [0, 2, 3]
    assert found.failures == {1: "cut short", 4: 'a "quoted" \udcff reason'}


def test_no_entry(own_cache: Path) -> None:
    assert read_entry(own_cache / "x") is None


def test_an_entry_appears_only_when_it_is_complete(own_cache: Path) -> None:
    with pytest.raises(ZeroDivisionError), new_entry(own_cache / "x", 0) as writer:
        writer.append(torch.ones(2, 2))
        assert not (own_cache / "x").exists()
        _ = 1 / 0
    assert list(own_cache.iterdir()) == []


@pytest.mark.parametrize(
    "facts",
    [
        "",
        "{",
        "[]",
        "null",
        '{"shape": [3, 2]}',
        '{"shape": [3, 2], "dtype": "int8", "failures": {}}',
        '{"shape": [3, 4], "dtype": "float32", "failures": {}}',
        '{"shape": "ab", "dtype": "float32", "failures": {}}',
        '{"shape": [3, 2], "dtype": "float32", "failures": {"x": ""}}',
        '{"shape": [3, 2], "dtype": "float32", "failures": {"9": "beyond the last"}}',
        '{"shape": [-3, -2], "dtype": "float32", "failures": {}}',
    ],
)
def test_damaged_facts_are_no_entry_and_are_removed(own_cache: Path, facts: str) -> None:
    write(own_cache / "x", torch.ones(3, 2))
    (own_cache / "x" / "entry.json").write_text(facts)
    assert read_entry(own_cache / "x") is None
    assert list(own_cache.iterdir()) == []


@pytest.mark.parametrize("size", [0, 23, 25])
def test_values_of_another_length_are_no_entry(own_cache: Path, size: int) -> None:
    write(own_cache / "x", torch.ones(3, 2))
    os.truncate(own_cache / "x" / "values.bin", size)
    assert read_entry(own_cache / "x") is None
    assert not (own_cache / "x").exists()


@pytest.mark.parametrize("left", ["values.bin", "entry.json"])
def test_what_an_interrupted_removal_left_is_written_over(own_cache: Path, left: str) -> None:
    write(own_cache / "x", torch.zeros(3, 2))
    (own_cache / "x" / ("entry.json" if left == "values.bin" else "values.bin")).unlink()
    assert read_entry(own_cache / "x") is None
    write(own_cache / "x", torch.ones(3, 2))
    found = read_entry(own_cache / "x")
    assert found is not None and found.values.eq(1).all()


def test_a_second_writer_of_the_same_entry_is_content(own_cache: Path) -> None:
    with new_entry(own_cache / "x", 0) as writer:
        write(own_cache / "x", torch.ones(3, 2))
        writer.append(torch.ones(3, 2))
        writer.finish((2,), "float32", {})
    assert [child.name for child in own_cache.iterdir()] == ["x"]
    assert read_entry(own_cache / "x") is not None


def test_an_entry_removed_while_it_is_used_stays_readable(own_cache: Path) -> None:
    write(own_cache / "x", torch.arange(1e5).view(-1, 10))
    found = read_entry(own_cache / "x")
    cache.remove(own_cache / "x")
    assert found is not None and found.values.sum() == torch.arange(1e5).sum()


def test_reading_from_a_cache_of_others_does_not_destroy_it(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(own_cache / "x", torch.ones(3, 2))

    def refuse(*args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refuse)
    assert read_entry(own_cache / "x") is not None


STALLING = """
import sys, time, torch
from pathlib import Path
from graft.features import cache

def stall(message):
    print(message, flush=True)
    time.sleep(60)

def half(writer, values):
    data = values.reshape(-1).view(torch.uint8).numpy().tobytes()
    writer._file.write(data[: len(data) // 2])
    writer._file.flush()
    stall("half")

where, path = sys.argv[1], Path(sys.argv[2])
if where == "append":
    cache.EntryWriter.append = half
elif where == "facts":
    cache.json.dump = lambda facts, file: (file.write('{"shape": [4'), file.flush(), stall("half"))
elif where == "rename":
    Path.rename = lambda self, target: stall("half")
elif where == "removal":
    cache.shutil.rmtree = lambda path: ((path / "entry.json").unlink(), stall("half"))
    cache.remove(path)
with cache.new_entry(path, 0) as writer:
    writer.append(torch.full((4, 3), 7.0))
    writer.finish((3,), "float32", {})
"""


@pytest.mark.parametrize("where", ["append", "facts", "rename", "removal"])
def test_a_killed_process_leaves_nothing_that_is_taken_for_an_entry(own_cache: Path, where: str) -> None:
    path = own_cache / "x"
    if where == "removal":
        write(path, torch.zeros(4, 3))
    process = subprocess.Popen([sys.executable, "-c", STALLING, where, path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process, process.stdout:
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    left = list(own_cache.iterdir())
    assert len(left) == 1 and left[0].name.startswith(".")
    assert read_entry(path) is None
    write(path, torch.ones(4, 3))
    found = read_entry(path)
    assert found is not None and found.values.eq(1).all()
    # Swept up a day later, not before: it could belong to a process that is still writing.
    make_room(0)
    assert left[0].exists()
    for file in [left[0], *left[0].iterdir()]:
        os.utime(file, (0, time.time() - 25 * 3600))
    make_room(0)
    assert [child.name for child in own_cache.iterdir()] == ["x"]


def test_a_long_write_is_not_taken_for_an_abandoned_one(own_cache: Path) -> None:
    with new_entry(own_cache / "x", 0) as writer:
        (aside,) = own_cache.iterdir()
        # The folder was made two days ago; its file was written to just now.
        os.utime(aside, (0, time.time() - 48 * 3600))
        make_room(0)
        writer.append(torch.ones(2, 2))
        writer.finish((2,), "float32", {})
    assert read_entry(own_cache / "x") is not None


def entries(folder: Path) -> set[str]:
    return {child.name for child in folder.iterdir()}


def test_the_entry_used_longest_ago_goes_first(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for age, name in enumerate("abcd"):
        write(own_cache / name, torch.ones(100, 10))
        os.utime(own_cache / name / "entry.json", (0, 1000 - age))
    # Used just now, though written first.
    assert read_entry(own_cache / "d") is not None
    monkeypatch.setenv("GRAFT_CACHE_BYTES", "17000")
    make_room(4000)
    assert entries(own_cache) == {"a", "b", "d"}
    make_room(9000)
    assert entries(own_cache) == {"d"}
    make_room(17000)
    assert entries(own_cache) == set()


@pytest.mark.parametrize("name", ["compiled/y.blob", "looks/y.npy"])
def test_whatever_else_is_kept_counts_in_the_budget(
    name: str, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(own_cache / "x", torch.ones(100, 10))
    (own_cache / "left").mkdir()
    (own_cache / "left" / "values.bin").write_bytes(b"x" * 4000)
    write_aside(cache_folder() / name, lambda file: file.write(b"x" * 4000))
    os.utime(cache_folder() / name, (0, 1000))
    monkeypatch.setenv("GRAFT_CACHE_BYTES", "12000")
    make_room(100)
    assert entries(own_cache) == {"x"} and (cache_folder() / name).exists()
    make_room(5000)
    assert entries(own_cache) == {"x"} and not (cache_folder() / name).exists()


def test_the_budget_is_stated_or_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert 0 < cache_budget() <= 20 * 2**30
    monkeypatch.setenv("GRAFT_CACHE_BYTES", "123")
    assert cache_budget() == 123
    for wrong in ("1.5", "-1", "20 GiB"):
        monkeypatch.setenv("GRAFT_CACHE_BYTES", wrong)
        with pytest.raises(InputError, match="whole number of bytes in GRAFT_CACHE_BYTES"):
            cache_budget()


def test_a_folder_that_may_not_be_looked_at_has_no_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cache.shutil, "disk_usage", refuse)
    assert cache_budget() == 0


def test_the_folder_is_where_the_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_CACHE", "~/here")
    assert cache_folder() == Path.home() / "here"
    monkeypatch.delenv("GRAFT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/there")
    assert cache_folder() == Path("/there/graft")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "graft"


def test_a_file_written_aside_is_whole_or_not_there(tmp_path: Path) -> None:
    def fail(file) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    target = tmp_path / "deep" / "file"
    write_aside(target, lambda file: file.write(b"first"))
    with pytest.raises(OSError, match="No space left"):
        write_aside(target, fail)
    assert target.read_bytes() == b"first" and list(target.parent.iterdir()) == [target]


def listed(folder: Path, names: list[str]) -> Images:
    files = Files.of(names, folder)
    return Images(files, np.arange(len(names)), np.zeros(len(names), np.int64))


def test_the_key_follows_the_images(tmp_path: Path) -> None:
    names = ["a.jpg", "b\nc.jpg", os.fsdecode(b"\xff.jpg")]
    for name in names:
        (tmp_path / name).write_bytes(b"one")
    images = listed(tmp_path, names)
    key = entry_path("section", images)
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


def test_facts_are_plain_json(own_cache: Path) -> None:
    write(own_cache / "x", torch.ones(2, 3), {2: "é"})
    assert json.loads((own_cache / "x" / "entry.json").read_text()) == {
        "shape": [2, 3],
        "dtype": "float32",
        "failures": {"2": "é"},
    }
    assert entry_path("x", painted(2)).parent == own_cache
