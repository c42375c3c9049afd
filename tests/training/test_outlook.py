"""What a training run is going to do, said before it begins."""

import pytest
import torch

from graft.accounting.counting import account
from graft.models.catalog import build, default_config
from graft.training.outlook import outlook
from graft.training.recipe import Recipe
from graft.transfer.levels import plan_level


@pytest.fixture(scope="module")
def network():
    with torch.device("meta"):
        return build(default_config("mobilenet_v2"))


@pytest.mark.parametrize(("level", "frozen"), [("head", 10), ("stages:2", 7), ("all", 0)])
def test_frozen_stages_cost_one_pass_and_training_stages_three_in_every_epoch(level, frozen, network):
    found = outlook(network, plan_level(level, network, True), Recipe(epochs=6).resolve(True), 5, 100, (3, 224, 224))
    table = account(network, (3, 224, 224))
    assert [row.stage for row in found.stages] == [stage.name for stage in network.stages]
    # The new head has five classes.
    assert found.stages[-1].parameters == 1281 * 5
    assert sum(row.macs for row in found.stages) == table.macs - 1280 * 995
    with_weights = [row for row in found.stages if row.parameters]
    assert [row.trains for row in with_weights].count(False) == min(frozen, len(with_weights) - 1)
    for row in found.stages:
        passes = 3 * 6 if row.trains and level != "head" else 1
        assert row.total_macs == row.macs * 100 * passes
        assert (row.learning_rate is None) == (not row.trains or level == "head")


def test_as_is_trains_nothing_and_keeps_the_classes(network):
    found = outlook(network, plan_level("as-is", network, True), Recipe().resolve(True), 2, 10, (3, 224, 224))
    assert not any(row.trains for row in found.stages)
    assert found.stages[-1].parameters == 1281 * 1000
    assert found.trained_parameters == found.epochs == 0
