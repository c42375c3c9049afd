"""A frozen layer is computed once, and the work is done whatever happens to the disk."""

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from trunks import COLOUR, OPENVINO, TORCH, make_network, painted, plainly, preprocessing_of

from graft import files
from graft.data.loading import load_image
from graft.errors import GraftError, WeightsError
from graft.features import extraction
from graft.features.cache import Activations
from graft.features.extraction import activation_bytes, extract, output_shape
from graft.files import cache_folder
from graft.models.catalog import CATALOG
from graft.models.network import Section
from graft.progress import Reporter

SMALL = replace(COLOUR, size=16)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GRAFT_CACHE_BYTES", raising=False)
    return tmp_path / "cache" / "activations"


@pytest.fixture(scope="module")
def trunk() -> Section:
    return make_network("resnet20").split("stage1")[0]


def expected(trunk: Section, count: int, broken: tuple[int, ...] = ()) -> torch.Tensor:
    images = painted(count)
    pixels = [load_image(images, index, SMALL) for index in range(count) if index not in broken]
    return plainly(trunk, torch.stack(pixels), SMALL)


@pytest.fixture
def no_computing(monkeypatch: pytest.MonkeyPatch):
    def forbid() -> None:
        def refuse(*args: object) -> None:
            raise AssertionError("computed again")

        monkeypatch.setattr(extraction, "open_engine", refuse)
        monkeypatch.setattr(extraction, "batches", refuse)

    return forbid


def same(first: Activations, second: Activations) -> bool:
    return (
        torch.equal(first.values, second.values)
        and np.array_equal(first.indices, second.indices)
        and first.failures == second.failures
    )


@pytest.mark.parametrize("choice", [TORCH, OPENVINO, replace(TORCH, precision="bfloat16")], ids=str)
def test_the_second_time_nothing_is_computed(trunk: Section, no_computing, choice, own_cache: Path) -> None:
    if choice.engine == "openvino":
        pytest.importorskip("openvino")
    splits = {"train": painted(37, broken=(0, 5, 36)), "val": painted(9)}
    first = extract(trunk, splits, SMALL, choice)
    assert {name: found.cached for name, found in first.items()} == {"train": False, "val": False}
    assert first["train"].indices.tolist() == [index for index in range(37) if index not in (0, 5, 36)]
    assert sorted(first["train"].failures) == [0, 5, 36]
    close = dict(rtol=0.1, atol=0.1) if choice.precision == "bfloat16" else dict(rtol=1e-3, atol=1e-4)
    assert torch.allclose(first["train"].values.float(), expected(trunk, 37, (0, 5, 36)), **close)
    no_computing()
    second = extract(trunk, splits, SMALL, choice)
    for name in splits:
        assert second[name].cached and same(first[name], second[name])
    assert len(list(own_cache.iterdir())) == 2


def test_what_was_not_asked_to_be_kept_is_not(trunk: Section, own_cache: Path) -> None:
    found = extract(trunk, {"val": painted(5)}, SMALL, TORCH, use_cache=False)["val"]
    assert torch.allclose(found.values, expected(trunk, 5), rtol=1e-4, atol=1e-5)
    assert not own_cache.exists()


def test_another_cut_preprocessing_or_image_is_computed(trunk: Section, own_cache: Path) -> None:
    stem, _ = make_network("resnet20").split("stem")
    runs = [
        (trunk, SMALL, TORCH, painted(5)),
        (stem, SMALL, TORCH, painted(5)),
        (trunk, replace(SMALL, resize_mode="squash"), TORCH, painted(5)),
        (trunk, SMALL, replace(TORCH, precision="bfloat16"), painted(5)),
        (trunk, SMALL, TORCH, painted(5, version="changed ")),
    ]
    for section, preprocessing, choice, images in runs:
        assert not extract(section, {"val": images}, preprocessing, choice)["val"].cached
    assert len(list(own_cache.iterdir())) == len(runs)


