"""Test-time augmentation."""

import numpy as np
import pytest
from PIL import Image

from graft.data.unlabelled import one_image
from graft.errors import InputError
from graft.images.preprocessing import Preprocessing
from graft.images.resizing import to_square
from graft.serving.gathering import Entry
from graft.serving.predictor import load
from graft.serving.several_views import Views, predict_in_views

CROP = Preprocessing(16, (0.5,) * 3, (0.25,) * 3)
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(("name", "count"), [(None, 1), ("flip", 2), ("crops", 5), ("flip,crops", 10)])
def test_views_are_named(name: str | None, count: int) -> None:
    views = Views.named(name)
    assert len(views) == count == len(list(views.of(RANDOM.integers(0, 256, (40, 60, 3)).astype(np.uint8), CROP)))
    assert str(views) == (name or "")


def test_another_name_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'flip'"):
        Views.named("flips")


@pytest.mark.parametrize("shape", [(40, 61, 3), (77, 33, 3), (1, 1, 3), (3, 200, 3)])
def test_the_first_view_is_the_image_as_it_is_usually_seen(shape: tuple[int, ...]) -> None:
    pixels = RANDOM.integers(0, 256, shape).astype(np.uint8)
    for mode in ("crop", "squash", "letterbox"):
        preprocessing = Preprocessing(16, (0.5,) * 3, (0.25,) * 3, mode)
        for views in (Views(), Views(True, True)):
            first = next(views.of(pixels, preprocessing))
            seen = to_square(first, views.adapted(preprocessing))
            assert (seen == to_square(pixels, preprocessing)).all()


def test_crops_lie_at_the_corners() -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[0, 0], pixels[0, -1], pixels[-1, 0], pixels[-1, -1] = 10, 20, 30, 40
    _, *corners = Views(crops=True).of(pixels, CROP)
    assert [corner.shape for corner in corners] == [(35, 35, 3)] * 4
    assert [int(corner.max()) for corner in corners] == [10, 20, 30, 40]


def test_the_answer_is_the_mean_over_the_views(letters_run, tmp_path) -> None:
    classifier = load(letters_run)
    for number in range(3):
        Image.fromarray(RANDOM.integers(0, 256, (40, 50, 3)).astype(np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    entries = [Entry(one_image(tmp_path / name), 0) for name in ("0.png", "bad.png", "1.png", "2.png")]
    found = list(predict_in_views(classifier, entries, Views(flip=True), 3))
    assert [answer.path for answer in found] == [entry.path for entry in entries]
    assert found[1].error and found[1].error == classifier.predict(entries[1].path)[0].error
    for answer in (found[0], *found[2:]):
        pixels = np.asarray(Image.open(answer.path))
        both = [dict(p.top) for p in classifier.predict([pixels, pixels[:, ::-1]], len(classifier.classes))]
        means = {name: (both[0][name] + both[1][name]) / 2 for name in classifier.classes}
        expected = sorted(means.items(), key=lambda item: -item[1])[:3]
        assert [name for name, _ in answer.top] == [name for name, _ in expected]
        assert [p for _, p in answer.top] == pytest.approx([p for _, p in expected])
        assert (answer.label, answer.probability) == answer.top[0]
