"""The textbook's rule, applied to measurements."""

import html
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from graft.evaluation.intervals import wilson_interval
from graft.models.catalog import build, default_config
from graft.models.network import Network
from graft.transfer.advisor import TrainingCost, apply_textbook, decide, expected_gain, goes_beyond, plausible
from graft.transfer.evidence import Evidence
from graft.transfer.levels import Plan
from graft.transfer.probe import StageProbe
from graft.transfer.race import Standing
from graft.transfer.shift import Shift, StageShift


@pytest.fixture(scope="module")
def network() -> Network:
    with torch.device("meta"):
        return build(default_config("resnet50"))


def evidence(shift: float | None, best: str = "pool") -> Evidence:
    """Measurements in which every stage has the same shift and `best` separates the classes best."""
    names = ("stem", "stage1", "stage2", "stage3", "stage4", "pool")
    rows = tuple(StageShift(name, shift) for name in names)
    probes = tuple(StageProbe(name, 0.9 if name == best else 0.6, (0.55, 0.95), 100) for name in names)
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
    advice = decide(network, evidence(shift), {"a": per_class, "b": per_class, "rare": 1})
    assert (advice.scenario, advice.plan.level, advice.plan.cut) == (scenario, level, cut)
    assert any(f"scenario {scenario}" in reason for reason in advice.plan.reasons)
    assert any("does best on pool: 90.0%" in reason for reason in advice.plan.reasons)


def test_without_batch_norm_the_probe_says_whether_images_are_like_the_bases_own(network):
    counts = {"a": 50, "b": 50}
    assert decide(network, evidence(None, best="stage4"), counts).scenario == 1
    assert decide(network, evidence(None, best="stage2"), counts).scenario == 3
    assert any("no batch norm" in reason for reason in decide(network, evidence(None), counts).plan.reasons)


def test_without_any_measurement_likeness_is_assumed_and_said(network):
    nothing = Evidence(0, Shift((), (None,) * 4, "no batch norm"), (), ())
    advice = decide(network, nothing, {"a": 50})
    assert advice.scenario == 1
    assert any("assumed" in reason for reason in advice.plan.reasons)


def test_the_advice_as_json_has_the_keys_of_the_contract(network):
    facts = decide(network, evidence(0.05), {"a": 50}).to_dict()
    assert facts.keys() >= {"level", "cut", "scenario", "reasons", "evidence"}
    assert facts["evidence"]["shift"][0] == {"stage": "stem", "value": 0.05}
    assert facts["evidence"]["probe"][0].keys() >= {"stage", "accuracy", "ci95"}
    assert np.isclose(facts["evidence"]["mean_shift"], 0.05)


def standing(level, gain, expected, n=200, accuracy=0.7):
    if gain is None:
        return Standing(level, 0, None, 0, None, None, expected, 0.02, 0.0)
    return Standing(level, n, accuracy, n, gain, 0.03, expected, 0.02, 3.0)


def test_the_race_decides_where_there_was_one_and_its_figures_are_among_the_reasons(network):
    standings = [
        standing("head", 0.0, 0.0),
        standing("head:stages", 0.06, 0.05),
        standing("frozen:0.4", -0.1, -0.02),
    ]
    advice = decide(network, evidence(0.4), {"a": 50, "b": 50}, standings)
    assert (advice.plan.level, advice.plan.cut) == ("head:stages", "pool")
    assert (advice.scenario, advice.textbook) == (3, "frozen:0.4")
    for level, gain in (("head:stages", "+6.0%"), ("frozen:0.4", "-10.0%")):
        assert any(f"{level} gained {gain}" in reason and "200 images" in reason for reason in advice.plan.reasons)
    assert advice.accuracy == pytest.approx(0.75)
    low, high = advice.accuracy_ci95
    assert low < 0.70 < 0.80 < high
    assert [row["level"] for row in advice.to_dict()["evidence"]["race"]] == ["head", "head:stages", "frozen:0.4"]


