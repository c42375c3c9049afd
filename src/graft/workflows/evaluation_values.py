"""The results of evaluating a classifier on labelled images: its answers and their scores."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graft.data.dataset import Images
from graft.evaluation.label_scores import LabelScores
from graft.evaluation.scores import Scores, score
from graft.evaluation.slices import Slice
from graft.features.engine import Choice
from graft.html import escaped, table
from graft.weights.base import Base
from graft.workflows.promises import Detection, Promises


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Scores of a model on one split of labelled images; `skipped` maps undecodable images to the reason.

    `scores` cover the images that the model was, as far as known, not trained on; None if there are none. `trained_on`
    names the others, whose scores, `seen`, are optimistic. `promises` says how error budgets and prediction sets held
    up; `slices` and `unlike` are present if asked for.
    """

    model: str
    data: str
    split: str
    scores: Scores | None
    skipped: dict[str, str]
    engine: str
    seconds: float
    notes: tuple[str, ...]
    # The answers themselves, for further analysis.
    answered: "Answered"
    seen: Scores | None = None
    trained_on: tuple[str, ...] = ()
    promises: Promises | None = None
    slices: tuple[Slice, ...] | None = None
    unlike: Detection | None = None
    # For a multi-label classifier, these replace `scores` and `seen`.
    labels: LabelScores | None = None
    labels_seen: LabelScores | None = None

    def __repr__(self) -> str:
        top1 = None if self.scores is None else round(self.scores.top1, 3)
        n = 0 if self.scores is None else self.scores.n
        return f"Evaluation({self.model!r}, {self.data!r}, split={self.split!r}, top1={top1}, n={n})"

    def _repr_html_(self) -> str:
        if self.scores is None:
            return f"<p>{escaped(self)}</p>"
        rows = [
            (row.name, f"{row.n:,}", _percent(row.recall), _percent(row.precision))
            for row in sorted(self.scores.classes, key=lambda row: row.recall or 0.0)
            if row.n
        ]
        return f"<p>{escaped(self)}</p>{table(('class, worst first', 'images', 'recall', 'precision'), rows)}"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that `graft evaluate --json` prints."""
        return {
            "run": self.model,
            "data": self.data,
            "split": self.split,
            **({"top1": None, "top1_ci95": None, "n": 0} if self.scores is None else self.scores.to_dict()),
            "baseline": {"majority": None if self.scores is None else self.scores.majority},
            **({"trained_on": self._trained_on()} if self.seen is not None else {}),
            **({} if self.promises is None else {"promises": self.promises.to_dict()}),
            **({} if self.slices is None else {"slices": [each.to_dict() for each in self.slices]}),
            **({} if self.unlike is None else {"unlike": self.unlike.to_dict()}),
            "skipped": self.skipped,
            "engine": self.engine,
            "seconds": {"total": self.seconds},
            "notes": list(self.notes),
        }

    def _trained_on(self) -> dict[str, Any]:
        assert self.seen is not None
        return {"top1": self.seen.top1, "n": self.seen.n, "paths": list(self.trained_on)}


@dataclass(frozen=True)
class Answered:
    """A classifier's answers for the images of a split: probabilities (n, classes), and which images it was trained on.

    `matrix` (n, classes) holds the labels of multi-label images as 0 and 1; it is empty for others.
    """

    base: Base
    source: str
    split: str
    images: Images
    probabilities: np.ndarray
    seen: np.ndarray
    skipped: dict[str, str]
    choice: Choice
    notes: tuple[str, ...]
    matrix: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))

    @property
    def right(self) -> np.ndarray:
        return np.asarray(self.probabilities.argmax(1) == self.images.labels)

    def of(self, chosen: np.ndarray) -> Scores:
        """Return the scores of the `chosen` images, bool (n,)."""
        groups = None if self.images.groups is None else self.images.groups[chosen]
        return score(self.probabilities[chosen], self.images.labels[chosen], self.base.classes or (), groups)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