@pytest.mark.parametrize("damage", ["cut off", "zeros", "one bit"])
def test_a_damaged_entry_is_computed_again_and_told(trunk: Section, own_cache: Path, damage: str) -> None:
    first = extract(trunk, {"val": painted(5)}, SMALL, TORCH)["val"]
    (entry,) = own_cache.iterdir()
    data = bytearray(entry.read_bytes())
    if damage == "cut off":
        del data[100:]
    elif damage == "zeros":
        data[:] = bytes(len(data))
    else:
        data[1000] ^= 1
    entry.write_bytes(data)
    notes: list[str] = []
    second = extract(trunk, {"val": painted(5)}, SMALL, TORCH, reporter=Reporter(note=notes.append))["val"]
    assert not second.cached and same(first, second)
    assert len(notes) == 1 and f"{entry} was damaged" in notes[0]
    assert extract(trunk, {"val": painted(5)}, SMALL, TORCH)["val"].cached


def test_an_unfinished_entry_is_not_looked_at(trunk: Section, own_cache: Path) -> None:
    extract(trunk, {"val": painted(5)}, SMALL, TORCH)
    (entry,) = own_cache.iterdir()
    entry.rename(entry.with_name(f".{entry.name}.01234567.partial"))
    assert not extract(trunk, {"val": painted(5)}, SMALL, TORCH)["val"].cached


def test_nothing_but_broken_images(trunk: Section) -> None:
    for _ in range(2):
        found = extract(trunk, {"val": painted(3, broken=(0, 1, 2))}, SMALL, TORCH)["val"]
        assert found.values.shape == (0, 16, 16, 16) and sorted(found.failures) == [0, 1, 2]
        assert found.indices.tolist() == []
    assert found.cached
    assert extract(trunk, {"val": painted(0)}, SMALL, TORCH)["val"].values.shape == (0, 16, 16, 16)