def test_a_head_that_nothing_beats_is_explained_with_what_the_others_gained(network):
    standings = [standing("head", 0.0, 0.0), standing("head:stages", -0.02, -0.01), standing("frozen:0.4", None, 0.1)]
    advice = decide(network, evidence(0.02), {"a": 50, "b": 50}, standings)
    assert advice.plan.level == "head"
    assert "no level is expected to beat the head" in advice.plan.reasons
    assert any("but head:stages gained -2.0%" in reason for reason in advice.plan.reasons)
    # A level that was not tried has no measurement, so no gain is mentioned.
    assert not any("frozen:0.4 gained" in reason for reason in advice.plan.reasons)
    alone = decide(network, evidence(0.02), {"a": 50, "b": 50}, [standings[0], standings[2]])
    assert alone.plan.level == "head" and "only the head was tried" in alone.plan.reasons


def test_a_level_that_there_is_no_time_for_is_passed_over_and_said(network):
    standings = [standing("head", 0.0, 0.0), standing("head:stages", -0.06, -0.04), standing("frozen:0.4", 0.1, 0.08)]
    chosen = decide(network, evidence(0.4), {"a": 50}, standings, too_long=["frozen:0.4"])
    assert chosen.plan.level == "head" and chosen.accuracy == pytest.approx(0.7)
    assert "no time is left to train frozen:0.4 again" in chosen.plan.reasons
    assert "no level is expected to beat the head" not in chosen.plan.reasons
    assert any(reason.startswith("frozen:0.4 gained +10.0%") for reason in chosen.plan.reasons)


def test_what_a_level_is_expected_to_add_is_said_of_the_one_that_it_begins_with(network):
    beyond = replace(standing("frozen:0.4", -0.06, 0.058), beyond="head:stages")
    standings = [standing("head", 0.0, 0.0), standing("head:stages", 0.062, 0.038), beyond]
    reasons = decide(network, evidence(0.4), {"a": 50}, standings).plan.reasons
    assert any(
        "what it is expected to add to head:stages, which it begins with, that is +5.8%" in reason for reason in reasons
    )


def test_a_level_that_the_winner_cannot_be_told_from_is_named(network):
    standings = [standing("head", 0.0, 0.0), standing("head:stages", 0.06, 0.04), standing("frozen:0.4", 0.05, 0.05)]
    reasons = decide(network, evidence(0.4), {"a": 50}, standings).plan.reasons
    assert reasons[-1] == "within the uncertainty of that: head:stages"
    # The same holds if the head wins, whose gain over itself is certain.
    head = replace(standing("head", 0.0, 0.0), deviation=0.0)
    standings = [head, standing("head:stages", -0.02, -0.06), standing("frozen:0.4", -0.01, -0.01)]
    reasons = decide(network, evidence(0.02), {"a": 50}, standings).plan.reasons
    assert reasons[-1] == "within the uncertainty of that: frozen:0.4"


def test_a_head_that_is_always_right_is_not_certain_to_be(network):
    head = replace(standing("head", 0.0, 0.0, n=20, accuracy=1.0), deviation=0.0)
    advice = decide(network, evidence(0.02), {"a": 10, "b": 10}, [head])
    assert advice.accuracy == 1 and advice.accuracy_ci95 == pytest.approx(wilson_interval(20, 20))
    grouped = decide(network, evidence(0.02), {"a": 10, "b": 10}, [head], worth=4.0)
    assert grouped.accuracy_ci95 == pytest.approx(wilson_interval(4, 4))


HEAD, STAGES, TUNED = (
    Plan("head", "pool", ()),
    Plan("head:stages", "pool", (), "stages"),
    Plan("frozen:0.4", "stage2", ()),
)


def test_training_that_begins_with_a_head_over_several_stages_is_expected_to_go_beyond_it():
    wide = replace(TUNED, head="stages:stage2")
    assert [goes_beyond(each) for each in (HEAD, STAGES, TUNED, wide)] == [None, None, None, "head:stages"]
    expected = {expected_gain(wide, similar, number) for similar in (True, False) for number in (1, 20, 1000)}
    assert len(expected) == 1 and expected.pop()[0] > 0


def test_more_is_expected_of_training_where_images_are_unlike_the_bases_own(network):
    counts = {"a": 50, "b": 50}
    assert apply_textbook(evidence(0.02), counts).similar and not apply_textbook(evidence(0.4), counts).similar
    assert expected_gain(HEAD, True, 20) == expected_gain(HEAD, False, 20) == (0.0, 0.0)
    for plan in (STAGES, TUNED):
        for number in (1, 20, 1000):
            assert expected_gain(plan, False, number)[0] > expected_gain(plan, True, number)[0]
            assert all(expected_gain(plan, similar, number)[1] > 0 for similar in (True, False))
    assert expected_gain(TUNED, False, 20)[0] > expected_gain(STAGES, False, 20)[0]


