"""Resizing without PyTorch gives PyTorch's bytes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from graft.images.antialiasing import antialiased

RANDOM = np.random.default_rng(0)
# Beside the usual ones: a pixel, lines, sides that stay as they are, weights of more bits than float32 adds up exactly,
# and sums of so many of them that not even their lower parts fit.
SIZES = [
    *((int(height), int(width), int(size), int(size)) for height, width, size in RANDOM.integers(1, 300, (60, 3))),
    *[(1, 1, 8, 8), (1, 300, 32, 32), (224, 500, 224, 224), (500, 224, 224, 224), (6000, 17, 64, 64)],
    *[(375, 500, 224, 224), (2000, 1500, 224, 224), (60_000, 3, 9, 9), (3, 60_000, 64, 100)],
]


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_byte_is_the_same(size: tuple[int, int, int, int], extreme: bool) -> None:
    height, width, rows, columns = size
    pixels = RANDOM.integers(0, 256, (height, width, 1 if height % 4 == 0 else 3)).astype(np.uint8)
    if extreme:
        pixels = (pixels > 127).astype(np.uint8) * 255
    region = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    expected = F.interpolate(region, size=(rows, columns), mode="bilinear", antialias=True)[0].numpy()
    assert np.array_equal(antialiased(pixels, rows, columns), expected)


def test_the_bytes_do_not_depend_on_how_they_lie_in_memory() -> None:
    pixels = RANDOM.integers(0, 256, (90, 120, 3)).astype(np.uint8)
    expected = antialiased(pixels, 50, 40)
    assert np.array_equal(antialiased(np.asfortranarray(pixels), 50, 40), expected)
    mirrored = np.ascontiguousarray(pixels[:, ::-1])[:, ::-1]
    assert np.array_equal(antialiased(mirrored, 50, 40), expected)
    assert expected.flags.c_contiguous and expected.shape == (3, 50, 40)
