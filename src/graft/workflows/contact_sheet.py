"""Preview what training will show the network, before it begins."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from graft.data.dataset import Images
from graft.errors import DataError, ImageError, InputError
from graft.files import write_aside
from graft.images.contact_sheet import contact_sheet
from graft.images.decoding import decode
from graft.images.preprocessing import Preprocessing
from graft.training.recipe import ResolvedRecipe

IMAGES, VIEWS = 8, 6


def check_png(path: Path, data: Sequence[str | Path | None], option: str) -> None:
    """Refuse a path that a PNG cannot or must not be written to. Raises InputError that names the option."""
    check_outside(path, data, option, ".png")


def check_outside(path: Path, data: Sequence[str | Path | None], option: str, ending: str) -> None:
    """Refuse a file without this suffix, and one that replaces or lies inside any of the data.

    Raises InputError that names the option.
    """
    if path.suffix.lower() != ending or path.is_dir():
        raise InputError(f"expected the name of a {ending} file for {option}, got {str(path)!r}: name one")
    for each in (Path(given).expanduser() for given in data if given is not None):
        if path.resolve() == each.resolve() or (each.is_dir() and path.resolve().is_relative_to(each.resolve())):
            raise InputError(f"expected {option} outside the images, got {str(path)!r}, inside {each}: give another")


def write_contact_sheet(
    path: Path, images: Images, preprocessing: Preprocessing, recipe: ResolvedRecipe, seed: int = 0
) -> str:
    """Write a PNG of the first readable images, taken from each class in turn, and return a sentence that describes it.

    Each row shows an image as prediction sees it and, to its right, as the recipe's augmentation may change it. Raises
    DataError if none can be decoded.
    """
    shown: list[np.ndarray] = []
    for index in _in_turn(images.labels):
        try:
            data = images.read(index)
            shown.append(decode(data, levels=preprocessing.levels) if isinstance(data, bytes) else data)
        except (ImageError, OSError):
            continue
        if len(shown) == IMAGES:
            break
    if not shown:
        raise DataError("expected readable images for --contact-sheet, got none: replace the files")
    image = Image.fromarray(contact_sheet(shown, preprocessing, recipe.augmentation(), VIEWS, seed))
    write_aside(path, lambda file: image.save(file, format="png"))
    alike = "; with augment none, each view is the image itself" if recipe.augment == "none" else ""
    return f"{path} shows {len(shown)} images and {VIEWS} views of each{alike}"


def _in_turn(labels: np.ndarray) -> list[int]:
    """Return the indices of all images: the first of every class, then the second of every class, and so on."""
    by_class = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    turns = np.arange(len(labels)) - np.repeat(starts, counts)
    return by_class[np.argsort(turns, kind="stable")].tolist()
