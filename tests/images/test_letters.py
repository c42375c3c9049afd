"""Letters are drawn as asked and alike for a seed, and the bundled base reads them in fonts that it never saw."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

import graft
from graft.errors import DataError
from graft.images.letters import (
    CYRILLIC,
    LATIN,
    SIDE,
    TYPE_SIZE,
    TYPED,
    Distortion,
    dejavu_fonts,
    render,
    render_letters,
)
from graft.models.catalog import build
from graft.models.network import Config

BUNDLED = Path(graft.__file__).parent / "bundled" / "latin_letters.safetensors"
NONE = Distortion(shift=0, rotation=0, scale=0, thickness=0, blur=0, noise=0)
# Unicode assigns nothing to this code point: a font draws its box for missing letters.
UNASSIGNED = "\u0378"


def ink(letter: str, font: Path, distortion: Distortion = NONE, seed: int = 0) -> np.ndarray:
    """The darkness of an image, float (32, 32) from 0 (paper) to 255."""
    return 255.0 - render(letter, font, TYPE_SIZE, distortion, np.random.default_rng(seed))


def several(letter: str, **amounts: float) -> list[np.ndarray]:
    """Thirty images of a letter with no distortion but `amounts`."""
    distortion = Distortion(**{**vars(NONE), **amounts})
    return [ink(letter, dejavu_fonts()[0], distortion, seed) for seed in range(30)]


def middle(image: np.ndarray) -> np.ndarray:
    """x and y of the centre of the ink, in px from the middle of the image."""
    across = np.arange(SIDE) - (SIDE - 1) / 2
    return np.array([image.sum(0) @ across, image.sum(1) @ across]) / image.sum()


def lean(image: np.ndarray) -> float:
    """Degrees by which an upright stroke leans to the right."""
    rows = np.arange(SIDE)[image.sum(1) > 400]
    columns = (image[rows] @ np.arange(SIDE)) / image[rows].sum(1)
    return float(np.degrees(np.arctan(-np.polyfit(rows, columns, 1)[0])))


def test_the_alphabets_hold_every_letter_once() -> None:
    assert sorted("".join(LATIN)) == sorted("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
    assert "".join(sorted("".join(CYRILLIC).lower())) == "абвгдежзийклмнопрстуфхцчшщъыьэюяё"
    assert "".join(CYRILLIC).isupper()


def test_the_fonts_are_the_twelve_text_fonts_and_come_without_matplotlib_imported() -> None:
    names = [font.stem for font in dejavu_fonts()]
    assert len(names) == len(set(names)) == 12
    assert {name.split("-")[0] for name in names} == {"DejaVuSans", "DejaVuSansMono", "DejaVuSerif"}
    code = "import sys; from graft.images.letters import dejavu_fonts as f; f(); sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("font", dejavu_fonts(), ids=lambda font: font.stem)
def test_every_letter_has_a_shape_of_its_own_in_every_font(font: Path) -> None:
    missing = ink(UNASSIGNED, font)
    assert missing.sum() > 0
    for alphabet in (LATIN, CYRILLIC):
        shapes = [ink(alike[0], font) for alike in alphabet] + [missing]
        for index, shape in enumerate(shapes):
            assert shape.max() > 127
            # Е and Ё, И and Й, Ш and Щ are the closest: a mark of a few pixels.
            assert all(np.abs(shape - other).sum() > 2 * 255 for other in shapes[:index]), alphabet[index]


def test_images_have_the_promised_shape_order_and_range() -> None:
    images, labels = render_letters(CYRILLIC, dejavu_fonts(), 3, seed=0)
    assert images.shape == (99, 32, 32, 1) and images.dtype == np.uint8
    assert labels.dtype == np.int64 and labels.tolist() == [label for label in range(33) for _ in range(3)]
    assert images.min() < 30 and images.max() == 255
    # Dark on light: more paper than ink in every image.
    assert (np.median(images, axis=(1, 2, 3)) > 200).all()


def test_a_seed_decides_the_images_and_another_gives_others() -> None:
    images, _ = render_letters("АБ", dejavu_fonts(), 14, seed=5)
    again, _ = render_letters("АБ", dejavu_fonts(), 14, seed=5)
    others, _ = render_letters("АБ", dejavu_fonts(), 14, seed=6)
    assert np.array_equal(images, again)
    every = np.concatenate([images, others]).reshape(56, -1)
    assert len(np.unique(every, axis=0)) == 56


def test_an_image_is_the_same_however_many_follow() -> None:
    few, _ = render_letters("АБ", dejavu_fonts(), 3, seed=5)
    many, _ = render_letters("АБВ", dejavu_fonts(), 20, seed=5)
    assert np.array_equal(few[:3], many[:3]) and np.array_equal(few[3:], many[20:23])


def test_every_font_is_used_before_one_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Path] = []

    def remember(letter: str, font: Path, *rest: object) -> np.ndarray:
        used.append(font)
        return np.zeros((SIDE, SIDE), np.uint8)

    monkeypatch.setattr("graft.images.letters.render", remember)
    render_letters("А", dejavu_fonts(), 30, seed=0)
    assert sorted(used[:12]) == sorted(used[12:24]) == sorted(dejavu_fonts())
    assert used[:12] != used[12:24]


def test_a_class_of_several_letters_shows_each_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    def remember(letter: str, *rest: object) -> np.ndarray:
        shown.append(letter)
        return np.zeros((SIDE, SIDE), np.uint8)

    monkeypatch.setattr("graft.images.letters.render", remember)
    render_letters(("A", "Il"), dejavu_fonts(), 40, seed=0)
    assert set(shown[:40]) == {"A"}
    assert 10 < shown[40:].count("I") < 30 and set(shown[40:]) == {"I", "l"}


def test_letters_stay_inside_the_28_px_that_the_base_sees() -> None:
    cut_off = 0
    for alphabet in (LATIN, CYRILLIC):
        images, _ = render_letters(alphabet, dejavu_fonts(), 6, seed=1)
        darkness = np.where(images[..., 0] < 150, 255.0 - images[..., 0], 0)  # the noise is no ink
        total, inside = darkness.sum((1, 2)), darkness[:, 2:-2, 2:-2].sum((1, 2))
        assert (total > 255).mean() > 0.97  # thin, blurred strokes may be paler than that
        assert (darkness[:, [0, -1]].sum((1, 2)) + darkness[:, :, [0, -1]].sum((1, 2)) > 0).mean() < 0.01
        cut_off += int((inside < 0.95 * total).sum())
    assert cut_off <= 2


def test_without_distortion_the_letter_stands_still_in_the_middle() -> None:
    images = several("Н")
    assert all(np.array_equal(image, images[0]) for image in images)
    assert np.abs(middle(images[0])).max() < 0.3


def test_shift_moves_the_letter_by_up_to_its_amount_along_both_axes() -> None:
    moved = np.array([middle(image) for image in several("Н", shift=3.0)])
    assert np.abs(moved).max() < 3.3
    assert (moved.max(0) > 1.5).all() and (moved.min(0) < -1.5).all()


def test_rotation_leans_the_letter_to_both_sides_about_its_middle() -> None:
    images = several("l", rotation=20.0)
    leans = [lean(image) for image in images]
    assert 12 < max(leans) < 21 and -21 < min(leans) < -12
    assert max(np.abs(middle(image)).max() for image in images) < 0.4


def test_scale_makes_the_letter_larger_and_smaller() -> None:
    still = ink("Н", dejavu_fonts()[0])
    ratios = [image.sum() / still.sum() for image in several("Н", scale=0.2)]
    assert 1.15 < max(ratios) < 1.45 and 0.63 < min(ratios) < 0.85


def test_thickness_lays_ink_on_and_takes_it_off() -> None:
    still = ink("Н", dejavu_fonts()[0])
    ratios = [image.sum() / still.sum() for image in several("Н", thickness=0.5)]
    assert max(ratios) > 1.3 and min(ratios) < 0.7


def test_blur_softens_and_keeps_the_ink() -> None:
    still = ink("Н", dejavu_fonts()[0])
    images = several("Н", blur=2.0)
    assert min(image.max() for image in images) < 0.8 * still.max()
    assert all(abs(image.sum() / still.sum() - 1) < 0.03 for image in images)


def test_noise_grains_the_image_by_up_to_its_amount() -> None:
    # White cuts off half of the noise on the paper, black on the strokes: it shows in full on the grey of their edges.
    still = ink("Н", dejavu_fonts()[0])
    grey = (still > 40) & (still < 215)
    deviations = [(image - still)[grey].std() for image in several("Н", noise=10.0)]
    assert 5 < max(deviations) < 14 and min(deviations) < 4


def test_a_missing_font_is_named() -> None:
    with pytest.raises(DataError, match=r"nowhere\.ttf"):
        render("А", Path("nowhere.ttf"), TYPE_SIZE, TYPED, np.random.default_rng(0))
    with pytest.raises(DataError, match="got none"):
        render_letters("А", [], 1, seed=0)


def test_matplotlib_without_fonts_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.images.letters.find_spec", lambda name: None)
    with pytest.raises(DataError, match="install matplotlib"):
        dejavu_fonts()


def test_the_bundled_base_is_small_and_says_all_that_using_it_needs() -> None:
    assert BUNDLED.stat().st_size <= 1_000_000
    with safe_open(BUNDLED, framework="pt") as file:
        facts = file.metadata()
        dtypes = {file.get_tensor(name).ndim > 1: file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
    assert dtypes == {True: torch.float16, False: torch.float32}
    assert tuple(json.loads(facts["classes"])) == LATIN
    expected = {"architecture": "lenet5", "channels": "1", "padding": "torch", "bn_eps": "1e-5"}
    expected |= {"input_size": "28", "mean": "0.5", "std": "0.5", "crop_fraction": "0.875", "fit": "crop"}
    expected |= {"licence": "Apache-2.0", "recipe": "recipes/latin_letters.py"}
    assert {name: facts[name] for name in expected} == expected
    assert "Latin" in facts["source_dataset"] and facts["score"].startswith("top-1 0.")


def test_the_bundled_base_reads_latin_letters_in_fonts_that_it_never_saw() -> None:
    network = build(Config("lenet5", classes=len(LATIN), channels=1))
    with safe_open(BUNDLED, framework="pt") as file:
        network.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
    images, labels = render_letters(LATIN, dejavu_fonts(), 8, seed=7)
    centre = torch.from_numpy(images)[:, 2:-2, 2:-2].permute(0, 3, 1, 2)  # (N, H, W, 1) -> (N, 1, H, W)
    with torch.no_grad():
        predicted = network.eval()((centre / 255 - 0.5) / 0.5).argmax(1).numpy()
    # Measured with six seeds: 339 to 344 of 344.
    assert (predicted == labels).sum() >= 334
