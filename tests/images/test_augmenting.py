"""`augment`: each change against its expected effect, the same pixels from the same seed, strengths in order."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from graft.errors import InputError
from graft.images.augmenting import STRENGTHS, Augmentation, View, _jitter, augment, import_functional
from graft.images.decoding import decode
from graft.images.letters import LATIN, dejavu_fonts, render_letters
from graft.images.preprocessing import Preprocessing
from graft.images.resizing import mean_colour, to_square
from graft.images.warping import warp

COLOUR = Preprocessing(64, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
GREY = Preprocessing(28, (0.9,), (0.2,))
NONE, LIGHT, MEDIUM, HEAVY = STRENGTHS.values()
# Every change at once, each with probability one.
ALL = replace(HEAVY, flip=1.0, blur=1.0, erasing=1.0)


@pytest.fixture(scope="module")
def photographs(shared: Path) -> list[np.ndarray]:
    files = sorted((shared / "datasets/ants_bees/val").rglob("*.jpg"))[::20]
    return [decode(file.read_bytes()) for file in files]


@pytest.fixture(scope="module")
def letters() -> np.ndarray:
    return render_letters(LATIN[:8], dejavu_fonts(), 1, seed=0)[0]


def waves(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Smooth, so that two ways of resampling agree, and unlike its mirror image; far from black and white."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([127 + 60 * np.sin(x / 9 + y / 17 + phase) for phase in range(channels)], axis=2)
    return image.astype(np.uint8)


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Mean absolute difference in grey levels."""
    return float((one.float() - other.float()).abs().mean())


@pytest.mark.parametrize("mode", ["crop", "squash", "letterbox"])
def test_none_is_the_fit_itself(mode: str, photographs: list[np.ndarray], letters: np.ndarray) -> None:
    for number, pixels in enumerate([*photographs, *letters]):
        for preprocessing in (replace(COLOUR, resize_mode=mode), replace(GREY, resize_mode=mode)):
            assert torch.equal(augment(pixels, preprocessing, NONE, number), to_square(pixels, preprocessing))


@pytest.mark.parametrize("mode", ["crop", "squash", "letterbox"])
def test_a_sure_flip_is_the_mirrored_fit(mode: str, photographs: list[np.ndarray]) -> None:
    preprocessing = replace(COLOUR, resize_mode=mode)
    for number, pixels in enumerate(photographs):
        flipped = augment(pixels, preprocessing, Augmentation(flip=1.0), number)
        assert torch.equal(flipped, to_square(pixels, preprocessing).flip(2)) and flipped.is_contiguous()


def test_a_flip_comes_as_often_as_it_should() -> None:
    pixels = waves(20, 20)
    preprocessing = replace(COLOUR, size=8)
    plain = to_square(pixels, preprocessing)
    flips = [not torch.equal(augment(pixels, preprocessing, Augmentation(flip=0.3), n), plain) for n in range(400)]
    assert 0.22 < np.mean(flips) < 0.38


