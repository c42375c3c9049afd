"""`to_square`: three ways from any image to a square, compared with Pillow's arithmetic."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from graft.errors import InputError
from graft.images.augmenting import Augmentation, augment
from graft.images.decoding import decode
from graft.images.preprocessing import Preprocessing
from graft.images.resizing import to_square

COLOUR = Preprocessing(64, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
GREY = Preprocessing(64, (0.5,), (0.5,))


def image(height: int, width: int) -> np.ndarray:
    """Smooth waves with a little noise: what a photograph is to a resize."""
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([127 + 90 * np.sin(x / 11 + y / 23 + phase) for phase in (0, 1, 2)], axis=2)
    noise = np.random.default_rng(0).normal(0, 10, (height, width, 3))
    return (waves + noise).clip(0, 255).astype(np.uint8)


def by_pillow(pixels: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """uint8 (H, W, 3) to uint8 (3, rows, columns)."""
    image = Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BILINEAR)
    return np.asarray(image).transpose(2, 0, 1)  # (rows, columns, 3) -> (3, rows, columns)


def largest_difference(ours: torch.Tensor, theirs: np.ndarray) -> int:
    assert ours.dtype == torch.uint8 and ours.is_contiguous() and tuple(ours.shape) == theirs.shape
    return int(np.abs(ours.numpy().astype(int) - theirs).max())


@pytest.mark.parametrize(("height", "width"), [(200, 300), (301, 203), (64, 64), (40, 50), (1000, 70)])
@pytest.mark.parametrize("fraction", [0.875, 1.0, 0.5])
def test_crop_keeps_the_central_square(height: int, width: int, fraction: float) -> None:
    pixels, side = image(height, width), round(fraction * min(height, width))
    top, left = (height - side) // 2, (width - side) // 2
    region = pixels[top : top + side, left : left + side]
    assert (
        largest_difference(to_square(pixels, replace(COLOUR, crop_fraction=fraction)), by_pillow(region, 64, 64)) <= 2
    )


def test_crop_equals_resizing_the_image_first_but_for_the_rim() -> None:
    pixels = image(256, 320)
    whole = by_pillow(pixels, 128, 160)  # half size, then the centre: the order of most libraries
    ours = to_square(pixels, replace(COLOUR, size=112))
    assert largest_difference(ours[:, 2:-2, 2:-2].contiguous(), whole[:, 10:118, 26:134]) <= 2


@pytest.mark.parametrize(("height", "width"), [(200, 300), (301, 203), (20, 30)])
def test_squash_keeps_the_whole_image(height: int, width: int) -> None:
    pixels = image(height, width)
    assert largest_difference(to_square(pixels, replace(COLOUR, resize_mode="squash")), by_pillow(pixels, 64, 64)) <= 2


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"), [(200, 300, 43, 64), (300, 200, 64, 43), (16, 16, 64, 64)]
)
def test_letterbox_keeps_the_whole_image(height: int, width: int, rows: int, columns: int) -> None:
    pixels = image(height, width)
    square = to_square(pixels, replace(COLOUR, resize_mode="letterbox"))
    top, left = (64 - rows) // 2, (64 - columns) // 2
    inside = square[:, top : top + rows, left : left + columns].contiguous()
    assert largest_difference(inside, by_pillow(pixels, rows, columns)) <= 2
    outside = torch.ones(64, 64, dtype=torch.bool)
    outside[top : top + rows, left : left + columns] = False
    assert (square[:, outside] == torch.tensor([[124], [116], [104]])).all()  # 255 times the mean


@pytest.mark.parametrize("mode", ["crop", "squash", "letterbox"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_the_right_size_keeps_every_byte(mode: str, channels: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (28, 28, channels), dtype=np.uint8)
    preprocessing = replace(COLOUR if channels == 3 else GREY, size=28, resize_mode=mode, crop_fraction=1.0)
    assert largest_difference(to_square(pixels, preprocessing), pixels.transpose(2, 0, 1)) == 0


def test_a_region_of_the_right_size_keeps_every_byte() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (256, 300, 3), dtype=np.uint8)
    expected = pixels[16:240, 38:262].transpose(2, 0, 1)
    assert largest_difference(to_square(pixels, replace(COLOUR, size=224)), expected) == 0


@pytest.mark.parametrize("shape", [(1, 5000, 3), (5000, 1, 3), (1, 1, 3), (2, 3000)])
@pytest.mark.parametrize("mode", ["crop", "squash", "letterbox"])
@pytest.mark.parametrize("preprocessing", [COLOUR, GREY])
def test_extreme_shapes_fit(shape: tuple[int, ...], mode: str, preprocessing: Preprocessing) -> None:
    square = to_square(np.full(shape, 200, np.uint8), replace(preprocessing, resize_mode=mode))
    assert square.dtype == torch.uint8 and tuple(square.shape) == (preprocessing.channels, 64, 64)
    assert (square == 200).any()
    if mode != "letterbox":
        assert (square == 200).all()


def test_grey_output_is_the_luma_of_pillow() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pixels[0, :3] = ((255, 255, 255), (0, 0, 0), (255, 0, 0))
    luma = np.asarray(Image.fromarray(pixels).convert("L"))[None]
    assert largest_difference(to_square(pixels, replace(GREY, crop_fraction=1.0)), luma) == 0


def test_grey_output_of_a_larger_image_is_near_pillows() -> None:
    pixels = image(200, 200)
    luma = Image.fromarray(pixels).convert("L").resize((64, 64), Image.Resampling.BILINEAR)
    assert largest_difference(to_square(pixels, replace(GREY, resize_mode="squash")), np.asarray(luma)[None]) <= 2


@pytest.mark.parametrize("shape", [(90, 120), (90, 120, 1)])
@pytest.mark.parametrize("mode", ["crop", "squash", "letterbox"])
def test_a_grey_image_gives_the_same_levels_in_one_channel_and_in_three(shape: tuple[int, ...], mode: str) -> None:
    pixels = image(90, 120)[:, :, 0].reshape(shape)
    alone = to_square(pixels, replace(GREY, resize_mode=mode))
    assert tuple(alone.shape) == (1, 64, 64)
    repeated = to_square(pixels, Preprocessing(64, (0.5,) * 3, (0.5,) * 3, resize_mode=mode))
    assert torch.equal(repeated, alone.repeat(3, 1, 1)) and repeated.is_contiguous()
    as_colour = to_square(np.repeat(pixels.reshape(90, 120, 1), 3, axis=2), replace(GREY, resize_mode=mode))
    assert largest_difference(alone, as_colour.numpy()) <= 1


@pytest.mark.parametrize("mode", ["crop", "squash", "letterbox"])
@pytest.mark.parametrize("side", [64, 100])
def test_the_result_shares_no_memory_with_the_image(mode: str, side: int) -> None:
    pixels = image(side, side)
    square = to_square(pixels, replace(COLOUR, resize_mode=mode, crop_fraction=1.0))
    before = square.clone()
    pixels[:] = 0
    assert torch.equal(square, before)


def test_a_small_fraction_of_a_small_image_is_one_pixel() -> None:
    assert (to_square(np.full((3, 2, 3), 200, np.uint8), replace(COLOUR, crop_fraction=0.1)) == 200).all()


@pytest.mark.filterwarnings("error")
def test_read_only_and_strided_images_fit() -> None:
    pixels = image(100, 100)
    expected = to_square(pixels, COLOUR)
    mirrored = np.ascontiguousarray(pixels[::-1])[::-1]
    mirrored.flags.writeable = pixels.flags.writeable = False
    assert torch.equal(to_square(mirrored, COLOUR), expected)
    assert torch.equal(
        to_square(pixels, replace(COLOUR, crop_fraction=1.0)), to_square(pixels, replace(COLOUR, resize_mode="squash"))
    )


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros(8, np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
    ids=lambda pixels: f"{pixels.dtype} {pixels.shape}",
)
def test_other_arrays_are_refused_with_what_came(pixels: np.ndarray) -> None:
    with pytest.raises(InputError, match="expected an image as a uint8 array of shape") as caught:
        to_square(pixels, COLOUR)
    assert f"got {pixels.dtype} of shape {pixels.shape}" in str(caught.value)


def test_real_images_fit_like_pillows_in_any_thread(shared: Path) -> None:
    files = sorted((shared / "datasets/ants_bees/val").rglob("*.jpg"))[::20]
    images = [decode(file.read_bytes()) for file in files]
    preprocessing = replace(COLOUR, size=224, resize_mode="squash")
    with ThreadPoolExecutor(2) as pool:
        for pixels, square in zip(
            images, pool.map(lambda pixels: to_square(pixels, preprocessing), images), strict=True
        ):
            assert largest_difference(square, by_pillow(pixels, 224, 224)) <= 2


@pytest.mark.parametrize("jitter", [0.0, 0.4])
def test_a_network_for_other_channels_sees_color_and_the_middle_of_the_range(jitter):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    changes = Augmentation(brightness=jitter)
    three, four, two, one = (
        augment(pixels, Preprocessing(32, (0.5,) * count, (0.5,) * count), changes, 3) for count in (3, 4, 2, 1)
    )
    assert torch.equal(four[:3], three)
    assert (four[3] == 128).all()
    assert torch.equal(two, one.repeat(2, 1, 1))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_an_image_of_one_row_or_column_may_be_turned_around(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    preprocessing = Preprocessing(28, (0.5,) * 3, (0.25,) * 3, resize_mode="squash")
    turned = pixels[::-1, ::-1]
    assert (to_square(turned, preprocessing) == to_square(turned.copy(), preprocessing)).all()
