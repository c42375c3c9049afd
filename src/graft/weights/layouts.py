"""Which tensor of a checkpoint is which tensor of ours: naming layouts, recognition, and filling a network."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from graft.errors import WeightsError
from graft.models.catalog import CATALOG, build, default_config, entry
from graft.models.network import Config, Network, state_shapes

Rename = Callable[[str], str]


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


def _fc_head(name: str) -> str:
    return re.sub(r"^fc\.", "linear.", name)


# Layouts other than our own by architecture or, failing that, by family; ours is torchvision's or timm's already.
LAYOUTS: dict[str, dict[str, Rename]] = {
    "mobilenet_v2": {"timm": _timm_mobilenet_v2},
    **{f"resnet{depth}": {"head named fc": _fc_head} for depth in (20, 32, 44, 56, 110)},
}


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

    The number of classes and of input channels (grey or colour) is the checkpoint's.
    """
    with torch.device("meta"):
        network = build(config)
    ours = state_shapes(network)
    head = network.head_name
    stem = next(name for name, shape in ours.items() if len(shape) == 4)
    layouts: dict[str, Rename] = {"graft": str, **LAYOUTS.get(config.architecture, {})}
    return max(
        (_fit(tensors, config, ours, head, stem, name, rename) for name, rename in layouts.items()),
        key=lambda found: found.fitting - found.strangers,
    )


def _fit(
    tensors: dict[str, Tensor],
    config: Config,
    ours: dict[str, torch.Size],
    head: str,
    stem: str,
    layout: str,
    rename: Rename,
) -> Match:
    theirs = {rename(name): tensor.shape for name, tensor in tensors.items()}
    channels = theirs[stem][1] if len(theirs.get(stem, ())) == 4 else config.channels
    channels = channels if channels in (1, 3) else config.channels
    weight: tuple[int, ...] = theirs.get(f"{head}.weight", ())
    bias: tuple[int, ...] = theirs.get(f"{head}.bias", ())
    has_head = len(weight) == 2 and weight[0] > 0 and weight[1] == ours[f"{head}.weight"][1] and bias == weight[:1]
    expected = {name: shape for name, shape in ours.items() if not _is_free(name, head)}
    expected[stem] = torch.Size((expected[stem][0], channels, *expected[stem][2:]))
    return Match(
        config=replace(config, channels=channels, classes=weight[0] if has_head else config.classes),
        rename=rename,
        layout=layout,
        has_head=has_head,
        fitting=sum(theirs.get(name) == shape for name, shape in expected.items()),
        expected=len(expected),
        strangers=sum(not _is_free(name, head) and name not in ours for name in theirs),
    )


def recognise(tensors: dict[str, Tensor], source: str) -> Match:
    """The architecture that the tensors belong to, the first of the catalogue that fits exactly.

    Raises WeightsError naming the nearest one and what does not fit.
    """
    nearest: tuple[float, str, Match] | None = None
    for name in CATALOG:
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
            f"({', '.join(list(tensors)[:3])}, …) none fits: see `graft models`"
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
    head = network.head_name
    for name, target in own.items():
        if name in theirs and (found.has_head or not name.startswith(f"{head}.")):
            if name.endswith("num_batches_tracked") and target.shape != theirs[name].shape:
                continue
            if target.is_floating_point() and not theirs[name].is_floating_point():
                raise WeightsError(
                    f"expected floating-point weights, got {theirs[name].dtype} in {name!r} of {source}: save them "
                    "before they are quantised"
                )
            target.copy_(theirs[name])
            # After the copy, so that what is too large for the network's dtype counts as well.
            if not torch.isfinite(target).all():
                raise WeightsError(
                    f"expected finite weights, got NaN or infinity in {name!r} of {source}: fetch it again"
                )


def _misfit(tensors: dict[str, Tensor], found: Match, source: str) -> str:
    """What does not fit, in both directions."""
    with torch.device("meta"):
        network = build(found.config)
    ours, head = state_shapes(network), network.head_name
    theirs = {found.rename(name): tensor.shape for name, tensor in tensors.items()}
    missing = [name for name in ours if name not in theirs and not _is_free(name, head)]
    unexpected = [name for name in theirs if name not in ours and not _is_free(name, head)]
    reshaped = [
        f"{name} is {tuple(theirs[name])} for {tuple(ours[name])}"
        for name in ours
        if name in theirs and theirs[name] != ours[name] and not _is_free(name, head)
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


def _is_free(name: str, head: str) -> bool:
    """Tensors that may be absent or of another size: the head, which gets replaced, and batch counters."""
    return name.startswith(f"{head}.") or name.endswith("num_batches_tracked")


def known_architecture(name: str) -> str:
    """`name` if it is in the catalogue, or the architecture that timm calls so. Raises InputError."""
    name = {"mobilenetv2_100": "mobilenet_v2", "mobilenetv1_100": "mobilenet_v1"}.get(name, name)
    entry(name)
    return name
