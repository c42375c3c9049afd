"""A mark in one class is found wherever it is; what classes have by nature is no mark."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graft.audit import mark_findings
from graft.audit.auditing import look_over
from graft.audit.marks import FEWEST, Mark, chosen_for_marks, find_marks, laid_together, seen
from graft.data.dataset import Dataset
from graft.data.opening import open_dataset
from graft.files import cache_folder
from graft.images.preprocessing import Preprocessing
from graft.progress import NOBODY

LABELS = np.arange(120) % 3


def scenes(seed: int, widths: Sequence[int] = (96,) * len(LABELS)) -> list[np.ndarray]:
    """Images of coloured blots, as different as photographs are, uint8 (96, width, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (len(LABELS), 7, 7, 3), dtype=np.uint8)
    return [
        np.asarray(Image.fromarray(each).resize((width, 96), Image.Resampling.BICUBIC)).copy()
        for each, width in zip(coarse, widths, strict=True)
    ]


def found(images: list[np.ndarray]) -> tuple[Mark, ...]:
    return find_marks(laid_together([seen(image) for image in images]), LABELS)


def planted(share: float, where: tuple[slice, slice], colour: tuple[int, int, int]) -> list[np.ndarray]:
    images, random = scenes(1), np.random.default_rng(2)
    for image, label in zip(images, LABELS, strict=True):
        if label == 1 and random.random() < share:
            # Not quite the same everywhere, as after JPEG.
            noise = random.integers(-4, 5, image[where].shape)
            image[where] = (np.array(colour) + noise).clip(0, 255)
    return images


@pytest.mark.parametrize(
    ("share", "where", "colour"),
    [
        (1.0, (slice(6, 20), slice(6, 20)), (230, 40, 200)),
        (0.6, (slice(70, 84), slice(40, 54)), (128, 128, 128)),
        (1.0, (slice(0, 4), slice(0, 96)), (0, 0, 0)),
    ],
)
def test_a_mark_in_many_images_of_one_class_is_found(
    share: float, where: tuple[slice, slice], colour: tuple[int, int, int]
) -> None:
    (mark,) = found(planted(share, where, colour))
    assert mark.label == 1 and mark.others_with == 0 and mark.with_mark >= 0.7 * share * mark.of_class
    assert mark.area[:2] == pytest.approx([axis.start / 96 for axis in where], abs=0.05)
    assert mark.area[2:] == pytest.approx([axis.stop / 96 for axis in where], abs=0.05)
    assert all(LABELS[mark.rows] == 1) and mark.chance < 1e-4


def test_in_images_of_all_proportions_a_mark_is_as_far_from_its_corner() -> None:
    widths = np.random.default_rng(0).integers(60, 180, len(LABELS)).tolist()
    images = scenes(1, widths)
    for image, label in zip(images, LABELS, strict=True):
        if label == 0:
            side = max(image.shape) // 8
            image[-2 * side : -side, -2 * side : -side] = (20, 200, 60)
    (mark,) = found(images)
    assert (mark.label, mark.place) == (0, "bottom right")


