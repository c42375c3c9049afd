"""Networks that spend the same work on depth, on width, on resolution, or on all three."""

import pytest
import torch

from graft.lab import scaling
from graft.lab.experiment import Conditions
from graft.lab.fitting import Steps


def test_all_sizes_do_about_four_times_the_work_of_the_small_network():
    base = scaling.SIZES[scaling.BASE].macs()
    grown = {name: size.macs() for name, size in scaling.SIZES.items() if name != scaling.BASE}
    for count in grown.values():
        assert count / base == pytest.approx(4, rel=0.1)
    assert max(grown.values()) / min(grown.values()) <= scaling.ALIKE


def test_each_of_the_three_grows_in_one_dimension_and_the_rule_in_all():
    base = scaling.SIZES[scaling.BASE]
    for name, size in scaling.SIZES.items():
        grows = {
            "depth": size.blocks > base.blocks,
            "width": size.width > base.width,
            "resolution": size.side > base.side,
        }
        expected = set(grows) if name == scaling.COMPOUND else {name} & set(grows)
        assert {dimension for dimension, does in grows.items() if does} == expected


def test_a_network_sees_the_images_at_its_own_side():
    with torch.no_grad():
        images = torch.arange(28.0).expand(1, 1, 28, 28)
        seen = scaling.Resized(14)(images)
    assert seen.shape == (1, 1, 14, 14)
    # Each pixel is the mean of those that it covers, weighted by distance: no detail is picked and none lost.
    assert seen[0, 0, 0, 1:-1].tolist() == pytest.approx([2 * at + 0.5 for at in range(1, 13)], abs=1e-4)


def test_the_outcome_compares_all_three_with_each_alone(monkeypatch):
    monkeypatch.setattr(scaling, "PER_LETTER", 1)
    monkeypatch.setattr(scaling, "TEST_PER_LETTER", 1)
    monkeypatch.setattr(scaling, "RECIPE", {True: Steps(2, 0.1, batch=8)})
    outcome = scaling.run_scaling(Conditions(quick=True))
    predicted = [measure.name for measure in outcome.measures if measure.predicted == "above"]
    assert [name.split()[-2] for name in predicted] == ["depth", "width", "resolution"]
    assert all(series.x == tuple(scaling.SIZES) for series in outcome.figure.series)
