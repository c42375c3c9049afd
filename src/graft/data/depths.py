"""The range of sample values of a set of images deeper than 8 bits, decided once for all of them."""

from pathlib import PurePosixPath

import numpy as np

from graft.data.dataset import TRAIN, WHOLE, Dataset, Images
from graft.errors import ImageError
from graft.images.decoding import read_spread
from graft.images.levels import Levels, Spread, decide, described
from graft.words import counted

# Images whose names are looked at, and of those that may be deep by their names, how many are opened; evenly from all,
# so that every class and every source of the images has its part.
NAMED, OPENED = 4096, 256
# Of these formats there is nothing deeper than graft's own 8 bits.
_NEVER_DEEP = (".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".webp", ".bmp", ".avif")


def levels_of(dataset: Dataset) -> tuple[Levels, int]:
    """What is black and white in the training images, by kind of sample, and how many images it was decided on.

    Of data without training images, the first split counts. Images that cannot be read are passed over here.
    """
    splits = [dataset.splits[name] for name in (TRAIN, WHOLE) if name in dataset.splits]
    chosen = next((images for images in (*splits, *dataset.splits.values()) if len(images)), None)
    found = [] if chosen is None else [_spread(chosen, index) for index in _likely_deep(chosen)]
    spreads = [each for each in found if each is not None]
    return decide(spreads), len(spreads)


def note_on_levels(levels: Levels, number: int) -> str:
    """What the user is told of the decision."""
    return (
        f"samples deeper than 8 bits are read as {described(levels)}, decided on {counted(number, 'training image')} "
        "and the same for all images from now on"
    )


def note_on_strange_levels(levels: Levels) -> str:
    """What is said of kinds of samples that a saved model has not been trained on; `levels` are those of the images."""
    kinds = ", ".join(kind for kind, _, _ in levels)
    return (
        f"the model was trained on no images with samples of {kinds}: they are read as usual for these, though they "
        f"would be {described(levels)}"
    )


def _likely_deep(images: Images) -> list[int]:
    likely = [
        index
        for index in _evenly(len(images), NAMED)
        if PurePosixPath(images.source.key(int(images.rows[index]))).suffix.lower() not in _NEVER_DEEP
    ]
    return [likely[place] for place in _evenly(len(likely), OPENED)]


def _evenly(count: int, most: int) -> list[int]:
    """Up to `most` of the numbers from 0 to `count` - 1."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64)).tolist()


def _spread(images: Images, index: int) -> Spread | None:
    try:
        data = images.read(index)
        return read_spread(data) if isinstance(data, bytes) else None
    except (ImageError, OSError):
        return None
