"""The contract of a network: stages, cuts, features, heads; for every architecture of the catalogue."""

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from repeating import repeating_draws
from torch import Tensor, nn

from graft.accounting.dry_run import DryRun
from graft.errors import CutError, InputError
from graft.models.catalog import CATALOG, build, default_config
from graft.models.efficientnet import StochasticDepth
from graft.models.network import Config, Network, PaddingRule, Section, freeze, parameter_count, state_shapes

# Small enough for every test to be quick, large enough that the last map has several pixels for batch norm.
SIDES = {
    **{name: min(row.input_size[-1], 64) for name, row in CATALOG.items()},
    **{name: 139 for name, row in CATALOG.items() if row.input_size[-1] == 299},
    "alexnet_2012": 99,
    "alexnet": 99,
}


# The first network of each family, which is tried at every cut; its sisters are made of the same stages.
FIRST = {*{row.family: name for name, row in reversed(CATALOG.items())}.values(), "resnet18", "resnet50", "googlenet"}


def some_cuts(network: Network) -> tuple[str, ...]:
    """All cuts of a family's first network; of the others the first, the one in the middle and the last two."""
    cuts = network.cuts
    return cuts if network.config.architecture in FIRST else (cuts[0], cuts[len(cuts) // 2], *cuts[-2:])


# Every map is the side divided by the stride, rounded up.
PADDED = re.compile("^(preact_)?resnet|^plain|^mobilenet|^efficientnet|^densenet|^vgg|^googlenet$")


def made(name: str) -> Network:
    torch.manual_seed(0)
    with repeating_draws():
        network = build(default_config(name))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            # As after training: statistics that are not those of a fresh layer.
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def images(name: str, count: int = 1, side: int | None = None) -> Tensor:
    side = side or SIDES[name]
    return torch.randn(count, CATALOG[name].input_size[0], side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=list(CATALOG))
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """Every network of the catalogue in turn; a test that changes it makes its own."""
    yield made(request.param)


@dataclass(frozen=True)
class Answers:
    """A network's outputs for an image `x`, computed once."""

    x: Tensor
    maps: dict[str, Tensor]
    pooled: Tensor
    logits: Tensor


@pytest.fixture(scope="module")
def answers(network: Network) -> Answers:
    x = images(network.config.architecture)
    with torch.no_grad():
        return Answers(x, network.feature_maps(x), network.pooled(x), network(x))


def sharing_tensors(network: Network) -> Network:
    """Another network of the same tensors, which may be given another head."""
    tensors = [*network.parameters(), *network.buffers()]
    return copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})


@torch.no_grad()
def test_trunk_and_crown_at_every_cut_give_what_the_network_gives(network, answers):
    x, logits = answers.x, answers.logits
    assert logits.shape == (1, network.config.classes)
    assert logits.std() > 0
    assert network.cuts == ("input", *(stage.name for stage in network.stages))
    # The next test but one checks that the trunk of each cut gives these outputs.
    maps = {"input": x, **answers.maps, network.cuts[-1]: network.split(network.cuts[-1])[0](x)}
    for cut in some_cuts(network):
        assert torch.equal(network.split(cut)[1](maps[cut]), logits), cut


def test_a_cut_shares_parameters_and_tensor_names_with_the_network(network):
    whole = network.state_dict(keep_vars=True)
    for cut in network.cuts:
        trunk, crown = network.split(cut)
        ours, theirs = trunk.state_dict(keep_vars=True), crown.state_dict(keep_vars=True)
        assert not ours.keys() & theirs.keys()
        assert {**ours, **theirs}.keys() == whole.keys()
        assert all(tensor is whole[name] for name, tensor in {**ours, **theirs}.items())
        assert parameter_count(trunk) + parameter_count(crown) == parameter_count(network)
    empty, all_of_it = network.split("input")
    assert not list(empty.parameters())
    assert len(all_of_it.stages) == len(network.stages)
    assert not list(network.split("head")[1].parameters())


