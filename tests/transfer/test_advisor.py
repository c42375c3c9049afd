"""The textbook's rule on what was measured."""

import numpy as np
import pytest
import torch

from graft.models.catalog import build, default_config
from graft.models.network import Network
from graft.transfer.advisor import advise
from graft.transfer.evidence import Evidence
from graft.transfer.probe import StageProbe
from graft.transfer.shift import Shift, StageShift


@pytest.fixture(scope="module")
def network() -> Network:
    with torch.device("meta"):
        return build(default_config("resnet50"))


def evidence(shift: float | None, best: str = "pool") -> Evidence:
    """Measurements in which every stage has the same shift and `best` separates the classes best."""
    names = ("stem", "stage1", "stage2", "stage3", "stage4", "pool")
    rows = tuple(StageShift(name, shift) for name in names)
    probes = tuple(StageProbe(name, 0.9 if name == best else 0.6, (0.5, 0.95), 100) for name in names)
    return Evidence(100, Shift(rows, (shift,) * 4, None if shift is not None else "no batch norm"), probes, ())


@pytest.mark.parametrize(
    ("per_class", "shift", "scenario", "level", "cut"),
    [
        (50, 0.05, 1, "head", "pool"),
        (5000, 0.05, 2, "frozen:0.7", "stage3"),
        (50, 0.4, 3, "frozen:0.4", "stage2"),
        (5000, 0.4, 4, "all", "input"),
    ],
)
def test_size_and_likeness_make_the_four_scenarios(network, per_class, shift, scenario, level, cut):
    advice = advise(network, evidence(shift), {"a": per_class, "b": per_class, "rare": 1})
    assert (advice.scenario, advice.plan.level, advice.plan.cut) == (scenario, level, cut)
    assert any(f"scenario {scenario}" in reason for reason in advice.plan.reasons)
    assert any("does best on pool: 90.0%" in reason for reason in advice.plan.reasons)


def test_without_batch_norm_the_probe_says_whether_pictures_are_like_the_bases_own(network):
    counts = {"a": 50, "b": 50}
    assert advise(network, evidence(None, best="stage4"), counts).scenario == 1
    assert advise(network, evidence(None, best="stage2"), counts).scenario == 3
    assert any("no batch norm" in reason for reason in advise(network, evidence(None), counts).plan.reasons)


def test_without_any_measurement_likeness_is_assumed_and_said(network):
    nothing = Evidence(0, Shift((), (None,) * 4, "no batch norm"), (), ())
    advice = advise(network, nothing, {"a": 50})
    assert advice.scenario == 1
    assert any("assumed" in reason for reason in advice.plan.reasons)


def test_the_advice_as_json_has_the_keys_of_the_contract(network):
    facts = advise(network, evidence(0.05), {"a": 50}).to_dict()
    assert facts.keys() >= {"level", "cut", "scenario", "reasons", "evidence"}
    assert facts["evidence"]["shift"][0] == {"stage": "stem", "value": 0.05}
    assert facts["evidence"]["probe"][0].keys() >= {"stage", "accuracy", "ci95"}
    assert np.isclose(facts["evidence"]["mean_shift"], 0.05)
