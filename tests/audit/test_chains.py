"""Likeness of likeness does not make one image of most of a class."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from graft.audit.auditing import look_over
from graft.audit.chains import kept_together
from graft.data.dataset import counts
from graft.data.opening import open_dataset
from graft.data.splitting import with_validation
from graft.images.preprocessing import Preprocessing
from graft.progress import NOBODY

NOTHING = np.empty((0, 2), np.int64)


def chain(*rows: int) -> np.ndarray:
    return np.array([*pairwise(rows)], np.int64)


def test_look_alikes_of_more_than_half_of_a_class_are_divided_and_others_kept() -> None:
    labels = np.array([0] * 6 + [1] * 8)
    kept = kept_together(labels, np.arange(14), NOTHING, np.concatenate([chain(0, 1, 2, 3), chain(6, 7, 8)]))
    assert kept.either.tolist() == chain(6, 7, 8).tolist()
    assert kept.parted.tolist() == [0] and not len(kept.copied) and not len(kept.held)


def test_near_copies_are_divided_only_where_a_class_has_nothing_else() -> None:
    labels = np.array([0] * 4 + [1] * 4)
    kept = kept_together(labels, np.arange(8), np.concatenate([chain(0, 1, 2, 3), chain(4, 5, 6)]), NOTHING)
    assert kept.copies.tolist() == chain(4, 5, 6).tolist()
    assert kept.copied.tolist() == [0] and kept.held.tolist() == [1]


def test_files_of_one_content_and_pairs_stay_together_whatever_they_are_of_a_class() -> None:
    labels, same = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 0, 3, 4])
    kept = kept_together(labels, same, chain(0, 1, 2), chain(3, 4))
    assert kept.either.tolist() == [[0, 1], [1, 2], [3, 4]]
    rare = kept_together(np.array([0, 1, 2, 3, 3, 3]), np.arange(6), NOTHING, chain(0, 1, 2, 3))
    assert rare.look_alikes.tolist() == chain(0, 1, 2, 3).tolist()


def test_a_few_drawings_of_each_kind_can_be_trained_on(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("letter", "box"):
        (tmp_path / name).mkdir()
        for number in range(12):
            image = Image.new("L", (64, 64), 255)
            shape = ImageDraw.Draw(image)
            _ = shape.line((14, 50, 32, 12, 50, 50), 0, 6) if name == "letter" else shape.rectangle((18, 18, 46, 46), 0)
            noisy = np.asarray(image) + random.normal(0, 3, (64, 64))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / name / f"{number}.png")
    looked = look_over(open_dataset(tmp_path), Preprocessing(64, (0.5,) * 3, (0.5,) * 3), NOBODY).dataset
    assert any("all images of 'box', 'letter' look like copies of each other" in note for note in looked.notes)
    assert counts(with_validation(looked).splits["val"], looked.classes) == {"box": 2, "letter": 2}
