"""Counted rather than trained: receptive fields, weights and multiplications of the textbook's blocks."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from graft.accounting.counting import account
from graft.lab.experiment import Conditions, Experiment, Figure, Outcome, Series, exactly
from graft.models import catalog
from graft.models.blocks import convolution
from graft.models.resnet import BasicBlock, Bottleneck
from graft.seeding import seeded

COUNTED = "counted on networks without data"
WIDTH = 64
# N9: the textbook's module, on maps of 32 x 32 with 200 channels; each branch's kernel and channels.
SIDE, INPUTS, REDUCED = 32, 200, 16
BRANCHES = ((1, 64), (3, 128), (5, 32))


def run_stacked(conditions: Conditions) -> Outcome:
    """Two 3 x 3 see 5 x 5 and three see 7 x 7, with fewer weights. N7."""
    rows = {}
    for count, kernel in ((2, 5), (3, 7)):
        small = account(nn.Sequential(*(convolution(WIDTH, WIDTH, 3) for _ in range(count))), (WIDTH, 32, 32))
        large = account(convolution(WIDTH, WIDTH, kernel), (WIDTH, 32, 32))
        rows[kernel] = (small, large)
    sights = [
        exactly(f"px that {'two' if k == 5 else 'three'} 3 × 3 see", s.layers[-1].receptive_field, "equal", k)
        for k, (s, _) in rows.items()
    ]
    pairs = WIDTH**2
    weights = [
        exactly(f"weights per pair of channels, {name}", table.params / pairs, "equal", expected)
        for name, table, expected in (
            ("two 3 × 3", rows[5][0], 18),
            ("one 5 × 5", rows[5][1], 25),
            ("three 3 × 3", rows[7][0], 27),
            ("one 7 × 7", rows[7][1], 49),
        )
    ]
    return Outcome(
        "Two 3 × 3 convolutions see 5 px with 18 weights per pair of channels for 25, three see 7 px with 27 for 49.",
        (*sights, *weights),
        Figure(
            "Weights of one large kernel, and of the stack that sees as far",
            "pixels seen along each side",
            "weights per pair of channels",
            (
                Series("stacked 3 × 3", ("5", "7"), (weights[0].value, weights[2].value)),
                Series("one kernel", ("5", "7"), (weights[1].value, weights[3].value)),
            ),
        ),
        COUNTED,
    )


def run_pointwise(conditions: Conditions) -> Outcome:
    """A 1 x 1 convolution before a 5 x 5 saves two thirds of the weights. N8."""
    whole = account(convolution(256, 32, 5), (256, 28, 28))
    reduced = account(nn.Sequential(convolution(256, 64, 1), convolution(64, 32, 5)), (256, 28, 28))
    same = account(convolution(256, 64, 1), (256, 28, 28)).layers[-1].output_shape
    return Outcome(
        f"A 5 × 5 convolution from 256 to 32 channels has {whole.params:,} weights, through 64 channels "
        f"{reduced.params:,}; the 1 × 1 convolution leaves maps of 28 × 28 as large as they were.",
        (
            exactly("weights of 5 × 5, 256 → 32", whole.params, "equal", 204_800),
            exactly("weights through a 1 × 1 to 64", reduced.params, "equal", 67_584),
            exactly("side of the maps after the 1 × 1", same[1], "equal", 28),
        ),
        Figure(
            "5 × 5 from 256 to 32 channels",
            "",
            "weights",
            (Series("weights", ("directly", "through 1 × 1 to 64"), (whole.params, reduced.params)),),
        ),
        COUNTED,
    )


def run_inception(conditions: Conditions) -> Outcome:
    """Count the multiplications of each branch, in the naive module and in the reduced one. N9."""
    shape = (INPUTS, SIDE, SIDE)
    naive = [account(convolution(INPUTS, outputs, kernel), shape).macs for kernel, outputs in BRANCHES]
    reduced = [
        account(
            convolution(INPUTS, outputs, 1)
            if kernel == 1
            else nn.Sequential(convolution(INPUTS, REDUCED, 1), convolution(REDUCED, outputs, kernel)),
            shape,
        ).macs
        for kernel, outputs in BRANCHES
    ]
    pool = account(nn.MaxPool2d(3, 1, 1), shape)
    projected = account(nn.Sequential(nn.MaxPool2d(3, 1, 1), convolution(INPUTS, 32, 1)), shape)
    names = tuple(f"{kernel} × {kernel} to {outputs}" for kernel, outputs in BRANCHES)
    return Outcome(
        f"The 5 × 5 branch takes {naive[2]:,} multiplications, with a 1 × 1 reduction to {REDUCED} channels "
        f"{reduced[2]:,}. The pool branch keeps {pool.layers[-1].output_shape[0]} channels: it gives 32 only after a "
        "projection.",
        (
            exactly("multiplications of 5 × 5, 200 → 32", naive[2], "equal", 163_840_000),
            exactly("the same with a 1 × 1 to 16 before it", reduced[2], "below", 16_400_000),
            exactly("share of them that is left", reduced[2] / naive[2], "below", 0.11),
            exactly("channels of the pool branch", pool.layers[-1].output_shape[0]),
            exactly("the same after a projection", projected.layers[-1].output_shape[0], "equal", 32),
        ),
        Figure(
            "One inception module on 32 × 32 × 200",
            "branch",
            "multiplications, millions",
            (
                Series("naive", names, tuple(macs / 1e6 for macs in naive)),
                Series("with 1 × 1 to 16", names, tuple(macs / 1e6 for macs in reduced)),
            ),
        ),
        COUNTED,
    )


def run_separable(conditions: Conditions) -> Outcome:
    """Compare a full 3 x 3 convolution with a depthwise one followed by a 1 x 1. N15."""
    full = account(convolution(16, 32, 3), (16, 32, 32))
    separable = account(nn.Sequential(convolution(16, 16, 3, groups=16), convolution(16, 32, 1)), (16, 32, 32))
    return Outcome(
        f"A 3 × 3 convolution from 16 to 32 channels has {full.params:,} weights, a depthwise separable one "
        f"{separable.params:,}; both see {separable.layers[-1].receptive_field} px.",
        (
            exactly("weights of 3 × 3, 16 → 32", full.params, "equal", 4608),
            exactly("weights of the depthwise separable one", separable.params, "equal", 656),
            exactly("share of the multiplications", separable.macs / full.macs, "below", 0.15),
            exactly("px that it sees", separable.layers[-1].receptive_field, "equal", 3),
        ),
        Figure(
            "3 × 3 from 16 to 32 channels",
            "",
            "weights",
            (Series("weights", ("full", "depthwise separable"), (full.params, separable.params)),),
        ),
        COUNTED,
    )


def run_identity(conditions: Conditions) -> Outcome:
    """A residual block with zero weights passes its input on; 50, 101 and 152 layers get a gradient. N11."""
    differences = []
    for seed in conditions.seeds(5, 20):
        with seeded(seed):
            image = torch.rand(2, 64, 8, 8)
            for block in (BasicBlock(64, 64), Bottleneck(64, 16)):
                for module in block.modules():
                    if isinstance(module, nn.Conv2d):
                        nn.init.zeros_(module.weight)
                differences.append(float((block.eval()(image) - image).abs().max().detach()))
    shares = []
    depths = (50, 101, 152)
    for number, depth in enumerate(depths):
        conditions.reporter.step("deep networks", number, len(depths))
        shares.append(_reached(f"resnet{depth}", conditions.seed))
    conditions.reporter.step("deep networks", len(depths), len(depths))
    return Outcome(
        f"Residual blocks with zero weights return their input, to within {max(differences):g} of it; of ResNet-50, "
        f"101 and 152 {', '.join(f'{share:.0%}' for share in shares)} of all tensors get a gradient.",
        (
            exactly("largest change by a block of zeros", max(differences), "equal", 0),
            *(
                exactly(f"share of the tensors of ResNet-{depth} with a gradient", share, "equal", 1)
                for depth, share in zip(depths, shares, strict=True)
            ),
        ),
        Figure(
            "Tensors that a gradient reaches at the start",
            "layers",
            "share",
            (Series("ResNet", tuple(f"ResNet-{depth}" for depth in depths), tuple(shares)),),
        ),
        "random images",
    )


def _reached(name: str, seed: int) -> float:
    """Return the share of a network's parameters, counted by tensor, whose gradient is finite and not zero."""
    with seeded(seed):
        network = catalog.build(catalog.default_config(name)).train()
        loss = nn.functional.cross_entropy(network(torch.randn(2, 3, 32, 32)), torch.tensor([0, 1]))
        loss.backward()
    alive = [_alive(parameter) for parameter in network.parameters()]
    return sum(alive) / len(alive)