def test_images_as_they_are_and_classes_on_paper_have_no_marks() -> None:
    assert not any(found(scenes(seed)) for seed in range(2))
    images, random = scenes(5), np.random.default_rng(5)
    rows, columns = np.mgrid[:96, :96]
    for image, label in zip(images, LABELS, strict=True):
        if label == 2:
            y, x, height, width = random.uniform((40, 40, 24, 24), (56, 56, 38, 38))
            image[((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 > 1] = 250
    assert not found(images)


def test_what_all_classes_have_is_no_mark() -> None:
    images = scenes(1)
    for image in images:
        image[80:92, 60:90] = (255, 255, 255)
    assert not found(images)


def test_as_many_are_looked_at_of_every_class_that_has_enough() -> None:
    labels = np.repeat([0, 1, 2, -1], [5, 300, 40, 9])
    chosen = chosen_for_marks(labels)
    assert np.bincount(labels[chosen]).tolist() == [0, 120, 40] and len(set(chosen.tolist())) == len(chosen)
    assert not len(chosen_for_marks(np.zeros(50, np.int64)))
    # Of copies, only the first.
    copies = np.concatenate([np.arange(5), np.repeat(np.arange(5, 155), 2), np.arange(155, 204)])
    assert np.isin(chosen_for_marks(labels, copies), np.unique(copies, return_index=True)[1]).all()


def test_the_marks_of_images_that_have_not_changed_are_those_found_before(monkeypatch: pytest.MonkeyPatch) -> None:
    images = planted(0.6, (slice(70, 84), slice(40, 54)), (128, 128, 128))
    dataset = Dataset.from_arrays(images, [f"class {label}" for label in LABELS.tolist()])
    first = look_over(dataset, Preprocessing(32, (0.5,) * 3, (0.5,) * 3), NOBODY).findings
    assert "class_mark" in {finding.kind for finding in first}
    monkeypatch.setattr(mark_findings, "find_marks", lambda *_: pytest.fail("looked for again"))
    assert look_over(dataset, Preprocessing(32, (0.5,) * 3, (0.5,) * 3), NOBODY).findings == first


def test_marks_are_looked_for_in_what_the_look_has_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = planted(0.6, (slice(70, 84), slice(40, 54)), (128, 128, 128))
    for row, (image, label) in enumerate(zip(images, LABELS.tolist(), strict=True)):
        place = tmp_path / "data" / f"class {label}" / f"{row:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place)
        if row in (4, 30):
            place.write_bytes(place.read_bytes()[:200])
    dataset, preprocessing = open_dataset(tmp_path / "data"), Preprocessing(32, (0.5,) * 3, (0.5,) * 3)
    expected = look_over(dataset, preprocessing, NOBODY)
    # Again without the marks, which are then read from the files, as they are when the look itself was kept.
    for kept in (cache_folder() / "looks").glob("marks-*"):
        kept.unlink()
    again = look_over(dataset, preprocessing, NOBODY)
    assert again.findings == expected.findings and not again.looks.overlays
    assert {"class_mark", "unreadable"} <= {finding.kind for finding in again.findings}
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(mark_findings, "upright_rgb", lambda *_: pytest.fail("decoded a second time"))
    assert look_over(dataset, preprocessing, NOBODY).findings == expected.findings


def test_a_class_of_which_too_few_images_can_be_read_is_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = dict.fromkeys(range(3), 0)
    for row, (image, label) in enumerate(zip(scenes(1), LABELS.tolist(), strict=True)):
        place = tmp_path / f"class {label}" / f"{row:03}.png"
        place.parent.mkdir(exist_ok=True)
        number[label] += 1
        if label != 2 or number[label] <= FEWEST:
            Image.fromarray(image).save(place)
            if label == 2 and number[label] <= 2:
                place.write_bytes(b"no image")
    searched: list[int] = []
    monkeypatch.setattr(
        mark_findings, "find_marks", lambda views, labels, among: searched.extend(labels.tolist()) or ()
    )
    look_over(open_dataset(tmp_path), Preprocessing(32, (0.5,) * 3, (0.5,) * 3), NOBODY)
    assert searched.count(0) == searched.count(1) == 40 and 2 not in searched


def test_of_very_many_classes_a_few_at_a_time_are_laid_over_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    images = planted(1.0, (slice(6, 20), slice(6, 20)), (230, 40, 200))
    images[1::2] = scenes(1)[1::2]
    labels = [f"class {label} {row % 2}" for row, label in enumerate(LABELS.tolist())]
    dataset = Dataset.from_arrays(images, labels)
    held: list[int] = []
    together = mark_findings.laid_together
    monkeypatch.setattr(mark_findings, "laid_together", lambda shown: held.append(len(shown)) or together(shown))
    monkeypatch.setattr(mark_findings, "MOST", 24)
    findings = look_over(dataset, Preprocessing(32, (0.5,) * 3, (0.5,) * 3), NOBODY).findings
    assert held == [40, 40, 40]
    marked = [finding.message for finding in findings if finding.kind == "class_mark"]
    assert len(marked) == 1 and "'class 1 0'" in marked[0]
