"""Batch norm folded into kernels computes the same as batch norm on maps."""

import copy

import pytest
import torch
from torch import Tensor, nn

from graft.models.catalog import build
from graft.models.network import Config
from graft.training.folding import norms_folded

# Convolutions before norms; with their own padding; in branches; norms before convolutions, which stay as they are.
NETWORKS = ["resnet18", "mobilenet_v1_025", "efficientnet_lite0", "googlenet", "densenet121"]


def with_statistics(name: str) -> nn.Module:
    """A crown in float64 whose norms are not the identity."""
    crown = build(Config(name, classes=3, padding="tensorflow" if "lite" in name else "torch")).split("input")[1]
    generator = torch.Generator().manual_seed(0)
    for module in crown.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias.data):
                tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
            for tensor in (module.running_var, module.weight.data):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return crown.double().eval()


def learnt(crown: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The output, and the gradient of every parameter."""
    y = crown(x)
    (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
    return y.detach(), {name: each.grad for name, each in crown.named_parameters() if each.grad is not None}


@pytest.mark.parametrize("name", NETWORKS)
def test_folded_norms_give_the_same_outputs_and_gradients(name: str) -> None:
    crown = with_statistics(name)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected, gradients = learnt(copy.deepcopy(crown), x)
    runs: list[nn.Module] = []
    for module in crown.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda norm, x, y: None if x[0] is y else runs.append(norm))
    with norms_folded(crown, x[:1]):
        runs.clear()
        found, of_folded = learnt(crown, x)
        norms = sum(isinstance(module, nn.BatchNorm2d) for module in crown.modules())
        # In DenseNet most norms come before the convolutions.
        assert len(runs) == 0 if name != "densenet121" else len(runs) < 0.6 * norms
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert gradients.keys() == of_folded.keys()
    for parameter, gradient in gradients.items():
        assert (of_folded[parameter] - gradient).abs().max() <= 1e-9 * gradient.abs().max() + 1e-12, parameter


def test_a_bias_is_folded_too() -> None:
    torch.manual_seed(0)
    crown = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)).double().eval()
    crown[1].running_mean.fill_(0.3)
    crown[1].running_var.fill_(2.0)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    expected, gradients = learnt(copy.deepcopy(crown), x)
    with norms_folded(crown, x[:1]):
        found, of_folded = learnt(crown, x)
    torch.testing.assert_close(found, expected)
    assert gradients.keys() == of_folded.keys() == {"0.weight", "0.bias", "1.weight", "1.bias"}
    for parameter, gradient in gradients.items():
        torch.testing.assert_close(of_folded[parameter], gradient)


def test_layers_are_as_they_were_afterwards() -> None:
    crown = with_statistics("resnet18")
    before = {name: tensor.clone() for name, tensor in crown.state_dict().items()}
    attributes = {name: set(module.__dict__) for name, module in crown.named_modules()}
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    with pytest.raises(KeyboardInterrupt), norms_folded(crown.train(), x):
        assert crown.training
        raise KeyboardInterrupt
    assert {name: set(module.__dict__) for name, module in crown.named_modules()} == attributes
    assert all(torch.equal(tensor, before[name]) for name, tensor in crown.state_dict().items())


class Twice(nn.Module):
    """Uses the output of its convolution beside the norm as well."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.bn(y) + y


class Shared(nn.Module):
    """Runs one convolution under two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn1, self.bn2 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv(self.bn1(self.conv(x))))


@pytest.mark.parametrize("kind", [Twice, Shared])
def test_a_convolution_that_something_else_uses_keeps_its_kernel(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    crown = kind()
    for module in crown.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.fill_(3.0)
    crown.eval()
    x = torch.randn(2, 3, 8, 8)
    expected = crown(x)
    with norms_folded(crown, x[:1]):
        assert torch.equal(crown(x), expected)
