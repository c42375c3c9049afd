"""Writes 500 px JPEGs that take as long to decode as photographs, in a few classes that can be learnt.

    python benchmarks/drawn_jpegs.py FOLDER [--images 10000] [--classes 4] [--processes 16]

FOLDER gets train/ and val/, with a tenth of the images in val/, each with a folder per class. An image's number and the
number of classes determine its pixels. Noise at several scales imitates the grain of a photograph, for files of about
90 kB. A class is a hue and a direction of faint stripes, whose strength varies from image to image.
"""

import argparse
import os
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 500, 375
# Each scale of noise: cells along the width, and its standard deviation in grey levels.
NOISE = ((4, 40.0), (12, 25.0), (40, 15.0), (130, 10.0), (500, 5.0))
VAL_EVERY = 10


def pixels(number: int, classes: int) -> np.ndarray:
    """Draw image `number`, uint8 (375, 500, 3)."""
    random, label = np.random.default_rng(number), number % classes
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    image = np.full((HEIGHT, WIDTH, 3), 128, np.float32)
    for cells, levels in NOISE:
        for channel in range(3):
            grid = random.standard_normal((cells * HEIGHT // WIDTH, cells), np.float32)
            image[..., channel] += levels * np.asarray(Image.fromarray(grid).resize((WIDTH, HEIGHT), Image.BICUBIC))
    turn = np.pi * (label + random.normal(0, 0.1)) / classes
    stripes = np.sin((x * np.cos(turn) + y * np.sin(turn)) / random.uniform(4, 8) + random.uniform(0, 6))
    image += random.uniform(5, 25) * stripes[..., None]
    image += random.uniform(0, 30) * np.cos(2 * np.pi * (label / classes + np.arange(3) / 3), dtype=np.float32)
    return image.clip(0, 255).astype(np.uint8)


def write(number: int, folder: Path, classes: int) -> None:
    split = "val" if number // classes % VAL_EVERY == 0 else "train"
    place = folder / split / f"class{number % classes}" / f"{number:06}.jpg"
    Image.fromarray(pixels(number, classes)).save(place, quality=88)


def main() -> None:
    parser = argparse.ArgumentParser(description="JPEGs of 500 px in classes that can be learnt.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args()
    for split in ("train", "val"):
        for label in range(given.classes):
            (given.folder / split / f"class{label}").mkdir(parents=True, exist_ok=True)
    with Pool(given.processes) as pool:
        pool.map(partial(write, folder=given.folder, classes=given.classes), range(given.images), chunksize=16)


if __name__ == "__main__":
    main()
