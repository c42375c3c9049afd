"""Copies are found among images whose thumbnails are flat, such as stripes, and other patterns are not."""

from pathlib import Path

import numpy as np
import pytest
from held import Held
from patterns import PATTERNS, pattern, saved
from PIL import Image

from graft.audit import fine_copies as module
from graft.audit.duplicates import by_contrast, near
from graft.audit.fine_copies import fine_copies
from graft.audit.looking import look
from graft.data.dataset import Images
from graft.progress import Reporter


def images_of(contents: list[bytes | np.ndarray]) -> Images:
    return Images(Held(contents), np.arange(len(contents)), np.zeros(len(contents), np.int64))


def pairs_of(contents: list[bytes | np.ndarray]) -> list[list[int]]:
    images = images_of(contents)
    return fine_copies(images, look(images)).pairs.tolist()


def halved(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2))


def test_copies_of_fine_patterns_are_found_saved_again_or_at_half_the_size() -> None:
    contents = [*PATTERNS, saved(pattern(2), 60), saved(halved(pattern(5)))]
    looks = look(images_of(contents))
    assert not len(by_contrast(looks)[0]) and not len(near(looks))
    assert pairs_of(contents) == [[2, 8], [5, 9]]


def test_stripes_of_a_photograph_set_are_found_saved_again(shared: Path) -> None:
    files = sorted((shared / "datasets" / "textures").glob("*/*.jpg"))
    looks = look(images_of([file.read_bytes() for file in files]))
    flat = [files[row] for row in by_contrast(looks)[1]]
    copies = [saved(Image.open(file).convert("RGB"), 60) for file in flat]
    found = pairs_of([*(file.read_bytes() for file in flat), *copies])
    expected = [[row, len(flat) + row] for row in range(len(flat))]
    assert len(flat) >= 30 and all(pair in expected for pair in found) and len(found) >= 0.95 * len(flat)


def test_a_fine_pattern_in_another_colour_is_another_image() -> None:
    assert not pairs_of([saved(pattern(1)), saved(pattern(1, (90, 0, 0)))])
    assert not pairs_of([saved(pattern(1)), np.asarray(255 - np.asarray(pattern(1)))])


def test_images_of_one_level_or_its_noise_are_compared_with_nothing() -> None:
    noisy = [np.random.default_rng(seed).normal(128, 1, (64, 64)).round().astype(np.uint8) for seed in (1, 2)]
    images = images_of([np.full((64, 64), 90, np.uint8), np.full((64, 64), 91, np.uint8), *noisy, b"no image"])
    found = fine_copies(images, look(images))
    assert not len(found.pairs) and not len(found.left)


def test_images_with_contrast_in_their_thumbnail_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    grounds = [np.kron(np.random.default_rng(seed).integers(0, 255, (8, 8)), np.ones((8, 8))) for seed in range(4)]
    images = images_of([ground.astype(np.uint8) for ground in grounds])
    looks = look(images)
    monkeypatch.setattr(module, "square", lambda *_: pytest.fail("read"))
    assert not len(fine_copies(images, looks).pairs)


def test_what_is_beyond_the_most_images_is_left_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_IMAGES", 5)
    images = images_of([*PATTERNS, saved(pattern(2), 60)])
    found = fine_copies(images, look(images))
    assert not len(found.pairs) and found.left.tolist() == [5, 6, 7, 8]


def test_fine_pairs_are_kept_for_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [*PATTERNS, saved(pattern(2), 60)]
    images = images_of(contents)
    first = fine_copies(images, look(images), tmp_path).pairs
    assert first.tolist() == [[2, 8]]
    monkeypatch.setattr(module, "_pairs", lambda *_: pytest.fail("computed again"))
    assert np.array_equal(fine_copies(images, look(images), tmp_path).pairs, first)
    more = images_of([contents[0], *contents])
    assert fine_copies(more, look(more), tmp_path).pairs.tolist() == [[3, 9]]


def test_damaged_fine_pairs_are_found_anew_and_told(tmp_path: Path) -> None:
    images = images_of([*PATTERNS, saved(pattern(2), 60)])
    first = fine_copies(images, look(images), tmp_path).pairs
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(bytes(kept.stat().st_size))
    notes: list[str] = []
    assert np.array_equal(fine_copies(images, look(images), tmp_path, Reporter(note=notes.append)).pairs, first)
    assert len(notes) == 1 and f"{kept} was damaged" in notes[0]
