"""Every network through every format: do the exported graphs answer as the networks do?

    python benchmarks/export.py [--formats onnx,openvino,torch] [--networks resnet18,vgg16]

Networks have random weights, five classes and a small input; each graph answers eight images of other sizes than the
one that it was recorded with. Prints a line per network and format: the largest difference of any probability, bytes,
and seconds to write. Exits with 1 where a difference is above the gate's bound.
"""

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from graft.errors import GraftError
from graft.export.facts import Facts
from graft.export.gate import TOLERANCE
from graft.export.graph import FromPixels
from graft.export.recording import WRITERS
from graft.export.running import open_exported, open_torch
from graft.images.preprocessing import Preprocessing
from graft.models.catalog import CATALOG, build
from graft.models.network import Config
from graft.weights.saved import SavedModel

IMAGES = 8
LEAST_SIZE = 64


def model_of(name: str) -> SavedModel:
    torch.manual_seed(0)
    network = build(Config(name, classes=5)).eval()
    channels = network.config.channels
    size = max(LEAST_SIZE, network.smallest_input)
    if name.startswith("lenet"):
        size = network.smallest_input
    preprocessing = Preprocessing(size, (0.5,) * channels, (0.25,) * channels)
    return SavedModel(network, preprocessing, tuple("abcde"))


def difference(name: str, format: str, folder: Path) -> tuple[float, int, float]:
    """The largest difference of any probability, bytes of the file, seconds to write it."""
    saved = model_of(name)
    graph, (ending, write) = FromPixels(saved), WRITERS[format]
    file = folder / f"{name}{ending}"
    began = time.perf_counter()
    write(graph, Facts.of(saved, "benchmark"), file)
    seconds = time.perf_counter() - began
    exported = open_torch(file) if format == "torch" else open_exported(file)
    random = np.random.default_rng(0)
    worst = 0.0
    for _ in range(IMAGES):
        height, width = random.integers(20, 300, 2).tolist()
        pixels = random.integers(0, 256, (1, height, width, 3)).astype(np.uint8)
        with torch.no_grad():
            expected = graph(torch.from_numpy(pixels)).numpy()
        worst = max(worst, float(np.abs(exported.run(pixels) - expected).max()))
    return worst, sum(each.stat().st_size for each in folder.glob(f"{name}.*")), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="Every network through every format of export.")
    parser.add_argument("--formats", default=",".join(WRITERS))
    parser.add_argument("--networks", default=",".join(CATALOG))
    given = parser.parse_args()
    wrong = 0
    for name in given.networks.split(","):
        for format in given.formats.split(","):
            try:
                with TemporaryDirectory(prefix="graft-export-") as folder:
                    worst, size, seconds = difference(name, format, Path(folder))
            except GraftError as error:
                wrong += 1
                print(f"{name:28} {format:9} {str(error)[:160]}", flush=True)
                continue
            wrong += not worst <= TOLERANCE
            print(f"{name:28} {format:9} {worst:.1e} {size / 1e6:7.1f} MB {seconds:6.1f} s", flush=True)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