def test_from_memory_and_straight_to_disk_are_the_same(
    trunk: Section, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = extract(trunk, {"val": painted(40, broken=(3,))}, SMALL, TORCH, use_cache=False)["val"]
    monkeypatch.setattr(extraction, "IN_MEMORY_BYTES", 0)
    on_disk = extract(trunk, {"val": painted(40, broken=(3,))}, SMALL, TORCH)["val"]
    assert same(in_memory, on_disk) and not on_disk.cached
    assert extract(trunk, {"val": painted(40, broken=(3,))}, SMALL, TORCH)["val"].cached
    assert len(list(own_cache.iterdir())) == 1


def test_more_than_the_budget_is_computed_and_not_kept(
    trunk: Section, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(trunk, {"val": painted(2)}, SMALL, TORCH)
    size = activation_bytes(4, output_shape(trunk, SMALL), "float32")
    monkeypatch.setenv("GRAFT_CACHE_BYTES", str(size - 1))
    for limit in (extraction.IN_MEMORY_BYTES, 0):
        monkeypatch.setattr(extraction, "IN_MEMORY_BYTES", limit)
        found = extract(trunk, {"val": painted(4)}, SMALL, TORCH)["val"]
        assert not found.cached and len(found.values) == 4
        # Nothing else was evicted for what would not fit anyway.
        assert len(list(own_cache.iterdir())) == 1


def test_older_entries_make_room(trunk: Section, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = activation_bytes(4, output_shape(trunk, SMALL), "float32")
    monkeypatch.setenv("GRAFT_CACHE_BYTES", str(2 * size + 500))  # two entries with their footers
    for version in "abc":
        extract(trunk, {"val": painted(4, version=version)}, SMALL, TORCH)
        for entry in own_cache.iterdir():
            os.utime(entry, (0, entry.stat().st_mtime - 1000))
    assert len(list(own_cache.iterdir())) == 2
    kept = {v: extract(trunk, {"val": painted(4, version=v)}, SMALL, TORCH)["val"].cached for v in "cba"}
    assert kept == {"c": True, "b": True, "a": False}


def fill_disk(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let the disk take this many pieces and no more."""
    write = files.KeptWriter.write

    def limited(writer: files.KeptWriter, data: memoryview) -> None:
        nonlocal after
        after -= 1
        if after < 0:
            raise OSError(28, "No space left on device")
        write(writer, data)

    monkeypatch.setattr(files.KeptWriter, "write", limited)


def test_a_full_disk_costs_only_the_keeping(trunk: Section, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_disk(monkeypatch, after=0)
    found = extract(trunk, {"val": painted(40)}, SMALL, TORCH)["val"]
    assert torch.allclose(found.values, expected(trunk, 40), rtol=1e-4, atol=1e-5)
    assert list(own_cache.iterdir()) == []


def test_a_full_disk_under_what_memory_cannot_hold_is_one_sentence(
    trunk: Section, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "IN_MEMORY_BYTES", 0)
    fill_disk(monkeypatch, after=1)
    with pytest.raises(GraftError, match=r"expected room for .* bytes .* No space left on device: free some"):
        extract(trunk, {"val": painted(40)}, SMALL, TORCH)
    assert list(own_cache.iterdir()) == []


def test_a_cache_that_cannot_be_made_costs_only_the_keeping(
    trunk: Section, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "file" / "below"))
    for choice in (TORCH, OPENVINO):
        assert len(extract(trunk, {"val": painted(4)}, SMALL, choice)["val"].values) == 4


BOTH = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from graft import files
from graft.features import extraction
from trunks import COLOUR, TORCH, make_network, painted
from dataclasses import replace

extraction.IN_MEMORY_BYTES = 0
finish = files.KeptWriter.finish

def together(writer, facts):
    # Both have written everything before either finishes.
    (files.cache_folder() / sys.argv[2]).touch()
    deadline = time.time() + 30
    while not all((files.cache_folder() / name).exists() for name in "12") and time.time() < deadline:
        time.sleep(0.01)
    finish(writer, facts)

files.KeptWriter.finish = together
trunk, _ = make_network("resnet20").split("stage1")
found = extraction.extract(trunk, {"val": painted(40, broken=(3,))}, replace(COLOUR, size=16), TORCH)["val"]
print(found.cached, tuple(found.values.shape), float(found.values.double().sum()), found.failures.keys())
"""


def test_two_processes_that_compute_the_same_both_succeed(own_cache: Path, trunk: Section) -> None:
    command = [sys.executable, "-c", BOTH, str(Path(__file__).parent)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True, env=environment) for name in "12"
    ]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert outputs[0] == outputs[1] and outputs[0].startswith("False (39, 16, 16, 16)")
    assert [process.returncode for process in processes] == [0, 0]
    assert len(list(own_cache.iterdir())) == 1
    assert extract(trunk, {"val": painted(40, broken=(3,))}, SMALL, TORCH)["val"].cached


def test_progress_counts_every_image_of_every_split(trunk: Section) -> None:
    splits = {"train": painted(70, broken=(1, 2)), "val": painted(9)}
    for _ in range(2):
        told: list[tuple[int, int]] = []
        reporter = Reporter(step=lambda name, done, total, text="", told=told: told.append((done, total)))
        extract(trunk, splits, SMALL, TORCH, reporter=reporter)
        assert told[-1] == (79, 79) and told == sorted(told) and (70, 79) in told
        assert {total for _, total in told} == {79}


def test_an_interruption_leaves_no_threads_and_no_entry(
    trunk: Section, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(name: str, done: int, total: int, text: str = "") -> None:
        raise KeyboardInterrupt

    for limit in (extraction.IN_MEMORY_BYTES, 0):
        monkeypatch.setattr(extraction, "IN_MEMORY_BYTES", limit)
        with pytest.raises(KeyboardInterrupt):
            extract(trunk, {"val": painted(400)}, SMALL, TORCH, reporter=Reporter(step=interrupt))
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
    assert not own_cache.exists() or list(own_cache.iterdir()) == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named_and_nothing_is_kept(own_cache: Path, bad: float) -> None:
    trunk, _ = make_network("resnet20").split("stage1")
    trunk.conv1.weight.data[0, 0, 0, 0] = bad
    for choice in (TORCH, OPENVINO):
        with pytest.raises(WeightsError, match=r"got 'conv1\.weight' of the base with NaN or infinity"):
            extract(trunk, {"val": painted(5)}, SMALL, choice)
    assert not own_cache.exists()


@pytest.mark.parametrize(("limit", "precision"), [(2**31, "float32"), (0, "float32"), (2**31, "bfloat16")])
def test_activations_that_are_not_finite_are_refused_and_nothing_is_kept(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, limit: int, precision: str
) -> None:
    # Finite weights, but values beyond float32 on the way.
    trunk, _ = make_network("resnet20").split("stage1")
    for layer in (trunk.conv1, trunk.layer1[0].conv1):
        layer.weight.data.mul_(1e30)
    monkeypatch.setattr(extraction, "IN_MEMORY_BYTES", limit)
    instead = "`precision='float32'`" if precision == "bfloat16" else "another base"
    computed_by = f"torch {precision} on cpu with . threads?"
    says = rf"got NaN or infinity for painted 1 from {computed_by}: try {instead}, or leave the image out"
    with pytest.raises(GraftError, match=says):
        extract(trunk, {"val": painted(5, broken=(0,))}, SMALL, replace(TORCH, precision=precision))
    assert not own_cache.exists() or list(own_cache.iterdir()) == []


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "mobilenet_v1_025", "mobilenet_v2"])
def test_the_shape_is_known_without_computing(name: str) -> None:
    assert name in CATALOG
    network, preprocessing = make_network(name), preprocessing_of(name)
    pixels = torch.zeros((1, preprocessing.channels, preprocessing.size, preprocessing.size), dtype=torch.uint8)
    for cut in network.cuts:
        trunk, _ = network.split(cut)
        assert output_shape(trunk, preprocessing) == tuple(plainly(trunk, pixels, preprocessing).shape[1:])
    assert activation_bytes(3, (4, 5), "bfloat16") == 120 and activation_bytes(3, (4, 5), "float32") == 240


def test_the_parts_that_were_frozen_are_not_changed(trunk: Section) -> None:
    before = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    extract(trunk, {"val": painted(5)}, SMALL, TORCH)
    output_shape(trunk, SMALL)
    assert all(torch.equal(before[name], tensor) for name, tensor in trunk.state_dict().items())
    assert cache_folder().name == "cache"


def test_a_split_may_have_a_precision_of_its_own_whose_engine_is_opened_meanwhile(
    trunk: Section, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, bool]] = []

    def noted(choice, *how):
        opened.append((choice.precision, threading.current_thread() is threading.main_thread()))
        return extraction_open(choice, *how)

    extraction_open = extraction.open_engine
    monkeypatch.setattr(extraction, "open_engine", noted)
    splits, exact = {"train": painted(7), "val": painted(5, broken=(2,))}, replace(TORCH, precision="float32")
    coarse = replace(TORCH, precision="bfloat16")
    found = extract(trunk, splits, SMALL, coarse, choices={"val": exact})
    assert sorted(opened) == [("bfloat16", True), ("float32", False)]
    assert found["train"].values.dtype == torch.bfloat16 and found["val"].values.dtype == torch.float32
    for name, choice in (("train", coarse), ("val", exact)):
        assert same(found[name], extract(trunk, {name: splits[name]}, SMALL, choice, use_cache=False)[name])
    # What is kept needs no engine.
    opened.clear()
    extract(trunk, {**splits, "test": painted(3)}, SMALL, coarse, choices={"val": exact})
    assert opened == [("bfloat16", True)]


def test_an_engine_that_cannot_be_opened_is_an_error_only_for_the_split_that_needs_it(
    trunk: Section, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(choice, *how):
        if choice.precision == "float32":
            raise GraftError("no such engine")
        return extraction_open(choice, *how)

    extraction_open = extraction.open_engine
    monkeypatch.setattr(extraction, "open_engine", refusing)
    splits, coarse = {"train": painted(3), "val": painted(2)}, replace(TORCH, precision="bfloat16")
    with pytest.raises(GraftError, match="no such engine"):
        extract(trunk, splits, SMALL, coarse, choices={"val": TORCH})
    assert extract(trunk, {"train": splits["train"]}, SMALL, coarse)["train"].cached
