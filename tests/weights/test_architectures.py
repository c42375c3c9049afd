"""An architecture by name: resolved once, from the catalogue's name, timm's, or a name with a width."""

from dataclasses import replace

import pytest

from graft.errors import InputError
from graft.images.preprocessing import Preprocessing
from graft.models.catalog import CATALOG, default_config
from graft.models.network import Config
from graft.weights.architectures import IMAGENET_MEAN, IMAGENET_STD, at_width, resolve


@pytest.mark.parametrize("name", CATALOG)
def test_every_name_of_the_catalogue_is_an_architecture(name):
    found, row = resolve(name), CATALOG[name]
    assert (found.name, found.family, found.input_size) == (name, row.family, row.input_size)
    assert found.config == default_config(name)
    assert (found.preprocessing.channels, found.preprocessing.size) == (row.input_size[0], row.input_size[2])
    assert found.layouts[0].name == "graft"
    assert resolve(name) == found


def test_timms_name_of_a_network_in_the_catalogue_is_known():
    assert resolve("mobilenetv2_100") == resolve("mobilenet_v2")
    assert resolve("resnetv2_50") == resolve("preact_resnet50")


def test_timms_names_for_networks_from_tensorflow_give_its_padding_and_epsilon():
    found = resolve("tf_mobilenetv3_small_100")
    assert found.config == replace(default_config("mobilenet_v3_small"), padding="tensorflow", batch_norm_eps=1e-3)
    assert resolve("tf_efficientnet_b0").config == Config("efficientnet_b0", 1000, 3, "tensorflow", 1e-3)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"got 'mobilenet_w2'.*did you mean 'mobilenet_v2'"):
        resolve("mobilenet_w2")


def test_a_width_chooses_the_variant_of_the_catalogue_where_there_is_one():
    whole = resolve("mobilenet_v1")
    assert at_width(whole, "0.25") == resolve("mobilenet_v1_025")
    for width in ("1.0", "0.3", "wide", "nan", "inf", "1e999"):
        assert at_width(whole, width) == whole


def test_preprocessing_is_the_custom_of_the_architecture():
    imagenet = Preprocessing(224, IMAGENET_MEAN, IMAGENET_STD)
    assert resolve("resnet50").preprocessing == imagenet
    assert resolve("resnet20").preprocessing == replace(imagenet, size=32, crop_fraction=1.0)
    assert resolve("lenet5").preprocessing == Preprocessing(28, (0.5,), (0.5,), crop_fraction=1.0)
    assert resolve("inception_v3").preprocessing == Preprocessing(299, (0.5,) * 3, (0.5,) * 3)


def test_efficientnets_have_the_crop_that_their_published_weights_were_measured_with():
    assert resolve("efficientnet_b0").preprocessing.crop_fraction == 0.875
    assert resolve("efficientnet_b3").preprocessing.crop_fraction == 0.9375
    assert resolve("efficientnet_b7").preprocessing.crop_fraction == 1.0
    assert resolve("efficientnet_lite0").preprocessing == Preprocessing(224, (0.5,) * 3, (0.5,) * 3)
    assert resolve("efficientnet_lite4").preprocessing.crop_fraction == 300 / 332


def test_it_knows_where_its_weights_are_published():
    assert resolve("resnet18").published.file_name == "resnet18-f37072fd.pth"
    assert resolve("lenet5").published is None


def test_it_builds_the_network_with_the_numbers_asked_for():
    found = resolve("resnet20")
    network = found.build(replace(found.config, classes=3, channels=1))
    assert network.config == Config("resnet20", 3, 1)
    assert resolve("googlenet_2014").has_auxiliary_variant
    assert not found.has_auxiliary_variant
