"""Augmented images side by side, to show what a network is trained on."""

from collections.abc import Sequence

import numpy as np

from graft.errors import InputError
from graft.images.augmenting import Augmentation, View
from graft.images.preprocessing import Preprocessing
from graft.images.resizing import to_square

# White margin between and around the images, px.
GAP = 4


def contact_sheet(
    images: Sequence[np.ndarray],
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    views: int = 6,
    seed: int = 0,
) -> np.ndarray:
    """Draw a row for each image, uint8 (H, W, 3) or (H, W): the result of `to_square`, then augmented `views` of it.

    The sheet is uint8 (rows, columns, 3). The views are those of `View` with this seed and the row as the index. Raises
    InputError if there are no images.
    """
    if not images:
        raise InputError("expected images for a contact sheet, got none: pass at least one")
    step = preprocessing.size + GAP
    sheet = np.full((GAP + step * len(images), GAP + step * (1 + views), 3), 255, dtype=np.uint8)
    for row, pixels in enumerate(images):
        shown = [View(augmentation, seed, number).of(pixels, row, preprocessing) for number in range(views)]
        for column, image in enumerate([to_square(pixels, preprocessing), *shown]):
            top, left = GAP + step * row, GAP + step * column
            place = sheet[top : top + preprocessing.size, left : left + preprocessing.size]
            place[:] = image.permute(1, 2, 0).numpy()  # (1 or 3, S, S) -> (S, S, 1 or 3)
    return sheet
