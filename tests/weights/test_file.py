"""Reading checkpoints: every wrapping that training scripts use, and nothing that a hostile or torn file asks for."""

import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor

from graft.errors import WeightsError
from graft.weights.file import read_weights


def tensors() -> dict[str, Tensor]:
    return {"conv1.weight": torch.arange(24.0).reshape(2, 3, 2, 2), "bn1.bias": torch.tensor([0.5, -1.0])}


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def saved(value: object, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def written(folder: Path, content: bytes, name: str = "weights.pth") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_safetensors_come_with_their_metadata(tmp_path):
    path = written(tmp_path, save(tensors(), {"architecture": "resnet18"}), "a.safetensors")
    file = read_weights(path)
    assert same(file.tensors, tensors())
    assert file.metadata == {"architecture": "resnet18"}
    assert file.source == "a.safetensors"


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: weights,
        lambda weights: {"state_dict": weights, "epoch": 3, "best_prec1": 91.2},
        lambda weights: {"model": weights, "optimizer": {"state": {}}},
        lambda weights: {"model": {"state_dict": weights}},
        lambda weights: {"state_dict": {name.replace("", "module.", 1): tensor for name, tensor in weights.items()}},
        lambda weights: {f"_orig_mod.{name}": tensor for name, tensor in weights.items()},
        lambda weights: {f"module._orig_mod.{name}": tensor for name, tensor in weights.items()},
        lambda weights: {f"model.{name}": tensor for name, tensor in weights.items()},
        lambda weights: {name: torch.nn.Parameter(tensor) for name, tensor in weights.items()},
    ],
)
def test_torch_checkpoints_are_read_in_every_usual_wrapping(tmp_path, wrap, zipped):
    file = read_weights(written(tmp_path, saved(wrap(tensors()), zipped)))
    assert same(file.tensors, tensors())
    assert file.metadata == {}


def test_averaged_weights_are_preferred(tmp_path):
    averaged = {name: tensor + 1 for name, tensor in tensors().items()}
    path = written(tmp_path, saved({"state_dict": tensors(), "state_dict_ema": averaged}))
    assert same(read_weights(path).tensors, averaged)


def test_a_prefix_that_not_every_name_has_is_part_of_the_names(tmp_path):
    weights = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert read_weights(written(tmp_path, saved(weights))).tensors.keys() == weights.keys()


def test_a_file_is_recognized_by_content_not_by_its_name(tmp_path):
    assert same(read_weights(written(tmp_path, save(tensors()), "a.pth")).tensors, tensors())
    assert same(read_weights(written(tmp_path, saved(tensors()), "a.safetensors")).tensors, tensors())


class Intruder:
    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize(
    "write",
    [
        lambda value: saved({"state_dict": tensors(), "extra": value}),
        lambda value: saved({**tensors(), "extra": value}, zipped=False),
        lambda value: pickle.dumps(value),
        lambda value: pickle.dumps({"state_dict": value}, protocol=2),
    ],
)
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path, write):
    target = tmp_path / "made by the pickle"
    content = write(Intruder(target))
    with pytest.raises(WeightsError, match="refused"):
        read_weights(written(tmp_path, content))
    assert not target.exists()
    # The file is as dangerous as it claims: Python's own unpickler obeys it.
    if content == pickle.dumps(Intruder(target)):
        pickle.loads(content)
        assert target.exists()


def test_a_pickle_in_text_form_is_refused_and_runs_nothing(tmp_path):
    target = tmp_path / "made by the pickle"
    with pytest.raises(WeightsError):
        read_weights(written(tmp_path, pickle.dumps(Intruder(target), protocol=0)))
    assert not target.exists()


def test_a_whole_pickled_network_gives_its_tensors_and_none_of_its_code(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    network.register_buffer("scratch", torch.ones(2), persistent=False)
    assert same(read_weights(written(tmp_path, saved(network))).tensors, network.state_dict())


@pytest.mark.parametrize("content", [saved(tensors()), saved(tensors(), zipped=False), save(tensors())])
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path, content):
    for length in sorted({0, 1, 7, 8, 9, 10, 16, 64, 200, *np.linspace(1, len(content) - 1, 20).astype(int)}):
        with pytest.raises(WeightsError, match=r"weights\.pth"):
            read_weights(written(tmp_path, content[:length]))


@pytest.mark.parametrize("content", [saved(tensors()), saved(tensors(), zipped=False), save(tensors())])
def test_a_damaged_file_is_refused_or_read_but_never_anything_else(tmp_path, content):
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content)
        for position in random.integers(0, len(content), 3):
            damaged[position] = random.integers(256)
        try:
            read_weights(written(tmp_path, bytes(damaged)))
        except WeightsError as error:
            assert "weights.pth" in str(error)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no bytes"),
        (b"x", "begins with b'x'"),
        (b"<!DOCTYPE html><html>not found</html>", "begins with b'<!DOCTYPE html><'"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer"),
        (b'{"conv1.weight": [1, 2]}', "begins with"),
        (b"PK\x03\x04 but no archive follows", "torch checkpoint"),
        (struct.pack("<Q", 2**62) + b'{"a": 1}', "complete safetensors"),
        (struct.pack("<Q", 10**8) + b'{"a": 1}', "complete safetensors"),
        (struct.pack("<Q", 2) + b"{}", "got none in"),
        (saved({}), "dictionary of nothing"),
        (saved({"epoch": 3, "lr": 0.1}), "'epoch', 'lr'"),
        (saved([1, 2]), "got list"),
        (saved(torch.ones(3)), "got Tensor"),
    ],
)
def test_what_holds_no_weights_is_refused_and_the_message_says_what_came(tmp_path, content, says):
    with pytest.raises(WeightsError, match=r"weights\.pth") as caught:
        read_weights(written(tmp_path, content))
    assert says in str(caught.value)


def test_a_folder_and_a_missing_file_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent.pth", tmp_path / "a\0b"):
        with pytest.raises(WeightsError, match="check the path"):
            read_weights(path)


def test_tensors_that_are_no_arrays_in_memory_are_refused(tmp_path):
    for tensor in (
        torch.ones(2, device="meta"),
        torch.eye(3).to_sparse(),
        torch.ones(2, dtype=torch.complex64),
        torch.ones(1).expand(10**12),
    ):
        with pytest.raises(WeightsError, match="'a'"):
            read_weights(written(tmp_path, saved({"a": tensor})))


def test_a_half_precision_or_transposed_tensor_is_ordinary(tmp_path):
    weights = {"a": torch.ones(2, 3).half().t(), "b": torch.ones(4, dtype=torch.bfloat16)[1:]}
    assert same(read_weights(written(tmp_path, saved(weights))).tensors, weights)


def test_the_files_at_hand_are_read(shared):
    folder = shared / "weights"
    counts = {
        path.name: len(read_weights(path).tensors)
        for path in folder.iterdir()
        if path.suffix != ".json" and path.suffix != ".md"
    }
    assert len(counts) == 5
    assert min(counts.values()) > 90
    old = read_weights(folder / "resnet20-12fca82f.th")
    assert "conv1.weight" in old.tensors
    new = read_weights(folder / "mobilenet_v2_imagenet.safetensors")
    assert new.metadata["architecture"] == "mobilenet_v2"


def test_saving_and_reading_keeps_every_bit(tmp_path):
    weights = {"a": torch.randn(7, 5), "b": torch.tensor(3)}
    save_file(weights, tmp_path / "a.safetensors")
    assert same(read_weights(tmp_path / "a.safetensors").tensors, weights)
