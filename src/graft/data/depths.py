"""The range of sample values in images deeper than 8 bits, decided once for a whole data set."""

from pathlib import PurePosixPath

import numpy as np

from graft.data.dataset import TRAIN, WHOLE, Dataset, Images
from graft.errors import ImageError
from graft.images.decoding import read_spread
from graft.images.levels import Levels, Spread, decide, described
from graft.words import counted

# How many names are looked at, and how many of the images that may be deep by their names are opened. Both are spaced
# evenly, so that every class and every origin of the images is represented.
NAMED, OPENED = 4096, 256
# Formats in which nothing is deeper than graft's own 8 bits.
_NEVER_DEEP = (".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".webp", ".bmp", ".avif")


def levels_of(dataset: Dataset) -> tuple[Levels, int]:
    """Return the black and white levels of the training images, by kind of sample, and how many images decided them.

    Without training images, the first non-empty split counts. Unreadable images are skipped here.
    """
    splits = [dataset.splits[name] for name in (TRAIN, WHOLE) if name in dataset.splits]
    chosen = next((images for images in (*splits, *dataset.splits.values()) if len(images)), None)
    found = [] if chosen is None else [_spread(chosen, index) for index in _likely_deep(chosen)]
    spreads = [each for each in found if each is not None]
    return decide(spreads), len(spreads)


def note_on_levels(levels: Levels, number: int) -> str:
    """Return the note that tells the user of the decision."""
    return (
        f"samples deeper than 8 bits are read as {described(levels)}, decided on {counted(number, 'training image')} "
        "and the same for all images from now on"
    )


def note_on_strange_levels(levels: Levels) -> str:
    """Return the note on kinds of samples that a saved model was not trained on; `levels` are those of the images."""
    kinds = ", ".join(kind for kind, _, _ in levels)
    return (
        f"the model was not trained on images with samples of {kinds}, so these are read with the usual levels; "
        f"trained on these images, it would read {described(levels)}"
    )


def _likely_deep(images: Images) -> list[int]:
    likely = [
        index
        for index in _evenly(len(images), NAMED)
        if PurePosixPath(images.source.key(int(images.rows[index]))).suffix.lower() not in _NEVER_DEEP
    ]
    return [likely[place] for place in _evenly(len(likely), OPENED)]


def _evenly(count: int, most: int) -> list[int]:
    """Return up to `most` evenly spaced numbers from 0 to `count` - 1."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64)).tolist()


def _spread(images: Images, index: int) -> Spread | None:
    try:
        data = images.read(index)
        return read_spread(data) if isinstance(data, bytes) else None
    except (ImageError, OSError):
        return None
