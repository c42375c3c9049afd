"""Images that graft draws so that experiments run anywhere: typed letters, and mosaics of them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from graft.lab.digits import BACKGROUND, INK
from graft.seeding import seeded

LETTERS = "letters that graft draws, distorted, from the twelve DejaVu fonts"
MOSAICS = "the same letters as mosaics of shuffled tiles"
SIDE = 28
# Side of a mosaic tile, px: smaller than a letter, wider than a stroke.
TILE = 4


@lru_cache(maxsize=64)
def letters(alphabet: tuple[str, ...], per_letter: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return images (N, 1, 28, 28), light ink of 1.175 on -0.1, and classes int64 (N,), class by class."""
    from graft.images.letters import dejavu_fonts, render_letters

    images, labels = render_letters(alphabet, dejavu_fonts(), per_letter, seed)
    grey = 255 - torch.from_numpy(np.ascontiguousarray(images[:, 2:-2, 2:-2, 0])).unsqueeze(1)
    return grey.float() / 255 * (INK - BACKGROUND) + BACKGROUND, torch.from_numpy(labels)


def mosaic(images: Tensor) -> Tensor:
    """Rearrange the tiles of images (N, 1, 28, 28), all in the same way: strokes survive, letters do not."""
    along = SIDE // TILE
    with seeded(0):
        order = torch.randperm(along * along)
    # (N, 1, 28, 28) -> (N, rows, columns, TILE, TILE), one tile per row and column
    tiles = images.reshape(-1, along, TILE, along, TILE).transpose(2, 3)
    moved = tiles.reshape(-1, along * along, TILE, TILE)[:, order].reshape(tiles.shape)
    return moved.transpose(2, 3).reshape(images.shape)
