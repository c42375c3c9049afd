"""Match a checkpoint's tensors with architectures and report what does not fit."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial
from math import log, prod

import torch
from torch import Tensor

from graft.errors import WeightsError
from graft.models.catalog import CATALOG
from graft.models.cuts import LAST, HeadKind, head_over_all_after
from graft.models.network import Config, state_shapes
from graft.weights.architectures import Architecture, resolve
from graft.weights.foreign import foreign_tensors
from graft.weights.layouts import Layout, Rename
from graft.weights.prefixes import Reading, apart, preferred_prefix, readings
from graft.weights.shapes import body_shapes, is_free, own_shapes, same_numbers, without_data
from graft.words import first_few


@dataclass(frozen=True)
class Match:
    """How a checkpoint fits an architecture.

    `config` holds the numbers of the network that it fills, `rename` maps its tensor names to that network's, and
    `layout` names the layout it is in. `has_head` says whether it includes a classifier. `fitting` of `expected`
    tensors agree in name and shape, head and batch counters aside; `strangers` counts those without a place in the
    network. The names in `left_out` have no place either, but accompany a complete body: another head, a loss.
    `tensors` are the matched ones, and `notes` say which they are when the file holds others. `head_layer` is the path
    of the classifier in the file if it stands among layers without parameters, and `other_head` names the tensors of a
    head that is no such layer.
    """

    architecture: Architecture
    config: Config
    rename: Rename
    layout: str
    has_head: bool
    fitting: int
    expected: int
    strangers: int
    tensors: dict[str, Tensor]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    head_layer: str = ""
    other_head: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        return self.fitting == self.expected and self.strangers == 0


def match(tensors: dict[str, Tensor], architecture: Architecture, config: Config) -> Match:
    """Return the best fit of `tensors` to an architecture with the numbers of `config`, over its known layouts.

    The checkpoint decides the number of classes, the number of input channels (gray or color), whether there are
    auxiliary classifiers and whether the head is over all stages.
    """
    config = replace(config, head="last")
    variants = [config]
    if architecture.has_auxiliary_variant:
        variants.append(replace(config, auxiliary=not config.auxiliary))
    layouts = [each for each in architecture.layouts if not _ruled_out(each, tensors)]
    fits = [_fit(tensors, architecture, variant, layout) for variant in variants for layout in layouts]
    return max(fits, key=_closeness)


def _ruled_out(layout: Layout, tensors: dict[str, Tensor]) -> bool:
    return bool(layout.never_with) and any(name.startswith(layout.never_with) for name in tensors)


def recognize(tensors: dict[str, Tensor], source: str) -> Match:
    """Return the architecture that the tensors belong to: the likeliest in the catalogue that they fit exactly.

    Raises WeightsError, which names the nearest one and what does not fit.
    """
    found, nearest = _search([Reading("", tensors)])
    if found is None:
        raise _fits_none(tensors, nearest, source)
    return found[1]


def choose_reading(tensors: dict[str, Tensor], stated: Architecture | None, source: str) -> Match:
    """Return how the tensors, or those under one prefix, fit the stated architecture or any in the catalogue.

    When tensors under several prefixes fit, the usually intended one is taken, with a note. Raises WeightsError when
    none fits or the choice is ambiguous.
    """
    candidates = readings(tensors)
    if stated is not None:
        return _choose_stated(candidates, stated, source)
    first, nearest = _search(candidates)
    if first is None:
        raise _fits_none(tensors, nearest, source)
    # Where a whole fits as well as its part, it includes the part's head too.
    wholes = [
        reading
        for reading in candidates
        if not reading.prefix or f"{first[0].prefix}.".startswith(f"{reading.prefix}.")
    ]
    for reading in wholes:
        found = _same_architecture(first[1].architecture, reading)
        if found is not None:
            first = (reading, found)
            break
    fitting = [first]
    # The same architecture first: the parts inside a match need no search.
    for search in (partial(_same_architecture, first[1].architecture), _search_one):
        for other in candidates:
            if all(apart(other, reading) for reading, _ in fitting):
                found = search(other)
                fitting += [(other, found)] if found else []
    return _preferred(fitting, candidates[0], source)


def _same_architecture(architecture: Architecture, reading: Reading) -> Match | None:
    found = match(reading.tensors, architecture, architecture.config)
    return found if found.exact else None


def _search_one(reading: Reading) -> Match | None:
    found, _ = _search([reading])
    return found[1] if found else None


def _choose_stated(candidates: list[Reading], stated: Architecture, source: str) -> Match:
    found = [(reading, match(reading.tensors, stated, stated.config)) for reading in candidates]
    fitting = [each for each in found if each[1].exact]
    if not fitting:
        return max(found, key=lambda each: _nearness(each[1]))[1]
    rivals = [fitting[0], *(each for each in fitting[1:] if apart(each[0], fitting[0][0]))]
    return _preferred(rivals, candidates[0], source)


def _preferred(fitting: list[tuple[Reading, Match]], whole: Reading, source: str) -> Match:
    """Choose the intended one of several matches, with notes on what it leaves out of the file. Raises WeightsError."""
    by_prefix = {reading.prefix: found for reading, found in fitting}
    prefix, notes = preferred_prefix([reading for reading, _ in fitting], source)
    found = by_prefix[prefix]
    outside = [name for name in whole.tensors if prefix and not name.startswith(f"{prefix}.")]
    rivals = [other for other in by_prefix if other != prefix]
    beside = [name for name in outside if not any(name.startswith(f"{other}.") for other in rivals)]
    if beside:
        notes.append(f"the weights under {prefix!r} of {source} were used, and {_summary(beside)} left out")
    elif prefix and not rivals:
        notes.append(f"the weights under {prefix!r} of {source} were used")
    if found.head_layer:
        notes.append(
            f"{source} has one layer with weights in its head, {found.head_layer}, which was taken for the "
            "classifier; any other layers there were assumed not to change answers, like dropout"
        )
    if found.left_out:
        notes.append(
            f"{source} holds more than the body of {found.architecture.name}: {_summary(found.left_out)} left out"
        )
    return replace(found, notes=tuple(notes))


def _summary(names: Iterable[str]) -> str:
    """Return the layers that tensors belong to, the first few by name, with the verb."""
    layers = list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
    more = f" and {len(layers) - 4} more" if len(layers) > 4 else ""
    return f"{', '.join(layers[:4])}{more} {'was' if len(layers) == 1 else 'were'}"


def _search(candidates: list[Reading]) -> tuple[tuple[Reading, Match] | None, Match]:
    """Return the first exact fit of any reading to any architecture of the catalogue, if any, and the nearest fit."""
    # The likeliest first, since building every network of the catalogue takes seconds; ties stay in catalogue order.
    sizes = {reading.prefix: sum(tensor.numel() for tensor in reading.tensors.values()) or 1 for reading in candidates}
    pairs = [(reading, name) for reading in candidates for name in CATALOG]
    pairs.sort(key=lambda pair: abs(log(sizes[pair[0].prefix] / CATALOG[pair[1]].params)))
    nearest: Match | None = None
    for reading, name in pairs:
        architecture = resolve(name)
        found = match(reading.tensors, architecture, architecture.config)
        if found.exact:
            return (reading, found), found
        if nearest is None or _nearness(found) > _nearness(nearest):
            nearest = found
    assert nearest is not None
    return None, nearest


def _fits_none(tensors: dict[str, Tensor], nearest: Match, source: str) -> WeightsError:
    foreign = foreign_tensors(tensors, source)
    if foreign is not None:
        return WeightsError(f"expected weights of a convolutional network, got {source}, which is {foreign}")
    if not nearest.fitting:
        return WeightsError(
            f"expected weights of an architecture in the catalogue, got {source}, none of whose tensors "
            f"({first_few(tensors)}) fits any: see `graft models`, or name a timm network with --arch timm:NAME"
        )
    what = _misfit(nearest.tensors, nearest, source)
    return WeightsError(
        f"{what}; that is the nearest in the catalogue: see `graft models`, or name a timm network with "
        "--arch timm:NAME"
    )


def _closeness(found: Match) -> tuple[bool, int, bool, int]:
    return found.exact, found.fitting - found.strangers, found.has_head, -len(found.left_out)


def _nearness(found: Match) -> float:
    return (found.fitting - found.strangers) / found.expected


def _fit(tensors: dict[str, Tensor], architecture: Architecture, config: Config, layout: Layout) -> Match:
    network = without_data(architecture, config)
    ours, head, rename = own_shapes(architecture, config), network.head_name, layout.renaming(network)
    renamed = {name: rename(name) for name in tensors}
    in_head = _in_other_head(renamed, ours, head)
    layer = _only_linear_layer(tensors, in_head)
    if layer:
        straight = {renamed[name]: f"{head}.{name.rpartition('.')[2]}" for name in in_head}
        shapes = {straight[renamed[name]]: tensors[name].shape for name in in_head}
        if _classes_of_head(shapes, ours, head):
            rename = _after(rename, straight)
            renamed, in_head = {name: rename(name) for name in tensors}, ()
        else:
            layer = ""
    theirs = {renamed[name]: tensor.shape for name, tensor in tensors.items()}
    stem = next((name for name, shape in ours.items() if len(shape) == 4), "")
    channels = theirs[stem][1] if len(theirs.get(stem, ())) == 4 else config.channels
    heads: dict[HeadKind, int] = {LAST: _classes_of_head(theirs, ours, head)}
    for over_several in map(head_over_all_after, network.cuts[:-2]):
        width = sum(network.head_blocks(over_several))
        shapes = {f"{head}.weight": torch.Size((1, width)), f"{head}.bias": torch.Size((1,))}
        heads[over_several] = _classes_of_head(theirs, shapes, head)
    kind, classes = max(heads.items(), key=lambda each: each[1])
    expected = body_shapes(architecture, config)
    if stem in expected:
        expected = expected | {stem: torch.Size((expected[stem][0], channels, *expected[stem][2:]))}
    fitting = sum(name in theirs and same_numbers(theirs[name], shape) for name, shape in expected.items())
    replaced = network.head_names
    strangers = {name for name in theirs.keys() - ours.keys() if not is_free(name, replaced)}
    beside = _beside(tensors, renamed, expected, strangers, head) if fitting == len(expected) else ()
    return Match(
        architecture=architecture,
        config=replace(
            config,
            channels=channels,
            classes=classes or config.classes,
            batch_norm_eps=layout.batch_norm_eps or config.batch_norm_eps,
            head=kind,
            padding=layout.padding or config.padding,
            early_stride=layout.early_stride or config.early_stride,
        ),
        rename=rename,
        layout=layout.name,
        has_head=classes > 0,
        fitting=fitting,
        expected=len(expected),
        strangers=len(strangers) - len(beside),
        tensors=tensors,
        left_out=beside,
        head_layer=layer,
        other_head=() if classes else in_head,
    )


def _in_other_head(renamed: dict[str, str], ours: Collection[str], head: str) -> tuple[str, ...]:
    """Return the tensors of a head that is not the network's own linear layer: in its place, or under its first word.

    They are those that no tensor of the network is named after; none if the network's own head is there.
    """
    if f"{head}.weight" in renamed.values():
        return ()
    word = head.partition(".")[0]
    return tuple(name for name, own in renamed.items() if own not in ours and own.partition(".")[0] == word)


def _only_linear_layer(tensors: dict[str, Tensor], names: Collection[str]) -> str:
    """Return the path of the linear layer that these tensors are; empty if they are anything else."""
    layers = {name.rpartition(".")[0] for name in names}
    layer = layers.pop() if len(layers) == 1 else ""
    weight = f"{layer}.weight"
    return layer if {weight} <= {*names} <= {weight, f"{layer}.bias"} and tensors[weight].ndim == 2 else ""


def _after(rename: Rename, straight: dict[str, str]) -> Rename:
    """Return the renaming followed by another one."""

    def both(name: str) -> str:
        own = rename(name)
        return straight.get(own, own)

    return both


def _beside(
    tensors: dict[str, Tensor], renamed: dict[str, str], body: Collection[str], strangers: Collection[str], head: str
) -> tuple[str, ...]:
    """Return what accompanies a complete body: in the head, or under a first word that no tensor of the body has.

    Convolutions there are no head or loss: they belong to a larger network than this one.
    """
    words = {
        name.partition(".")[0]
        for name, own in renamed.items()
        if own in body or (own in strangers and tensors[name].ndim > 3)
    }
    return tuple(
        name
        for name, own in renamed.items()
        if own in strangers and (own.startswith(f"{head}.") or name.partition(".")[0] not in words)
    )


def _classes_of_head(theirs: dict[str, torch.Size], ours: dict[str, torch.Size], head: str) -> int:
    """Return how many outputs the checkpoint's head has; 0 if its weight and bias do not form such a head."""
    weight, bias = theirs.get(f"{head}.weight", torch.Size()), theirs.get(f"{head}.bias")
    fits = (
        len(weight) >= 2
        and prod(weight[1:]) == prod(ours[f"{head}.weight"][1:])
        and (bias is None) == (f"{head}.bias" not in ours)
        and (bias is None or bias == weight[:1])
    )
    return weight[0] if fits else 0


