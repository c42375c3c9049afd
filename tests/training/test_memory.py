"""What happens to a batch that does not fit in memory."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from written_letters import write_letters

from graft.errors import GraftError, InputError
from graft.images.letters import CYRILLIC
from graft.training import memory
from graft.training.memory import Batching, as_memory_allows, free_memory, out_of_memory
from graft.training.recipe import Recipe
from graft.workflows.train import train


def too_large_for(most: int, tried: list[Batching]):
    def attempt(batching: Batching) -> str:
        tried.append(batching)
        if batching.batch_size > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return "fits"

    return attempt


def test_batches_are_halved_until_they_fit_and_steps_keep_their_size() -> None:
    tried: list[Batching] = []
    assert as_memory_allows(Recipe(batch_size=32, accumulate_steps=2).resolve(), too_large_for(8, tried)) == "fits"
    assert tried == [Batching(32, 2), Batching(16, 4), Batching(8, 8)]


def test_where_a_single_image_does_not_fit_it_is_said() -> None:
    tried: list[Batching] = []
    with pytest.raises(
        GraftError, match="expected memory for a step on 1 image, got too little of it: lower `image_size`"
    ):
        as_memory_allows(Recipe(batch_size=3).resolve(), too_large_for(0, tried))
    assert [each.batch_size for each in tried] == [3, 1]


def test_what_torch_says_of_memory_that_has_run_out_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(caught.value)
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."))
    assert out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed"))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"))


def test_images_that_memory_has_no_room_for_are_refused_before_any_is_read(shared: Path, tmp_path: Path) -> None:
    base = str(shared / "weights" / "mobilenet_v1_025_imagenet.safetensors")
    data = write_letters(tmp_path / "letters", CYRILLIC[:2], 8)
    with pytest.raises(InputError, match=r"32 images of 9000 px to fit into the [\d.]+ GiB of free memory"):
        train(data, base, "head", image_size=9_000, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_step_that_memory_has_no_room_for_is_refused(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = str(shared / "weights" / "mobilenet_v1_025_imagenet.safetensors")
    data = write_letters(tmp_path / "letters", CYRILLIC[:2], 8)
    monkeypatch.setattr("graft.training.memory.free_memory", lambda: 20 * 2**20)
    settings = {"epochs": 1, "image_size": 64, "quiet": True}
    with pytest.raises(
        InputError, match=r"got one on 12 images that takes about .* GiB: lower `batch_size` or `image_size`"
    ):
        train(data, base, "all", out=tmp_path / "run", **settings)
    assert train(data, base, "all", out=tmp_path / "small", batch_size=1, **settings).val.n == 4


def test_free_memory_is_some_of_what_the_machine_has() -> None:
    free = free_memory()
    if free is None:
        pytest.skip("only Linux tells")
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    assert 2**20 < free <= int(total.split()[1]) * 1024


def test_of_the_limit_of_a_container_what_is_in_use_is_not_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlimited = free_memory()
    if unlimited is None:
        pytest.skip("only Linux tells")
    for rows in (memory.CONTAINERS[:1], memory.CONTAINERS[1:]):
        files = replace(rows[0], folder=tmp_path)
        monkeypatch.setattr(memory, "CONTAINERS", (files,))
        for file in tmp_path.iterdir():
            file.unlink()
        assert free_memory() == pytest.approx(unlimited, rel=0.2)
        (tmp_path / files.limit).write_text("100000000\n")
        assert free_memory() == 100_000_000
        (tmp_path / files.in_use).write_text("70000000\n")
        assert free_memory() == 30_000_000
        # Pages read from files are freed when their room is needed, so they count as free, as on the whole machine.
        (tmp_path / "memory.stat").write_text(
            "anon 20000000\nhierarchical_memory_limit 100000000\n"
            + "".join(f"{name} {size}\n" for name, size in zip(files.of_files, (30_000_000, 15_000_000), strict=True))
        )
        assert free_memory() == 75_000_000
        (tmp_path / files.in_use).write_text("200000000\n")
        assert free_memory() == 0
        (tmp_path / files.limit).write_text("max\n")
        assert free_memory() == pytest.approx(unlimited, rel=0.2)


def test_a_head_is_solved_in_passes_where_memory_has_no_room_for_its_features(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory.note_on_streaming(1000, 1280, 10) is None
    monkeypatch.setattr(memory, "free_memory", lambda: 8 * 2**30)
    note = memory.note_on_streaming(5_000_000, 1280, 10)
    assert note is not None and "would take 143.1 GiB of memory, of which 8.0 GiB are free" in note
    assert note.endswith("in 1.2 GiB")
    monkeypatch.setattr(memory, "free_memory", lambda: 2**30)
    with pytest.raises(
        InputError, match=r"expected .* of memory for a head of 10 classes on 5,000,000 images, got 1\.0"
    ):
        memory.note_on_streaming(5_000_000, 1280, 10)
