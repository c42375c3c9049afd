"""Receptive fields against values derived by hand, published ones, and measurements on real gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft.accounting.counting import Account, Layer, account
from graft.models.catalog import CATALOG, build, default_config


def fields(network: nn.Module, shape: tuple[int, int, int]) -> list[tuple[int, int | None]]:
    return [(layer.receptive_field, layer.stride) for layer in account(network, shape).layers]


def account_of(name: str) -> Account:
    with torch.device("meta"):
        network = build(default_config(name))
    return account(network, CATALOG[name].input_size)


def last(table: Account, part: str) -> Layer:
    return [layer for layer in table.layers if f"{layer.name}.".startswith(f"{part}.")][-1]


class Function(nn.Module):
    """A module around a function, so that its output has a row."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def test_stacked_3x3_convolutions_see_5_and_7_pixels() -> None:
    network = nn.Sequential(*[nn.Conv2d(1, 1, 3) for _ in range(3)])
    assert fields(network, (1, 9, 9)) == [(3, 1), (5, 1), (7, 1)]


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Conv2d(1, 1, 3, dilation=4), (9, 1)),
        (nn.Conv2d(1, 1, (1, 7), padding=(0, 3)), (7, 1)),
        (nn.MaxPool2d(3, 2, ceil_mode=True), (3, 2)),
        (nn.MaxPool2d(2, dilation=3), (4, 2)),
        (nn.AvgPool2d([4]), (4, 4)),
        (nn.AdaptiveAvgPool2d(4), (5, 5)),  # 20 to 4: windows of 5
        (nn.AdaptiveAvgPool2d(3), (8, 6)),  # 20 to 3: 0-6, 6-13, 13-19
        (nn.AdaptiveAvgPool2d(20), (1, 1)),  # the identity
        (nn.AdaptiveMaxPool2d(1), (20, None)),
        (nn.Upsample(scale_factor=2), (1, 0)),  # half a pixel apart
        (nn.LocalResponseNorm(5), (1, 1)),
        (nn.Softmax(1), (1, 1)),
        (nn.PixelShuffle(1), (1, 1)),
        (nn.Flatten(), (1, None)),
        (nn.Identity(), (1, 1)),
    ],
)
def test_a_layer_by_itself(layer: nn.Module, expected: tuple[int, int | None]) -> None:
    assert fields(layer, (1, 20, 20)) == [expected]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x[:, :, ::2, ::2], (1, 2)),
        (lambda x: x[..., 1:] + x[..., :-1], (2, 1)),
        (lambda x: F.pad(x, (0, 0, 0, 0, 1, 1)), (1, 1)),
        (lambda x: F.pad(x, (1, 0)) + F.pad(x, (0, 1)), (2, 1)),
        (lambda x: torch.cat([F.avg_pool2d(x, 5, 1, 2), x], 1), (5, 1)),
        (
            lambda x: torch.cat([F.local_response_norm(F.max_pool2d(x, 3, 1, 1), 5), x, F.avg_pool2d(x, 5, 1, 2)], 1),
            (5, 1),
        ),
        (lambda x: torch.cat([x, x], 2), (20, None)),
        (lambda x: F.max_pool2d(x, 2).index_select(1, torch.tensor([3, 0, 3])), (2, 2)),
        (lambda x: F.max_pool2d(x, 2)[:, torch.tensor([3, 0, 3])], (2, 2)),
        (lambda x: F.max_pool2d(x, 2).gather(1, torch.zeros(1, 2, 10, 10, dtype=torch.int64)), (2, 2)),
        (lambda x: x.mean(3), (20, None)),
        (lambda x: x + x.transpose(2, 3), (20, None)),  # an axis in two places is in none
        (lambda x: x.amax((2, 3), keepdim=True), (20, None)),
        (lambda x: x.mean((2, 3), keepdim=True) * x, (20, 1)),  # a gate that has seen everything
        (lambda x: F.avg_pool2d(x.permute(0, 3, 2, 1), (2, 1)), (2, 2)),
        (lambda x: x.flatten(2).transpose(1, 2).reshape(1, 20, 20, 4).permute(0, 3, 1, 2), (1, 1)),
        (lambda x: x.view(1, 2, 2, 20, 20).transpose(1, 2).reshape(1, 4, 20, 20), (1, 1)),  # shuffled channels
        (lambda x: torch.stack(x.chunk(2, 1)).sum(0), (1, 1)),
        (lambda x: F.linear(x, x.new_ones(7, 20)), (20, None)),
        (lambda x: F.linear(x.permute(0, 2, 3, 1), x.new_ones(7, 4)).permute(0, 3, 1, 2), (1, 1)),
        (lambda x: x.roll(3, 2).sort(1)[0], (1, 1)),  # no rule for these
        (lambda x: x.unfold(2, 3, 1), (20, None)),  # nor for this: taken to see all
        (lambda x: torch.ones(1, 2), (0, None)),  # no image in it
    ],
)
def test_functions_pass_the_receptive_field_on(function, expected: tuple[int, int | None]) -> None:
    assert fields(Function(function), (4, 20, 20)) == [expected]


