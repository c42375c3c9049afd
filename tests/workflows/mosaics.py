"""Images with several labels for tests: grids of two by two letters that graft draws itself, and the table of them."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from graft.images.letters import dejavu_fonts, render_letters

LETTERS = ("Б", "Д", "Ж", "Ф")


def write_mosaics(folder: Path, count: int, seed: int = 0) -> Path:
    """A table of `count` images, 64 px, each with some of four letters and a bar between their names, or with none.

    Every letter has a corner of its own, so that few images are enough to learn them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn, of_drawn = render_letters(LETTERS, dejavu_fonts(), count, seed)
    shown = np.random.default_rng(seed).random((count, len(LETTERS))) < (0.6, 0.5, 0.4, 0.3)
    rows = []
    for number in range(count):
        tiles = [drawn[of_drawn == place][number] * shown[number, place] for place in range(len(LETTERS))]
        whole = np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])[:, :, 0]
        # No image is a copy of another, even where it shows nothing.
        whole[0, :8] = [255 * (number >> bit & 1) for bit in range(8)]
        Image.fromarray(whole).save(folder / f"{number:04}.png")
        rows.append((f"{number:04}.png", "|".join(np.array(LETTERS)[shown[number]])))
    table = folder / "mosaics.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    return table