def _alive(parameter: Tensor) -> bool:
    gradient = parameter.grad
    return gradient is not None and bool(torch.isfinite(gradient).all()) and bool((gradient != 0).any())


def run_patterns(conditions: Conditions) -> Outcome:
    """In every network maps shrink as their number grows, and dense layers do not widen. N1."""
    exceptions, grows, shown = [], [], {}
    names = list(catalog.CATALOG)
    for number, name in enumerate(names):
        conditions.reporter.step("networks", number + 1, len(names))
        with torch.device("meta"):
            network = catalog.build(catalog.default_config(name))
        maps = [stage for stage in network.stages if stage.stride is not None]
        first, last = maps[0], maps[-1]
        assert first.stride is not None
        assert last.stride is not None
        grows.append(last.channels > first.channels and last.stride > first.stride)
        dense = [stage.channels for stage in network.stages if stage.stride is None and stage.name != "pool"]
        if any(after > before for before, after in pairwise(dense)):
            exceptions.append(name)
        if name in ("lenet5", "vgg16", "resnet50", "mobilenet_v2"):
            shown[name] = maps
    return Outcome(
        f"Of {len(names)} networks {sum(grows)} end with more and smaller maps than they begin with; the dense layers "
        f"of {len(exceptions)} become wider{' (' + ', '.join(exceptions) + ')' if exceptions else ''}.",
        (
            exactly("share of the networks whose maps grow in number and shrink", sum(grows) / len(grows), "equal", 1),
            exactly("networks whose dense layers become wider", len(exceptions), "equal", 0),
        ),
        Figure(
            "Channels of the maps by how much they have shrunk",
            "input pixels per pixel of a map",
            "channels",
            tuple(
                Series(name, tuple(float(s.stride or 0) for s in maps), tuple(float(s.channels) for s in maps))
                for name, maps in shown.items()
            ),
            logarithmic=True,
        ),
        COUNTED,
    )


