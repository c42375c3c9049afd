"""What channels see: the most active channels first, the images they like most, the first layer's filters."""

import numpy as np
import pytest
from tests.explanation.models import images, of_catalogue, spots
from tests.explanation.test_class_maps import orange_square

from graft.accounting.counting import account
from graft.data.dataset import Images
from graft.errors import CutError
from graft.explanation.channels import (
    favourites,
    feature_maps,
    filters_as_pixels,
    filters_moved,
    first_filters,
    map_as_pixels,
    stage_section,
)
from graft.explanation.class_maps import ClassMap
from graft.explanation.overlay import overlay, thumbnail, tiled


class Squares:
    """Images with an orange square, each at another place and larger than the one before; the last image is broken."""

    places = ((0, 0), (40, 8), (16, 32), (24, 24))

    def __len__(self) -> int:
        return len(self.places) + 1

    def name(self, row: int) -> str:
        return f"square {row}"

    key = stamp = name

    def read(self, row: int) -> bytes | np.ndarray:
        if row == len(self.places):
            return b"no image"
        return orange_square(*self.places[row], side=8 + row)[0].permute(1, 2, 0).numpy()


def squares() -> Images:
    return Images(Squares(), np.arange(5), np.full(5, -1))


def test_the_channel_that_sees_something_is_first():
    (found,) = feature_maps(spots(), orange_square(24, 8), "stage1")
    assert found.channels == (0, 1) and found.activity[0] > found.activity[1]
    assert found.maps.shape == (2, 7, 7)
    assert np.unravel_index(found.maps[0].argmax(), (7, 7)) == (3, 1)


def test_feature_maps_are_those_of_the_stage():
    model = of_catalogue("mobilenet_v1_025")
    pixels = images(model)
    found = feature_maps(model, pixels, "stage2", 5)
    maps = model.network.feature_maps((pixels / 255 - 0.5) / 0.25)["stage2"]
    for own, one in zip(maps, found, strict=True):
        activity = own.square().mean((1, 2)).sqrt()
        assert list(one.channels) == activity.argsort(descending=True)[:5].tolist()
        assert np.allclose(one.maps, own[list(one.channels)].numpy(), atol=1e-4)


def test_a_channel_likes_the_images_with_most_of_what_it_looks_for_cropped_to_it():
    model = spots()
    seen = account(stage_section(model.network, "stage1"), (3, 56, 56)).outputs[""].receptive_field
    assert seen == 8
    (found,) = favourites(model, squares(), "stage1", seen, channels=[0], count=3)
    assert found.channel == 0 and len(found.likings) == 3
    responses = [each.response for each in found.likings]
    assert responses == sorted(responses, reverse=True)
    by_row = {each.index: each for each in found.likings}
    assert by_row[3].box == (24, 24, 32, 32) and by_row[3].pixels.shape == (8, 8, 3)
    assert (by_row[3].pixels == [255, 128, 0]).all()


def test_what_a_channel_sees_ends_at_the_rim_of_the_image():
    found = favourites(spots(), squares(), "stage1", 40, channels=[0], count=4)[0].likings
    assert {each.index: each.box for each in found}[0] == (0, 0, 24, 24)


def test_channels_that_stand_out_are_chosen_where_none_are_named():
    model = of_catalogue("mobilenet_v1_025", 56)
    found = favourites(model, squares(), "stage1", 8, most=3, count=2)
    assert len(found) == 3 and all(len(each.likings) == 2 for each in found)


@pytest.mark.parametrize(("stage", "channels", "words"), [("pool", None, "'pool'"), ("stage1", [2], "from 0 to 1")])
def test_what_the_network_does_not_have_is_refused(stage, channels, words):
    with pytest.raises(CutError, match=words):
        favourites(spots(), squares(), stage, 8, channels=channels)


def test_filters_are_those_of_the_first_convolution_and_how_far_they_moved():
    model = of_catalogue("mobilenet_v1_025")
    filters = first_filters(model.network)
    assert filters.shape == (8, 3, 3, 3) and (filters == model.network.state_dict()["conv_stem.weight"].numpy()).all()
    assert filters_moved(filters, filters) == 0 and filters_moved(filters, 2 * filters) == pytest.approx(1)
    assert filters_moved(None, filters) is None and filters_moved(filters[:4], filters) is None


def test_filters_are_shown_with_zero_in_grey():
    filters = np.zeros((2, 3, 2, 2), np.float32)
    filters[0, 0, 0, 1] = -0.5
    shown = filters_as_pixels(filters)
    assert shown.shape == (2, 2, 2, 3) and (shown[1] == 128).all() and shown[0, 0, 1].tolist() == [0, 128, 128]
    assert filters_as_pixels(np.ones((1, 5, 2, 2), np.float32)).tolist() == np.full((1, 2, 2, 3), 255).tolist()


def test_what_is_drawn_has_the_colours_and_sizes_that_it_says():
    assert map_as_pixels(np.array([[1.0, 3.0]], np.float32))[0, :, 0].tolist() == [0, 255]
    assert (map_as_pixels(np.ones((2, 2), np.float32)) == 0).all()
    pixels = np.full((8, 8, 3), 100, np.uint8)
    drawn = overlay(pixels, ClassMap(np.array([[1.0, -1.0], [0.0, 0.0]], np.float32), "exact", None))
    assert drawn[0, 0, 0] > 150 > drawn[0, 0, 2] and drawn[0, 7, 2] > 150 > drawn[0, 7, 0]
    assert (overlay(pixels, ClassMap(np.zeros((2, 2), np.float32), "exact", None)) == 100).all()
    assert tiled(np.zeros((5, 3, 3, 3), np.uint8), 2).shape == (3 * 26, 2 * 26, 3)
    assert thumbnail(np.zeros((200, 200, 3), np.uint8)).shape == (112, 112, 3)
