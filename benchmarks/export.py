"""Every network through every format: do the exported graphs answer as the networks do?

    python benchmarks/export.py [--formats onnx,openvino,torch,timm] [--networks resnet18,vgg16]
    python benchmarks/export.py --resizing

Networks have random weights, five classes and a small input; each graph answers eight images of other sizes than the
one that it was recorded with. Prints a line per network and format: the largest difference of any probability, bytes,
and seconds to write. Of timm it is that of any logit, over the largest where that is above one, and graft reads the
folder back; a network that timm lacks is told and is no fault. Exits with 1 where a difference is above the gate's
bound. With `--resizing`, prints instead how
the resizing in the graph compares with graft's own over 50 sizes from 1 x 1 to 6000 x 17 px, exiting with 1 where more
than one pixel in a thousand differs by more than a level.
"""

import argparse
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import numpy as np
import torch

from graft.errors import GraftError, InputError
from graft.export.facts import Facts
from graft.export.gate import TOLERANCE, TOLERANCE_OF_LOGITS
from graft.export.graph import FromPixels, to_squares
from graft.export.recording import WRITERS
from graft.export.running import open_exported, open_torch
from graft.export.timm_folder import open_timm, write_timm
from graft.images.preprocessing import Preprocessing, ResizeMode
from graft.images.squares import mean_bytes, square
from graft.models.catalog import CATALOG, build
from graft.models.network import Config
from graft.weights.base import load_base
from graft.weights.saved import SavedModel

IMAGES = 8
LEAST_SIZE = 64
TIMM = "timm"


def model_of(name: str) -> SavedModel:
    torch.manual_seed(0)
    network = build(Config(name, classes=5)).eval()
    channels = network.config.channels
    size = max(LEAST_SIZE, network.smallest_input)
    if name.startswith("lenet"):
        size = network.smallest_input
    preprocessing = Preprocessing(size, (0.5,) * channels, (0.25,) * channels)
    noise = torch.rand(IMAGES, channels, size, size) * 4 - 2
    with torch.no_grad():
        logits = network(noise)
    # Random weights may make logits of thousands, or of next to nothing, in whose probabilities no difference shows.
    spread = float((logits - logits.mean(1, keepdim=True)).std().clamp(1e-6, 1e6))
    return SavedModel(network, preprocessing, tuple("abcde"), temperature=spread)


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


def difference_of_timm(name: str, folder: Path) -> tuple[float, int, float]:
    """As `difference`, of logits, in timm and read back."""
    saved = replace(model_of(name), temperature=1.0)
    began = time.perf_counter()
    write_timm(folder, saved)
    seconds = time.perf_counter() - began
    preprocessing = saved.preprocessing
    noise = torch.rand(IMAGES, preprocessing.channels, preprocessing.size, preprocessing.size) * 4 - 2
    with torch.no_grad():
        expected = saved.network(noise)
        found = (open_timm(folder).network(noise), load_base(str(folder)).network(noise))
    worst = max(float((each - expected).abs().max()) for each in found)
    return worst / max(1.0, float(expected.abs().max())), sum(each.stat().st_size for each in folder.iterdir()), seconds


def compare_resizing() -> bool:
    """Prints a line per way of resizing; whether all are as they should be."""
    random = np.random.default_rng(0)
    sizes = [(1, 1), (6000, 17), (17, 6000), (1, 600), (2, 3), *random.integers(1, 2000, (45, 2)).tolist()]
    right = True
    for mode in get_args(ResizeMode):
        preprocessing = Preprocessing(224, (0.5,) * 3, (0.25,) * 3, mode)
        around = torch.from_numpy(mean_bytes(preprocessing)).float()[:, None, None]
        differences = []
        for height, width in sizes:
            pixels = random.integers(0, 256, (height, width, 3)).astype(np.uint8)
            found = to_squares(torch.from_numpy(pixels)[None], preprocessing, around)[0].numpy()
            differences.append(np.abs(found - square(pixels, preprocessing)).ravel())
        found = np.concatenate(differences)
        far = float((found > 1).mean())
        right &= far <= 0.001
        print(
            f"{mode:10} {len(sizes)} sizes: {(found > 0).mean():.2e} of pixels differ, {far:.2e} by more than 1 of 255"
        )
    return right


def main() -> None:
    parser = argparse.ArgumentParser(description="Every network through every format of export.")
    parser.add_argument("--formats", default=",".join((*WRITERS, TIMM)))
    parser.add_argument("--networks", default=",".join(CATALOG))
    parser.add_argument("--resizing", action="store_true")
    given = parser.parse_args()
    if given.resizing:
        sys.exit(not compare_resizing())
    wrong = 0
    for name in given.networks.split(","):
        for format in given.formats.split(","):
            try:
                with TemporaryDirectory(prefix="graft-export-") as folder:
                    measure = difference_of_timm if format == TIMM else partial(difference, format=format)
                    worst, size, seconds = measure(name, folder=Path(folder))
            except InputError as error:
                print(f"{name:28} {format:9} {str(error)[:160]}", flush=True)
                continue
            except GraftError as error:
                wrong += 1
                print(f"{name:28} {format:9} {str(error)[:160]}", flush=True)
                continue
            wrong += not worst <= (TOLERANCE_OF_LOGITS if format == TIMM else TOLERANCE)
            print(f"{name:28} {format:9} {worst:.1e} {size / 1e6:7.1f} MB {seconds:6.1f} s", flush=True)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
