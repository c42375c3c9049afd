"""Distance between domains from what batch norm remembers."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from graft.data.loading import batches
from graft.data.opening import open_dataset
from graft.images.preprocessing import normalise
from graft.models.catalog import build, default_config
from graft.models.network import Network
from graft.transfer.shift import domain_shift, gaussian_divergence
from graft.weights.base import load_base


def small_network(name: str = "resnet20") -> Network:
    torch.manual_seed(0)
    return build(replace(default_config(name), auxiliary=False))


def images(count: int = 12, side: int = 32, seed: int = 0) -> Tensor:
    return torch.randn((count, 3, side, side), generator=torch.Generator().manual_seed(seed))


def batch_norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def remember(network: Network, x: Tensor) -> None:
    """Make `x` the source domain: running statistics are those of `x`."""
    for norm in batch_norms(network):
        norm.momentum = 1.0
    network.train()
    with torch.no_grad():
        network.pooled(x)
    network.eval()


def test_divergence_of_known_gaussians() -> None:
    mean, variance = np.array([0.0, 1.0, 0.0]), np.array([1.0, 4.0, 0.25])
    found = gaussian_divergence(mean, variance, np.zeros(3), np.ones(3))
    # 1/2 (v - 1 - ln v + m^2)
    assert found == pytest.approx([0, 0.5 * (4 - 1 - np.log(4) + 1), 0.5 * (0.25 - 1 + np.log(4))])


def test_images_the_network_was_trained_on_are_at_no_distance_and_darker_ones_are() -> None:
    network, x = small_network(), images()
    remember(network, x)
    same, darker = domain_shift(network, [x]), domain_shift(network, [0.5 * x - 1])
    assert same.mean is not None and same.mean < 1e-3
    assert darker.mean is not None and darker.mean > 0.1
    assert [row.stage for row in same.stages] == [stage.name for stage in network.stages[:-1]]
    assert [row.stage for row in same.stages if row.value is None] == ["pool"]


def test_shift_is_that_of_all_images_whatever_the_batches() -> None:
    network, x = small_network().eval(), images()
    seen: dict[nn.Module, Tensor] = {}
    hooks = [
        norm.register_forward_pre_hook(lambda norm, inputs: seen.update({norm: inputs[0].double()}))
        for norm in batch_norms(network)
    ]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    expected = []
    for norm in batch_norms(network):
        variance, mean = torch.var_mean(seen[norm], (0, 2, 3), correction=0)
        # A fresh batch norm remembers N(0, 1).
        source = np.full(len(mean), 1 + norm.eps)
        expected.append(gaussian_divergence(mean.numpy(), variance.numpy() + norm.eps, 0 * source, source).mean())
    found = domain_shift(network, x.split(5))
    # 1 + 6 + 6 + 6 batch norms, in quarters of 5, 5, 5 and 4.
    assert found.stages[0].value == pytest.approx(expected[0], rel=1e-5)
    assert found.stages[2].value == pytest.approx(np.mean(expected[7:13]), rel=1e-5)
    quarters = [np.mean(expected[start:end]) for start, end in ((0, 5), (5, 10), (10, 15), (15, 19))]
    assert found.quarters == pytest.approx(quarters, rel=1e-5)
    assert found.mean == pytest.approx(np.mean(quarters), rel=1e-5)


def test_a_large_mean_does_not_drown_the_variance() -> None:
    network, x = small_network(), images()
    norm = batch_norms(network)[0]
    with torch.no_grad():
        network.get_submodule("conv1").weight.zero_()
        network.get_submodule("conv1").weight[:, 0, 1, 1] = 1
    norm.running_mean.fill_(100)
    found = domain_shift(network, [x + 100])
    # Unit variance around the running mean; the border of zeros is none for a 1 x 1 filter.
    assert found.stages[0].value == pytest.approx(0, abs=1e-3)


def test_channels_silent_in_the_source_domain_do_not_count() -> None:
    network, x = small_network(), images()
    remember(network, x)
    norm = batch_norms(network)[0]
    before = domain_shift(network, [2 * x]).stages[0].value
    norm.running_var[3] = 1e-8
    after = domain_shift(network, [2 * x]).stages[0].value
    assert before is not None and after == pytest.approx(before, rel=0.2)
    norm.running_var.zero_()
    assert domain_shift(network, [2 * x]).stages[0].value == 0


def test_the_network_is_left_as_it_was_even_by_a_failure() -> None:
    network, x = small_network().train(), images()
    batch_norms(network)[4].eval()
    modes = [module.training for module in network.modules()]
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def failing() -> Iterator[Tensor]:
        yield x
        raise OSError

    domain_shift(network, [x])
    with pytest.raises(OSError):
        domain_shift(network, failing())
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_without_batch_norm_the_shift_is_unknown_and_says_why() -> None:
    def none() -> Iterator[Tensor]:
        raise AssertionError("images were decoded for nothing")
        yield

    network = small_network("lenet5")
    found = domain_shift(network, none())
    assert {row.value for row in found.stages} == set(found.quarters) == {None}
    assert found.mean is None
    assert found.reason is not None and "lenet5 has no batch norm" in found.reason
    assert found.to_dict()["stages"][0] == {"stage": "stage1", "value": None}


def test_auxiliary_classifiers_which_never_run_are_not_asked() -> None:
    network = build(replace(default_config("googlenet"), auxiliary=True))
    assert any(norm in batch_norms(network.get_submodule("aux1")) for norm in batch_norms(network))
    assert domain_shift(network, [images(2, 64)]).mean is not None


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="got none"):
        domain_shift(small_network(), [])


def test_real_domains_are_ordered_as_a_person_would(shared: Path) -> None:
    base = load_base(str(shared / "weights" / "mobilenet_v2_imagenet.safetensors"))
    smaller = replace(base.preprocessing, size=128)
    found = {}
    for name in ("ants_bees", "pacs_sketch", "cifar10"):
        split = open_dataset(shared / "datasets" / name).splits["train"]
        order = np.random.default_rng(0).permutation(len(split))[:24]
        decoded = batches(split, smaller, 12, order=order)
        found[name] = domain_shift(base.network, (normalise(batch.pixels, smaller) for batch in decoded)).mean
    # 0.07, 0.20 and 0.36; 0.04, 0.33 and 0.34 for 250 images of 224 px.
    assert 2 * found["ants_bees"] < min(found["cifar10"], found["pacs_sketch"])
