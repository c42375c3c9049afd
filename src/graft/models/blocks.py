"""Layers that two or more families share."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft.models.network import PaddingRule

# From a number of channels to the normalization layer for them.
Norm: TypeAlias = Callable[[int], nn.Module]


def convolution(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    padding: PaddingRule = "torch",
    bias: bool = False,
) -> nn.Conv2d:
    """A k x k convolution: (N, inputs, H, W) to (N, outputs, ceil(H / stride), ceil(W / stride)).

    `padding` says where the zeros go when the stride is above one: `torch` puts k // 2 on every side, `tensorflow` only
    as many as the output size needs, the odd one at the bottom and right. At stride one the two rules agree.
    """
    kind = SameConv2d if padding == "tensorflow" and stride > 1 else nn.Conv2d
    return kind(inputs, outputs, kernel, stride, 0 if kind is SameConv2d else kernel // 2, groups=groups, bias=bias)


def max_pool(kernel: int, stride: int, *, padding: PaddingRule = "torch") -> nn.MaxPool2d:
    """A k x k max pool, padded as by `convolution`: (N, C, H, W) to (N, C, ceil(H / stride), ceil(W / stride))."""
    return SameMaxPool2d(kernel, stride) if padding == "tensorflow" else nn.MaxPool2d(kernel, stride, kernel // 2)


class ConvNormReLU(nn.Module):
    """Convolution without bias, batch norm, ReLU: (N, inputs, H, W) to (N, outputs, H', W').

    Tensors `conv` and `bn`, as in the Inception checkpoints. `padding` is the convolution's, in pixels.
    k_h k_w inputs outputs + 2 outputs parameters; k_h k_w inputs outputs H' W' multiply-adds.
    Szegedy et al. 2015, "Rethinking the Inception Architecture", arXiv 1512.00567, section 6 (batch norm, eps 1e-3).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        eps: float = 1e-3,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.relu(self.bn(self.conv(x)))
        return activated


def round_channels(channels: float) -> int:
    """The nearest multiple of 8 (halves round up, at least 8), or the next where that is below 90 % of `channels`.

    Sandler et al. 2018 and their successors widen and squeeze by factors, and their code rounds the result like this.
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def conv_norm_activation(
    inputs: int,
    outputs: int,
    kernel: int,
    activation: Callable[..., nn.Module] | None,
    *,
    norm: Norm,
    stride: int = 1,
    groups: int = 1,
    padding: PaddingRule = "torch",
) -> nn.Sequential:
    """Convolution without bias, norm, and activation unless None: (N, inputs, H, W) to (N, outputs, H / s, W / s).

    Tensors `0` and `1`, as in torchvision.
    """
    layers = [convolution(inputs, outputs, kernel, stride=stride, groups=groups, padding=padding), norm(outputs)]
    return nn.Sequential(*layers) if activation is None else nn.Sequential(*layers, activation(inplace=True))


class Pool(Enum):
    """The pools of `Branches`, both 3 x 3."""

    AVERAGE = "stride 1, padded, without counting the padding"
    MAX = "stride 2, not padded"


@dataclass(frozen=True)
class Conv:
    """Convolution, batch norm and ReLU, as the figures of Inception v4 write them: filters, side or (height, width).

    Padded by half the kernel, unless `valid` (V in the figures).
    """

    outputs: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    valid: bool = False


def inception_layer(inputs: int, row: Conv | Pool, eps: float) -> nn.Module:
    """The layer that `row` describes: (N, inputs, H, W) to (N, outputs, H', W')."""
    if row is Pool.AVERAGE:
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    if row is Pool.MAX:
        return nn.MaxPool2d(3, stride=2)
    height, width = (row.kernel, row.kernel) if isinstance(row.kernel, int) else row.kernel
    padding = (0, 0) if row.valid else (height // 2, width // 2)
    return ConvNormReLU(inputs, row.outputs, row.kernel, stride=row.stride, padding=padding, eps=eps)


def inception_layers(inputs: int, rows: Iterable[Conv | Pool], eps: float) -> tuple[list[nn.Module], int]:
    """The layers of `rows` in order, and the output channels of the last."""
    layers = []
    for row in rows:
        layers.append(inception_layer(inputs, row, eps))
        inputs = row.outputs if isinstance(row, Conv) else inputs
    return layers, inputs


class Branches(nn.Module):
    """Branches over one input, with their outputs joined channel by channel: (N, inputs, H, W) to (N, outputs, H', W').

    A subclass states its `rows`, one per branch. Tensors are `branch0`, `branch1` and so on unless `names` says
    otherwise, followed by `.0`, `.1` where a branch has several layers. Parameters and multiply-adds are those of its
    convolutions. Szegedy et al. 2016, arXiv 1602.07261, figures 3 to 8 and 16 to 19.
    """

    rows: ClassVar[Sequence[Sequence[Conv | Pool]]]
    names: ClassVar[Sequence[str]] = ()

    def __init__(self, inputs: int, *, eps: float) -> None:
        super().__init__()
        self.branches = self.names or tuple(f"branch{number}" for number in range(len(self.rows)))
        self.outputs = 0
        for name, row in zip(self.branches, self.rows, strict=True):
            layers, outputs = inception_layers(inputs, row, eps)
            self.add_module(name, layers[0] if len(layers) == 1 else nn.Sequential(*layers))
            self.outputs += outputs

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.get_submodule(name)(x) for name in self.branches], dim=1)


class LocalResponseNorm(nn.Module):
    """Divide each value by (k + alpha * the sum of squares over `size` neighboring channels) ** beta.

    (N, C, H, W), same shape. Krizhevsky, Sutskever and Hinton 2012, section 3.3: size 5, alpha 1e-4, beta 0.75, k 2.
    The paper multiplies alpha by the sum; torch and Caffe by the mean, so their alpha is `size` times this one. No
    parameters, and no multiply-adds by the rule of `graft.accounting`.

        LocalResponseNorm()(torch.zeros(1, 96, 27, 27)).shape  # (1, 96, 27, 27)
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Tensor) -> Tensor:
        return F.local_response_norm(x, self.size, self.alpha * self.size, self.beta, self.k)


