"""The metadata texts of a weight file become numbers for the network and preprocessing."""

from dataclasses import replace

import pytest

from graft.errors import WeightsError
from graft.images.preprocessing import Preprocessing
from graft.models.network import Config
from graft.weights.metadata import IMAGENET_MEAN, IMAGENET_STD, with_numbers, with_preprocessing

CONFIG = Config("mobilenet_v1", 1000)
USUAL = Preprocessing(224, IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.parametrize("words", ["same (TensorFlow rule)", "SAME", "tensorflow"])
def test_tensorflows_padding_goes_by_several_names(words):
    assert with_numbers(CONFIG, {"padding": words, "bn_eps": "1e-3"}) == replace(
        CONFIG, padding="tensorflow", batch_norm_eps=1e-3
    )


def test_numbers_that_are_not_stated_stay():
    stated = replace(CONFIG, padding="tensorflow", batch_norm_eps=0.01)
    assert with_numbers(stated, {"mean": "0.5"}) == stated
    assert with_numbers(stated, {"padding": "torch"}).padding == "torch"


@pytest.mark.parametrize("words", ["small", "nan", "-1", "1", "inf", ""])
def test_an_epsilon_that_is_none_is_refused(words):
    with pytest.raises(WeightsError, match="bn_eps"):
        with_numbers(CONFIG, {"bn_eps": words})


def test_gray_weights_of_a_color_network_want_gray_images_and_the_reverse():
    gray = with_preprocessing(USUAL, {}, channels=1)
    assert gray == replace(USUAL, mean=(0.5,), std=(0.5,))
    assert with_preprocessing(gray, {}, channels=3) == USUAL
    with pytest.raises(WeightsError, match="1 in all, got 3"):
        with_preprocessing(USUAL, {"mean": "0.1,0.2,0.3", "std": "1,1,1"}, channels=1)


def test_small_images_are_used_whole_unless_the_weights_say_otherwise():
    assert with_preprocessing(USUAL, {"input_size": "32"}, channels=3).crop_fraction == 1.0
    assert with_preprocessing(USUAL, {"input_size": "32", "crop_fraction": "0.9"}, channels=3).crop_fraction == 0.9
    small = replace(USUAL, size=32, crop_fraction=0.9)
    assert with_preprocessing(small, {}, channels=3) == small