def test_of_similar_images_many_per_class_are_worth_training_on_and_a_few_are_not(network):
    assert apply_textbook(evidence(0.02), {"a": 20, "b": 30, "c": 400}).per_class == 30
    gains = [expected_gain(TUNED, True, number)[0] for number in (1, 10, 40, 100, 100_000)]
    assert gains == sorted(gains) and gains[1] < -0.02 and gains[2] == 0 and 0.01 < gains[3] <= gains[4] <= 0.02
    assert expected_gain(STAGES, True, 1) == expected_gain(STAGES, True, 1000)


def test_two_heads_and_a_level_that_trains_stages_are_tried_cheapest_first(network):
    assert [replace(each, reasons=()) for each in plausible(network)] == [HEAD, STAGES, TUNED]


def test_a_base_that_separates_nothing_is_warned_of(network):
    names = ("stem", "stage1", "stage2", "stage3", "stage4", "pool")
    probes = tuple(StageProbe(name, 0.52, (0.42, 0.62), 100) for name in names)
    blind = Evidence(100, Shift(tuple(StageShift(name, 0.4) for name in names), (0.4,) * 4), probes, ())
    warning = decide(network, blind, {"a": 50, "b": 50}).warning
    assert "does not suit" in warning and "52.0%" in warning
    assert decide(network, evidence(0.4), {"a": 50, "b": 50}).warning is None


def test_the_advice_of_a_notebook_has_the_measurements_the_race_the_choice_and_the_reasons(network):
    standings = [standing("head", 0.0, 0.0), standing("stages:1", 0.06, 0.05), standing("all", None, -0.02)]
    cost = TrainingCost(12.4, 300 * 2**20, 2**20)
    advice = decide(network, evidence(0.4), {"a": 50, "b": 50}, standings, cost)
    page = advice._repr_html_()
    stages, race = re.findall("<table>.*?</table>", page)
    assert [re.findall(">([^<>]+)</t[hd]>", row) for row in stages.split("<tr>")[2:]][-1] == [
        "pool", "0.400", "90.0%", "55.0% to 95.0%"
    ]  # fmt: skip
    assert "stages:1 *" in race and "+6.0 ± 5.9" in race and "head *" not in race
    assert "level stages:1, cut stage3" in page and "about 12 s of training, 300 MiB of memory, 1 MiB of cache" in page
    assert all(html.escape(reason) in page for reason in advice.plan.reasons)
    assert "<table>" in page and page.count("<table>") == 2
    assert decide(network, evidence(0.4), {"a": 50})._repr_html_().count("<table>") == 1


def test_nothing_in_the_advice_of_a_notebook_is_taken_for_markup(network):
    evil = '<script>alert("1")</script>'
    shift = Shift((StageShift(evil, 0.4),), (0.4,) * 4)
    measured = Evidence(9, shift, (StageProbe(evil, 0.9, (0.8, 1.0), 9),), (), (evil,))
    page = decide(network, measured, {"a": 50, "b": 50})._repr_html_()
    # The stage, and the reason and the note that name it.
    assert "<script" not in page and page.count(html.escape(evil)) >= 3


def test_values_print_on_one_short_line(network):
    standings = [standing("head", 0.0, 0.0), standing("stages:1", 1 / 17, 0.05)]
    advice = decide(network, evidence(0.4), {"a": 50, "b": 50}, standings)
    low, high = advice.accuracy_ci95
    assert repr(advice) == f"Advice(level='stages:1', cut='stage3', accuracy=0.750 ({low:.3f} to {high:.3f}))"
    assert repr(decide(network, evidence(0.4), {"a": 50})) == "Advice(level='frozen:0.4', cut='stage2')"
    assert repr(advice.plan) == "Plan(level='stages:1', cut='stage3')"
    assert repr(advice.race[1]) == "Standing(level='stages:1', gain=+0.059 on 200 images, expected=+0.050 ± 0.039)"
    assert repr(advice.evidence) == "Evidence(n=100, mean shift=0.400, best probe 0.900 on 'pool')"
