"""The `Preprocessing` value: its JSON form, what it refuses, and `normalise`."""

import json
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import torch

from graft.errors import InputError, WeightsError
from graft.images.preprocessing import Preprocessing, normalise

COLOUR = Preprocessing(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
GREY = Preprocessing(28, (0.1307,), (0.3081,), resize_mode="letterbox", crop_fraction=1.0)


@pytest.mark.parametrize("preprocessing", [COLOUR, GREY])
def test_json_gives_back_the_same_value(preprocessing: Preprocessing) -> None:
    written = preprocessing.to_dict()
    assert json.loads(json.dumps(written)) == written
    assert Preprocessing.from_dict(json.loads(json.dumps(written))) == preprocessing


def test_channels_are_counted_by_the_mean() -> None:
    assert (COLOUR.channels, GREY.channels) == (3, 1)


def test_fit_and_crop_have_the_usual_defaults() -> None:
    assert Preprocessing.from_dict({"size": 224, "mean": [0.5], "std": [1]}) == Preprocessing(224, (0.5,), (1.0,))
    assert (COLOUR.resize_mode, COLOUR.crop_fraction) == ("crop", 224 / 256)


def test_the_value_is_frozen_and_hashable() -> None:
    with pytest.raises(FrozenInstanceError):
        COLOUR.size = 32  # type: ignore[misc]
    assert hash(COLOUR) == hash(Preprocessing.from_dict(COLOUR.to_dict()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "expected size to be a whole number of pixels from 1 to 9,000 .* got 0: correct"),
        ({"size": -224}, "got -224"),
        ({"size": 10**9}, "got 1000000000"),
        ({"size": 224.0}, "got 224.0"),
        ({"size": True}, "got True"),
        ({"size": "224"}, "got '224'"),
        ({"mean": 0.5}, "expected mean to be a list of one number"),
        ({"mean": []}, "expected mean to be a list"),
        ({"mean": [0.5, 0.5]}, "expected mean and std to have one number each per channel .* got '2 and 3'"),
        ({"mean": [0.5] * 513}, "expected mean to be a list"),
        ({"mean": [0.5, 0.5, "0.5"]}, "expected mean to be a list"),
        ({"mean": [0.5, 0.5, float("nan")]}, "expected mean to be a list"),
        ({"mean": [0.5]}, "expected mean and std to have one number each per channel .* got '1 and 3'"),
        ({"std": [0.2, 0.2, None]}, "expected std to be a list"),
        ({"std": [0.2, 0.2, float("inf")]}, "expected std to be a list"),
        ({"std": [10**400] * 3}, "expected std to be a list"),
        ({"std": [0.2, 0.0, 0.2]}, "expected std to be above zero"),
        ({"std": [0.2, -0.2, 0.2]}, "expected std to be above zero"),
        (
            {"resize_mode": "leterbox"},
            "expected resize_mode to be one of crop, letterbox, squash .* .did you mean 'letterbox'",
        ),
        ({"resize_mode": None}, "expected resize_mode to be one of"),
        ({"resize_mode": ["crop"]}, "expected resize_mode to be one of"),
        ({"crop_fraction": 0}, "expected crop_fraction to be above 0 and at most 1"),
        ({"crop_fraction": 1.1}, "got 1.1"),
        ({"crop_fraction": "0.9"}, "got '0.9'"),
        ({"crop_fraction": float("nan")}, "got nan"),
        ({"crop_fration": 0.9}, "expected only the entries .* got 'crop_fration' .did you mean 'crop_fraction'"),
        ({3: 4}, "expected only the entries .* got 3"),
    ],
)
def test_wrong_entries_are_named(change: dict[Any, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        Preprocessing.from_dict({**COLOUR.to_dict(), **change})


@pytest.mark.parametrize("name", ["size", "mean", "std"])
def test_missing_entries_are_named(name: str) -> None:
    values = COLOUR.to_dict()
    del values[name]
    with pytest.raises(WeightsError, match=f"expected an entry '{name}'"):
        Preprocessing.from_dict(values)


@pytest.mark.parametrize("values", [None, [], "crop", 3])
def test_what_is_not_an_object_is_refused(values: Any) -> None:
    with pytest.raises(WeightsError, match="expected an object"):
        Preprocessing.from_dict(values)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalise_subtracts_and_divides_per_channel(layout: torch.memory_format) -> None:
    batch = torch.arange(256, dtype=torch.uint8).repeat(2, 3, 1, 1).contiguous(memory_format=layout)  # (2, 3, 1, 256)
    before = batch.clone()
    output = normalise(batch, COLOUR)
    mean, std = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (COLOUR.mean, COLOUR.std))
    assert output.dtype == torch.float32 and output.shape == batch.shape
    assert output.is_contiguous(memory_format=layout)
    torch.testing.assert_close(output.double(), (batch.double() / 255 - mean) / std, rtol=1e-6, atol=1e-6)
    assert torch.equal(batch, before)


def test_normalise_leaves_a_float_batch_alone() -> None:
    batch = torch.full((1, 1, 2, 2), 255.0)
    torch.testing.assert_close(normalise(batch, GREY), torch.full((1, 1, 2, 2), (1 - 0.1307) / 0.3081))
    assert (batch == 255).all()


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (3, 4, 4), (2, 4, 4, 3)])
def test_normalise_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected a batch of shape \(N, 3, H, W\), got "):
        normalise(torch.zeros(shape, dtype=torch.uint8), COLOUR)


def test_levels_of_deep_images_travel_in_json_and_are_left_out_where_there_are_none() -> None:
    plain = Preprocessing(32, (0.5,), (0.25,))
    deep = replace(plain, levels=(("float", -1.0, 1.0), ("uint16", 0.0, 4095.0)))
    assert "levels" not in plain.to_dict()
    assert Preprocessing.from_dict(json.loads(json.dumps(deep.to_dict()))) == deep


@pytest.mark.parametrize(
    "levels",
    [
        *([], "uint16", {"uint16": 5}, {"uint16": [5]}, {"uint16": [5, 5]}, {"uint16": [9, 5]}),
        *({"uint16": [0, float("nan")]}, {"uint16": [0, float("inf")]}, {"uint16": ["0", "9"]}),
        {"uint16": [False, True]},
    ],
    ids=str,
)
def test_levels_that_are_no_ranges_are_refused(levels: object) -> None:
    values = Preprocessing(32, (0.5,), (0.25,)).to_dict() | {"levels": levels}
    with pytest.raises(WeightsError, match="expected levels to be two numbers, black and a greater one for white"):
        Preprocessing.from_dict(values)
