"""Levels of transfer learning, each of them a cut.

as-is       trunk: everything, read in your classes    crown: nothing
head        all but the head                           a new head
stages:K    all but the last K stages                  the last K stages and a new head
frozen:F    the first fraction F of weight layers      the rest and a new head
all         nothing                                    everything, pretrained start, new head
scratch     nothing                                    everything, random start
auto        what the advisor measured
"""

import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from graft.errors import CutError, did_you_mean
from graft.models.network import HEAD, INPUT, Network

LEVELS = ("as-is", "head", "stages:K", "frozen:F", "all", "scratch", "auto")


@dataclass(frozen=True)
class Plan:
    """What will be frozen and why: the level as the user spells it, its cut, and the reasons in words."""

    level: str
    cut: str
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"level": self.level, "cut": self.cut, "reasons": list(self.reasons)}


def check_level(level: str) -> str:
    """`level` if it is spelt like one. Raises CutError before anything is loaded."""
    if level in ("as-is", "head", "all", "scratch", "auto"):
        return level
    if re.fullmatch(r"stages:[1-9]\d*", level):
        return level
    match = re.fullmatch(r"frozen:(\d*\.?\d+)", level)
    if match and 0 <= float(match[1]) <= 1:
        return level
    raise CutError(
        f"expected a level, one of {', '.join(LEVELS)} (K from 1, F from 0 to 1), got {level!r}"
        f"{did_you_mean(level, [name.partition(':')[0] for name in LEVELS])}: spell it like these"
    )


def plan_level(level: str, network: Network, pretrained: bool) -> Plan:
    """The cut of a level in `network`. Raises CutError for a level the network cannot serve."""
    check_level(level)
    chosen = _plan(level, network, pretrained)
    if chosen.cut == network.cuts[-2] and not any(True for _ in network.head.parameters()):
        raise CutError(
            f"expected a level that leaves something to train, got {level!r}: the head of "
            f"{network.config.architecture} has fixed codes; use --level stages:1 or --level all"
        )
    return chosen


def _plan(level: str, network: Network, pretrained: bool) -> Plan:
    if level == "auto":
        if not pretrained:
            return Plan("scratch", INPUT, ("the base has no weights, so there is nothing to keep",))
        reason = "nothing was measured, and a new head is the cheapest level and the safest where images are few"
        return Plan("head", network.cuts[-2], (reason,))
    reasons = (f"--level {level} was asked for",)
    name, _, number = level.partition(":")
    if name == "as-is":
        return Plan(level, HEAD, reasons)
    if name == "head":
        return Plan(level, network.cuts[-2], reasons)
    if name == "stages":
        return Plan(level, _before_last_stages(network, int(number)), reasons)
    if name == "frozen":
        return Plan(level, _after_fraction(network, float(number)), reasons)
    return Plan(level, INPUT, reasons)


def weight_layers(network: Network) -> dict[str, int]:
    """Convolutions and linear layers in every stage, by name, in order."""
    layers = {}
    for stage in network.stages:
        modules = [module for part in stage.parts for module in network.get_submodule(part).modules()]
        layers[stage.name] = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in modules)
    return layers


def _before_last_stages(network: Network, count: int) -> str:
    """The cut that leaves `count` stages with weights, and whatever has none behind them, to the crown."""
    trainable = [name for name, layers in weight_layers(network).items() if layers and name != HEAD]
    if count > len(trainable):
        raise CutError(
            f"expected at most {len(trainable)} stages to train in {network.config.architecture} "
            f"({', '.join(trainable)}), got {count}: lower it, or use --level all"
        )
    return network.cuts[network.cuts.index(trainable[-count]) - 1]


def _after_fraction(network: Network, fraction: float) -> str:
    """The cut whose share of frozen weight layers is nearest to `fraction`, the earlier of two; never past the head."""
    layers = weight_layers(network)
    total, frozen, shares = sum(layers.values()), 0, {INPUT: 0.0}
    for name, count in layers.items():
        frozen += count
        if name != HEAD and count:
            shares[name] = frozen / total
    nearest = min(shares, key=lambda cut: abs(shares[cut] - fraction))
    # Nothing with weights lies between the last such stage and the head: freeze what has none as well.
    last = list(shares)[-1]
    return network.cuts[-2] if nearest == last else nearest
