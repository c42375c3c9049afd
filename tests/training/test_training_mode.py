"""What a crown's layers do differently in training."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from graft.models.catalog import build
from graft.models.network import Config
from graft.training.training_mode import drop_out, inputs_left, put_in_training_mode, single_values_normalised


@pytest.fixture
def norm() -> Iterator[nn.BatchNorm2d]:
    layer = nn.BatchNorm2d(4).train()
    with torch.no_grad():
        layer.running_mean.copy_(torch.arange(4.0))
        layer.running_var.copy_(torch.arange(1.0, 5.0))
    yield layer


def test_a_single_value_per_channel_is_normalised_by_running_statistics(norm: nn.BatchNorm2d) -> None:
    x = torch.randn(1, 4, 1, 1, requires_grad=True)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm(x)
    before = {name: tensor.clone() for name, tensor in norm.state_dict().items()}
    with single_values_normalised(norm):
        y = norm(x)
        assert norm.training
    expected = (x[0, :, 0, 0] - torch.arange(4.0)) / (torch.arange(1.0, 5.0) + norm.eps).sqrt()
    torch.testing.assert_close(y[0, :, 0, 0], expected)
    y.sum().backward()
    assert x.grad is not None and norm.weight.grad is not None
    assert all(torch.equal(tensor, before[name]) for name, tensor in norm.state_dict().items())
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm(x)


@pytest.mark.parametrize("shape", [(2, 4, 1, 1), (1, 4, 1, 2)])
def test_two_values_are_normalised_by_their_own_statistics(shape: tuple[int, ...], norm: nn.BatchNorm2d) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with single_values_normalised(norm):
        y = norm(x)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    assert not torch.equal(norm.running_mean, torch.arange(4.0))


def test_an_error_leaves_batch_norm_as_it_was(norm: nn.BatchNorm2d) -> None:
    with single_values_normalised(norm), pytest.raises(RuntimeError):
        norm(torch.randn(1, 5, 1, 1)[:, :4].to(torch.int64))
    assert norm.training and not norm._forward_hooks and not norm._forward_pre_hooks


@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v1_025"])
def test_dropout_leaves_out_parts_of_what_the_head_sees_in_training_only(name: str) -> None:
    torch.manual_seed(0)
    crown = build(Config(name, classes=3)).split("input")[1]
    seen: list[torch.Tensor] = []
    head = next(module for module in crown.modules() if isinstance(module, torch.nn.Linear))
    head.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    x = torch.randn(4, 3, 32, 32)
    with drop_out(crown, 0.5), torch.no_grad():
        crown.train()(x)
        crown.eval()(x)
    # Half of what is not zero anyway.
    left = [float((values != 0).float().mean()) for values in seen]
    assert left[0] < 0.7 * left[1]


def test_stored_statistics_normalise_where_there_are_any_and_all_else_trains() -> None:
    crown = nn.Sequential(nn.BatchNorm2d(4), nn.BatchNorm2d(4, track_running_stats=False), nn.Dropout(0.5))
    put_in_training_mode(crown, "stored")
    assert [module.training for module in crown] == [False, True, True]
    put_in_training_mode(crown, "batch")
    assert [module.training for module in crown] == [True, True, True]


@pytest.mark.parametrize("name", ["mobilenet_v1_025", "efficientnet_b0", "mobilenet_v3_small"])
def test_activations_keep_the_inputs_that_gradients_need_and_gradients_are_the_same(name: str) -> None:
    torch.manual_seed(0)
    crown = build(Config(name, classes=3)).eval()
    x = torch.randn(2, 3, 64, 64)

    def gradients() -> list[torch.Tensor]:
        return list(torch.autograd.grad(crown(x).logsumexp(1).sum(), list(crown.parameters())))

    before = gradients()
    with inputs_left(crown):
        layers = [each for each in crown.modules() if isinstance(each, nn.ReLU6 | nn.SiLU | nn.Hardswish)]
        assert layers and not any(each.inplace for each in layers)
        within = gradients()
    assert all(map(torch.equal, before, within)) and any(each.inplace for each in layers)