def check_fit(tensors: dict[str, Tensor], found: Match, source: str) -> None:
    """Refuse tensors that lack one of the network's own, or have one too many or of another shape.

    Raises WeightsError, which lists them.
    """
    if not found.exact:
        raise WeightsError(_misfit(tensors, found, source) + _better_fit(tensors))


def _misfit(tensors: dict[str, Tensor], found: Match, source: str) -> str:
    """Return what does not fit, in both directions."""
    network = without_data(found.architecture, found.config)
    ours, heads = state_shapes(network), network.head_names
    theirs = {found.rename(name): tensor.shape for name, tensor in tensors.items()}
    missing = [name for name in ours if name not in theirs and not is_free(name, heads)]
    unexpected = [name for name in theirs if name not in ours and not is_free(name, heads)]
    reshaped = [
        f"{name} is {tuple(theirs[name])} for {tuple(ours[name])}"
        for name in ours
        if name in theirs and not same_numbers(theirs[name], ours[name]) and not is_free(name, heads)
    ]
    parts = [
        f"{len(names)} {what} ({first_few(names)})"
        for what, names in (("missing", missing), ("unknown to it", unexpected), ("of another shape", reshaped))
        if names
    ]
    return (
        f"expected the {found.expected} tensors of {found.architecture.name}, got {found.fitting} of them in "
        f"{source}: " + "; ".join(parts)
    )


def _better_fit(tensors: dict[str, Tensor]) -> str:
    try:
        name = recognize(tensors, "").architecture.name
    except WeightsError:
        return ""
    return f"; the tensors are those of {name}: name that architecture instead (--arch {name})"
