"""Which level suits the pictures: the textbook's rule on measured size and likeness, with the evidence beside it.

The rule has four scenarios. Few pictures like the base's own: keep everything but the head (1). Many such: freeze 60 to
80 % (2). Few that are unlike: freeze a third to a half, since late features are made for something else (3). Many such:
train everything from the pretrained start (4). No level is trained to decide, and `--level auto` does not follow this.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from graft.models.network import Network
from graft.transfer.evidence import Evidence
from graft.transfer.levels import Plan, plan

# Pictures per class from which there are many: between the textbook's hundreds and its ten thousands.
MANY = 1000
# Mean shift in nats per channel from which pictures are unlike the source's. Photographs gave 0.02 to 0.10, cartoons
# 0.1, sketches and enlarged thumbnails 0.3 and more.
UNLIKE = 0.2
# By few and alike: the number of the scenario and the level that the rule has for it.
SCENARIOS = {
    (True, True): (1, "head"),
    (False, True): (2, "frozen:0.7"),
    (True, False): (3, "frozen:0.4"),
    (False, False): (4, "all"),
}


@dataclass(frozen=True)
class Advice:
    """A plan, the textbook's scenario it belongs to (1 to 4), and what was measured."""

    plan: Plan
    scenario: int
    evidence: Evidence

    def to_dict(self) -> dict[str, Any]:
        measured = self.evidence.to_dict()
        return {
            **self.plan.to_dict(),
            "scenario": self.scenario,
            "evidence": {
                **measured,
                "shift": measured["shift"]["stages"],
                "mean_shift": self.evidence.shift.mean,
                "race": [],
            },
        }


def advise(network: Network, evidence: Evidence, counts: Mapping[str, int]) -> Advice:
    """The advice for pictures of which there are `counts` by class, on measurements of some of them.

    Raises CutError where the network cannot serve the level.
    """
    per_class = int(median(counts.values()))
    few = per_class < MANY
    alike, why = _alike(evidence)
    scenario, level = SCENARIOS[few, alike]
    size = f"{per_class:,} pictures per class are {'few' if few else 'many'} ({MANY:,} divide)"
    rule = f"scenario {scenario}, {'few' if few else 'many'} pictures {'like' if alike else 'unlike'} the base's own"
    reasons = (size, why, f"{rule}: the textbook's rule is {level}", *_probed(evidence))
    return Advice(Plan(level, plan(level, network, pretrained=True).cut, reasons), scenario, evidence)


def _alike(evidence: Evidence) -> tuple[bool, str]:
    """Whether the pictures are like those the base was trained on, and by what."""
    shift = evidence.shift.mean
    if shift is not None:
        alike = shift < UNLIKE
        return (
            alike,
            f"they are {'like' if alike else 'unlike'} the base's own: a shift of {shift:.2f} ({UNLIKE} divides)",
        )
    if not evidence.probe:
        return True, "nothing tells whether they are like the base's own; that they are is assumed"
    # Features that serve the source's classes best serve like pictures best too.
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
