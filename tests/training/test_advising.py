"""Advice on real pictures."""

import pytest

from graft.errors import WeightsError
from graft.training.advising import advise


@pytest.mark.parametrize(("data", "scenario"), [("ants_bees", 1), ("pacs_sketch", 3)])
def test_photographs_are_like_imagenet_and_sketches_are_not(shared, data, scenario):
    told = []
    advice = advise(
        shared / "datasets" / data,
        str(shared / "weights" / "mobilenet_v1_025_imagenet.safetensors"),
        told=lambda done, total: told.append((done, total)),
    )
    assert advice.scenario == scenario
    assert told[-1][0] == told[-1][1] == advice.evidence.n
    # The probe rises with depth; chance is a half for two classes and a seventh for seven.
    assert advice.evidence.probe[-1].accuracy > advice.evidence.probe[0].accuracy + 0.15


def test_a_name_without_weights_is_refused(shared):
    with pytest.raises(WeightsError, match="resnet20"):
        advise(shared / "datasets" / "ants_bees", "resnet20")
