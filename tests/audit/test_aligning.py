"""One thumbnail becomes another by a crop, brightness, contrast and blur, or does not."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from graft.audit.aligning import FARTHEST_EDGE, through, unexplained
from graft.audit.measuring import THUMBNAIL, measure, reduce
from graft.images.decoding import decode

WHOLE = np.array([[0, 1, 0, 1]], dtype=np.float32)


def thumbnail(image: Image.Image) -> np.ndarray:
    return measure(reduce(np.asarray(image))[None], np.zeros(1, dtype=int)).thumbnail


@pytest.fixture(scope="module")
def image(shared: Path) -> Image.Image:
    return Image.fromarray(decode((shared / "datasets/ants_bees/val/ants/10308379_1b6c72e180.jpg").read_bytes()))


def left(whole: Image.Image, part: Image.Image) -> float:
    return float(unexplained(thumbnail(whole), thumbnail(part), WHOLE, good=0.03)[0])


def test_nothing_is_left_of_an_image_in_other_light(image: Image.Image) -> None:
    assert left(image, image) < 1e-4
    assert left(image, image.point(lambda level: 0.7 * level + 30)) < 1e-3
    assert left(image, image.filter(ImageFilter.GaussianBlur(image.width / 40))) < 5e-3


@pytest.mark.parametrize("edges", [(0.03, 0, 0, 0), (0, 0.04, 0, 0), (0, 0, 0.03, 0.02), (0.02, 0.03, 0.03, 0.02)])
def test_the_edges_of_a_crop_are_found(image: Image.Image, edges: tuple[float, float, float, float]) -> None:
    width, height = image.size
    start, end, top, bottom = edges
    part = image.crop(
        (round(start * width), round(top * height), width - round(end * width), height - round(bottom * height))
    )
    assert left(image, part) < 0.3 * left_where_it_is(image, part)


def left_where_it_is(whole: Image.Image, part: Image.Image) -> float:
    # With no prospect of being good enough, a fit stays where it starts.
    return float(unexplained(thumbnail(whole), thumbnail(part), WHOLE, good=0.0)[0])


def test_another_image_is_not_explained(image: Image.Image) -> None:
    for other in (image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), image.rotate(90), image.crop((0, 0, 99, 99))):
        assert left(image, other) > 0.2


def test_a_window_stretches_what_it_shows() -> None:
    ramp = np.broadcast_to(np.arange(THUMBNAIL, dtype=np.float32), (1, THUMBNAIL, THUMBNAIL))
    inner = slice(2, -2)
    assert through(ramp, ((0, 1), (0, 1))) == pytest.approx(ramp, abs=1e-5)
    seen = through(ramp, ((0, 1 - FARTHEST_EDGE), (0, 1)))
    expected = (np.arange(THUMBNAIL) + 0.5) * (1 - FARTHEST_EDGE) - 0.5
    assert seen[0, 0, inner] == pytest.approx(expected[inner], abs=1e-3)
