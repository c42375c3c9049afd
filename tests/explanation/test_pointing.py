"""Maps of a classifier that was trained on a planted square point at it: the pointing game."""

from pathlib import Path

import numpy as np
from PIL import Image

from graft.data.dataset import Dataset
from graft.explanation.class_maps import exact_maps, resized
from graft.explanation.explaining import decoded
from graft.weights.saved import load_model
from graft.workflows.train import train

SIDE, SQUARE = 128, 44


def images_with_a_square(shared: Path, count: int) -> tuple[list[np.ndarray], list[str], list[tuple[int, int]]]:
    """Images of ants and bees with random labels; for the marked ones, the place of their square."""
    random, images, labels, places = np.random.default_rng(0), [], [], []
    paths = sorted((shared / "datasets/ants_bees").rglob("*.jpg"))
    for index, path in enumerate(random.permutation(paths)[:count]):
        with Image.open(path) as image:
            image.draft("RGB", (SIDE, SIDE))
            pixels = np.array(image.convert("RGB").resize((SIDE, SIDE)))
        top, left = random.integers(0, SIDE - SQUARE, 2).tolist()
        if index % 2:
            pixels[top : top + SQUARE, left : left + SQUARE] = (230, 0, 230)
        images.append(pixels)
        labels.append("marked" if index % 2 else "plain")
        places.append((top, left))
    return images, labels, places


def test_the_maximum_of_a_map_lies_in_the_square_that_makes_the_class(shared: Path, tmp_path: Path) -> None:
    images, labels, places = images_with_a_square(shared, 120)
    base = shared / "weights/mobilenet_v1_025_imagenet.safetensors"
    data = Dataset.from_arrays(images[:80], labels[:80])
    run = train(data, base, "head", engine="torch", resize="squash", audit=False, out=tmp_path / "run", quiet=True)
    model = load_model(run.folder / "model")
    (rest,) = Dataset.from_arrays(images[81::2], labels[81::2]).splits.values()
    pixels, rows, _ = decoded(model, rest)
    maps = exact_maps(model, pixels, [model.classes.index("marked")] * len(pixels))
    # The map has four positions a side, so its maximum may be off by half a position.
    off, inside = SIDE / 8, []
    for found, (top, left) in zip(maps, [places[81::2][row] for row in rows], strict=True):
        row, column = np.unravel_index(resized(found.values, SIDE).argmax(), (SIDE, SIDE))
        inside.append(-off <= row - top < SQUARE + off and -off <= column - left < SQUARE + off)
    assert np.mean(inside) >= 0.95