class SqueezeExcite(nn.Module):
    """Weight each channel by a gate computed from the means of all channels: (N, channels, H, W), same shape.

    Hu, Shen and Sun 2017, "Squeeze-and-Excitation Networks", arXiv 1709.01507, section 3. Tensors `fc1` and `fc2`,
    1 x 1 convolutions with biases: 2 channels squeezed + squeezed + channels parameters, 2 channels squeezed
    multiply-adds.
    """

    def __init__(
        self, channels: int, squeezed: int, activation: Callable[[], nn.Module], gate: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.activation = activation()
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.gate = gate()

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.gate(self.fc2(self.activation(self.fc1(self.avgpool(x)))))
        return x * weight


class InvertedBottleneck(nn.Module):
    """Expand with a 1 x 1, filter with a k x k depthwise, excite, project with a linear 1 x 1 convolution.

    (N, inputs, H, W) to (N, outputs, H / s, W / s); the input is added where the shapes agree, and the expansion is
    left out where `hidden` equals `inputs`. Howard et al. 2019, arXiv 1905.02244, figure 4. Tensors `block.N`, as in
    torchvision. Besides the excitation's: hidden (inputs + k^2 + outputs + 4) + 2 outputs parameters,
    hidden (inputs + (k^2 + outputs) / s^2) H W multiply-adds.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        kernel: int,
        activation: Callable[..., nn.Module],
        *,
        norm: Norm,
        stride: int = 1,
        excite: SqueezeExcite | None = None,
        padding: PaddingRule = "torch",
    ) -> None:
        super().__init__()
        unit = partial(conv_norm_activation, norm=norm, padding=padding)
        layers: list[nn.Module] = [] if hidden == inputs else [unit(inputs, hidden, 1, activation)]
        layers.append(unit(hidden, hidden, kernel, activation, stride=stride, groups=hidden))
        if excite is not None:
            layers.append(excite)
        layers.append(unit(hidden, outputs, 1, None))
        self.block = nn.Sequential(*layers)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.adds else self.block(x)


class PointwiseHead(nn.Linear):
    """A linear head stored as a 1 x 1 convolution, as in some checkpoints: (N, D) to (N, classes).

    `weight` is (classes, D, 1, 1).
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, **factory: Any) -> None:
        super().__init__(in_features, out_features, bias, **factory)
        self.weight = nn.Parameter(self.weight.detach()[..., None, None])

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight.flatten(1), self.bias)


def global_pool() -> nn.Sequential:
    """The mean of each map: (N, C, H, W) to (N, C)."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


class SameConv2d(nn.Conv2d):
    """A convolution padded by TensorFlow's SAME rule, which depends on the size of the input."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(_pad_same(input, self.kernel_size[0], self.stride[0], 0.0))


class SameMaxPool2d(nn.MaxPool2d):
    """A max pool padded by TensorFlow's SAME rule, which depends on the size of the input."""

    def forward(self, input: Tensor) -> Tensor:
        assert isinstance(self.kernel_size, int)
        assert isinstance(self.stride, int)
        return super().forward(_pad_same(input, self.kernel_size, self.stride, float("-inf")))


def _pad_same(x: Tensor, kernel: int, stride: int, value: float) -> Tensor:
    # For an output of ceil(size / stride); the larger half of the padding comes after the image.
    height, width = (max((-(-int(size) // stride) - 1) * stride + kernel - int(size), 0) for size in x.shape[-2:])
    return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2), value=value)
