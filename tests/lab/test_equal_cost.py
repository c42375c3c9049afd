"""Networks of equal cost: small or large kernels, reduced or naive modules, separable or full convolutions."""

import pytest
import torch
from torch import nn

from graft.accounting.counting import account
from graft.lab import equal_cost
from graft.lab.experiment import Conditions
from graft.lab.fitting import Steps

PAIRS = (
    (equal_cost.KERNEL_NETWORKS, equal_cost.TWO_3, equal_cost.ONE_5),
    (equal_cost.KERNEL_NETWORKS, equal_cost.THREE_3, equal_cost.ONE_7),
    (equal_cost.INCEPTION_NETWORKS, equal_cost.REDUCED, equal_cost.WHOLE),
    (equal_cost.SEPARABLE_NETWORKS, equal_cost.PARTED, equal_cost.FULL),
)


@pytest.mark.parametrize(("networks", "better", "other"), PAIRS)
def test_the_two_of_a_pair_do_the_same_work(networks, better, other):
    works = [equal_cost.multiply_adds(networks[name]) for name in (better, other)]
    assert max(works) / min(works) <= equal_cost.ALIKE
    logits = networks[better]().eval()(torch.zeros(2, 1, 28, 28))
    assert logits.shape == networks[other]().eval()(torch.zeros(2, 1, 28, 28)).shape == (2, len(equal_cost.ALPHABET))


def kernels(network: nn.Module) -> list[int]:
    return [module.kernel_size[0] for module in network.modules() if isinstance(module, nn.Conv2d)]


def test_a_stage_of_small_kernels_sees_as_far_as_one_large_one():
    for small, large in ((equal_cost.TWO_3, equal_cost.ONE_5), (equal_cost.THREE_3, equal_cost.ONE_7)):
        reach = [sum(side - 1 for side in kernels(equal_cost.KERNEL_NETWORKS[name]())) for name in (small, large)]
        assert reach[0] == reach[1]


def test_a_naive_module_passes_on_all_that_its_pool_gets_and_a_reduced_one_costs_less_of_the_same_width():
    widths = (16, 32, 16, 16)
    naive, reduced = (equal_cost.Inception(64, widths, reduced) for reduced in (False, True))
    assert naive.channels == 16 + 32 + 16 + 64
    assert reduced.channels == sum(widths)
    x = torch.zeros(1, 64, 8, 8)
    assert naive(x).shape == (1, naive.channels, 8, 8) and reduced(x).shape == (1, reduced.channels, 8, 8)
    assert account(reduced, (64, 8, 8)).macs < account(naive, (64, 8, 8)).macs / 2


def test_a_separable_network_has_one_kernel_for_each_channel_and_mixes_them_afterwards():
    network = equal_cost.of_separable(True, 8)
    depthwise = [module for module in network.modules() if isinstance(module, nn.Conv2d) and module.groups > 1]
    assert [each.groups for each in depthwise] == [8, 16]
    assert all(each.groups == each.in_channels == each.out_channels for each in depthwise)
    assert not any(
        module.groups > 1 for module in equal_cost.of_separable(False, 8).modules() if isinstance(module, nn.Conv2d)
    )


@pytest.mark.parametrize("run", [equal_cost.run_kernels, equal_cost.run_reduction, equal_cost.run_separation])
def test_an_outcome_compares_the_test_letters_of_each_pair(run, monkeypatch):
    monkeypatch.setattr(equal_cost, "PER_LETTER", 1)
    monkeypatch.setattr(equal_cost, "TEST_PER_LETTER", 1)
    monkeypatch.setattr(equal_cost, "RECIPE", {True: Steps(2, 0.1, batch=8)})
    outcome = run(Conditions(quick=True))
    predicted = [measure for measure in outcome.measures if measure.predicted == "above"]
    counted = [measure for measure in outcome.measures if measure.predicted is None]
    assert len(predicted) == len(counted) == (2 if run is equal_cost.run_kernels else 1)
    assert all(1 <= measure.value <= equal_cost.ALIKE for measure in counted)