def test_without_the_flip_all_else_is_as_it_was(photographs: list[np.ndarray]) -> None:
    never, always = replace(LIGHT, flip=0.0), replace(LIGHT, flip=1.0)
    for number, pixels in enumerate(photographs):
        assert torch.equal(augment(pixels, COLOUR, never, number).flip(2), augment(pixels, COLOUR, always, number))


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("preprocessing", [COLOUR, GREY])
@pytest.mark.parametrize("mode", ["crop", "squash", "letterbox"])
@pytest.mark.parametrize("shape", [(50, 80, 3), (70, 40, 1), (40, 90), (1, 5000, 3), (1, 1)])
def test_every_strength_takes_every_image(
    strength: str, preprocessing: Preprocessing, mode: str, shape: tuple[int, ...]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    before = pixels.copy()
    for number in range(3):
        image = augment(pixels, replace(preprocessing, resize_mode=mode), STRENGTHS[strength], number)
        assert image.dtype == torch.uint8 and image.is_contiguous()
        assert tuple(image.shape) == (preprocessing.channels, preprocessing.size, preprocessing.size)
        image.fill_(0)
    assert (pixels == before).all()


def test_strengths_grow(photographs: list[np.ndarray]) -> None:
    assert list(STRENGTHS) == ["none", "light", "medium", "heavy"]
    for mode in ("crop", "letterbox"):
        preprocessing, means = replace(COLOUR, resize_mode=mode), []
        for augmentation in STRENGTHS.values():
            # The flip is the same in all three, and the largest change of all where it comes.
            view = View(replace(augmentation, flip=0.0), seed=0, number=0)
            changes = [
                difference(
                    replace(view, number=number).of(pixels, row, preprocessing), to_square(pixels, preprocessing)
                )
                for row, pixels in enumerate(photographs)
                for number in range(16)
            ]
            means.append(np.mean(changes))
        assert means[0] == 0 and all(1.05 * low < high for low, high in pairwise(means)), means


# Random crops


def test_a_crop_is_a_part_of_the_image_as_it_came() -> None:
    # Each pixel tells its place: red its column, green its row.
    pixels = np.zeros((160, 240, 3), np.uint8)
    pixels[:, :, 0], pixels[:, :, 1] = np.arange(240), np.arange(160)[:, None]
    augmentation = Augmentation(crop=0.25, aspect=2.0)
    shares, ratios, lefts = [], [], []
    for number in range(300):
        red, green, _ = augment(pixels, replace(COLOUR, size=32), augmentation, number).float()
        # 32 pixels have 31 steps between them.
        width, height = float(red[0, -1] - red[0, 0]) * 32 / 31, float(green[-1, 0] - green[0, 0]) * 32 / 31
        ratio = width / height
        largest = min(240, 160 * ratio) ** 2 / ratio
        shares.append(width * height / largest)
        ratios.append(ratio)
        lefts.append(float(red[0, 0]))
    assert 0.24 < min(shares) < 0.3 and 0.95 < max(shares) < 1.03 and 0.58 < np.mean(shares) < 0.67
    assert 0.48 < min(ratios) < 0.6 and 1.7 < max(ratios) < 2.08 and abs(np.log(ratios).mean()) < 0.08
    assert min(lefts) < 6 and max(lefts) > 130


def test_a_small_crop_keeps_its_detail() -> None:
    # Stripes of four pixels, which the image as a whole loses and a part of 64 pixels does not.
    pixels = np.zeros((256, 256, 3), np.uint8)
    pixels[:, np.arange(256) % 8 < 4] = 255
    assert to_square(pixels, replace(COLOUR, size=16)).float().std() < 10
    crops = [augment(pixels, replace(COLOUR, size=16), Augmentation(crop=0.01), number) for number in range(60)]
    assert max(float(crop.float().std()) for crop in crops) > 80


@pytest.mark.parametrize("mode", ["squash", "letterbox"])
def test_where_the_fit_keeps_the_whole_image_none_is_cropped(mode: str, photographs: list[np.ndarray]) -> None:
    preprocessing = replace(COLOUR, resize_mode=mode)
    cropped = augment(photographs[0], preprocessing, Augmentation(crop=0.1), 0)
    assert torch.equal(cropped, to_square(photographs[0], preprocessing))


def test_a_crop_takes_the_place_of_scale_and_translation() -> None:
    pixels, crop = waves(100, 120), Augmentation(crop=0.5, aspect=1.2)
    moved = replace(crop, scale=0.5, translation=0.3)
    assert torch.equal(augment(pixels, COLOUR, crop, 7), augment(pixels, COLOUR, moved, 7))
    assert not torch.equal(augment(pixels, COLOUR, replace(moved, crop=None), 7), to_square(pixels, COLOUR))


# Rotation, scale, translation


def inner(image: torch.Tensor, rim: int = 16) -> torch.Tensor:
    return image[:, rim:-rim, rim:-rim]


@pytest.mark.parametrize("angle", [-30.0, 8.0, 90.0])
def test_an_image_is_turned_counter_clockwise_by_its_angle(angle: float) -> None:
    shown = to_square(waves(64, 64), replace(COLOUR, crop_fraction=1.0))
    image = Image.fromarray(shown.permute(1, 2, 0).numpy()).rotate(angle, Image.Resampling.BILINEAR)
    expected = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    assert difference(inner(warp(shown, angle=angle)), inner(expected)) < 1
    assert difference(inner(warp(shown, angle=-angle)), inner(expected)) > 10


def test_the_angle_is_drawn_up_to_the_most_either_way() -> None:
    pixels, preprocessing = waves(64, 64), replace(COLOUR, crop_fraction=1.0)
    plain, angles = to_square(pixels, preprocessing), np.arange(-25.0, 26.0)
    turned = torch.stack([inner(warp(plain, angle=angle)) for angle in angles]).float()
    found = []
    for number in range(40):
        image = inner(augment(pixels, preprocessing, Augmentation(rotation=20.0), number)).float()
        found.append(angles[(turned - image).abs().mean((1, 2, 3)).argmin()])
    assert -20 <= min(found) < -14 and 14 < max(found) <= 20


@pytest.mark.parametrize(("right", "down"), [(0.25, 0.0), (0.0, -0.125)])
def test_an_image_is_shifted_right_and_down_by_a_share_of_its_side(right: float, down: float) -> None:
    image = to_square(waves(64, 64), replace(COLOUR, crop_fraction=1.0))
    expected = torch.roll(image, (round(64 * down), round(64 * right)), (1, 2))
    shifted = warp(image, shift=(right, down))
    assert torch.equal(inner(shifted), inner(expected))


def test_what_comes_in_from_outside_is_reflected() -> None:
    image = to_square(waves(64, 64), replace(COLOUR, crop_fraction=1.0))
    assert torch.equal(warp(image, shift=(0.25, 0.0))[:, :, :16], image[:, :, :16].flip(2))
    white = torch.full((1, 28, 28), 255, dtype=torch.uint8)
    assert torch.equal(warp(white, angle=33.0, scale=0.5, shift=(0.3, 0.3)), white)


def test_an_image_is_enlarged_about_its_middle() -> None:
    image = to_square(waves(64, 64), replace(COLOUR, crop_fraction=1.0))
    central = to_square(image.permute(1, 2, 0).numpy(), replace(COLOUR, crop_fraction=0.5))
    assert difference(inner(warp(image, scale=2.0), 4), inner(central, 4)) < 1


def test_a_shear_moves_rows_by_their_height() -> None:
    image = to_square(waves(64, 64), replace(COLOUR, crop_fraction=1.0))
    sheared = warp(image, shear=(0.5, 0.0))
    # Row 48 is 16.5 below the middle, so 8.25 further right.
    expected = 0.75 * image[:, 48, 16:40].float() + 0.25 * image[:, 48, 15:39].float()
    assert difference(sheared[:, 48, 24:48], expected) < 0.6


def test_whole_images_are_scaled_and_moved_within_bounds(letters: np.ndarray) -> None:
    preprocessing = Preprocessing(32, (0.9,), (0.2,), resize_mode="squash")
    plain = to_square(letters[0], preprocessing)

    def ink(image: torch.Tensor) -> tuple[float, float, float]:
        """Amount, and the middle in px."""
        dark = np.maximum(200 - image[0].numpy().astype(float), 0)
        y, x = np.mgrid[0:32, 0:32]
        return float(dark.sum()), float((dark * x).sum() / dark.sum()), float((dark * y).sum() / dark.sum())

    amount, x, y = ink(plain)
    moved = [ink(augment(letters[0], preprocessing, Augmentation(translation=0.1), n)) for n in range(60)]
    right, down = np.array(moved)[:, 1] - x, np.array(moved)[:, 2] - y
    for shift in (right, down):
        assert -3.6 < shift.min() < -2.2 and 2.2 < shift.max() < 3.6
    sizes = [ink(augment(letters[0], preprocessing, Augmentation(scale=0.2), n))[0] / amount for n in range(60)]
    assert 0.6 < min(sizes) < 0.8 and 1.25 < max(sizes) < 1.5


# Colour


def test_pca_moves_every_pixel_of_a_channel_by_the_same_amount() -> None:
    pixels, deviation = waves(64, 64), 0.1
    preprocessing = replace(COLOUR, crop_fraction=1.0)
    shifts = []
    for number in range(500):
        moved = augment(pixels, preprocessing, Augmentation(pca=deviation), number).int() - to_square(
            pixels, preprocessing
        )
        assert (moved == moved[:, :1, :1]).all()
        shifts.append(moved[:, 0, 0].numpy())
    # The covariance of the shifts that the paper's formula gives, by hand: 255^2 0.1^2 P diag(l^2) P^T. Its first entry
    # is 650.25 (0.0152 + 0.0002 + 0.0000) = 10.0, and that of red and green 650.25 * 0.0156 = 10.1.
    covariance = np.cov(np.array(shifts).T)
    assert np.allclose(covariance[0], (10.0, 10.1, 10.0), atol=1.5)
    assert np.allclose(np.mean(shifts, axis=0), 0, atol=0.6)


def test_pca_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    from graft.images import augmenting

    image = torch.full((3, 2, 2), 250, dtype=torch.uint8)
    image[:, 0, 0] = 0
    # red 255 (-0.5675 * 0.2175 * 1 + 0.7192 * 0.0188 * -2) = -38.4, green 255 (-0.5808 * 0.2175 + 0.0045 * 0.0376)
    # = -32.2, blue 255 (-0.5836 * 0.2175 + 0.6948 * 0.0376) = -25.7.
    moved = augmenting._shift_colours(image, np.array([1.0, -2.0, 0.0]))
    assert moved[:, 1, 1].tolist() == [250 - 38, 250 - 32, 250 - 26] and moved[:, 0, 0].tolist() == [0, 0, 0]
    assert augmenting._shift_colours(image, np.array([-1.0, 0, 0]))[:, 1, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        ("brightness", lambda image: image.mean()),
        ("contrast", lambda image: image.mean(0).std()),
        ("saturation", lambda image: (image.max(0).values - image.min(0).values).mean()),
    ],
)
def test_brightness_contrast_and_saturation_change_by_their_factor(name: str, measure) -> None:  # type: ignore[no-untyped-def]
    pixels, preprocessing = waves(64, 64) // 3 + 60, replace(COLOUR, crop_fraction=1.0)
    before = measure(to_square(pixels, preprocessing).float())
    factors = [
        float(measure(augment(pixels, preprocessing, Augmentation(**{name: 0.3}), number).float()) / before)
        for number in range(40)
    ]
    assert 0.67 < min(factors) < 0.78 and 1.22 < max(factors) < 1.33


