"""Padding by TensorFlow's rule, against its definition written out."""

import pytest
import torch
import torch.nn.functional as F

from graft.models.blocks import convolution, max_pool


def naive_same(x: torch.Tensor, kernel: int, stride: int, value: float) -> torch.Tensor:
    """Output ceil(size / stride); the odd pixel of the padding below and to the right."""
    sides = []
    for size in (x.shape[-1], x.shape[-2]):
        outputs = (size + stride - 1) // stride
        total = max(0, (outputs - 1) * stride + kernel - size)
        sides += [total // 2, total - total // 2]
    return F.pad(x, sides, value=value)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 8), (9, 5), (1, 2), (33, 32)])
@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_tensorflow_padding_is_the_same_rule(height, width, kernel, stride):
    torch.manual_seed(0)
    layer = convolution(2, 4, kernel, stride=stride, padding="tensorflow").double()
    x = torch.randn(1, 2, height, width, dtype=torch.float64)
    expected = F.conv2d(naive_same(x, kernel, stride, 0.0), layer.weight, stride=stride)
    assert torch.allclose(layer(x), expected, atol=1e-12)
    assert layer(x).shape == (1, 4, -(-height // stride), -(-width // stride))


def test_an_even_image_is_padded_below_and_to_the_right_only():
    layer = convolution(1, 1, 3, stride=2, padding="tensorflow")
    torch.nn.init.zeros_(layer.weight)
    layer.weight.data[0, 0, 0, 0] = 1
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert layer(x).flatten().tolist() == [0, 2, 8, 10]


def test_torch_padding_is_even_on_all_sides():
    layer = convolution(1, 1, 3, stride=2, padding="torch")
    torch.nn.init.zeros_(layer.weight)
    layer.weight.data[0, 0, 0, 0] = 1
    assert layer(torch.arange(16.0).reshape(1, 1, 4, 4)).flatten().tolist() == [0, 0, 0, 5]


@pytest.mark.parametrize("size", [4, 5, 8, 13])
def test_a_max_pool_is_padded_by_what_never_wins(size):
    x = -1 - torch.rand(1, 2, size, size)
    pooled = max_pool(3, 2, padding="tensorflow")(x)
    assert torch.equal(pooled, F.max_pool2d(naive_same(x, 3, 2, float("-inf")), 3, 2))
    assert (pooled < 0).all()
    assert torch.equal(max_pool(3, 2)(x), F.max_pool2d(x, 3, 2, 1))


def test_a_depthwise_convolution_has_a_filter_per_channel():
    assert convolution(6, 6, 3, groups=6, stride=2, padding="tensorflow").weight.shape == (6, 1, 3, 3)
    assert convolution(6, 6, 3).bias is None
