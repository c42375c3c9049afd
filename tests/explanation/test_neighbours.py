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
def test_an_image_is_nearest_to_itself_and_then_as_its_features_say(head, monkeypatch):
    monkeypatch.setattr(neighbours, "TOGETHER", 7)
    model = of_catalogue("resnet20", 32, head)
    training = {"train": painted(list(range(20))), "val": painted(list(range(20, 25)))}
    found = nearest_training_images(model, painted([21, 3]), training, TORCH, count=4)
    assert [(each[0].path, each[0].split, each[0].index) for each in found] == [
        ("painted 21", "val", 1),
        ("painted 3", "train", 3),
    ]
    assert [each[0].label for each in found] == [model.classes[21 % 3], model.classes[0]]
    assert all(each[0].likeness == pytest.approx(1, abs=1e-5) for each in found)

    pixels = torch.stack([to_square(painted([row]).read(0), model.preprocessing) for row in range(25)])
    with torch.no_grad():
        features = model.network.before_head(head)(as_input(model, pixels))
    parts = features.split(list(model.network.head_blocks(head)), 1)
    alike = torch.stack([torch.cosine_similarity(part, part[3:4]) for part in parts]).mean(0)
    assert [each.path for each in found[1]] == [f"painted {row}" for row in alike.argsort(descending=True)[:4].tolist()]
    assert [each.likeness for each in found[1]] == pytest.approx(alike.sort(descending=True).values[:4].tolist())


def test_what_cannot_be_decoded_has_no_neighbours_and_is_none():
    model = of_catalogue("resnet20", 32)
    found = nearest_training_images(
        model, painted([1, 2, 3], (2,)), {"train": painted([0, 1, 2, 3], (1,))}, TORCH, count=9
    )
    assert [len(each) for each in found] == [3, 0, 3]
    assert all(one.path != "painted 1" for each in found for one in each)