def test_jitter_is_what_the_three_adjustments_of_torchvision_come_to(photographs: list[np.ndarray]) -> None:
    from torchvision.transforms.v2 import functional

    names = ("brightness", "contrast", "saturation")
    changes = Augmentation(**dict.fromkeys(names, 0.2))
    # So far from black and white that torchvision clips nothing after the first and the second change.
    for number, pixels in enumerate([waves(96, 96), *(64 + photograph // 2 for photograph in photographs)]):
        image = to_square(pixels, COLOUR)
        found = _jitter(image, changes, np.random.default_rng(number))
        random = np.random.default_rng(number)
        exact, whole = image / 255, image
        for factor, name in zip(1 + 0.2 * random.uniform(-1, 1, 3), names, strict=True):
            adjust = getattr(functional, f"adjust_{name}")
            exact, whole = adjust(exact, factor), adjust(whole, factor)
        assert (found - 255 * exact).abs().max() <= 0.51
        assert float(found.float().mean()) == pytest.approx(float(255 * exact.mean()), abs=0.05)
        # torchvision truncates to whole numbers three times, graft rounds once.
        assert (found.int() - whole.int()).abs().max() <= 3
    smooth = to_square(waves(96, 96), COLOUR)
    found = _jitter(smooth, changes, np.random.default_rng(0))
    brightness = 1 + 0.2 * np.random.default_rng(0).uniform(-1, 1)
    assert float(found.float().mean()) == pytest.approx(brightness * float(smooth.float().mean()), abs=0.2)


def test_jitter_of_a_grey_image_changes_no_more_than_its_light_and_contrast() -> None:
    grey = to_square(waves(40, 40)[:, :, :1], GREY)
    found = _jitter(grey, Augmentation(saturation=1.0), np.random.default_rng(0))
    assert torch.equal(found, grey) and found.shape == (1, 28, 28)
    darker = _jitter(grey, Augmentation(brightness=0.5, contrast=0.5), np.random.default_rng(3))
    assert darker.dtype == torch.uint8 and not torch.equal(darker, grey)


def test_hue_turns_the_colours_and_leaves_grey() -> None:
    red = np.zeros((8, 8, 3), np.uint8)
    red[:, :, 0] = 200
    preprocessing = replace(COLOUR, size=8)
    turned = torch.stack([augment(red, preprocessing, Augmentation(hue=0.1), n)[:, 0, 0] for n in range(40)])
    # A tenth of a turn from red is three fifths of the way to yellow, or to magenta.
    assert (turned[:, 0] == 200).all() and 90 < turned[:, 1].max() <= 121 and 90 < turned[:, 2].max() <= 121
    grey = np.full((8, 8, 3), 77, np.uint8)
    assert torch.equal(augment(grey, preprocessing, Augmentation(hue=0.5), 1), to_square(grey, preprocessing))


def test_blur_smooths_and_keeps_the_mean(photographs: list[np.ndarray]) -> None:
    plain = to_square(photographs[0], COLOUR).float()
    found = []
    for number in range(10):
        blurred = augment(photographs[0], COLOUR, Augmentation(blur=1.0, blur_sigma=0.05), number).float()
        found.append((blurred.diff(dim=2).abs().mean() / plain.diff(dim=2).abs().mean()).item())
        assert abs(blurred.mean() - plain.mean()) < 2
    assert min(found) < 0.5 and max(found) <= 1


def test_an_erased_rectangle_has_the_mean_colour() -> None:
    pixels, shares = np.full((64, 64, 3), 255, np.uint8), []
    for number in range(200):
        image = augment(pixels, COLOUR, Augmentation(erasing=1.0), number)
        erased = (image != 255).any(0)
        rows, columns = torch.nonzero(erased).T
        area = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        assert area == erased.sum() and (image[:, erased] == mean_colour(COLOUR)[:, None]).all()
        shares.append(float(area) / 64**2)
    assert min(shares) < 0.05 and 0.25 < max(shares) < 0.42


def test_randaugment_does_as_many_operations_as_asked(photographs: list[np.ndarray]) -> None:
    plain = to_square(photographs[0], COLOUR)

    def mean(operations: int, magnitude: float) -> float:
        augmentation = Augmentation(operations=operations, magnitude=magnitude)
        return float(np.mean([difference(augment(photographs[0], COLOUR, augmentation, n), plain) for n in range(60)]))

    assert 0 < mean(1, 5.0) < mean(1, 20.0) < mean(3, 20.0)


# Seeds


def test_the_same_seed_gives_the_same_pixels_in_any_thread_and_whatever_else_is_drawn(
    photographs: list[np.ndarray],
) -> None:
    def views(pixels: np.ndarray) -> torch.Tensor:
        return torch.stack([augment(pixels, COLOUR, ALL, (5, view, 1)) for view in range(3)])

    torch.manual_seed(0)
    alone = [views(pixels) for pixels in photographs]
    torch.manual_seed(1)
    np.random.seed(1)
    state = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(views, photographs))
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    torch.set_num_threads(2)
    try:
        assert torch.equal(views(photographs[0]), alone[0])
    finally:
        torch.set_num_threads(1)


def test_a_view_is_its_seed_its_number_and_the_index() -> None:
    pixels, view = waves(90, 90), View(MEDIUM, 3, 0)
    shown = view.of(pixels, 4, COLOUR)
    assert torch.equal(shown, augment(pixels, COLOUR, MEDIUM, (3, 0, 4)))
    for other, index in ((view, 5), (replace(view, number=1), 4), (replace(view, seed=4), 4)):
        assert not torch.equal(other.of(pixels, index, COLOUR), shown)


def test_a_generator_goes_on_where_it_stands() -> None:
    random = np.random.default_rng(0)
    first, second = (augment(waves(90, 90), COLOUR, MEDIUM, random) for _ in range(2))
    assert torch.equal(first, augment(waves(90, 90), COLOUR, MEDIUM, 0)) and not torch.equal(first, second)


# Values


def test_an_augmentation_comes_back_from_json() -> None:
    for augmentation in STRENGTHS.values():
        assert Augmentation(**json.loads(json.dumps(asdict(augmentation)))) == augmentation


@pytest.mark.parametrize(
    ("name", "value"), [("flip", 1.5), ("crop", 0.0), ("aspect", 0.5), ("hue", 0.6), ("pca", float("nan"))]
)
def test_numbers_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"expected {name} of an augmentation to be from .*, got {value}"):
        Augmentation(**{name: value})


def test_other_arrays_are_refused_as_by_fit() -> None:
    for pixels in (np.zeros((8, 8, 3), np.float32), np.zeros((8, 8, 4), np.uint8), np.zeros((0, 8, 3), np.uint8)):
        with pytest.raises(InputError, match="expected an image as a uint8 array of shape"):
            augment(pixels, COLOUR, LIGHT, 0)


def test_torchvision_is_imported_only_for_what_needs_it() -> None:
    program = """
import sys
import numpy as np
from graft.images.augmenting import STRENGTHS, augment
from graft.images.preprocessing import Preprocessing
for strength in ("none", "light", "medium"):
    for fit in ("crop", "letterbox"):
        augment(np.zeros((9, 9, 3), np.uint8), Preprocessing(8, (0.5,) * 3, (0.5,) * 3, fit), STRENGTHS[strength], 0)
print("torchvision" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert import_functional(LIGHT) is import_functional(MEDIUM) is None
    for name in ("hue", "blur"):
        assert import_functional(Augmentation(**{name: 0.1})) is not None
    assert import_functional(Augmentation(operations=1)) is not None
