"""What is told from pixels: light, detail, colour, and a thumbnail that copies share."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from graft.audit.measuring import MOST_COLOURS, SIDE, THUMBNAIL, Measures, count_colours, measure, reduce, thumbnails
from graft.data.readers.idx import read_idx
from graft.images.decoding import decode


def measured(*images: np.ndarray) -> Measures:
    small = np.stack([reduce(pixels) for pixels in images])
    return measure(small, np.array([count_colours(pixels) for pixels in images]))


def flat(*colour: int, side: int = 40) -> np.ndarray:
    return np.full((side, side, 3), colour, dtype=np.uint8)


def test_light_and_dark_are_told_by_the_levels_that_a_few_pixels_are_beyond() -> None:
    ramp = np.repeat(np.arange(100, dtype=np.uint8)[None, :, None], 100, axis=0).repeat(3, axis=2)
    found = measured(ramp, 100 + ramp)
    assert found.bright == pytest.approx(np.array([4, 104]) / 255, abs=1e-6)
    assert found.dark == pytest.approx(np.array([98, 198]) / 255, abs=1e-6)


def test_flat_images_have_no_detail_and_one_colour() -> None:
    found = measured(flat(255, 255, 255), flat(0, 0, 0), flat(255, 0, 0))
    assert found.bright == pytest.approx([1, 0, 76 / 255]) and found.dark == pytest.approx([1, 0, 76 / 255])
    assert not found.entropy.any() and not found.sharpness.any()
    assert found.colours.tolist() == [1, 1, 1] and found.saturation.tolist() == [0, 0, 1]
    assert found.colour.tolist() == [[1, 1, 1], [0, 0, 0], [1, 0, 0]]


def test_entropy_counts_levels_in_bits() -> None:
    levels = np.resize(np.arange(16, dtype=np.uint8) * 16, (64, 64, 1)).repeat(3, axis=2)
    assert measured(levels).entropy == pytest.approx([4.0])


def test_colours_are_counted_before_they_are_blended_and_up_to_a_limit() -> None:
    stripes = np.zeros((500, 700, 3), dtype=np.uint8)
    stripes[:, 350:], stripes[250:] = (10, 200, 30), (250, 250, 250)
    assert count_colours(stripes) == 3 < len(np.unique(reduce(stripes).reshape(-1, 3), axis=0))
    assert count_colours(np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)) == MOST_COLOURS
    assert count_colours(flat(1, 2, 3, side=1)) == 1


def test_blur_lowers_sharpness_and_contrast_does_not(shared: Path) -> None:
    files = sorted((shared / "datasets/ants_bees/val/ants").iterdir())[:8]
    images = [Image.fromarray(decode(file.read_bytes())) for file in files]
    sharp = measured(*map(np.asarray, images)).sharpness
    blurred = measured(*(np.asarray(image.filter(ImageFilter.GaussianBlur(4))) for image in images)).sharpness
    pale = measured(*(np.asarray(image) // 2 + 60 for image in images)).sharpness
    assert (blurred < 0.5 * sharp).all()
    assert pale == pytest.approx(sharp, rel=0.05)


def test_large_images_are_reduced_and_small_ones_left_alone() -> None:
    small = np.random.default_rng(0).integers(0, 256, (30, SIDE, 3), dtype=np.uint8)
    assert reduce(small) is small
    assert reduce(np.zeros((SIDE + 1, 40, 3), dtype=np.uint8)).shape == (SIDE, 40, 3)


@pytest.mark.parametrize("size", [(1, 1), (2, 200), (14, 14), (23, 25), (SIDE, SIDE)])
def test_thumbnails_keep_the_level_and_the_place_of_things_at_any_size(size: tuple[int, int]) -> None:
    assert (thumbnails(np.full((1, *size), 77, dtype=np.float32)) == 77).all()
    ramp = np.broadcast_to(np.linspace(0, 255, size[1], dtype=np.float32), (1, *size))
    small = thumbnails(ramp)
    assert small.shape == (1, THUMBNAIL, THUMBNAIL) and (np.diff(small[0].astype(int), axis=1) >= 0).all()
    assert (small[0] == small[0, :1]).all()


def test_a_thumbnail_hardly_changes_with_resolution(shared: Path) -> None:
    files = sorted((shared / "datasets/pacs_sketch/val").rglob("*.png"))[:6]
    images = [Image.fromarray(decode(file.read_bytes())) for file in files]
    whole = measured(*map(np.asarray, images)).thumbnail.astype(int)
    half = measured(*(np.asarray(image.resize((113, 113))) for image in images)).thumbnail
    assert np.abs(whole - half).max() <= 8 and whole.std() > 10


def same_as_alone(images: list[np.ndarray], seed: int) -> bool:
    """Whether images of one size come out equal to the bit, alone and in a shuffled batch."""
    order = np.random.default_rng(seed).permutation(len(images))
    together = measured(*(images[place] for place in order))
    alone = [measured(images[place]) for place in order]
    return all(
        np.array_equal(values, np.concatenate([getattr(each, name) for each in alone]))
        for name, values in vars(together).items()
    )


@pytest.mark.parametrize("count", [2, 3, 7, 32, 61])
def test_photographs_are_measured_alike_alone_and_in_any_company(shared: Path, count: int) -> None:
    files = sorted((shared / "datasets/ants_bees").rglob("*.jpg"))[:: 390 // count][:count]
    assert same_as_alone([decode(file.read_bytes()) for file in files], seed=count)


def test_small_images_are_measured_alike_alone_and_in_any_company(shared: Path) -> None:
    digits = read_idx(shared / "datasets/mnist").splits["train"]
    assert same_as_alone([np.stack([digits.read(row)] * 3, axis=2) for row in range(40)], seed=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 128), (2, 3), (3, 128), (128, 3), (5, 5), (31, 127), (100, 75)])
def test_images_of_any_size_are_measured_alike_alone_and_in_any_company(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, *size, 3), dtype=np.uint8)
    assert same_as_alone(list(pixels), seed=0)
