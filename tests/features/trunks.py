"""Networks and images for the tests of this room."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from graft.data.dataset import Images
from graft.data.loading import Batch
from graft.features.engine import Choice, processor_has_bfloat16
from graft.images.preprocessing import Preprocessing, normalise
from graft.models.catalog import CATALOG, build, default_config
from graft.models.network import Network, PaddingRule, Section

COLOUR = Preprocessing(32, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
GREY = Preprocessing(28, (0.1307,), (0.3081,))
TORCH = Choice("torch", "float32", "cpu", "a test")
OPENVINO = Choice("openvino", "float32", "cpu", "a test")
needs_bfloat16 = pytest.mark.skipif(
    not processor_has_bfloat16(), reason="the processor has no bfloat16, for which OpenVINO compiles nothing"
)
BOTH_PRECISIONS = ["float32", pytest.param("bfloat16", marks=needs_bfloat16)]


def make_network(name: str, padding: PaddingRule = "torch") -> Network:
    """A network with the same random weights every time, its batch norms with statistics of their own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(replace(default_config(name), padding=padding)).eval()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.uniform_(module.bias, -0.5, 0.5)
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2)
    return network


def preprocessing_of(name: str, size: int | None = None) -> Preprocessing:
    return replace(
        GREY if name == "lenet5" else COLOUR,
        size=size or max(28 if name == "lenet5" else 32, CATALOG[name].smallest_input),
    )


def noise(count: int, preprocessing: Preprocessing, seed: int = 0) -> torch.Tensor:
    """uint8 (count, C, size, size)."""
    shape = (count, preprocessing.channels, preprocessing.size, preprocessing.size)
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def in_batches(pixels: torch.Tensor, sizes: list[int]) -> Iterator[Batch]:
    """The pixels in batches of these sizes; a size of zero is a batch in which nothing could be decoded."""
    start = 0
    for size in sizes:
        failures = {} if size else {start: "no image"}
        yield Batch(np.arange(start, start + size), pixels[start : start + size], failures)
        start += size


def plainly(section: Section, pixels: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """The module's own outputs for the pixels."""
    with torch.no_grad():
        return section.eval()(normalise(pixels, preprocessing))


def relative_error(ours: torch.Tensor, reference: torch.Tensor) -> float:
    """Largest difference, as a part of the largest value."""
    assert ours.shape == reference.shape
    return float((ours.double() - reference.double()).abs().max() / reference.double().abs().max())


class Painted:
    """Images drawn from their number, some of them broken."""

    def __init__(self, count: int, broken: tuple[int, ...] = (), version: str = "") -> None:
        self.count, self.broken, self.version = count, broken, version

    def __len__(self) -> int:
        return self.count

    def name(self, row: int) -> str:
        return f"painted {row}"

    key = name

    def read(self, row: int) -> bytes | np.ndarray:
        if row in self.broken:
            return b"no image"
        return np.random.default_rng(row).integers(0, 256, (30, 40, 3), dtype=np.uint8)

    def stamp(self, row: int) -> str:
        return f"{self.version}{row} of {self.count} without {self.broken}"


def painted(count: int, broken: tuple[int, ...] = (), version: str = "") -> Images:
    return Images(Painted(count, broken, version), np.arange(count), np.zeros(count, np.int64))
