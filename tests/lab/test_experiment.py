"""When a claim holds, and what is stored of an outcome."""

import json
import re

import pytest

from graft.errors import InputError
from graft.lab.catalog import EXPERIMENTS, experiment
from graft.lab.drawn import draw
from graft.lab.experiment import Conditions, Figure, Measure, Outcome, Series, exactly, over_seeds
from graft.lab.record import Record, perform, recorded, write


def outcome(*measures: Measure) -> Outcome:
    return Outcome("", measures, Figure("", "", "", ()), "")


def test_the_interval_over_seeds_is_students():
    # t of 0.975 with 2 degrees of freedom is 4.302653; the deviation of 1, 2, 3 is 1.
    measure = over_seeds("m", [1, 2, 3])
    half = 4.302653 / 3**0.5
    assert (measure.low, measure.value, measure.high) == pytest.approx((2 - half, 2, 2 + half))
    with pytest.raises(ValueError, match="2 seeds or more"):
        over_seeds("m", [1])


@pytest.mark.parametrize(
    ("low", "high", "side", "verdict"),
    [
        (0.1, 0.3, "above", "held"),
        (-0.1, 0.3, "above", "undecided"),
        (-0.3, -0.1, "above", "did not hold"),
        (-0.3, -0.1, "below", "held"),
        (-0.3, 0.1, "below", "undecided"),
        (0.1, 0.3, "below", "did not hold"),
        (0.0, 0.0, "equal", "held"),
        (0.1, 0.3, "equal", "did not hold"),
    ],
)
def test_a_claim_holds_only_where_the_whole_interval_is_on_its_side(low, high, side, verdict):
    assert Measure("m", (low + high) / 2, low, high, side).verdict == verdict


def test_one_figure_that_fails_or_is_undecided_decides_the_whole():
    held, undecided = exactly("m", 1, "above"), Measure("m", 0, -1, 1, "above")
    failed = exactly("m", -1, "above")
    assert outcome(held, exactly("informs", 3)).verdict == "held"
    assert outcome(held, undecided).verdict == "undecided"
    assert outcome(exactly("informs", 3)).verdict == "undecided"
    assert outcome(held, undecided, failed).verdict == "did not hold"


@pytest.mark.parametrize("x", [(1.0, 2.0), ("a", "b")])
def test_the_same_figure_gives_the_same_bytes_with_text_as_text(x):
    figure = Figure("Title", "x", "y", (Series("one", x, (1.0, 2.0), (0.1, 0.1)),))
    drawn = draw(figure)
    assert drawn == draw(figure)
    assert b">Title<" in drawn
    assert b"<script" not in drawn


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("lenet", "did you mean 'lenet-1998'?"),
        ("T3", "a claim, measured by frozen"),
        ("n2", "a claim, measured by lenet-1998, lenet-today"),
        ("N99", "got 'N99': `graft lab`"),
    ],
)
def test_a_name_that_is_none_is_told_with_what_may_be_meant(typed, told):
    with pytest.raises(InputError, match=re.escape(told)):
        experiment(typed)


def test_every_experiment_is_named_once_and_speaks_of_claims():
    for name, each in EXPERIMENTS.items():
        assert each.name == name
        assert each.claims
        assert each.claim.endswith(".")
        assert each.seconds <= 90, f"the quick form of {name} is to take 90 s at most"


def test_an_unknown_experiment_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="stacked"):
        experiment("staked")


def test_a_record_is_read_back_as_it_was_written(tmp_path):
    record = perform(experiment("pointwise"), Conditions(quick=True))
    figures, drawing = write(record, tmp_path / "results")
    assert [figures.name, drawing.name] == ["pointwise-quick.json", "pointwise-quick.svg"]
    assert json.loads(figures.read_text()) == recorded(tmp_path / "results", "pointwise") == record.to_dict()
    assert recorded(tmp_path, "pointwise") is None


def test_the_full_form_is_what_is_read_where_both_are_kept(tmp_path):
    for quick in (False, True):
        write(perform(experiment("pointwise"), Conditions(quick=quick)), tmp_path)
    assert recorded(tmp_path, "pointwise")["quick"] is False


def test_data_that_an_experiment_does_not_take_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected no `data` for pointwise"):
        perform(experiment("pointwise"), Conditions(data=tmp_path))
    with pytest.raises(InputError, match="does not exist"):
        perform(experiment("lenet-1998"), Conditions(data=tmp_path / "none"))


def test_a_record_has_the_command_that_gives_it_again(tmp_path):
    own = perform(experiment("pointwise"), Conditions(quick=True, seed=3))
    assert own.to_dict()["command"] == "graft lab pointwise --quick --seed 3"
    # Where the user named images, a fresh install needs them too.
    named = Record(experiment("lenet-1998"), quick=False, seed=0, outcome=outcome(), seconds=1.0, with_data=True)
    assert named.to_dict()["command"] == "graft lab lenet-1998 --data DATA"
