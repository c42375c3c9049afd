"""Compiled networks agree with PyTorch, and are cached and reused."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from trunks import (
    BOTH_PRECISIONS,
    COLOUR,
    in_batches,
    make_network,
    needs_bfloat16,
    noise,
    plainly,
    preprocessing_of,
    relative_error,
)

from graft import files
from graft.errors import GraftError, WeightsError
from graft.files import cache_folder, keep, read_kept
from graft.models.network import Section
from graft.progress import NOBODY, Reporter

pytest.importorskip("openvino")

from graft.features import openvino_compiling
from graft.features.openvino_engine import OpenVINOEngine
from graft.features.openvino_functions import FUNCTIONS
from graft.features.openvino_import import opset8


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))


def blobs() -> list[Path]:
    return sorted((cache_folder() / "compiled").glob("*"))


def open_small() -> tuple[OpenVINOEngine, torch.Tensor]:
    network, preprocessing = make_network("resnet20"), preprocessing_of("resnet20", 8)
    trunk, _ = network.split("stem")
    engine = OpenVINOEngine(trunk, preprocessing, "float32")
    ((_, values),) = engine.run(in_batches(noise(8, preprocessing), [8]))
    return engine, values


def test_what_was_compiled_is_kept_and_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = open_small()
    (blob,) = blobs()
    os.utime(blob, (0, 0))
    monkeypatch.setattr(openvino_compiling, "_compile", None)
    _, second = open_small()
    assert torch.equal(first, second) and blobs() == [blob]
    # Noted as used, so that it is among the last to go.
    assert time.time() - blob.stat().st_mtime < 60


@pytest.mark.parametrize("damage", ["empty", "half", "noise", "one byte"])
def test_a_damaged_one_is_compiled_again(damage: str) -> None:
    _, first = open_small()
    (blob,) = blobs()
    data = blob.read_bytes()
    middle = len(data) // 2
    blob.write_bytes(
        {
            "empty": b"",
            "half": data[:middle],
            "noise": os.urandom(len(data)),
            "one byte": data[:middle] + bytes([data[middle] ^ 0x40]) + data[middle + 1 :],
        }[damage]
    )
    _, second = open_small()
    assert torch.equal(first, second)
    assert read_kept(blob, NOBODY) is not None


def test_a_blob_of_another_build_is_compiled_again() -> None:
    open_small()
    (blob,) = blobs()
    strange = b"of another version" * 100
    keep(blob, strange, NOBODY)
    open_small()
    assert strange not in blob.read_bytes()


def test_a_full_disk_costs_only_the_keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "flush", full)
    _, values = open_small()
    assert len(values) == 8 and blobs() == []


def test_compiled_sections_count_in_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_CACHE_BYTES", "1000")
    open_small()
    assert blobs() == []


def relu_trunk() -> Section:
    """Convolutions, batch norms and, by its name, torch's relu."""
    trunk, _ = make_network("resnet20").split("stage1")
    return trunk


def wrong_numbers(recorder: Any, output: Any, x: Any, inplace: bool = False) -> Any:
    return opset8.relu(opset8.add(recorder.node(x), recorder.node(0.1)))


def mixed_images(recorder: Any, output: Any, x: Any, inplace: bool = False) -> Any:
    """A relu that gives every image what its neighbour should have."""
    node = opset8.relu(recorder.node(x))
    others = [*range(1, recorder.batch), 0]
    return opset8.gather(node, opset8.constant(others), opset8.constant(0))


def no_numbers(recorder: Any, output: Any, x: Any, inplace: bool = False) -> Any:
    return opset8.sqrt(opset8.subtract(recorder.node(-1.0), opset8.relu(recorder.node(x))))


@pytest.mark.parametrize("precision", BOTH_PRECISIONS)
@pytest.mark.parametrize(
    ("row", "said"), [(wrong_numbers, "is off by"), (mixed_images, "is off by"), (no_numbers, "NaN or infinity")]
)
def test_a_wrong_conversion_gives_way_to_the_converter(
    row: Any, said: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FUNCTIONS, "relu", row)
    trunk, pixels, notes = relu_trunk(), noise(3, COLOUR), list[str]()
    ((_, values),) = OpenVINOEngine(trunk, COLOUR, precision, Reporter(note=notes.append)).run(in_batches(pixels, [3]))
    assert relative_error(values, plainly(trunk, pixels, COLOUR)) < (1e-4 if precision == "float32" else 0.03)
    (note,) = notes
    assert said in note and "a bug in graft" in note


def test_a_network_of_which_nothing_agrees_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FUNCTIONS, "relu", wrong_numbers)
    monkeypatch.setattr(openvino_compiling, "convert", openvino_compiling.record)
    with pytest.raises(GraftError, match=r"is off by .* where 0.001 is allowed: use `engine='torch'`"):
        OpenVINOEngine(relu_trunk(), COLOUR, "float32")
    assert blobs() == []


def test_a_network_that_the_converter_fails_on_is_refused() -> None:
    class Orthogonal(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.qr(x)[0]

    trunk = relu_trunk()
    trunk._steps.append(("orthogonal", Orthogonal(), False))
    with pytest.raises(GraftError, match=r"a conversion that failed \(.*\): use `engine='torch'`"):
        OpenVINOEngine(trunk, COLOUR, "float32")


def test_weights_that_make_nan_are_named() -> None:
    trunk = relu_trunk()
    next(trunk.parameters()).data[0] = float("nan")
    with pytest.raises(WeightsError, match="give NaN or infinity"):
        OpenVINOEngine(trunk, COLOUR, "float32")


@needs_bfloat16
def test_rounding_to_eight_bits_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    # Stands for a network whose errors add up to more than is usual.
    monkeypatch.setitem(openvino_compiling.TOLERANCES, "bfloat16", 1e-9)
    monkeypatch.setattr(openvino_compiling, "convert", None)
    notes: list[str] = []
    engine = OpenVINOEngine(relu_trunk(), COLOUR, "bfloat16", Reporter(note=notes.append))
    assert engine.output_shape == (16, 32, 32) and notes == []


def test_the_comparison_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    open_small()
    monkeypatch.setattr(openvino_compiling, "_sample", None)
    open_small()


def test_maps_of_depthwise_networks_stay_in_a_cores_caches_and_others_go_by_eights() -> None:
    def of(name: str, size: int) -> int:
        network = make_network(name).eval()
        return openvino_compiling.images_per_request(network.split(network.cuts[-1])[0], preprocessing_of(name, size))

    # 96 maps of 112 x 112 in float32 are 4.8 MB, and of 80 x 80 2.5 MB.
    assert [of("mobilenet_v2", size) for size in (224, 160, 64)] == [1, 2, 8]
    assert of("resnet18", 224) == 8
