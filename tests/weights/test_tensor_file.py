"""Tensors as the library reads them, in the same bytes every time."""

import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load

from graft.files import write_aside
from graft.weights.tensor_file import NAMES, write_tensors


def written(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
    file = io.BytesIO()
    write_tensors(file, tensors, metadata)
    return file.getvalue()


@pytest.mark.parametrize("dtype", NAMES)
def test_the_library_reads_what_is_written(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = {
        "b": (torch.randn(3, 5) * 9).to(dtype),
        "a.weight": (torch.randn(2, 3, 4).transpose(0, 2) * 9).to(dtype),
        "none": torch.empty(0, 4, dtype=dtype),
        "scalar": torch.tensor(1, dtype=dtype),
        "bytes": torch.tensor([1, 2, 3], dtype=torch.uint8),
    }
    found = load(written(tensors, {}))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name


def test_metadata_is_kept_and_its_order_does_not_matter(tmp_path: Path) -> None:
    metadata = {"z": "1", "classes": '["é", "b"]', "a": ""}
    tensors = {"x": torch.ones(3)}
    assert written(tensors, metadata) == written(tensors, dict(reversed(metadata.items())))
    write_aside(tmp_path / "x.safetensors", lambda file: write_tensors(file, tensors, metadata))
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == metadata


def test_the_file_has_the_usual_rights(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_aside(tmp_path / "x.safetensors", lambda file: write_tensors(file, {"x": torch.ones(3)}, {}))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.safetensors").stat().st_mode) == 0o644


SAVE = """
import sys
from pathlib import Path
import torch
from graft.weights.base import load_base
from graft.weights.saved import SavedModel, save_model
base = load_base("latin_letters")
facts = {"val": {"top1": 0.5}, "base": "latin_letters"}
save_model(Path(sys.argv[1]), SavedModel(base.network, base.preprocessing, base.classes, 1.25, facts))
"""


def test_a_model_is_saved_in_the_same_bytes_whatever_the_hash_seed(tmp_path: Path) -> None:
    for number in (1, 2):
        environment = {**os.environ, "PYTHONHASHSEED": str(number)}
        subprocess.run([sys.executable, "-c", SAVE, str(tmp_path / str(number))], env=environment, check=True)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "12")
    assert one == two and len(one) == 6