@torch.no_grad()
def test_feature_maps_have_the_declared_channels_and_strides(network, answers):
    x, features = answers.x, answers.maps
    assert list(features) == [stage.name for stage in network.stages[:-1]]
    for stage in network.stages[:-1]:
        features_here = features[stage.name]
        assert features_here.shape[:2] == (1, stage.channels)
        if stage.stride is None:
            assert features_here.ndim == 2
        else:
            # Convolutions without padding make it smaller, and more so the more of them there are.
            lost = 0 if PADDED.search(network.config.architecture) else 3
            assert 0 <= -(-x.shape[2] // stage.stride) - features_here.shape[2] <= lost, stage.name
        # No later stage has written into it.
        if stage.name in some_cuts(network):
            assert torch.equal(features_here, network.split(stage.name)[0](x))
    assert torch.equal(network.head(answers.pooled), answers.logits)
    assert answers.pooled.shape == (1, network.head.in_features)


def test_every_parameter_gets_a_gradient(network):
    statistics = [buffer.clone() for buffer in network.buffers()]
    network.train()
    for module in network.modules():
        if isinstance(module, StochasticDepth):
            # Stochastic depth would leave out a whole block if it drops both images.
            module.eval()
    try:
        logits, others = network.with_auxiliaries(images(network.config.architecture, count=2))
        targets = torch.tensor([0, 1])
        sum(nn.functional.cross_entropy(each, targets) for each in (logits, *others.values())).backward()
        without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
        assert not without
        ends = {name: torch.stack(parameter.grad.aminmax()) for name, parameter in network.named_parameters()}
        assert not [name for name, least_and_most in ends.items() if not least_and_most.any()]
        assert all(least_and_most.isfinite().all() for least_and_most in ends.values())
    finally:
        network.zero_grad(set_to_none=True)
        for buffer, before in zip(network.buffers(), statistics, strict=True):
            buffer.copy_(before)
        network.eval()


def test_the_head_is_the_layer_whose_outputs_are_the_classes(network):
    assert network.head is network.get_submodule(network.head_name)
    assert network.head.out_features == network.config.classes
    assert f"{network.head_name}.weight" in network.state_dict()


@torch.no_grad()
def test_a_new_head_replaces_the_old_one_alone(network, answers):
    network = sharing_tensors(network)
    x, pooled = answers.x, answers.pooled
    before, old, config = state_shapes(network), network.head, network.config
    new = network.new_head(7)
    assert network.head is new is not old
    logits = network(x)
    assert logits.shape == (1, 7)
    assert torch.equal(network.pooled(x), pooled)
    assert network.config == replace(config, classes=7)
    assert (network.stages[-1].name, network.stages[-1].channels) == ("head", 7)
    changed = {n for n, shape in state_shapes(network).items() if shape != before[n]}
    assert changed == {n for n in before if n.rpartition(".")[0] in network.head_names}
    assert state_shapes(network).keys() == before.keys()
    assert new.training is old.training
    trunk, crown = network.split(network.cuts[-2])
    assert crown.state_dict(keep_vars=True)[f"{network.head_name}.weight"] is new.weight
    assert torch.equal(crown(trunk(x)), logits)
    with pytest.raises(ValueError, match="got 0"):
        network.new_head(0)


@torch.no_grad()
def test_a_head_over_all_stages_sees_the_mean_and_maximum_of_every_map(network, answers):
    network = sharing_tensors(network)
    x, usual = answers.x, (type(network.head), network.head.in_features)
    expected = torch.cat([part for each in answers.maps.values() for part in summaries(each)], 1)
    assert torch.equal(network.before_head("stages")(x), expected)
    assert sum(network.head_blocks("stages")) == expected.shape[1]
    head = network.new_head(3, "stages")
    logits = network(x)
    assert torch.equal(network.pooled(x), expected)
    assert torch.equal(logits, head(expected)) and logits.shape == (1, 3)
    assert (network.config.head, network.config.classes) == ("stages", 3)
    for cut in ("input", *network.cuts[-2:]) if network.config.architecture in FIRST else network.cuts[-2:-1]:
        trunk, crown = network.split(cut)
        assert torch.equal(crown(trunk(x)), logits), cut
    assert torch.equal(network.with_auxiliaries(x)[0], logits)
    with pytest.raises(CutError, match=f"which its head sees together .*, got '{network.cuts[1]}'"):
        network.split(network.cuts[1])
    back = network.new_head(3)
    assert (type(back), back.in_features, network.config.head) == (*usual, "last")
    assert network(x).shape == (1, 3)


@torch.no_grad()
def test_a_head_over_the_stages_after_a_cut_sees_these_alone(network, answers):
    network, x = sharing_tensors(network), answers.x
    after = network.cuts[(len(network.cuts) - 2) // 2]
    kind, later = f"stages:{after}", network.cuts[network.cuts.index(after) + 1 : -1]
    expected = torch.cat([part for name in later for part in summaries(answers.maps[name])], 1)
    network.new_head(3, kind)
    logits = network(x)
    assert torch.equal(network.before_head(kind)(x), expected)
    assert torch.equal(logits, network.head(expected)) and logits.shape == (1, 3)
    trunk, crown = network.split(after)
    assert not trunk.gathers and torch.equal(crown(trunk(x)), logits)
    assert torch.equal(network.before_head(kind, after=after)(trunk(x)), expected)
    whole, head = network.split(network.cuts[-2])
    assert torch.equal(head(whole(x)), logits)
    if len(later) > 1:
        with pytest.raises(CutError, match=f"which its head sees together .*{after}, .*got '{later[0]}'"):
            network.split(later[0])


@pytest.mark.parametrize("kind", ["stages:stage9", "stages:pool", "stages:head", "all", "last:stem", ""])
def test_a_head_over_what_is_not_there_is_refused(kind):
    with pytest.raises(CutError, match=r"a head of resnet20 over last, stages or stages:CUT with one of input, stem, "):
        made("resnet20").new_head(2, kind)


def summaries(x: Tensor) -> tuple[Tensor, ...]:
    return (x.mean((2, 3)), x.flatten(2).max(2).values) if x.ndim == 4 else (x,)


@torch.no_grad()
def test_a_network_is_built_with_a_head_over_all_stages_as_its_numbers_say():
    config = replace(default_config("resnet20"), head="stages", classes=4)
    network = build(config)
    assert network.config == config
    assert network.head.weight.shape == (4, 2 * (16 + 16 + 32 + 64) + 64)


def test_a_new_head_is_of_the_old_ones_dtype():
    assert made("resnet20").double().new_head(3).weight.dtype == torch.float64


def test_a_cut_that_does_not_exist_is_refused_with_the_nearest():
    network = made("resnet20")
    with pytest.raises(CutError, match=r"input, stem, stage1, .*got 'stage_2' \(did you mean 'stage2'\?\)"):
        network.split("stage_2")
    with pytest.raises(CutError, match="resnet20"):
        network.split("")


@cache
def padded(name: str, padding: PaddingRule) -> Network:
    with repeating_draws():
        return build(Config(name, classes=5, padding=padding)).eval()


@torch.no_grad()
@pytest.mark.parametrize("side", [32, 97, 161])
@pytest.mark.parametrize("padding", ["torch", "tensorflow"])
@pytest.mark.parametrize("name", ["resnet20", "resnet18", "resnet50", "mobilenet_v1_025", "mobilenet_v2"])
def test_images_of_another_size_give_logits_and_maps_of_the_declared_stride(name, padding, side):
    network = padded(name, padding)
    x = images(name, count=1, side=side)
    assert network(x).shape == (1, 5)
    features = network.feature_maps(x)
    for stage in network.stages:
        if stage.stride:
            # Halving rounds up every time, which is the same as rounding up once.
            assert features[stage.name].shape[-1] == -(-side // stage.stride), stage.name


@torch.no_grad()
def test_images_need_not_be_square():
    assert made("mobilenet_v2")(torch.zeros(1, 3, 64, 96)).shape == (1, 1000)


@torch.no_grad()
def test_the_smallest_image_runs_and_a_smaller_one_is_refused_with_its_size(network, monkeypatch):
    name = network.config.architecture
    smallest = CATALOG[name].smallest_input
    assert network.smallest_input == smallest
    for side in (smallest, smallest + 7):
        assert network(images(name, count=1, side=side)).shape == (1, network.config.classes)
    if smallest > 1:
        small = images(name, count=1, side=smallest - 1)
        trunk, _ = network.split(network.cuts[-2])
        for refuse in (network, network.pooled, network.feature_maps, network.with_auxiliaries, trunk):
            with pytest.raises(InputError, match=f"{smallest} px or more for {name}, got {smallest - 1} x"):
                refuse(small)
        # It is the smallest input: without the check, torch fails below it.
        monkeypatch.setattr(network, "smallest_input", 1)
        with pytest.raises(RuntimeError):
            network(small)


@torch.no_grad()
@pytest.mark.parametrize("name", list(CATALOG))
def test_channels_and_classes_are_as_asked(name):
    row = CATALOG[name]
    other = 1 if row.input_size[0] == 3 else 3
    with torch.device("meta"), DryRun():
        network = build(replace(default_config(name), classes=4, channels=other)).eval()
        assert network(torch.zeros(1, other, *row.input_size[1:])).shape == (1, 4)


@pytest.mark.parametrize("name", list(CATALOG))
def test_the_batch_norm_epsilon_is_the_stated_one(name):
    with torch.device("meta"):
        network = build(replace(default_config(name), batch_norm_eps=2e-3))
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {module.eps for module in norms} <= {2e-3}
    assert norms or re.match("lenet|alexnet|vgg|googlenet_2014", name)


def test_a_frozen_trunk_stays_as_it_is_while_the_crown_trains():
    network = made("resnet20").train()
    trunk, crown = network.split("stage2")
    freeze(trunk)
    before = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    optimizer = torch.optim.SGD(crown.parameters(), lr=0.1)
    crown(trunk(images("resnet20", count=4))).square().sum().backward()
    optimizer.step()
    assert all(parameter.grad is None for parameter in trunk.parameters())
    assert all(parameter.grad is not None for parameter in crown.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in trunk.state_dict().items())


def test_a_section_is_in_the_mode_of_its_network():
    assert not made("resnet20").split("stem")[0].training
    assert made("resnet20").train().split("stem")[1].training


def test_stages_must_end_with_the_head():
    network = made("resnet20")
    with pytest.raises(ValueError, match="head"):
        network.arrange(network.stages[:-1], "linear")


def test_building_twice_from_one_seed_gives_the_same_network():
    first, second = made("mobilenet_v1_025"), made("mobilenet_v1_025")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_section_of_no_stages_returns_its_input():
    x = torch.randn(1, 3, 4, 4)
    assert Section(made("resnet20"), ())(x) is x
