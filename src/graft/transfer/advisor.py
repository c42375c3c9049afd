"""Which level suits the images: measurements, the textbook's rule on them, and a race of the plausible levels.

The rule has four scenarios. Few images like the base's own: keep everything but the head (1). Many such: freeze 60 to
80 % (2). Few that are unlike: freeze a third to a half, since late features are made for something else (3). Many such:
train everything from the pretrained start (4). It names the scenario, and decides where there was no race. Before a
race, what is expected of each level is what recorded trainings gave (docs/transfer.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import log2
from statistics import median
from typing import Any

from graft.models.network import HEAD, Network
from graft.transfer.evidence import Evidence
from graft.transfer.levels import Plan, plan_level, weight_layers
from graft.transfer.race import Standing, winner

# Images per class from which there are many: between the textbook's hundreds and its ten thousands.
MANY = 1000
# Mean shift in nats per channel from which images are unlike the source's. Photographs gave 0.02 to 0.05, digits on
# a base that knows CIFAR-10 0.13, enlarged thumbnails 0.17 to 0.24, sketches 0.19 and more.
UNLIKE = 0.1
# By few and alike: the number of the scenario and the level that the rule has for it.
SCENARIOS = {
    (True, True): (1, "head"),
    (False, True): (2, "frozen:0.7"),
    (True, False): (3, "frozen:0.4"),
    (False, False): (4, "all"),
}
# Parameters per image from which training them all is expected to gain less.
CROWDED = 5000
# What can win, from the cheapest; levels with the same cut are one.
CONTENDERS = ("head", "stages:1", "stages:2", "frozen:0.7", "frozen:0.4", "all")


@dataclass(frozen=True)
class TrainingCost:
    """What the advised training takes on this machine: seconds, bytes of memory at its peak, bytes in the cache."""

    seconds: float | None
    peak_bytes: int
    cache_bytes: int


@dataclass(frozen=True)
class Advice:
    """A plan, the textbook's scenario (1 to 4) and level, what was measured, the race, and what following it costs.

    `accuracy` is what is expected on unseen images, with a 95 % interval; None without a race. `warning` says why
    the base does not suit the images at all, None where it does.
    """

    plan: Plan
    scenario: int
    textbook: str
    evidence: Evidence
    race: tuple[Standing, ...] = ()
    accuracy: float | None = None
    accuracy_ci95: tuple[float, float] | None = None
    cost: TrainingCost | None = None
    warning: str | None = None

    def to_dict(self) -> dict[str, Any]:
        measured = self.evidence.to_dict()
        return {
            **self.plan.to_dict(),
            "scenario": self.scenario,
            "textbook": self.textbook,
            "accuracy": self.accuracy,
            "accuracy_ci95": None if self.accuracy_ci95 is None else list(self.accuracy_ci95),
            "warning": self.warning,
            "evidence": {
                **measured,
                "shift": measured["shift"]["stages"],
                "mean_shift": self.evidence.shift.mean,
                "race": [asdict(standing) for standing in self.race],
            },
            "cost": None if self.cost is None else asdict(self.cost),
        }


@dataclass(frozen=True)
class TextbookRule:
    """The textbook's rule applied: its scenario, its level, and the reasons in words."""

    scenario: int
    level: str
    alike: bool
    reasons: tuple[str, ...]


def apply_textbook(evidence: Evidence, counts: Mapping[str, int]) -> TextbookRule:
    """The rule for images of which there are `counts` by class, on measurements of some of them."""
    per_class = int(median(counts.values()))
    few = per_class < MANY
    alike, why = _alike(evidence)
    scenario, level = SCENARIOS[few, alike]
    size = f"{per_class:,} images per class are {'few' if few else 'many'} ({MANY:,} divide)"
    rule = f"scenario {scenario}, {'few' if few else 'many'} images {'like' if alike else 'unlike'} the base's own"
    return TextbookRule(scenario, level, alike, (size, why, f"{rule}: the textbook's rule is {level}"))


def plausible(network: Network) -> dict[str, str]:
    """The levels that can win with their cuts, from the cheapest, each cut once."""
    cuts: dict[str, str] = {}
    for level in sorted(CONTENDERS, key=lambda level: -network.cuts.index(plan_level(level, network, True).cut)):
        cut = plan_level(level, network, True).cut
        if cut not in cuts.values():
            cuts[level] = cut
    return cuts


def frozen_fraction(network: Network, cut: str) -> float:
    """The part of the weight layers before the head that a cut freezes."""
    layers = {name: count for name, count in weight_layers(network).items() if name != HEAD}
    behind = network.cuts.index(cut)
    frozen = sum(count for name, count in layers.items() if network.cuts.index(name) <= behind)
    return frozen / max(1, sum(layers.values()))


