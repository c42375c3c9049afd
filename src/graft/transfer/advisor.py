"""The advisor: choose a level from measurements on the images, the textbook's rule, and a race of plausible levels.

The rule has four scenarios. With few images, similar to the base's own, keep everything but the head (1). With many
similar images, freeze 60 to 80 % of the weight layers (2). With few images, different from the base's own, freeze a
third to a half, because late features are specific to the source classes (3). With many different images, train
everything from the pretrained start (4). The rule names the scenario, and decides when there was no race. The gain
expected of each level before the race comes from recorded training runs (docs/transfer.md).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import hypot, log10
from statistics import median
from typing import Any

from graft.evaluation.intervals import wilson_interval
from graft.models.cuts import LAST
from graft.models.network import Network
from graft.transfer.evidence import Evidence
from graft.transfer.levels import Plan, plan_level
from graft.transfer.race import Standing, winner
from graft.words import counted

# From this many images per class on, a set is large; the textbook calls hundreds few and tens of thousands many.
MANY = 1000
# From this mean shift on, in nats per channel, images count as different from the source's. Photographs gave 0.02 to
# 0.05, digits on a base trained on CIFAR-10 0.13, enlarged thumbnails 0.17 to 0.24, sketches 0.19 and more.
DIFFERENT = 0.1
# (few, similar): the number of the scenario and the level that the rule chooses.
SCENARIOS = {
    (True, True): (1, "head"),
    (False, True): (2, "frozen:0.7"),
    (True, False): (3, "frozen:0.4"),
    (False, False): (4, "all"),
}
# The levels that are tried, cheapest first. One that trains stages is enough: with the recipes of docs/recipe.md,
# levels with a deeper or an earlier cut end where it ends, and trying one costs as much as training it.
STAGES_HEAD = "head:stages"
CONTENDERS = ("head", STAGES_HEAD, "frozen:0.4")
# The gain over the head expected of a level before it is tried, and its standard deviation, both in accuracy: on images
# similar to the base's own (True), and on others (False). From recorded runs (docs/recipe.md).
EXPECTED_OF_STAGES_HEAD = {True: (0.0, 0.02), False: (0.02, 0.03)}
EXPECTED_OF_TUNING = {True: (0.0, 0.03), False: (0.05, 0.04)}
# When the folds favour a head over several stages, training begins with it and adds to what a head over all stages
# reaches: +6.3 and +0.8 points on sketches (20 per class), +4.8 and +0.3 on digits (10).
EXPECTED_BEYOND_STAGES_HEAD = (0.03, 0.03)
# On similar images, the gain of training stages grows with the number of images per class: it is zero at the first
# value, rises by the second with every tenfold, and stays within the bounds. From 40 % on, twelve runs gave -3.2 points
# on average with 10 textures per class, -3.7 with 20, -0.1 with 40, and on ants and bees +0.7 with 30 and +2.6 with 97.
EVEN_PER_CLASS, GAIN_PER_TENFOLD, BOUNDS_OF_GAIN = 40, 0.05, (-0.04, 0.02)


@dataclass(frozen=True)
class TrainingCost:
    """The cost of training at the advised level on this machine: seconds, peak memory and cache size in bytes."""

    seconds: float | None
    peak_bytes: int
    cache_bytes: int


@dataclass(frozen=True)
class Advice:
    """The chosen plan, the textbook's scenario (1 to 4) and level, the measurements, the race, and the cost.

    `accuracy` is the accuracy expected on unseen images, with a 95 % interval; both are None without a race. `warning`
    says why the base does not suit the images at all, and is None when it does.
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
    # The number of groups that the interval is over, where images come in groups.
    accuracy_groups: int | None = None

    def __repr__(self) -> str:
        expected = ""
        if self.accuracy is not None and self.accuracy_ci95 is not None:
            low, high = self.accuracy_ci95
            expected = f", accuracy={self.accuracy:.3f} ({low:.3f} to {high:.3f})"
        return f"Advice(level={self.plan.level!r}, cut={self.plan.cut!r}{expected})"

    def _repr_html_(self) -> str:
        """Show the evidence and the choice as tables, for notebooks."""
        from graft.transfer.advice_table import advice_html

        return advice_html(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the object that `graft advise --json` prints."""
        measured = self.evidence.to_dict()
        return {
            **self.plan.to_dict(),
            "scenario": self.scenario,
            "textbook": self.textbook,
            "accuracy": self.accuracy,
            "accuracy_ci95": None if self.accuracy_ci95 is None else list(self.accuracy_ci95),
            **({} if self.accuracy_groups is None else {"accuracy_groups": self.accuracy_groups}),
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
    """The textbook's rule applied to some images: its scenario and level, and the reasons in words.

    `similar` says whether the images are like those that the base was trained on; `per_class` is the number of images
    in the median class.
    """

    scenario: int
    level: str
    similar: bool
    per_class: int
    reasons: tuple[str, ...]


def apply_textbook(evidence: Evidence, counts: Mapping[str, int]) -> TextbookRule:
    """Apply the rule to images with `counts` per class; `evidence` may come from a sample of them."""
    per_class = int(median(counts.values()))
    few = per_class < MANY
    similar, why = _similarity(evidence)
    scenario, level = SCENARIOS[few, similar]
    amount, kind = "few" if few else "many", "similar to" if similar else "different from"
    size = f"{amount} images: the median class has {per_class:,}, and {MANY:,} or more count as many"
    rule = f"scenario {scenario}, {amount} images {kind} the base's own: the textbook's rule is {level}"
    return TextbookRule(scenario, level, similar, per_class, (size, why, rule))


def plausible(network: Network) -> tuple[Plan, ...]:
    """Return the levels to try, cheapest first."""
    return tuple(plan_level(level, network, True) for level in CONTENDERS)


def goes_beyond(plan: Plan) -> str | None:
    """Return the level other than the head that a plan's training begins with, if its head sees several stages."""
    return STAGES_HEAD if plan.head != LAST and plan.level != STAGES_HEAD else None


def expected_gain(plan: Plan, similar: bool, per_class: int) -> tuple[float, float]:
    """Return the expected gain of a level before it is tried, and its standard deviation, both in accuracy.

    The gain is over the head, or over the level that `goes_beyond` returns.

    On images that differ from the base's own, earlier stages retain what the last ones have dropped, and training makes
    up for what the base never learnt. On similar images, a few per class teach it less than it forgets.
    """
    if plan.level == "head":
        return 0.0, 0.0
    if goes_beyond(plan) is not None:
        return EXPECTED_BEYOND_STAGES_HEAD
    expected, deviation = (EXPECTED_OF_STAGES_HEAD if plan.level == STAGES_HEAD else EXPECTED_OF_TUNING)[similar]
    if similar and plan.level != STAGES_HEAD:
        low, high = BOUNDS_OF_GAIN
        expected += min(high, max(low, GAIN_PER_TENFOLD * log10(max(1, per_class) / EVEN_PER_CLASS)))
    return expected, deviation


def decide(
    network: Network,
    evidence: Evidence,
    counts: Mapping[str, int],
    race: Sequence[Standing] = (),
    cost: TrainingCost | None = None,
    too_long: Collection[str] = (),
    worth: float | None = None,
) -> Advice:
    """Decide on a level from measurements on the images, their number in each class (`counts`), and a race.

    Without a race the textbook's rule decides. Levels that take `too_long` were tried, but are not chosen. `worth` is
    how many independent images those behind the head's accuracy amount to; None counts each as one. Raises CutError if
    the network has no cut for the level.
    """
    rule = apply_textbook(evidence, counts)
    warning = _unsuited(evidence, counts)
    if not race:
        chosen = replace(plan_level(rule.level, network, True), reasons=(*rule.reasons, *_probed(evidence)))
        return Advice(chosen, rule.scenario, rule.level, evidence, cost=cost, warning=warning)
    best, head = winner([each for each in race if each.level not in too_long]), race[0]
    reasons = (*rule.reasons, *_probed(evidence), *_raced(race, best))
    reasons += tuple(f"no time is left to train {level} again" for level in too_long)
    assert head.accuracy is not None
    accuracy = min(1.0, max(0.0, head.accuracy + best.expected))
    # The head's interval, with its margins and those of the gain combined (Zou and Donner 2008).
    number = max(1.0, worth or head.n)
    low, high = wilson_interval(head.accuracy * number, number)
    down, up = (hypot(margin, 1.96 * best.deviation) for margin in (head.accuracy - low, high - head.accuracy))
    interval = (max(0.0, accuracy - down), min(1.0, accuracy + up))
    chosen = replace(plan_level(best.level, network, True), reasons=reasons)
    return Advice(chosen, rule.scenario, rule.level, evidence, tuple(race), accuracy, interval, cost, warning)


def _similarity(evidence: Evidence) -> tuple[bool, str]:
    """Return whether the images are similar to those that the base was trained on, and the reason in words."""
    shift = evidence.shift.mean
    if shift is not None:
        similar = shift < DIFFERENT
        kind = "similar to" if similar else "different from"
        return similar, (
            f"the images are {kind} the base's own: their shift is {shift:.2f} nats per channel, and {DIFFERENT} or "
            "more count as different"
        )
    if not evidence.probe:
        return True, "similarity to the base's own images is assumed, because nothing could be measured"
    # The last features separate the source's classes best, and so do the same for similar images.
    last = evidence.probe[-1].stage
    similar = max(evidence.probe, key=lambda row: row.accuracy).stage in (last, evidence.probe[-2].stage)
    where, kind = ("last", "similar to") if similar else ("earlier", "different from")
    return similar, (
        f"the base has no batch norm to measure the shift by, but its {where} stages separate the classes best, so the "
        f"images count as {kind} the base's own"
    )


def _probed(evidence: Evidence) -> tuple[str, ...]:
    if not evidence.probe:
        return ()
    best = max(evidence.probe, key=lambda row: row.accuracy)
    low, high = best.ci95
    return (f"a linear probe does best on {best.stage}: {best.accuracy:.1%} ({low:.1%} to {high:.1%})",)


def _raced(race: Sequence[Standing], best: Standing) -> tuple[str, ...]:
    """Return why the winner won the race, and which levels cannot be distinguished from it."""
    others = [each for each in race if each.gain is not None and each is not best and each is not race[0]]
    reasons = [f"{best.level} {_tried(best)}"] if best is not race[0] else []
    # A head may also win because there is no time for more.
    unbeaten = best is race[0] is winner(race)
    reasons += [f"{'but ' if unbeaten else ''}{each.level} {_tried(each)}" for each in others]
    if unbeaten:
        reasons = ["no level is expected to beat the head", *reasons] if others else ["only the head was tried"]
    tried = [each for each in race if each.gain is not None and each is not best]
    ties = [each.level for each in tried if _within_uncertainty(each, best)]
    return (*reasons, f"within the uncertainty of that: {', '.join(ties)}") if ties else tuple(reasons)


def _within_uncertainty(one: Standing, other: Standing) -> bool:
    """Return whether two levels are indistinguishable. They share the head as reference, whose own deviation is 0."""
    return abs(one.expected - other.expected) <= max(one.deviation, other.deviation)


def _tried(standing: Standing) -> str:
    """Return the outcome of a level's trial, in words."""
    expected = "the expectation before the race"
    if standing.beyond is not None:
        expected = f"what it is expected to add to {standing.beyond}, which it begins with"
    return (
        f"gained {standing.gain:+.1%} (± {1.96 * (standing.error or 0):.1%}) over the head on "
        f"{counted(standing.n_gain, 'image')} that it was not fitted on; combined with {expected}, that is "
        f"{standing.expected:+.1%}"
    )


def _unsuited(evidence: Evidence, counts: Mapping[str, int]) -> str | None:
    """Return a warning that the base does not suit these images, if no stage's probe is better than chance."""
    if not evidence.probe:
        return None
    majority = max(counts.values()) / max(1, sum(counts.values()))
    best = max(evidence.probe, key=lambda row: row.accuracy)
    if best.ci95[0] > majority:
        return None
    return (
        f"this base does not suit the images: a linear probe on its best stage, {best.stage}, reaches "
        f"{best.accuracy:.1%} ({best.ci95[0]:.1%} to {best.ci95[1]:.1%}), the majority class {majority:.1%}"
    )