def test_what_is_written_into_a_part_is_seen_in_the_whole() -> None:
    def partly(x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        y[:, :2] = F.avg_pool2d(x, 7, 1, 3)[:, :2]
        y[:, 2:].add_(x[:, 2:])
        return y.relu_()

    assert fields(Function(partly), (4, 20, 20)) == [(7, 1)]


def test_attention_sees_all_and_leaves_no_map() -> None:
    def attend(x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return F.scaled_dot_product_attention(tokens, tokens, tokens)

    assert fields(Function(attend), (4, 12, 20)) == [(20, None)]


def test_the_longer_axis_counts() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, (7, 1)), nn.Conv2d(1, 1, (1, 3)), nn.AdaptiveAvgPool2d(1))
    # The pool sees what all its inputs saw: all 30 columns.
    assert fields(network, (1, 20, 30)) == [(7, 1), (7, 1), (30, None)]


def test_lenet5_sees_what_the_paper_draws() -> None:
    table = account_of("lenet5")
    # C1 5; S2 5 + 1 = 6, jump 2; C3 6 + 4 * 2 = 14; S4 14 + 2 = 16, jump 4; C5 16 + 4 * 4 = 32.
    expected = {"c1": (5, 1), "s2": (6, 2), "c3": (14, 2), "s4": (16, 4), "c5": (32, 4), "output": (32, None)}
    assert {part: (last(table, part).receptive_field, last(table, part).stride) for part in expected} == expected


def test_vgg16_sees_212_pixels_after_its_last_pool() -> None:
    # Each 3 x 3 adds two jumps, each 2 x 2 pool one and doubles the jump:
    # 1 + 2*2 = 5, 6 | 6 + 2*4 = 14, 16 | 16 + 3*8 = 40, 44 | 44 + 3*16 = 92, 100 | 100 + 3*32 = 196, 212.
    layers: list[nn.Module] = []
    for convolutions in (2, 2, 3, 3, 3):
        layers += [*(nn.Conv2d(1, 1, 3, padding=1) for _ in range(convolutions)), nn.MaxPool2d(2)]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(49, 10))
    *_, conv5_3, pool5, flat, dense = fields(network, (1, 224, 224))
    assert (conv5_3, pool5, flat) == ((196, 16), (212, 32), (212, None))
    assert dense == (212 + 6 * 32, None)  # all 7 x 7 places


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        # Stem: 7 x 7 at 2 sees 7, its 3 x 3 pool at 2 7 + 2*2 = 11, jump 4. Then every 3 x 3 adds two jumps; the first
        # of a stage from the second on still has the jump of the stage before.
        # 11 + 4*8 = 43 | 43 + 8 + 3*16 = 99 | 99 + 16 + 3*32 = 211 | 211 + 32 + 3*64 = 435
        ("resnet18", (11, 43, 99, 211, 435)),
        # One 3 x 3 per block, 3, 4, 6 and 3 blocks:
        # 11 + 3*8 = 35 | 35 + 8 + 3*16 = 91 | 91 + 16 + 5*32 = 267 | 267 + 32 + 2*64 = 427
        ("resnet50", (11, 35, 91, 267, 427)),
    ],
)
def test_resnets_see_what_the_arithmetic_of_their_stages_says(name: str, seen: tuple[int, ...]) -> None:
    table = account_of(name)
    layers = [last(table, part) for part in ("maxpool", "layer1", "layer2", "layer3", "layer4")]
    assert tuple(layer.receptive_field for layer in layers) == seen
    assert [layer.stride for layer in layers] == [4, 4, 8, 16, 32]
    # Global average pooling covers the image, and the 7 x 7 places of the last map reach beyond it.
    assert last(table, "pool").receptive_field == seen[-1] + 6 * 32
    assert last(table, "pool").stride is None


