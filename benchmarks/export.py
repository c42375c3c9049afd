"""Every network through every format: do the exported graphs answer as the networks do?

    python benchmarks/export.py [--formats onnx,openvino,torch,timm] [--networks resnet18,vgg16]
    python benchmarks/export.py --resizing

Networks have random weights, five classes and a small input. Each graph answers eight images in the file's own runtime,
none of the size that it was recorded with, and has to pass the gate of `graft export`. Prints a line per network and
format: equal labels, the largest difference of any probability, bytes, and seconds to write; then a line per format.
For timm it is the largest difference of any logit, and graft reads the folder back too; a network that timm lacks is
reported but is no failure. Exits with 1 if the gate refuses a file. With `--resizing`, prints instead how the resizing
in the graph compares with graft's own over 50 sizes from 1 x 1 to 6000 x 17 px, and exits with 1 if more than one pixel
in a thousand differs by more than a level.
"""

import argparse
import statistics
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import numpy as np
import torch

from graft.errors import GraftError, InputError
from graft.export.facts import Facts
from graft.export.gate import Agreement, check_agreement, check_logits
from graft.export.graph import FromPixels, to_squares
from graft.export.recording import WRITERS
from graft.export.running import open_exported, open_torch
from graft.export.timm_folder import open_timm, write_timm
from graft.features.engine import choose
from graft.images.preprocessing import Preprocessing, ResizeMode
from graft.images.squares import mean_bytes, square
from graft.models.catalog import CATALOG, build
from graft.models.network import Config
from graft.serving.predictor import Classifier
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
    # Logits of random weights may be huge or tiny; probabilities would then hide any difference.
    spread = float((logits - logits.mean(1, keepdim=True)).std().clamp(1e-30, 1e30))
    return SavedModel(network, preprocessing, tuple("abcde"), temperature=spread)


def random_images() -> list[np.ndarray]:
    """Draw images of different sizes, uint8 (H, W, 3)."""
    random = np.random.default_rng(0)
    sizes = random.integers(20, 300, (IMAGES, 2)).tolist()
    return [random.integers(0, 256, (height, width, 3)).astype(np.uint8) for height, width in sizes]


def through(name: str, format: str, folder: Path) -> tuple[Agreement, int, float]:
    """The gate's verdict on a file of the network `name`, its bytes, and the seconds to write it."""
    saved, images = model_of(name), random_images()
    classifier = Classifier(saved, choose("torch", "float32"))
    expected = np.concatenate([classifier.predict_proba([pixels]) for pixels in images])
    ending, write = WRITERS[format]
    file = folder / f"{name}{ending}"
    began = time.perf_counter()
    write(FromPixels(saved), Facts.of(saved, "benchmark"), file)
    seconds = time.perf_counter() - began
    exported = open_torch(file) if format == "torch" else open_exported(file)
    found = np.concatenate([exported.run(pixels[None]) for pixels in images])
    agreement = check_agreement(expected, found, saved.classes, exported.facts.classes, (0.0, 0.0))
    return agreement, sum(each.stat().st_size for each in folder.glob(f"{name}.*")), seconds


def through_timm(name: str, folder: Path) -> tuple[Agreement, int, float]:
    """Like `through`, for the logits in timm and in the folder read back by graft."""
    saved = replace(model_of(name), temperature=1.0)
    began = time.perf_counter()
    write_timm(folder, saved)
    seconds = time.perf_counter() - began
    preprocessing = saved.preprocessing
    noise = torch.rand(IMAGES, preprocessing.channels, preprocessing.size, preprocessing.size) * 4 - 2
    with torch.no_grad():
        expected = saved.network(noise).numpy()
        found = [each(noise).numpy() for each in (open_timm(folder).network, load_base(str(folder)).network)]
    agreements = [check_logits(expected, each, saved.classes, saved.classes, (0.0, 0.0)) for each in found]
    worst = max(agreements, key=lambda agreement: agreement.largest_difference)
    return worst, sum(each.stat().st_size for each in folder.iterdir()), seconds


def compare_resizing() -> bool:
    """Print a line per resize mode, and return whether all are within bounds."""
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
    agreed: dict[str, list[tuple[Agreement, float]]] = {}
    refused: Counter[str] = Counter()
    for name in given.networks.split(","):
        for format in given.formats.split(","):
            try:
                with TemporaryDirectory(prefix="graft-export-") as folder:
                    measure = through_timm if format == TIMM else partial(through, format=format)
                    agreement, size, seconds = measure(name, folder=Path(folder))
            except GraftError as error:
                refused[format] += not isinstance(error, InputError)
                print(f"{name:28} {format:9} {str(error)[:160]}", flush=True)
                continue
            agreed.setdefault(format, []).append((agreement, seconds))
            print(
                f"{name:28} {format:9} {agreement.same_labels} of {agreement.n} labels  "
                f"{agreement.largest_difference:.1e} {size / 1e6:7.1f} MB {seconds:6.1f} s",
                flush=True,
            )
    for format, found in agreed.items():
        labels = sum(agreement.same_labels for agreement, _ in found), sum(agreement.n for agreement, _ in found)
        print(
            f"{format:9} {len(found)} networks passed, {refused[format]} refused; {labels[0]} of {labels[1]} labels, "
            f"{found[0][0].of} within {max(agreement.largest_difference for agreement, _ in found):.1e}; "
            f"median {statistics.median(seconds for _, seconds in found):.1f} s to write"
        )
    sys.exit(sum(refused.values()) > 0)


if __name__ == "__main__":
    main()
