"""Augmented pictures side by side, to see what a network will be shown."""

from collections.abc import Sequence

import numpy as np

from graft.errors import InputError
from graft.images.augmenting import Augmentation, View
from graft.images.preprocessing import Preprocessing
from graft.images.resizing import fit

# White, between the pictures and around them, px.
GAP = 4


def contact_sheet(
    pictures: Sequence[np.ndarray],
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    views: int = 6,
    seed: int = 0,
) -> np.ndarray:
    """A row for each picture, uint8 (H, W, 3) or (H, W): first as `fit` gives it, then so many augmented views of it.

    uint8 (rows, columns, 3). The views are those of `View` with this seed, a picture's index being its row. Raises
    InputError when there are no pictures.
    """
    if not pictures:
        raise InputError("expected pictures for a contact sheet, got none: pass at least one")
    step = preprocessing.size + GAP
    sheet = np.full((GAP + step * len(pictures), GAP + step * (1 + views), 3), 255, dtype=np.uint8)
    for row, pixels in enumerate(pictures):
        shown = [View(augmentation, seed, number).of(pixels, row, preprocessing) for number in range(views)]
        for column, picture in enumerate([fit(pixels, preprocessing), *shown]):
            top, left = GAP + step * row, GAP + step * column
            place = sheet[top : top + preprocessing.size, left : left + preprocessing.size]
            place[:] = picture.permute(1, 2, 0).numpy()  # (1 or 3, S, S) -> (S, S, 1 or 3)
    return sheet
