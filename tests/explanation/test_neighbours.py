"""Nearest training images: the nearest by features, with their labels."""

import numpy as np
import pytest
import torch
from tests.explanation.models import of_catalogue
from tests.features.trunks import TORCH, Painted

from graft.data.dataset import Images
from graft.explanation import neighbours
from graft.explanation.model import as_input
from graft.explanation.neighbours import nearest_training_images
from graft.images.resizing import to_square


class Coloured(Painted):
    """Each image a slope between two colours of its own."""

    def read(self, row: int) -> bytes | np.ndarray:
        if row in self.broken:
            return b"no image"
        one, other = np.random.default_rng(row).integers(0, 256, (2, 3))
        slope = np.linspace(0, 1, 64)[:, None, None]
        return np.broadcast_to(one * slope + other * (1 - slope), (64, 64, 3)).astype(np.uint8)


def painted(rows: list[int], broken: tuple[int, ...] = ()) -> Images:
    return Images(Coloured(40, broken), np.array(rows), np.array(rows) % 3)


@pytest.mark.parametrize("head", ["last", "stages", "stages:stage1"])
def test_the_nearest_are_others_than_the_image_itself_as_its_features_say(head, monkeypatch):
    monkeypatch.setattr(neighbours, "TOGETHER", 7)
    model = of_catalogue("resnet20", 32, head)
    training = {"train": painted(list(range(20))), "val": painted(list(range(20, 25)))}
    found = nearest_training_images(model, painted([21, 3]), training, TORCH, count=4)
    assert [len(each) for each in found] == [4, 4]
    for row, each in zip((21, 3), found, strict=True):
        numbers = [int(one.path.removeprefix("painted ")) for one in each]
        assert row not in numbers
        assert [(one.split, one.index) for one in each] == [
            ("train", number) if number < 20 else ("val", number - 20) for number in numbers
        ]
        assert [one.label for one in each] == [model.classes[number % 3] for number in numbers]

    pixels = torch.stack([to_square(painted([row]).read(0), model.preprocessing) for row in range(25)])
    with torch.no_grad():
        features = model.network.before_head(head)(as_input(model, pixels))
    parts = features.split(list(model.network.head_blocks(head)), 1)
    alike = torch.stack([torch.cosine_similarity(part, part[3:4]) for part in parts]).mean(0)
    assert [each.path for each in found[1]] == [
        f"painted {row}" for row in alike.argsort(descending=True)[1:5].tolist()
    ]
    assert [each.likeness for each in found[1]] == pytest.approx(alike.sort(descending=True).values[1:5].tolist())


def test_what_cannot_be_decoded_has_no_neighbours_and_is_none():
    model = of_catalogue("resnet20", 32)
    found = nearest_training_images(
        model, painted([1, 2, 3], (2,)), {"train": painted([0, 1, 2, 3], (1,))}, TORCH, count=9
    )
    # Of the three that can be decoded, one is the image itself unless it is the one that cannot be decoded there.
    assert [len(each) for each in found] == [3, 0, 2]
    assert all(one.path != "painted 1" for each in found for one in each)


def test_a_copy_that_is_another_image_stays_and_the_image_itself_goes():
    model, source = of_catalogue("resnet20", 32), Coloured(40)
    row = np.array([3])
    # Row 3 twice, as a manifest may list it, and among rows of the same source.
    asked = Images(source, row, row % 3)
    same = Images(source, np.arange(6), np.arange(6) % 3)
    (found,) = nearest_training_images(model, asked, {"train": same}, TORCH, count=2)
    assert "painted 3" not in [each.path for each in found]
    (found,) = nearest_training_images(model, asked, {"train": same, "val": painted([3, 3])}, TORCH, count=2)
    assert [(each.path, each.split) for each in found] == [("painted 3", "val")] * 2