def expected_gain(alike: bool, frozen: float, parameters_per_image: float) -> tuple[float, float]:
    """The accuracy over the head's that is expected of a level that freezes this part of the layers, before any race,
    and the standard deviation of that.

    Of images like the base's own, training more makes worse. Of others it makes better, the more the deeper, unless
    there are too few images for so many parameters (of all layers before the head). The numbers sum up recorded
    trainings (docs/transfer.md).
    """
    if frozen >= 1:
        return 0.0, 0.0
    if alike:
        return -0.01 - 0.04 * (1 - frozen), 0.02
    crowding = max(0.0, log2(parameters_per_image / CROWDED))
    return 0.04 + 0.05 * (1 - crowding) * (1 - frozen), 0.03


def decide(
    network: Network,
    evidence: Evidence,
    counts: Mapping[str, int],
    race: Sequence[Standing] = (),
    cost: TrainingCost | None = None,
) -> Advice:
    """The advice on measurements of some images, of which there are `counts` by class, and on a race.

    Without one it is the textbook's rule. Raises CutError where the network cannot serve the level.
    """
    rule = apply_textbook(evidence, counts)
    warning = _unsuited(evidence, counts)
    if not race:
        chosen = Plan(rule.level, plan_level(rule.level, network, True).cut, (*rule.reasons, *_probed(evidence)))
        return Advice(chosen, rule.scenario, rule.level, evidence, cost=cost, warning=warning)
    best, head = winner(race), race[0]
    reasons = (*rule.reasons, *_probed(evidence), *_raced(race, best))
    assert head.accuracy is not None
    accuracy = min(1.0, max(0.0, head.accuracy + best.expected))
    error = (best.deviation**2 + accuracy * (1 - accuracy) / max(1, head.n)) ** 0.5
    interval = (max(0.0, accuracy - 1.96 * error), min(1.0, accuracy + 1.96 * error))
    chosen = Plan(best.level, plan_level(best.level, network, True).cut, reasons)
    return Advice(chosen, rule.scenario, rule.level, evidence, tuple(race), accuracy, interval, cost, warning)


def _alike(evidence: Evidence) -> tuple[bool, str]:
    """Whether the images are like those the base was trained on, and by what."""
    shift = evidence.shift.mean
    if shift is not None:
        alike = shift < UNLIKE
        return (
            alike,
            f"they are {'like' if alike else 'unlike'} the base's own: a shift of {shift:.2f} ({UNLIKE} divides)",
        )
    if not evidence.probe:
        return True, "nothing tells whether they are like the base's own; that they are is assumed"
    # Features that serve the source's classes best serve like images best too.
    last = evidence.probe[-1].stage
    alike = max(evidence.probe, key=lambda row: row.accuracy).stage in (last, evidence.probe[-2].stage)
    where = "at the end" if alike else "before the end"
    return alike, f"the base has no batch norm to compare them by, but separates their classes best {where}"


def _probed(evidence: Evidence) -> tuple[str, ...]:
    if not evidence.probe:
        return ()
    best = max(evidence.probe, key=lambda row: row.accuracy)
    low, high = best.ci95
    return (f"a linear classifier does best on {best.stage}: {best.accuracy:.1%} ({low:.1%} to {high:.1%})",)


def _raced(race: Sequence[Standing], best: Standing) -> tuple[str, ...]:
    """What the race says for the winner, and against what it beat."""
    if best.gain is None:
        said = f"{best.level} is expected to gain {best.expected:+.1%} over the head; it was not tried"
    elif best is race[0]:
        others = [each for each in race[1:] if each.gain is not None]
        if not others:
            return ("nothing but the head was tried",)
        nearest = max(others, key=lambda each: each.expected)
        said = (
            f"no level is expected to beat the head: the nearest, {nearest.level}, gained {nearest.gain:+.1%} (± "
            f"{1.96 * (nearest.error or 0):.1%}) on {nearest.n} held-out images after {nearest.share:.0%} of its "
            f"training, with what was known before {nearest.expected:+.1%}"
        )
    else:
        said = (
            f"{best.level} gained {best.gain:+.1%} (± {1.96 * (best.error or 0):.1%}) over the head on {best.n} "
            f"held-out images after {best.share:.0%} of its training, with what was known before {best.expected:+.1%}"
        )
    ties = [each.level for each in race if each is not best and abs(each.expected - best.expected) <= best.deviation]
    return (said, f"within the uncertainty of it: {', '.join(ties)}") if ties else (said,)


def _unsuited(evidence: Evidence, counts: Mapping[str, int]) -> str | None:
    """Why the base does not suit these images at all: no stage separates their classes better than guessing."""
    if not evidence.probe:
        return None
    majority = max(counts.values()) / max(1, sum(counts.values()))
    best = max(evidence.probe, key=lambda row: row.accuracy)
    if best.ci95[0] > majority:
        return None
    return (
        f"this base does not suit the images: a linear classifier on its best stage, {best.stage}, is right in "
        f"{best.accuracy:.1%} ({best.ci95[0]:.1%} to {best.ci95[1]:.1%}), always the commonest class in {majority:.1%}"
    )
