"""Folders of letters for training in tests."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from graft.images.letters import dejavu_fonts, render_letters


@cache
def rendered(letters: tuple[str, ...], per_letter: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`render_letters` with a cache: many tests ask for the same few."""
    return render_letters(letters, dejavu_fonts(), per_letter, seed)


def write_letters(root: Path, letters: tuple[str, ...], per_letter: int, seed: int = 0) -> Path:
    """A folder per letter with PNG files."""
    images, labels = rendered(tuple(letters), per_letter, seed)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / letters[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(folder / f"{index:04}.png")
    return root


def files(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in root.rglob("*")}