PATTERNS = Experiment(
    "patterns",
    ("N1",),
    "Along a network maps become smaller and more numerous, and fully connected layers no wider.",
    run_patterns,
    seconds=3,
    full_seconds=3,
)
STACKED = Experiment(
    "stacked",
    ("N7",),
    "Two 3 × 3 convolutions see 5 × 5 pixels and three see 7 × 7, with 27 weights for 49.",
    run_stacked,
    seconds=1,
    full_seconds=1,
)
POINTWISE = Experiment(
    "pointwise",
    ("N8",),
    "A 1 × 1 convolution changes only the depth; through one, a 5 × 5 costs 67,584 weights for 204,800.",
    run_pointwise,
    seconds=1,
    full_seconds=1,
)
INCEPTION = Experiment(
    "inception",
    ("N9",),
    "A 1 × 1 reduction brings the 5 × 5 branch of an inception module from 163 to 16.3 million multiplications.",
    run_inception,
    seconds=1,
    full_seconds=1,
)
SEPARABLE = Experiment(
    "separable",
    ("N15",),
    "A depthwise separable convolution of 3 × 3 from 16 to 32 channels has 656 weights for 4,608.",
    run_separable,
    seconds=1,
    full_seconds=1,
)
IDENTITY = Experiment(
    "identity",
    ("N11",),
    "A residual block with zero weights is the identity, and 152 layers can be trained.",
    run_identity,
    seconds=8,
    full_seconds=10,
)
