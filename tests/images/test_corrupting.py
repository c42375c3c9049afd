"""Corruptions: reproducible to the bit, stronger with the severity, and for any image."""

import numpy as np
import pytest
from xxhash import xxh3_64

from graft.images.corrupting import CORRUPTIONS, SEVERITIES, corrupt


def image(height: int = 48, width: int = 40, channels: int = 3) -> np.ndarray:
    """A gradient with a bright disc on it, and fine stripes."""
    down, across = np.mgrid[:height, :width]
    disc = 120.0 * ((down - height / 2) ** 2 + (across - width / 3) ** 2 < (height / 4) ** 2)
    layers = [60 + disc + 40 * down / height + 20 * (across % 4 < 2) + 15 * channel for channel in range(channels)]
    return np.clip(np.stack(layers, 2), 0, 255).astype(np.uint8)


DIGESTS = {
    "blur": "7805349cc08eebc7",
    "brightness": "e271fdaaf56d2d18",
    "colour_cast": "7108371027a28580",
    "contrast": "c67dd098f9a12f3a",
    "fog": "3b6fb701b4c27ff8",
    "noise": "a48d7f9b1b733342",
    "occlusion": "4b5dff9485e3cedd",
    "pixelation": "2c555b334bd055d0",
    "rotation": "0de4e0d548c44d53",
    "shift": "616f45e8b201c891",
    "snow": "4463c0a3f4202428",
}


@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS) - {"jpeg"}))
def test_the_pixels_are_the_same_to_the_bit(name: str) -> None:
    every = np.stack([corrupt(image(), name, severity, seed=7) for severity in SEVERITIES])
    assert every.dtype == np.uint8 and every.shape == (5, 48, 40, 3)
    assert xxh3_64(every.tobytes()).hexdigest() == DIGESTS[name]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_is_changed_and_left_as_it_was(name: str) -> None:
    given = image(112, 100)
    before = given.copy()
    changed = [corrupt(given, name, severity).astype(int) for severity in SEVERITIES]
    assert (given == before).all()
    moved = [np.abs(each - before).mean() for each in changed]
    assert all(each > 0.2 for each in moved)
    # A larger turn or another fog need not change more pixels.
    if name not in ("fog", "rotation", "shift"):
        assert moved[4] > moved[2] > moved[0]


@pytest.mark.parametrize("name", ["noise", "fog", "snow", "occlusion"])
def test_what_is_random_is_decided_by_the_seed(name: str) -> None:
    assert (corrupt(image(), name, 3, 1) == corrupt(image(), name, 3, 1)).all()
    assert (corrupt(image(), name, 3, 1) != corrupt(image(), name, 3, 2)).any()


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 70, 1), (28, 28, 1), (28, 28, 2), (20, 24, 5)])
def test_images_of_any_shape_keep_it(shape: tuple[int, int, int]) -> None:
    for name in CORRUPTIONS:
        for severity in (1, 5):
            assert corrupt(image(*shape), name, severity).shape == shape
