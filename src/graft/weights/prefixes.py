"""The parts of a checkpoint that may be a network: all tensors, and those under each prefix of their names.

Methods that train several networks at once, or a network inside a larger one, save them side by side:
`encoder_q.conv1.weight` and `encoder_k.conv1.weight`, or `backbone.conv1.weight` and `criterion.weight`.
"""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from graft.errors import WeightsError
from graft.weights.unwrapping import AVERAGED

# Of two networks trained together: the one that the authors transfer, and the one that follows it.
LEADING = frozenset(
    (
        "encoder_q",
        "query_encoder",
        "online_encoder",
        "online_network",
        "online",
        "online_net",
        "base_encoder",
        "student",
        "model",
        "net",
        "backbone",
        "encoder",
    )
)
FOLLOWING = frozenset(
    (
        "encoder_k",
        "key_encoder",
        "target_encoder",
        "target_network",
        "target",
        "target_net",
        "momentum_encoder",
        "momentum_backbone",
        "backbone_momentum",
        "momentum",
        "encoder_momentum",
        "model_k",
    )
)
# The deepest nesting of a network, the most parts that are examined, and the smallest share that counts.
DEEPEST, MOST, LEAST_SHARE = 6, 16, 0.1


@dataclass(frozen=True)
class Reading:
    """Tensors under a prefix, by the rest of their names; the empty prefix holds all of them."""

    prefix: str
    tensors: dict[str, Tensor]


def readings(tensors: dict[str, Tensor]) -> list[Reading]:
    """Return all tensors, then those under each prefix that may be a network's, the shortest and largest first."""
    total = sum(tensor.numel() for tensor in tensors.values()) or 1
    sizes: Counter[str] = Counter()
    with_kernels: set[str] = set()
    for name, tensor in tensors.items():
        words = name.split(".")[:-1]
        for depth in range(1, min(len(words), DEEPEST + 1)):
            prefix = ".".join(words[:depth])
            sizes[prefix] += tensor.numel()
            if tensor.ndim == 4:
                with_kernels.add(prefix)
    likely = [prefix for prefix, size in sizes.items() if prefix in with_kernels and size >= LEAST_SHARE * total]
    likely.sort(key=lambda prefix: (prefix.count("."), -sizes[prefix]))
    return [Reading("", tensors), *(_under(prefix, tensors) for prefix in likely[:MOST])]


def _under(prefix: str, tensors: dict[str, Tensor]) -> Reading:
    start = f"{prefix}."
    return Reading(
        prefix, {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
    )


def apart(one: Reading, other: Reading) -> bool:
    """Whether neither is a part of the other."""
    return not any(
        not first or second == first or second.startswith(f"{first}.")
        for first, second in ((one.prefix, other.prefix), (other.prefix, one.prefix))
    )


def preferred_prefix(rivals: list[Reading], source: str) -> tuple[str, list[str]]:
    """Return the prefix of the intended one among several networks, and a note if that was a choice.

    An average takes precedence over the weights that it averages, and a leading network over one that follows. Raises
    WeightsError where the names do not tell.
    """
    ranked = sorted(rivals, key=lambda reading: _rank(reading, rivals))
    chosen, *others = ranked
    if not others:
        return chosen.prefix, []
    level = [other for other in others if _rank(other, rivals) == _rank(chosen, rivals)]
    names = ", ".join(repr(other.prefix) for other in others)
    if level and not all(_equal(chosen, other) for other in level):
        raise WeightsError(
            f"expected one network in {source}, got several, under {chosen.prefix!r} and {names}: save only the right "
            "one"
        )
    return chosen.prefix, [f"the weights under {chosen.prefix!r} of {source} were used, not those under {names}"]


def _rank(reading: Reading, rivals: list[Reading]) -> int:
    """Return the rank of a reading; the lowest is preferred."""
    words = set(reading.prefix.split("."))
    if words & AVERAGED:
        # A teacher of another shape is not an average of its student, which is what was trained.
        return 0 if all(_shapes(reading) == _shapes(other) for other in rivals) else 3
    if words & FOLLOWING:
        return 3
    return 1 if words & LEADING else 2


def _shapes(reading: Reading) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in reading.tensors.items() if tensor.ndim == 4}


def _equal(one: Reading, other: Reading) -> bool:
    return one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items()
    )
