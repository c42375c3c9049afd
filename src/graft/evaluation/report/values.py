"""What the page of a run is made of: values that were measured, and None for what was not."""

from dataclasses import dataclass, field
from typing import Any, Literal

from graft.evaluation.accuracy import Expected
from graft.evaluation.error_budget import Threshold
from graft.evaluation.mcnemar import Difference
from graft.evaluation.scores import Scores
from graft.evaluation.slices import Slice

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Shown:
    """An image on the page: `jpeg` is a thumbnail of `size` (width, height) px, or None where there is none.

    `lines` are the sentences below it. `map_jpeg`, of `map_size`, is the image as the network sees it, with the
    evidence for its answer laid over it; `nearest` are the training images most alike to it.
    """

    name: str
    lines: tuple[str, ...] = ()
    jpeg: bytes | None = None
    size: tuple[int, int] = (0, 0)
    map_jpeg: bytes | None = None
    map_size: tuple[int, int] = (0, 0)
    nearest: tuple["Shown", ...] = ()

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {"name": self.name, "lines": list(self.lines)}
        return {**found, "nearest": [each.to_dict() for each in self.nearest]} if self.nearest else found


@dataclass(frozen=True)
class Alarm:
    """Something that is to be fixed before the classifier is relied on: what, in a few words, and in a sentence."""

    kind: str
    severity: Severity
    title: str
    sentence: str
    images: tuple[Shown, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        found = {"kind": self.kind, "severity": self.severity, "title": self.title, "sentence": self.sentence}
        return {**found, "images": [each.name for each in self.images]}


@dataclass(frozen=True)
class Finding:
    """What the audit says of the images, and some of the `total` that it concerns."""

    kind: str
    severity: str
    message: str
    total: int = 0
    images: tuple[Shown, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "severity": self.severity, "message": self.message, "images": self.total}


@dataclass(frozen=True)
class Split:
    """The scores of a split; `optimistic` says that images are counted which have copies among those trained on."""

    name: str
    scores: Scores
    optimistic: bool = False

    @property
    def title(self) -> str:
        return f"{self.name}, counting copies of training images (optimistic)" if self.optimistic else self.name


@dataclass(frozen=True)
class Pair:
    """Images of one class that were taken for another."""

    label: str
    answer: str
    count: int
    of: int
    images: tuple[Shown, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"label": self.label, "answer": self.answer, "images": self.count, "of": self.of}


@dataclass(frozen=True)
class Trust:
    """How far the probabilities can be relied on, by the images that the figures are of.

    `risk_coverage` are (coverage, risk, threshold), `budgets` the confidence from which so little is wrong, and `sets`
    (coverage, threshold, mean size, largest) of the classes that hold the right one so often. `held_out` images are
    what budgets rest on, as many as each of them says or one of each group.
    """

    confidence: float
    accuracy: float
    off: bool
    risk_coverage: tuple[tuple[float, float, float], ...] = ()
    budgets: tuple[Threshold, ...] = ()
    sets: tuple[tuple[float, float, float, int], ...] = ()
    held_out: int = 0

    @property
    def over_confident(self) -> bool:
        return self.off and self.confidence > self.accuracy

    def to_dict(self) -> dict[str, Any]:
        return {
            "mean_confidence": self.confidence,
            "accuracy": self.accuracy,
            "miscalibrated": self.off,
            "risk_coverage": [list(point) for point in self.risk_coverage],
            "error_budgets": [each.to_dict() for each in self.budgets],
            "sets": [
                dict(zip(("coverage", "threshold", "mean_size", "largest"), each, strict=True)) for each in self.sets
            ],
        }


@dataclass(frozen=True)
class Verdict:
    """Sentences that answer: how good, against what, what to fix first, are its probabilities true, may it be used."""

    sentences: tuple[str, ...]
    usable: bool
    alarms: tuple[Alarm, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "sentences": list(self.sentences),
            "usable": self.usable,
            "alarms": [each.to_dict() for each in self.alarms],
        }


@dataclass(frozen=True)
class Report:
    """All that the page of a run says. `plan` is that of the run, `history` its epochs, as their files hold them.

    `counts` are images by split and class. `judged` is the number among `splits` of the figures to go by; None where
    nothing was measured. `facts` are what the run was made with and of.
    """

    title: str
    data: str
    base: str
    level: str
    classes: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    splits: tuple[Split, ...]
    judged: int | None
    majority_class: str
    verdict: Verdict
    plan: dict[str, Any] = field(default_factory=dict)
    frozen_head: float | None = None
    expected: Expected | None = None
    findings: tuple[Finding, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    history: tuple[dict[str, Any], ...] = ()
    pairs: tuple[Pair, ...] = ()
    mistakes: tuple[Shown, ...] = ()
    doubtful: tuple[Shown, ...] = ()
    trust: Trust | None = None
    slices: tuple[Slice, ...] = ()
    # As `graft evaluate --robustness --json` prints it; empty where it was not measured.
    robustness: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    # Why there are no thumbnails, where there are none, and what is to be known of maps and nearest images.
    without_images: str | None = None
    on_evidence: str | None = None

    @property
    def main(self) -> Split | None:
        return None if self.judged is None else self.splits[self.judged]

    def to_dict(self) -> dict[str, Any]:
        """`report.json`: the same figures, in full where the page cuts tables."""
        return {
            "title": self.title,
            "data": self.data,
            "base": self.base,
            "level": self.level,
            "classes": list(self.classes),
            "verdict": self.verdict.to_dict(),
            "counts": self.counts,
            "findings": [each.to_dict() for each in self.findings],
            "skipped": self.skipped,
            "notes": list(self.notes),
            "decision": self.plan,
            "curves": list(self.history),
            "baseline": {
                "majority": None if self.main is None else self.main.scores.majority,
                "majority_class": self.majority_class,
                "frozen_head": self.frozen_head,
            },
            "judged": None if self.main is None else self.main.title,
            **({} if self.expected is None else {"expected": self.expected.to_dict()}),
            "splits": {each.title: each.scores.to_dict() for each in self.splits},
            "pairs": [each.to_dict() for each in self.pairs],
            "mistakes": [each.to_dict() for each in self.mistakes],
            "doubtful": [each.to_dict() for each in self.doubtful],
            "calibration": None if self.trust is None else self.trust.to_dict(),
            "slices": [each.to_dict() for each in self.slices],
            **({"robustness": self.robustness} if self.robustness else {}),
            "provenance": self.facts,
        }


@dataclass(frozen=True)
class Beside:
    """Two reports, and how their answers differ on the images that both measured; None where these are not the same."""

    one: Report
    other: Report
    difference: Difference | None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "difference": None if self.difference is None else self.difference.to_dict(),
            "reason": self.reason,
            "runs": [self.one.to_dict(), self.other.to_dict()],
        }
