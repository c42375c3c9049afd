"""Compound scaling, its rounding, and stochastic depth."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from graft.models.blocks import SqueezeExcite, round_channels
from graft.models.catalog import CATALOG, build, default_config
from graft.models.efficientnet import BASELINE, LAST, SPECS, STEM, MBConv, Row, StochasticDepth, scale
from graft.models.network import parameter_count
from graft.weights.architectures import resolve

ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15


LITE = [name for name, spec in SPECS.items() if spec.lite]


@pytest.mark.parametrize("name", SPECS)
def test_the_factors_come_near_to_equation_3(name):
    spec = SPECS[name]
    assert spec.width == pytest.approx(BETA**spec.phi, rel=0.05)
    # Lite3 and Lite4 see images that are up to a sixth smaller.
    assert spec.resolution == pytest.approx(224 * GAMMA**spec.phi, rel=0.2 if spec.lite else 0.05)
    assert 0.86 < spec.depth / ALPHA**spec.phi < 1.05
    assert CATALOG[name].input_size == (3, spec.resolution, spec.resolution)


def test_multiply_adds_double_with_phi():
    # As far as equation 3 says: alpha beta^2 gamma^2 is about 2, and B2 is at phi 1.
    assert pytest.approx(1.92, abs=0.005) == ALPHA * BETA**2 * GAMMA**2
    assert 2 < CATALOG["efficientnet_b2"].macs / CATALOG["efficientnet_b0"].macs < 2.6


@pytest.mark.parametrize(
    ("name", "channels", "repeats"),
    [
        ("efficientnet_b0", [16, 24, 40, 80, 112, 192, 320], [1, 2, 2, 3, 3, 4, 1]),
        ("efficientnet_b1", [16, 24, 40, 80, 112, 192, 320], [2, 3, 3, 4, 4, 5, 2]),
        ("efficientnet_b2", [16, 24, 48, 88, 120, 208, 352], [2, 3, 3, 4, 4, 5, 2]),
        ("efficientnet_b7", [32, 48, 80, 160, 224, 384, 640], [4, 7, 7, 10, 10, 13, 4]),
        # As wide as B4, and as deep but for the first row and the last.
        ("efficientnet_b4", [24, 32, 56, 112, 160, 272, 448], [2, 4, 4, 6, 6, 8, 2]),
        ("efficientnet_lite4", [24, 32, 56, 112, 160, 272, 448], [1, 4, 4, 6, 6, 8, 1]),
    ],
)
def test_one_rule_makes_every_variant_of_the_baseline(name, channels, repeats):
    rows = [scale(row, SPECS[name]) for row in BASELINE]
    assert [row.channels for row in rows] == channels
    assert [row.repeats for row in rows] == repeats
    assert [(row.factor, row.kernel, row.stride) for row in rows] == [
        (row.factor, row.kernel, row.stride) for row in BASELINE
    ]


@pytest.mark.parametrize("name", [name for name in SPECS if name not in LITE])
def test_scaled_channels_and_repeats_are_those_of_the_reference(name, shared):
    path = shared / "reference" / "state_dict_keys" / f"{name}.txt"
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    shapes = {key: json.loads(shape) for key, shape, _ in rows}
    spec = SPECS[name]
    assert shapes["features.0.0.weight"][0] == round_channels(STEM * spec.width)
    assert shapes["features.8.0.weight"][0] == round_channels(LAST * spec.width)
    for number, row in enumerate((scale(row, spec) for row in BASELINE), start=1):
        ours = [key for key in shapes if key.startswith(f"features.{number}.")]
        assert len({key.split(".")[2] for key in ours}) == row.repeats
        # A block ends with the norm of its projection.
        widths = {tuple(shapes[key]) for key in ours if key.endswith(("block.3.1.weight", "block.2.1.weight"))}
        assert (row.channels,) in widths


@pytest.mark.parametrize(
    ("channels", "rounded"),
    [
        (1, 8),
        (8, 8),
        (8.8, 8),
        # The nearest multiple is 8, which is below 90 %.
        (8.9, 16),
        (11, 16),
        (18, 24),
        # Halfway is upwards.
        (12, 16),
        (20, 24),
        (35.2, 32),
        (36, 40),
        (1408.0000000000002, 1408),
    ],
)
def test_channels_are_rounded_to_multiples_of_8_and_not_below_90_percent(channels, rounded):
    assert round_channels(channels) == rounded


def test_rounding_is_to_the_nearest_multiple_unless_too_much_is_lost():
    for channels in range(8, 3000):
        rounded = round_channels(channels)
        assert rounded % 8 == 0
        assert rounded >= 0.9 * channels
        assert abs(rounded - channels) <= 4 or rounded - 8 < 0.9 * channels


def test_stochastic_depth_does_nothing_in_evaluation():
    x = torch.randn(4, 3, 2, 2)
    assert StochasticDepth(0.9).eval()(x) is x


def test_stochastic_depth_zeroes_whole_images_at_its_rate_and_keeps_the_expectation():
    torch.manual_seed(0)
    x = torch.rand(20_000, 2, 3, 1) + 1
    factors = StochasticDepth(0.2).train()(x) / x
    assert factors.flatten(1).std(dim=1).max() < 1e-6
    kept = factors[:, 0, 0, 0]
    assert torch.allclose(kept[kept > 0], torch.tensor(1 / 0.8))
    # Four standard deviations of a mean of that many.
    assert (kept == 0).float().mean().item() == pytest.approx(0.2, abs=4 * (0.2 * 0.8 / 20_000) ** 0.5)
    assert kept.mean().item() == pytest.approx(1, abs=4 * (0.25 / 20_000) ** 0.5)


def test_an_image_whose_branch_is_dropped_passes_a_block_unchanged():
    torch.manual_seed(0)
    row = Row(factor=6, kernel=3, channels=16, repeats=1, stride=1)
    block = MBConv(16, row, stride=1, drop_rate=0.5, norm=nn.BatchNorm2d, padding="torch").train()
    x = torch.randn(32, 16, 8, 8)
    unchanged = (block(x) == x).flatten(1).all(dim=1)
    assert 4 < unchanged.sum() < 28
    block.eval()
    assert not (block(x) == x).flatten(1).all(dim=1).any()


@pytest.mark.parametrize(("name", "blocks"), [("efficientnet_b0", 16), ("efficientnet_b7", 55)])
def test_the_rate_of_stochastic_depth_rises_linearly_with_depth(name, blocks):
    with torch.device("meta"):
        modules = [module for module in build(default_config(name)).modules() if isinstance(module, MBConv)]
    assert len(modules) == blocks
    for position, module in enumerate(modules):
        rates = [layer.rate for layer in module.block if isinstance(layer, StochasticDepth)]
        assert rates == ([pytest.approx(0.2 * position / blocks)] if module.adds else [])
    assert sum(module.adds for module in modules) == blocks - 7


@pytest.mark.parametrize(("name", "momentum"), [("efficientnet_b4", 0.1), ("efficientnet_b5", 0.01)])
def test_batch_norm_forgets_at_the_rate_of_the_checkpoints(name, momentum):
    with torch.device("meta"):
        network = build(default_config(name))
    assert {module.momentum for module in network.modules() if isinstance(module, nn.BatchNorm2d)} == {momentum}


def test_an_excitation_squeezes_to_a_quarter_of_what_enters_the_block():
    with torch.device("meta"):
        network = build(default_config("efficientnet_b0"))
    # 16 channels enter, expanded to 96.
    assert network.get_submodule("features.2.0.block.2.fc1").weight.shape == (4, 96, 1, 1)


@torch.no_grad()
@pytest.mark.parametrize("side", [64, 97])
def test_weights_from_tensorflow_give_what_timm_gives(side):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs = timm.create_model("tf_efficientnet_b0", pretrained=False).eval()
    config = replace(default_config("efficientnet_b0"), padding="tensorflow", batch_norm_eps=1e-3)
    ours = build(config).eval()
    # Other names in the same order.
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.randn(1, 3, side, side + 3, dtype=torch.float64)
    expected, got = theirs.double()(x), ours.double()(x)
    assert expected.std() > 0
    assert (got - expected).abs().max() <= 1e-5 * expected.std()


@pytest.mark.parametrize(
    ("name", "side", "params"),
    [
        ("efficientnet_lite0", 224, 4_652_008),
        ("efficientnet_lite1", 240, 5_416_680),
        ("efficientnet_lite2", 260, 6_092_072),
        ("efficientnet_lite3", 280, 8_197_096),
        ("efficientnet_lite4", 300, 13_006_568),
    ],
)
def test_lite_has_the_published_sizes_and_what_phones_compute(name, side, params):
    with torch.device("meta"):
        network = build(default_config(name))
    assert (CATALOG[name].input_size, parameter_count(network)) == ((3, side, side), params)
    kinds = {type(module) for module in network.modules()}
    assert nn.ReLU6 in kinds
    assert not kinds & {nn.SiLU, nn.Sigmoid, SqueezeExcite}
    assert (network.stages[0].channels, network.head.in_features) == (32, 1280)


@torch.no_grad()
@pytest.mark.parametrize("name", LITE)
def test_lite_is_timms_tensor_by_tensor_and_in_its_outputs(name):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs = timm.create_model(f"tf_{name}", pretrained=False).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            # As after training, so that a wrong epsilon shows.
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.01, 1.0)
    architecture = resolve(f"tf_{name}")
    ours = architecture.build(architecture.config).eval()
    rename = next(layout for layout in architecture.layouts if layout.name == "timm").renaming(ours)
    tensors = {rename(key): tensor for key, tensor in theirs.state_dict().items()}
    assert list(tensors) == list(ours.state_dict())
    ours.load_state_dict(tensors)
    x = torch.randn(1, 3, 97, 100)
    assert (ours(x) - theirs(x)).abs().max() <= 1e-5 * theirs(x).std()
    expected, got = theirs.double()(x.double()), ours.double()(x.double())
    assert (got - expected).abs().max() <= 1e-10 * expected.std()
