"""Which tensor of a checkpoint is which tensor of ours: naming layouts, recognition, and filling a network."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log, prod

import torch
from torch import Tensor, nn

from graft.errors import WeightsError
from graft.models.blocks import InvertedBottleneck, SqueezeExcite
from graft.models.catalog import CATALOG, entry
from graft.models.network import Config, Network, state_shapes
from graft.weights.architectures import build, default_config, family, is_timm
from graft.weights.timm_catalog import timm_name

Rename = Callable[[str], str]

TIMM = "timm"
# Families whose checkpoints come with and without the classifiers that only training uses.
WITH_AUXILIARIES = ("googlenet", "inception_v3")


def _timm_mobilenet_v2(name: str) -> str:
    """timm numbers the bottlenecks by row of the paper's table, torchvision from the stem on."""
    rows = (1, 2, 3, 4, 3, 3, 1)
    match = re.match(r"blocks\.(\d+)\.(\d+)\.(\w+)\.(.+)$", name)
    if match and int(match[1]) < len(rows):
        index = 1 + sum(rows[: int(match[1])]) + int(match[2])
        if index == 1:
            inner = {"conv_dw": "0.0", "bn1": "0.1", "conv_pw": "1", "bn2": "2"}
        else:
            inner = {"conv_pw": "0.0", "bn1": "0.1", "conv_dw": "1.0", "bn2": "1.1", "conv_pwl": "2", "bn3": "3"}
        return f"features.{index}.conv.{inner.get(match[3], match[3])}.{match[4]}"
    outer = {"conv_stem": "features.0.0", "bn1": "features.0.1", "conv_head": "features.18.0", "bn2": "features.18.1"}
    first, _, rest = name.partition(".")
    return f"{outer[first]}.{rest}" if first in outer else name.replace("classifier.", "classifier.1.", 1)


def _timm_inverted_bottlenecks(network: Network) -> Rename:
    """timm names the layers of a block, torchvision numbers them: MobileNet v3 and EfficientNet."""
    ours: dict[str, str] = {"conv_stem": "features.0.0", "bn1": "features.0.1", "classifier": network.head_name}
    rows = [stage for stage in network.stages if stage.name.startswith("stage")]
    for row, stage in enumerate(rows[:-1]):
        blocks = [
            (f"{part}.{path}".rstrip("."), block)
            for part in stage.parts
            for path, block in network.get_submodule(part).named_modules()
            if isinstance(block, InvertedBottleneck)
        ]
        for index, (path, block) in enumerate(blocks):
            theirs, number = f"blocks.{row}.{index}", 0
            # A block that does not expand has no third convolution, and the others move up.
            convolutions = ("conv_pw", "conv_dw", "conv_pwl") if _expands(block) else ("conv_dw", "conv_pw")
            for position, layer in enumerate(block.block):
                if isinstance(layer, SqueezeExcite):
                    ours[f"{theirs}.se.conv_reduce"] = f"{path}.block.{position}.fc1"
                    ours[f"{theirs}.se.conv_expand"] = f"{path}.block.{position}.fc2"
                elif isinstance(layer, nn.Sequential):
                    ours[f"{theirs}.{convolutions[number]}"] = f"{path}.block.{position}.0"
                    ours[f"{theirs}.bn{number + 1}"] = f"{path}.block.{position}.1"
                    number += 1
    (last,) = rows[-1].parts
    if entry(network.config.architecture).family == "efficientnet":
        ours |= {"conv_head": f"{last}.0", "bn2": f"{last}.1"}
    else:
        # MobileNet v3 pools before its last convolution, which is a linear layer here.
        ours |= {f"blocks.{len(rows) - 1}.0.conv": f"{last}.0", f"blocks.{len(rows) - 1}.0.bn1": f"{last}.1"}
        ours |= {"conv_head": "classifier.0"}

    def rename(name: str) -> str:
        layer, _, tensor = name.rpartition(".")
        return f"{ours.get(layer, layer)}.{tensor}"

    return rename


def _expands(block: InvertedBottleneck) -> bool:
    return sum(isinstance(layer, nn.Sequential) for layer in block.block) == 3


def _timm_vgg(network: Network) -> Rename:
    """timm keeps the dense layers as convolutions."""
    ours = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"}

    def rename(name: str) -> str:
        layer, _, tensor = name.rpartition(".")
        return f"{ours.get(layer, layer)}.{tensor}"

    return rename


