"""Layers that two or more families share."""

import torch.nn.functional as F
from torch import Tensor, nn

from graft.models.network import PaddingRule


def convolution(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, padding: PaddingRule = "torch"
) -> nn.Conv2d:
    """A k x k convolution without bias: (N, inputs, H, W) to (N, outputs, ceil(H / stride), ceil(W / stride)).

    `padding` decides where the zeros go when the stride is above one: `torch` puts k // 2 on every side, `tensorflow`
    as few as the output size needs, the odd one at the bottom and right. At stride one both rules are the same.
    """
    kind = SameConv2d if padding == "tensorflow" and stride > 1 else nn.Conv2d
    return kind(inputs, outputs, kernel, stride, 0 if kind is SameConv2d else kernel // 2, groups=groups, bias=False)


def max_pool(kernel: int, stride: int, *, padding: PaddingRule = "torch") -> nn.MaxPool2d:
    """A k x k max pool, padded like `convolution`."""
    return SameMaxPool2d(kernel, stride) if padding == "tensorflow" else nn.MaxPool2d(kernel, stride, kernel // 2)


class SameConv2d(nn.Conv2d):
    """Convolution padded by TensorFlow's SAME rule, which depends on the size of the input."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(_pad_same(input, self.kernel_size[0], self.stride[0], 0.0))


class SameMaxPool2d(nn.MaxPool2d):
    """Max pool padded by TensorFlow's SAME rule."""

    def forward(self, input: Tensor) -> Tensor:
        assert isinstance(self.kernel_size, int)
        assert isinstance(self.stride, int)
        return super().forward(_pad_same(input, self.kernel_size, self.stride, float("-inf")))


def _pad_same(x: Tensor, kernel: int, stride: int, value: float) -> Tensor:
    # Output ceil(size / stride); the total padding this needs, with the larger half after the image.
    height, width = (max((-(-int(size) // stride) - 1) * stride + kernel - int(size), 0) for size in x.shape[-2:])
    return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2), value=value)
