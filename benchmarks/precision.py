"""Measures what bfloat16 on OpenVINO costs in accuracy: the same head on the features of both engines.

    python benchmarks/precision.py DATA --base FILE [--image-size N] [--train N] [--val N]

For torch float32 (the reference), OpenVINO float32 and OpenVINO bfloat16 it prints the error of the pooled features
relative to the reference, as a ratio of norms and at the largest single value, the validation accuracy of a head solved
on them, and the seconds that the features took. `--train` and `--val` limit the images, which are drawn by a fixed
seed.
"""

import argparse
import os
import tempfile
import time
from dataclasses import replace

import numpy as np

from graft.data.dataset import TRAIN, VAL, Images
from graft.data.opening import open_dataset
from graft.data.splitting import with_validation
from graft.features.engine import choose
from graft.features.extraction import extract
from graft.transfer.head import fit_head
from graft.weights.base import load_base

CONTESTANTS = (("torch", "float32"), ("openvino", "float32"), ("openvino", "bfloat16"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--base", required=True)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--train", type=int)
    parser.add_argument("--val", type=int)
    arguments = parser.parse_args()
    base = load_base(arguments.base)
    preprocessing = replace(base.preprocessing, size=arguments.image_size or base.preprocessing.size)
    dataset = with_validation(open_dataset(arguments.data))
    splits = {
        TRAIN: first(dataset.splits[TRAIN], arguments.train),
        VAL: first(dataset.splits[VAL], arguments.val),
    }
    trunk, _ = base.network.split(base.network.cuts[-2])
    reference: np.ndarray | None = None
    print(f"{dataset.name}, {base.network.config.architecture} at {preprocessing.size} px, ", end="")
    print(f"{len(splits[TRAIN]):,} + {len(splits[VAL]):,} images")
    print(f"{'engine':18} {'error (norm)':>12} {'(largest)':>10} {'val top-1':>10} {'seconds':>8}")
    for engine, precision in CONTESTANTS:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            os.environ["GRAFT_CACHE"] = folder
            found = extract(trunk, splits, preprocessing, choose(engine, precision), use_cache=False)
        seconds = time.perf_counter() - started
        features = {name: activations.values.float().numpy() for name, activations in found.items()}
        labels = {name: splits[name].labels[found[name].indices] for name in splits}
        head = fit_head(features[TRAIN], labels[TRAIN], len(dataset.classes))
        right = (features[VAL] @ head.weight.T + head.bias).argmax(1) == labels[VAL]
        reference = features[VAL] if reference is None else reference
        difference = features[VAL] - reference
        norm = np.linalg.norm(difference) / np.linalg.norm(reference)
        largest = np.abs(difference).max() / np.abs(reference).max()
        print(
            f"{engine + ' ' + precision:18} {norm:12.2e} {largest:10.2e} {right.mean():10.4f} {seconds:8.1f}",
            flush=True,
        )


def first(images: Images, count: int | None) -> Images:
    if count is None or count >= len(images):
        return images
    return images.take(np.sort(np.random.default_rng(0).permutation(len(images))[:count]))


if __name__ == "__main__":
    main()