def _old_densenet(name: str) -> str:
    """The published files of 2017 spell `norm.1` what the module spells `norm1`."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)


def _fc_head(name: str) -> str:
    return re.sub(r"^fc\.", "linear.", name)


def _layouts(network: Network) -> dict[str, Rename]:
    """The layouts known for an architecture, our own first, which is torchvision's or timm's already."""
    kind = family(network.config.architecture)
    layouts: dict[str, Rename] = {"graft": str}
    if kind == "mobilenet_v2":
        layouts[TIMM] = _timm_mobilenet_v2
    elif kind in ("mobilenet_v3", "efficientnet"):
        layouts[TIMM] = _timm_inverted_bottlenecks(network)
    elif kind == "vgg":
        layouts[TIMM] = _timm_vgg(network)
    elif kind == "densenet":
        layouts["torchvision of 2017"] = _old_densenet
    elif network.head_name == "linear":
        layouts["head named fc"] = _fc_head
    return layouts


@dataclass(frozen=True)
class Match:
    """How a checkpoint fits an architecture: its configuration, the renaming, and whether a head came with it.

    `fitting` of `expected` tensors agree in name and shape, head and batch counters aside; `strangers` of the
    checkpoint have no place in the network.
    """

    config: Config
    rename: Rename
    layout: str
    has_head: bool
    fitting: int
    expected: int
    strangers: int

    @property
    def exact(self) -> bool:
        return self.fitting == self.expected and self.strangers == 0


def match(tensors: dict[str, Tensor], config: Config) -> Match:
    """The best fit of `tensors` to `config`'s architecture over the layouts known for it.

    The number of classes and of input channels (grey or colour) is the checkpoint's, and so is whether there are
    auxiliary classifiers.
    """
    variants = [config]
    if family(config.architecture) in WITH_AUXILIARIES:
        variants.append(replace(config, auxiliary=not config.auxiliary))
    fits = []
    for variant in variants:
        network = _without_data(variant)
        fits += [_fit(tensors, network, layout, rename) for layout, rename in _layouts(network).items()]
    return max(fits, key=lambda found: (found.exact, found.fitting - found.strangers))


@lru_cache(maxsize=128)
def _without_data(config: Config) -> Network:
    """The network with shapes alone. It is only looked at: the next caller gets the same one."""
    with torch.device("meta"):
        return build(config)


def _fit(tensors: dict[str, Tensor], network: Network, layout: str, rename: Rename) -> Match:
    config, ours, head = network.config, state_shapes(network), network.head_name
    if layout == TIMM:
        # Its networks of these families have torch's epsilon, whatever torchvision's have; those called `tf_` say so.
        config = replace(config, batch_norm_eps=1e-5)
    theirs = {rename(name): tensor.shape for name, tensor in tensors.items()}
    stem = next((name for name, shape in ours.items() if len(shape) == 4), "")
    channels = theirs[stem][1] if len(theirs.get(stem, ())) == 4 else config.channels
    channels = channels if channels in (1, 3) else config.channels
    weight: tuple[int, ...] = theirs.get(f"{head}.weight", ())
    bias = theirs.get(f"{head}.bias")
    has_head = (
        len(weight) >= 2
        and weight[0] > 0
        and prod(weight[1:]) == prod(ours[f"{head}.weight"][1:])
        and (bias is None) == (f"{head}.bias" not in ours)
        and (bias is None or bias == weight[:1])
    )
    expected = {name: shape for name, shape in ours.items() if not _is_free(name, network)}
    if stem in expected:
        expected[stem] = torch.Size((expected[stem][0], channels, *expected[stem][2:]))
    return Match(
        config=replace(config, channels=channels, classes=weight[0] if has_head else config.classes),
        rename=rename,
        layout=layout,
        has_head=has_head,
        fitting=sum(name in theirs and _same(theirs[name], shape) for name, shape in expected.items()),
        expected=len(expected),
        strangers=sum(not _is_free(name, network) and name not in ours for name in theirs),
    )


def _same(theirs: torch.Size, ours: torch.Size) -> bool:
    """Whether one can be viewed as the other: equal, or the same linear layer as a matrix and as a convolution."""
    if theirs == ours:
        return True
    return {len(theirs), len(ours)} == {2, 4} and theirs[0] == ours[0] and prod(theirs) == prod(ours)


def recognise(tensors: dict[str, Tensor], source: str) -> Match:
    """The architecture that the tensors belong to, the first of the catalogue that fits exactly.

    Raises WeightsError naming the nearest one and what does not fit.
    """
    # The likeliest first, since building 66 networks takes seconds; equals stay in the catalogue's order.
    total = sum(tensor.numel() for tensor in tensors.values()) or 1
    likeliest = sorted(CATALOG, key=lambda name: abs(log(total / CATALOG[name].params)))
    nearest: tuple[float, str, Match] | None = None
    for name in likeliest:
        found = match(tensors, default_config(name))
        if found.exact:
            return found
        score = (found.fitting - found.strangers) / found.expected
        if nearest is None or score > nearest[0]:
            nearest = (score, name, found)
    assert nearest is not None
    _, name, found = nearest
    if not found.fitting:
        raise WeightsError(
            f"expected the weights of an architecture of the catalogue, got {source}, of whose {len(tensors)} tensors "
            f"({', '.join(list(tensors)[:3])}, …) none fits: see `graft models`, or name one of timm's with --arch "
            "timm:NAME"
        )
    raise WeightsError(f"{_misfit(tensors, found, source)}; that is the nearest of the catalogue: see `graft models`")


def fill(network: Network, tensors: dict[str, Tensor], found: Match, source: str) -> None:
    """Copy the tensors into `network` as its dtype; every one of the network's must be there but a head it lacks.

    Raises WeightsError that lists what is missing, what is left over and what has another shape.
    """
    if not found.exact:
        raise WeightsError(_misfit(tensors, found, source) + _better_fit(tensors, found))
    own = network.state_dict()
    theirs = {found.rename(name): tensor for name, tensor in tensors.items()}
    for name, target in own.items():
        if name in theirs and (found.has_head or not _is_free(name, network)):
            if _is_free(name, network) and not _same(theirs[name].shape, target.shape):
                continue
            if target.is_floating_point() and not theirs[name].is_floating_point():
                raise WeightsError(
                    f"expected floating-point weights, got {theirs[name].dtype} in {name!r} of {source}: save them "
                    "before they are quantised"
                )
            target.copy_(theirs[name].view_as(target))
            # After the copy, so that what is too large for the network's dtype counts as well.
            if not torch.isfinite(target).all():
                raise WeightsError(
                    f"expected finite weights, got NaN or infinity in {name!r} of {source}: fetch it again"
                )


def _misfit(tensors: dict[str, Tensor], found: Match, source: str) -> str:
    """What does not fit, in both directions."""
    network = _without_data(found.config)
    ours = state_shapes(network)
    theirs = {found.rename(name): tensor.shape for name, tensor in tensors.items()}
    missing = [name for name in ours if name not in theirs and not _is_free(name, network)]
    unexpected = [name for name in theirs if name not in ours and not _is_free(name, network)]
    reshaped = [
        f"{name} is {tuple(theirs[name])} for {tuple(ours[name])}"
        for name in ours
        if name in theirs and not _same(theirs[name], ours[name]) and not _is_free(name, network)
    ]
    parts = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for what, names in (("missing", missing), ("unknown to it", unexpected), ("of another shape", reshaped))
        if names
    ]
    return (
        f"expected the {found.expected} tensors of {found.config.architecture}, got {found.fitting} of them in "
        f"{source}: " + "; ".join(parts)
    )


def _better_fit(tensors: dict[str, Tensor], found: Match) -> str:
    try:
        other = recognise(tensors, "")
    except WeightsError:
        return ""
    return f"; the tensors are those of {other.config.architecture}: use --arch {other.config.architecture}"


def _is_free(name: str, network: Network) -> bool:
    """Tensors that may be absent or of another size: the heads, which get replaced, and batch counters."""
    return name.rpartition(".")[0] in network.head_names or name.endswith("num_batches_tracked")


# Networks that timm calls by another name; its `tf_` in front means padding and epsilon by TensorFlow's rules.
TIMM_NAMES = {
    "mobilenetv1_100": "mobilenet_v1",
    "mobilenetv2_100": "mobilenet_v2",
    "mobilenetv3_large_100": "mobilenet_v3_large",
    "mobilenetv3_small_100": "mobilenet_v3_small",
    "legacy_xception": "xception",
    **{f"resnetv2_{depth}": f"preact_resnet{depth}" for depth in (18, 34, 50, 101, 152)},
}


def known_architecture(name: str) -> str:
    """`name` if it is in the catalogue or timm's (`timm:NAME`), or what the catalogue calls it. Raises InputError."""
    if is_timm(name):
        return timm_name(name)
    name = name.removeprefix("tf_")
    name = TIMM_NAMES.get(name, name)
    entry(name)
    return name
