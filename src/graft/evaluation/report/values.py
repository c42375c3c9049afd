"""The values behind a run's page: what was measured, and None for what was not."""

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

    `lines` are the sentences below it. `map_jpeg`, of `map_size`, is the image as the network sees it, overlaid with
    the evidence for its answer; `nearest` are the most similar training images.
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
    """Something to fix before relying on the classifier: in a few words (`title`), and as a sentence."""

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
    """A finding of the audit about the images, and some of the `total` that it concerns."""

    kind: str
    severity: str
    message: str
    total: int = 0
    images: tuple[Shown, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "severity": self.severity, "message": self.message, "images": self.total}


@dataclass(frozen=True)
class Split:
    """The scores of a split; `optimistic` means that they include images that have copies among those trained on."""

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
    """How far the probabilities can be relied on, judged by the images behind the figures.

    `risk_coverage` holds (coverage, risk, threshold). `budgets` are the confidences from which on few enough answers
    are wrong. `sets` holds (coverage, threshold, mean size, largest) of class sets that contain the right class that
    often. `held_out` is the number of images that the budgets rest on, all of which count, or one per group.
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


@dataclass(frozen=True, repr=False)
class Report:
    """All content of a run's page. `plan` is the plan of the run and `history` its epochs, as their files hold them.

    `counts` are images by split and class. `judged` is the index in `splits` of the main figures; None if nothing was
    measured. `facts` say how and from what the run was made.
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
    # The output of `graft evaluate --robustness --json`; empty where it was not measured.
    robustness: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    # Why there are no thumbnails, if there are none, and what to know about maps and nearest images.
    without_images: str | None = None
    on_evidence: str | None = None
    # Whether the classifier was trained on the images of the main figures after it was measured on them.
    refitted: bool = False

    def __repr__(self) -> str:
        measured = None if self.main is None else self.main.scores
        return f"Report({self.title!r}, {measured!r})"

    @property
    def main(self) -> Split | None:
        return None if self.judged is None else self.splits[self.judged]

    def to_dict(self) -> dict[str, Any]:
        """Return the contents of `report.json`: the same figures, in full where the page cuts tables."""
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


@dataclass(frozen=True, repr=False)
class Beside:
    """Two reports, and how their answers differ on the images that both measured; None if those are not the same."""

    one: Report
    other: Report
    difference: Difference | None
    reason: str = ""

    def __repr__(self) -> str:
        return f"Beside({self.one!r}, {self.other!r})"

    def to_dict(self) -> dict[str, Any]:
        return {
            "difference": None if self.difference is None else self.difference.to_dict(),
            "reason": self.reason,
            "runs": [self.one.to_dict(), self.other.to_dict()],
        }
