"""Where a level becomes a cut: `plan_level`.

level       trunk, frozen                              crown, trained
as-is       everything, outputs read as your classes   nothing
head        all but the head                           a new head
head:stages all but the head                           a new head over what every stage puts out (Head2Toe)
stages:K    all but the last K stages                  the last K stages and a new head
frozen:F    the first fraction F of weight layers      the rest and a new head
all         nothing                                    everything, pretrained start, new head
scratch     nothing                                    everything, random start
auto        the level that the advisor chooses from measurements
"""

import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from graft.errors import CutError, did_you_mean
from graft.given import text
from graft.models.cuts import ALL_STAGES, HEAD, INPUT, LAST, HeadKind
from graft.models.network import Network

LEVELS = ("as-is", "head", "head:stages", "stages:K", "frozen:F", "all", "scratch", "auto")


@dataclass(frozen=True)
class Plan:
    """What is frozen and why: the level as the user spells it, its cut, and the reasons in words.

    `cut` is the name of the last frozen stage, or `input` if nothing is frozen; `head` is what the new head sees.
    """

    level: str
    cut: str
    reasons: tuple[str, ...]
    head: HeadKind = LAST

    def __repr__(self) -> str:
        return f"Plan(level={self.level!r}, cut={self.cut!r})"

    def to_dict(self) -> dict[str, Any]:
        return {"level": self.level, "cut": self.cut, "head": self.head, "reasons": list(self.reasons)}


def check_level(level: str) -> str:
    """Return `level` if it is spelled like one; no network is needed. Raises CutError otherwise."""
    level = text(level, "--level")
    if level in ("as-is", "head", "head:stages", "all", "scratch", "auto"):
        return level
    if re.fullmatch(r"stages:[1-9]\d*", level):
        return level
    match = re.fullmatch(r"frozen:(\d*\.?\d+)", level)
    if match and 0 <= float(match[1]) <= 1:
        return level
    spelled = [name.replace(":K", ":2").replace(":F", ":0.4") for name in LEVELS]
    raise CutError(
        f"expected a level, one of {', '.join(LEVELS)} (K from 1, F from 0 to 1), got {level!r}"
        f"{did_you_mean(level, spelled)}: choose one of these"
    )


def plan_level(level: str, network: Network, pretrained: bool) -> Plan:
    """Return the plan for a level: its cut in `network`, and why. Raises CutError if the network lacks such a cut."""
    check_level(level)
    chosen = _cut(level, network, pretrained)
    solvable = chosen.head == ALL_STAGES or any(True for _ in network.head.parameters())
    if chosen.cut == network.cuts[-2] and not solvable:
        raise CutError(
            f"expected a level that leaves something to train, got {level!r}: the head of "
            f"{network.config.architecture} has nothing to train; use --level stages:1 or --level all"
        )
    return chosen


def _cut(level: str, network: Network, pretrained: bool) -> Plan:
    if level == "auto":
        if not pretrained:
            return Plan("scratch", INPUT, ("the base has no weights, so there is nothing to keep",))
        reason = "nothing was measured, and a new head is the cheapest level, and the safest one for few images"
        return Plan("head", network.cuts[-2], (reason,))
    reasons = (f"--level {level} was given",)
    name, _, number = level.partition(":")
    if name == "as-is":
        return Plan(level, HEAD, reasons)
    if name == "head":
        return Plan(level, network.cuts[-2], reasons, ALL_STAGES if number == "stages" else LAST)
    if name == "stages":
        return Plan(level, _before_last_stages(network, int(number)), reasons)
    if name == "frozen":
        return Plan(level, _after_fraction(network, float(number)), reasons)
    return Plan(level, INPUT, reasons)


def weight_layers(network: Network) -> dict[str, int]:
    """Return the number of convolutions and linear layers in every stage, by name, in order."""
    layers = {}
    for stage in network.stages:
        modules = [module for part in stage.parts for module in network.get_submodule(part).modules()]
        layers[stage.name] = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in modules)
    return layers


def _before_last_stages(network: Network, count: int) -> str:
    """Return the cut that leaves the crown the last `count` stages with weights, and any between without."""
    trainable = [name for name, layers in weight_layers(network).items() if layers and name != HEAD]
    if count > len(trainable):
        raise CutError(
            f"expected at most {len(trainable)} stages to train in {network.config.architecture} "
            f"({', '.join(trainable)}), got {count}: ask for fewer, or use --level all"
        )
    return network.cuts[network.cuts.index(trainable[-count]) - 1]


def _after_fraction(network: Network, fraction: float) -> str:
    """Return the cut whose frozen share of weight layers is nearest `fraction`: of two the earlier, never the head."""
    layers = weight_layers(network)
    total, frozen, shares = sum(layers.values()), 0, {INPUT: 0.0}
    for name, count in layers.items():
        frozen += count
        if name != HEAD and count:
            shares[name] = frozen / total
    nearest = min(shares, key=lambda cut: abs(shares[cut] - fraction))
    # Between the last stage with weights and the head there are none, so everything up to the head can be frozen.
    last = list(shares)[-1]
    return network.cuts[-2] if nearest == last else nearest
