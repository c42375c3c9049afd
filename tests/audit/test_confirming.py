"""Images that look the same at a glance: copies, and others on the same ground."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from held import Held
from PIL import Image, ImageDraw, ImageFilter

from graft.audit import confirming
from graft.audit.confirming import confirmed
from graft.audit.duplicates import Alike
from graft.audit.looking import look
from graft.data.dataset import Images


def cap(sign: int, colour: tuple[int, int, int] = (30, 60, 150)) -> Image.Image:
    """A cap on white, with one of several signs on it."""
    image = Image.new("RGB", (256, 256), (245, 245, 245))
    draw = ImageDraw.Draw(image)
    draw.pieslice((40, 50, 216, 226), 180, 360, fill=colour)
    draw.ellipse((20, 125, 236, 165), fill=(colour[0] // 2, colour[1] // 2, colour[2] // 2))
    for bar in range(4):
        if sign >> bar & 1:
            draw.rectangle((96 + 16 * bar, 84, 106 + 16 * bar, 116), fill=(255, 255, 255))
    return image.filter(ImageFilter.GaussianBlur(0.7))


def saved(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=75)
    return content.getvalue()


def are_copies(first: Image.Image, second: Image.Image, limit: float = 0.06) -> bool:
    images = Images(Held([saved(first), saved(second)]), np.arange(2), np.zeros(2, np.int64))
    return bool(confirmed(images, look(images), Alike(np.array([[0, 1]]), limit))[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((128, 128)),
        lambda image: image.crop((8, 8, 248, 248)),
        lambda image: image.point(lambda level: level * 9 // 10),
    ],
)
def test_a_copy_of_another_size_crop_or_brightness_is_confirmed(
    change: Callable[[Image.Image], Image.Image],
) -> None:
    assert are_copies(cap(5), change(cap(5)))
    assert are_copies(change(cap(5)), cap(5))


def test_the_same_thing_with_another_sign_is_no_copy() -> None:
    assert not are_copies(cap(5), cap(10))


def test_the_same_thing_in_another_colour_is_no_copy() -> None:
    assert not are_copies(cap(5), cap(5, (150, 60, 30)))


def test_where_images_are_alike_by_nature_a_copy_must_be_closer() -> None:
    thicker = cap(5).filter(ImageFilter.MaxFilter(5))
    assert are_copies(cap(5), thicker)
    assert not are_copies(cap(5), thicker, limit=0.005)


def test_answers_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = Images(Held([saved(cap(5)), saved(cap(5).resize((128, 128)))]), np.arange(2), np.zeros(2, np.int64))
    looks, pair = look(images), Alike(np.array([[0, 1]]), 0.06)
    first = confirmed(images, looks, pair, tmp_path)
    monkeypatch.setattr(confirming, "compare", lambda *rest: pytest.fail("compared again"))
    assert confirmed(images, looks, pair, tmp_path).tolist() == first.tolist() == [True]
