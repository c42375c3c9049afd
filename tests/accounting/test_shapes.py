"""Shapes inferred without torch, held to those of real tensors."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft.accounting import dry_run
from graft.accounting.counting import account
from graft.accounting.memory import training_memory
from graft.accounting.shapes import shapes_of
from graft.errors import InputError


class Function(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


LAYERS = {
    "convolution": nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2),
    "convolution of two kernels": nn.Conv2d(4, 6, (2, 5), stride=(3, 1), padding=(1, 0), groups=2),
    "convolution padded to the same size": nn.Conv2d(4, 6, 5, padding="same", dilation=2),
    "convolution back": nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1),
    "max pool": nn.MaxPool2d(3, 2, padding=1),
    "max pool, ceil": nn.MaxPool2d(2, ceil_mode=True),
    "max pool, ceil, last window outside": nn.MaxPool2d(2, 3, padding=1, ceil_mode=True),
    "max pool, dilated": nn.MaxPool2d((3, 2), dilation=2),
    "average pool": nn.AvgPool2d((2, 3), padding=1, ceil_mode=True),
    "average pool, one number in a list": nn.AvgPool2d([3]),
    "adaptive pool": nn.AdaptiveAvgPool2d((5, None)),
    "adaptive pool to one": nn.AdaptiveAvgPool2d(1),
    "adaptive max pool": nn.AdaptiveMaxPool2d(4),
    "batch norm": nn.BatchNorm2d(4),
    "instance norm": nn.InstanceNorm2d(4),
    "group norm": nn.GroupNorm(2, 4),
    "local response norm": nn.LocalResponseNorm(3),
    "linear": nn.Linear(17, 5),
    "hard swish": nn.Hardswish(),
    "hard sigmoid in place": nn.Hardsigmoid(inplace=True),
    "SiLU": nn.SiLU(inplace=True),
    "clamp": nn.ReLU6(),
    "upsample": nn.Upsample(scale_factor=2, mode="bilinear"),
}

FUNCTIONS = {
    "mean": lambda x: x.mean(1),
    "mean kept": lambda x: x.mean((-1, -2), keepdim=True),
    "mean of all": lambda x: x.mean().reshape(1, 1),
    "broadcast": lambda x: x * x.mean((2, 3), keepdim=True) + x[:, 0],
    "broadcast up": lambda x: x[:, :1, :1] + x,
    "number first": lambda x: 1 - 2**x / 3,
    "written in place": lambda x: x.relu_().add_(1).clamp_(0, 1),
    "concatenated": lambda x: torch.cat([x, x[:, 1:]], -3),
    "concatenated with nothing": lambda x: torch.cat([x.new_empty(0), x], 1),
    "product": lambda x: x @ x.transpose(2, 3),
    "product of matrices": lambda x: x[0, 0] @ x[0, 0].T,
    "indices of maxima": lambda x: F.max_pool2d(x, 2, return_indices=True)[1],
    "another dtype": lambda x: x.double() + x,
    "whole numbers": lambda x: x.long() / 2,
    "split and stacked": lambda x: torch.stack(x.split(2, 1), 1).flatten(1, 2),
    "stacked last": lambda x: torch.stack([x, x], -1),
    "channels selected": lambda x: x.index_select(1, torch.tensor([3, 0, 3])),
    "channels indexed": lambda x: x[:, torch.tensor([[3, 0, 3], [1, 1, 1]])],
    "rows and columns indexed": lambda x: x[:, :, torch.tensor([3, 0]), torch.tensor([1, 2])],
    "gathered": lambda x: x.gather(1, torch.zeros(1, 2, 13, 17, dtype=torch.int64)),
    "padded": lambda x: F.pad(x, (0, 1, 2, 0, 1, 1)),
    "cropped": lambda x: F.pad(x, (-1, 0, 0, -2)),
    "sum": lambda x: x.sum((2, 3)),
    "sum of whole numbers": lambda x: x.long().sum((1, 2)),
    "sum in another dtype": lambda x: x.sum(1, dtype=torch.float64),
    "maxima": lambda x: x.amax((-1, -2), keepdim=True),
    "clamped to a map": lambda x: x[:, :1].clamp(min=x),
    "zeros of another dtype": lambda x: torch.zeros_like(x, dtype=torch.bfloat16) + x.new_zeros(1, 2, 13, 17)[:, :1],
    "squared distances": lambda x: (x.flatten(1)[:, None] - torch.ones(3, 884)).square().sum(-1).sqrt(),
}


@pytest.mark.parametrize("name", [*LAYERS, *FUNCTIONS])
def test_output_shapes_are_those_of_real_tensors(name: str) -> None:
    layer = (LAYERS[name] if name in LAYERS else Function(FUNCTIONS[name])).eval()
    output = layer(torch.rand(1, 4, 13, 17))
    (row,) = account(layer, (4, 13, 17)).layers
    assert row.output_shape == tuple(output.shape[1:])
    assert row.activation_bytes == output.numel() * output.element_size()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 6, 3),
        nn.Conv2d(2, 6, 3, groups=2),
        nn.Conv2d(4, 6, 14),
        nn.MaxPool2d(18),
        nn.AvgPool2d((1, 18)),
        nn.BatchNorm2d(3),
        nn.Linear(16, 5),
        Function(lambda x: x + x[:, :3]),
        Function(lambda x: torch.cat([x, x[:, :, 1:]], 1)),
        Function(lambda x: x @ x),
        Function(lambda x: x.view(7, 7)),
    ],
    ids=str,
)
def test_what_does_not_fit_real_tensors_is_refused(layer: nn.Module) -> None:
    with pytest.raises((RuntimeError, ValueError)):
        layer.eval()(torch.rand(1, 4, 13, 17))
    with pytest.raises(InputError):
        account(layer, (4, 13, 17))


# The layers of crowns: the backward pass of each is compared with the gradients that torch computes.
GRADIENTS = {
    **{
        name: LAYERS[name]
        for name in ("convolution", "convolution of two kernels", "max pool", "average pool", "linear")
    },
    **{name: LAYERS[name] for name in ("adaptive pool", "adaptive pool to one", "batch norm", "local response norm")},
    **{name: LAYERS[name] for name in ("hard swish", "hard sigmoid in place", "SiLU", "clamp")},
    **{name: FUNCTIONS[name] for name in ("broadcast up", "split and stacked", "concatenated", "sum")},
    **{name: FUNCTIONS[name] for name in ("channels selected", "channels indexed", "padded", "cropped")},
    "activations": lambda x: F.gelu(F.elu(F.leaky_relu(x.relu().tanh().sigmoid()))),
    "gate": lambda x: x * x.mean((2, 3), keepdim=True),
    "strided": lambda x: x[:, :, ::2, 1::2],
    "dropout": nn.Dropout(),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_shapes_of_gradients_are_those_torch_knows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def crown() -> nn.Module:
        step = GRADIENTS[name]
        layer = step if isinstance(step, nn.Module) else Function(step)
        return nn.Sequential(nn.Conv2d(4, 4, 1), layer, nn.Flatten())

    ours = training_memory(nn.Sequential(), crown(), (4, 13, 17), batch_size=3)
    asked = []

    def ask(func, arguments):
        asked.append(dry_run.name_of(func))

    monkeypatch.setattr(dry_run, "_empty_result", ask)
    assert training_memory(nn.Sequential(), crown(), (4, 13, 17), batch_size=3) == ours
    assert "convolution_backward" in asked


def test_an_unknown_operation_is_left_to_torch() -> None:
    assert shapes_of("grid_sampler_2d", {}) is None
