"""The arithmetic of single numbers: each step follows from those below it, and the first is the network's own."""

import math
from collections.abc import Iterator
from random import Random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from graft.accounting.arithmetic import Step, arithmetic, recomputed, weighted_sums
from graft.accounting.recording import record
from graft.models.blocks import LocalResponseNorm
from graft.models.catalog import build, default_config
from graft.models.network import Network

# One network for each way in which a family's stages end, with a small input.
NETWORKS = {
    "lenet5_1998": 32,
    "googlenet_2014": 64,
    "resnet20": 32,
    "preact_resnet20": 32,
    "densenet121": 32,
    "xception": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "efficientnet_b0": 64,
}


def trained(name: str) -> Network:
    """A network with random weights whose batch norms have seen some data."""
    torch.manual_seed(0)
    network = build(default_config(name)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return network


def every(step: Step) -> Iterator[Step]:
    yield step
    for operand in step.operands:
        yield from every(operand)


def expected(step: Step) -> float | None:
    """Recompute a step's value from its operands; None for a step that has none."""
    c, values = dict(step.constants), [each.value for each in step.operands]
    if step.sum is not None:
        return recomputed(step.sum)
    if not values:
        return None
    a = values[0]
    other = values[1] if len(values) > 1 else c.get("other", c.get("term", c.get("factor", c.get("exponent"))))
    if step.window is not None:
        numbers = step.window.values
        assert a == pytest.approx(numbers[step.window.followed])
        return float(np.nanmax(numbers) if step.operation == "max pool" else np.nanmean(numbers))
    if step.operation == "batch norm":
        return (a - c["mean"]) / math.sqrt(c["variance"] + c["epsilon"]) * c["scale"] + c["shift"]
    by_name = {
        "ReLU": lambda: max(0.0, a),
        "ReLU6": lambda: min(max(a, 0.0), 6.0),
        "SiLU": lambda: a / (1 + math.exp(-a)),
        "hard swish": lambda: a * min(max(a + 3, 0), 6) / 6,
        "tanh": lambda: math.tanh(a),
        "add": lambda: a + other,
        "subtract": lambda: a - other,
        "multiply": lambda: a * other,
        "divide": lambda: a / other,
    }
    return by_name[step.operation]()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_step_follows_from_its_numbers_and_the_first_is_the_networks(name: str) -> None:
    network, random = trained(name), Random(name)
    batch = torch.randn(1, network.config.channels, NETWORKS[name], NETWORKS[name])
    with torch.no_grad():
        maps = {**network.feature_maps(batch), "head": network(batch)}
    x, summed = batch, 0
    for stage in network.stages:
        before = x
        x, made = record(network, lambda stage=stage, before=before: network._run(stage, before))
        assert torch.equal(x, maps[stage.name])
        assert made is not None or stage.name == "pool"
        for _ in range(4 if made else 0):
            place = tuple(random.randrange(size) for size in x.shape[1:])
            step = arithmetic(made, place)
            assert step.value == float(maps[stage.name][(0, *place)])
            for each in every(step):
                value = expected(each)
                assert value is None or value == pytest.approx(each.value, rel=2e-4, abs=2e-5), (stage.name, each)
            summed += bool(weighted_sums(step))
    assert summed > 4


def test_a_window_at_the_border_says_which_of_its_places_lie_outside() -> None:
    convolution = nn.Conv2d(2, 3, 3, stride=2, padding=1)
    batch = torch.randn(1, 2, 6, 6)
    _, made = record(convolution, lambda: convolution(batch))
    (total,) = weighted_sums(arithmetic(made, (1, 0, 0)))
    assert (total.top, total.left, total.stride) == (-1, -1, 2)
    assert np.isnan(total.inputs[:, 0]).all() and np.isnan(total.inputs[:, :, 0]).all()
    assert np.allclose(total.inputs[:, 1:, 1:], batch[0, :, :2, :2].numpy())


def test_response_normalisation_divides_what_a_pool_then_chooses_from() -> None:
    """AlexNet's first stages end like this."""
    module = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2), nn.ReLU(inplace=True), LocalResponseNorm(alpha=0.5), nn.MaxPool2d(3, 2)
    )
    batch = torch.randn(1, 4, 12, 12)
    output, made = record(module, lambda: module(batch))
    place = tuple(int(each) for each in np.unravel_index(int(output.argmax()), output.shape))[1:]
    step = arithmetic(made, place)
    assert [each.operation for each in every(step)] == ["max pool", "divide", "ReLU", "convolution", "divisor"]
    for each in every(step):
        value = expected(each)
        assert value is None or value == pytest.approx(each.value, rel=1e-4)


def test_groups_name_the_channels_that_a_filter_sees() -> None:
    convolution = nn.Conv2d(6, 6, 1, groups=3)
    batch = torch.randn(1, 6, 2, 2)
    output, made = record(convolution, lambda: convolution(batch))
    (total,) = weighted_sums(arithmetic(made, (3, 1, 0)))
    assert (total.first, len(total.weights)) == (2, 2)
    assert recomputed(total) == pytest.approx(output[0, 3, 1, 0].item(), abs=1e-6)


def test_what_was_overwritten_in_place_is_still_known() -> None:
    module = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(inplace=True))
    nn.init.constant_(module[0].weight, -1.0)
    nn.init.zeros_(module[0].bias)
    _, made = record(module, lambda: module(torch.full((1, 1, 1, 1), 2.0)))
    step = arithmetic(made, (0, 0, 0))
    assert (step.operation, step.value, step.operands[0].value) == ("ReLU", 0.0, -2.0)


def test_a_shortcut_is_told_and_the_other_branch_is_followed() -> None:
    network = trained("resnet20")
    x = network.feature_maps(torch.randn(1, 3, 32, 32))["stem"].detach()
    stage = network.stages[1]
    _, made = record(network, lambda: network._run(stage, x))
    add = arithmetic(made, (3, 5, 5)).operands[0]
    assert (add.operation, [each.operation for each in add.operands]) == ("add", ["batch norm", "shortcut"])


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor([2.0, 3.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def test_a_modules_own_tensor_is_a_constant_on_either_side() -> None:
    module, batch = Scaled(), torch.ones(1, 2)
    _, made = record(module, lambda: module(batch))
    step = arithmetic(made, (1,))
    assert step.constants == (("factor", 3.0),)
    assert [each.operation for each in step.operands] == ["input"]


def test_recording_leaves_no_hooks_behind() -> None:
    module = nn.Linear(2, 2)
    with pytest.raises(RuntimeError):
        record(module, lambda: module(torch.ones(1, 3)))
    assert not module._forward_hooks and not module._forward_pre_hooks