@pytest.mark.parametrize(
    ("constructor", "size", "published"),
    [
        # Araujo, Norris and Sim 2019, table of the networks of TF-Slim that have the same layers.
        ("torchvision.alexnet", 224, 195),
        ("torchvision.vgg16", 224, 212),
        ("torchvision.inception_v3", 299, 1311),
        ("timm.inception_v4", 299, 2071),
        ("graft.mobilenet_v1", 224, 315),
    ],
)
def test_published_receptive_fields(constructor: str, size: int, published: int) -> None:
    library, _, name = constructor.partition(".")
    with torch.device("meta"):
        if library == "graft":
            network: nn.Module = build(default_config(name))
        elif library == "timm":
            network = pytest.importorskip("timm").create_model(name)
        else:
            options = {"init_weights": False} if name == "inception_v3" else {}
            network = getattr(pytest.importorskip("torchvision.models"), name)(**options)
    layers = account(network, (3, size, size)).layers
    final = layers[-1].receptive_field
    # The classifier sees what the last map sees, from all of its places, 32 pixels apart.
    places = max(layer.output_shape[-1] for layer in layers if layer.stride == 32)
    assert final - (places - 1) * 32 == published


def measured(network: nn.Module, part: str, shape: tuple[int, int, int]) -> int:
    """The longer side of the area whose pixels have a gradient from the middle of the output of `part`."""
    outputs = {}
    network = network.eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():  # positive and small: nothing cancels, no ReLU is off or full
            parameter.uniform_(0.25, 0.75).div_(parameter[0].numel())
    network.get_submodule(part).register_forward_hook(lambda module, inputs, output: outputs.update(map=output))
    # Several images, because a max pool passes the gradient to the largest pixel alone.
    images = torch.rand(4, *shape, requires_grad=True)
    network(images)
    _, _, height, width = outputs["map"].shape
    (gradient,) = torch.autograd.grad(outputs["map"][:, :, height // 2, width // 2].sum(), images)
    seen = gradient.sum((0, 1)) > 0
    return max(int(axis.max() - axis.min()) + 1 for axis in seen.nonzero().T)


class Odd(nn.Module):
    """Windows of all kinds, shifted and unequal branches: no symmetric rule gets their reach right."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, (3, 5), padding=1), nn.AvgPool2d(3, 2, ceil_mode=True))
        self.even = nn.Conv2d(4, 4, 2, stride=2)
        self.dilated = nn.Conv2d(4, 4, 3, stride=2, dilation=2, padding=2)
        self.out = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x[:, :, 1:, 2:] + x[:, :, :-1, :-2]
        return self.out(torch.cat([self.even(x), self.dilated(x)[:, :, 1:, 1:]], 1))


@pytest.mark.parametrize(
    ("network", "part", "size"),
    [
        pytest.param(lambda: build(default_config("resnet20")), "layer2", 64, id="resnet20"),
        pytest.param(lambda: build(default_config("mobilenet_v1_025")), "blocks.2.0", 96, id="mobilenet_v1_025"),
        pytest.param(lambda: build(default_config("googlenet_2014")), "inception3b", 128, id="googlenet_2014"),
        pytest.param(lambda: build(default_config("inception_v3")), "Mixed_5c", 224, id="inception_v3"),
        pytest.param(lambda: build(default_config("densenet121")), "features.denseblock1", 128, id="densenet121"),
        pytest.param(lambda: build(default_config("alexnet_2012")), "conv5", 224, id="alexnet_2012"),
        pytest.param(lambda: build(default_config("preact_resnet20")), "stages.1.blocks", 96, id="preact_resnet20"),
        pytest.param(Odd, "out", 64, id="odd"),
    ],
)
def test_gradients_reach_exactly_as_far(network, part: str, size: int) -> None:
    built = network()
    seen = account(built, (3, size, size)).outputs[part].receptive_field
    assert seen < size  # otherwise the measurement would be cut off
    assert measured(built, part, (3, size, size)) == seen
