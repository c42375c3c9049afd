"""The contact sheet: a row for each image, what `to_square` makes of it first, then its views."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from graft.errors import InputError
from graft.images.augmenting import STRENGTHS, View
from graft.images.contact_sheet import GAP, contact_sheet
from graft.images.letters import LATIN, dejavu_fonts, render_letters
from graft.images.preprocessing import Preprocessing
from graft.images.resizing import to_square

SIDE = 28


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_are_images_and_columns_their_views(channels: int) -> None:
    preprocessing = Preprocessing(SIDE, (0.9,) * channels, (0.2,) * channels)
    letters, _ = render_letters(LATIN[:3], dejavu_fonts(), 1, seed=0)
    light = replace(STRENGTHS["light"], flip=0.0)
    sheet = contact_sheet(list(letters), preprocessing, light, views=4, seed=7)
    assert sheet.dtype == np.uint8 and sheet.shape == (GAP + 3 * (SIDE + GAP), GAP + 5 * (SIDE + GAP), 3)
    covered = np.zeros(sheet.shape[:2], dtype=bool)
    for row in range(3):
        for column in range(5):
            top, left = GAP + row * (SIDE + GAP), GAP + column * (SIDE + GAP)
            covered[top : top + SIDE, left : left + SIDE] = True
            if column == 0:
                expected = to_square(letters[row], preprocessing)
            else:
                expected = View(light, 7, column - 1).of(letters[row], row, preprocessing)
            shown = torch.from_numpy(sheet[top : top + SIDE, left : left + SIDE].copy()).permute(2, 0, 1)
            assert torch.equal(shown, expected.expand(3, -1, -1))
    assert (sheet[~covered] == 255).all()


def test_images_of_different_sizes_share_a_sheet() -> None:
    preprocessing = Preprocessing(16, (0.5,) * 3, (0.5,) * 3)
    images = [np.zeros((40, 30, 3), np.uint8), np.zeros((9, 90), np.uint8)]
    assert contact_sheet(images, preprocessing, STRENGTHS["medium"], views=0).shape == (44, 24, 3)


def test_no_images_are_refused() -> None:
    with pytest.raises(InputError, match="expected images for a contact sheet, got none"):
        contact_sheet([], Preprocessing(16, (0.5,), (0.5,)), STRENGTHS["light"])
