"""The results of evaluating a classifier on labelled images: its answers and their scores."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graft.data.dataset import Images
from graft.errors import InputError
from graft.evaluation.answers import Answers, worst_mistakes
from graft.evaluation.label_scores import LabelScores
from graft.evaluation.scores import Scores, score
from graft.evaluation.slices import Slice
from graft.features.engine import Choice
from graft.html import escaped, table
from graft.weights.base import Base
from graft.words import counted, in_percent
from graft.workflows.promises import Detection, Promises


@dataclass(frozen=True)
class ImageAnswer:
    """The answer about one image: its `label`, the class answered, and the `probability` of that answer.

    `index` is its place among the images given, as in `X[index]` of `(X, y)`. `probability_of_label` is what the
    classifier gave the image's own label. `trained_on` says whether it is known to have been trained on the image.
    """

    name: str
    index: int
    label: str
    answer: str
    probability: float
    probability_of_label: float
    # A field and no property, so that a data frame of answers has it.
    right: bool
    trained_on: bool


class ImageAnswers(list[ImageAnswer]):
    """A list of answers that notebooks show as a table."""

    def __repr__(self) -> str:
        return f"ImageAnswers({counted(len(self), 'image')}, {sum(not each.right for each in self):,} answered wrongly)"

    def _repr_html_(self) -> str:
        rows = [(each.name, each.label, each.answer, f"{each.probability:.1%}") for each in self]
        return table(("image", "label", "answer", "probability"), rows)


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Scores of a model on one split of labelled images; `skipped` maps undecodable images to the reason.

    `scores` cover the images that the model was, as far as known, not trained on; None if there are none. `trained_on`
    names the others, whose scores, `seen`, are optimistic. `scores.confusion` counts images, a row for each label and a
    column for each answer, in the order of `classes`; `answers` and `mistakes()` are about single images.

    `promises` says how error budgets and prediction sets held up; `slices` and `unlike` are present if asked for.
    """

    model: str
    data: str
    split: str
    scores: Scores | None
    skipped: dict[str, str]
    engine: str
    seconds: float
    notes: tuple[str, ...]
    # All that the answers rest on; `answers` and `mistakes()` are easier to read.
    answered: "Answered"
    seen: Scores | None = None
    trained_on: tuple[str, ...] = ()
    promises: Promises | None = None
    slices: tuple[Slice, ...] | None = None
    unlike: Detection | None = None
    # For a multi-label classifier, these replace `scores` and `seen`.
    labels: LabelScores | None = None
    labels_seen: LabelScores | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes in the order of the rows and columns of `scores.confusion`."""
        return self.answered.base.classes or ()

    @property
    def answers(self) -> ImageAnswers:
        """The answer about every image that could be decoded, in order, whether or not it was trained on.

        Raises InputError for a multi-label classifier.
        """
        self._refuse_several()
        return self._answers_at(range(len(self.answered.images)))

    def mistakes(self) -> ImageAnswers:
        """Return the misclassified images, those whose own label had the least probability first.

        Images that the model was trained on are among them, marked by `trained_on`. Raises InputError for a multi-label
        classifier.
        """
        self._refuse_several()
        images = self.answered.images
        found = Answers((), images.labels, self.answered.probabilities, ~self.answered.seen)
        return self._answers_at(worst_mistakes(found, len(images)))

    def _refuse_several(self) -> None:
        if self.answered.base.thresholds is not None:
            raise InputError(
                f"expected a classifier that gives each image one label, got {self.model}, which gives several: use "
                "`answered.probabilities` and the labels in `answered.matrix`"
            )

    def _answers_at(self, rows: Iterable[int]) -> ImageAnswers:
        answered, classes = self.answered, self.classes
        best, images = answered.probabilities.argmax(1), answered.images
        return ImageAnswers(
            ImageAnswer(
                name=images.name(row),
                index=int(images.rows[row]),
                label=classes[label := int(images.labels[row])],
                answer=classes[best[row]],
                probability=float(answered.probabilities[row, best[row]]),
                probability_of_label=float(answered.probabilities[row, label]),
                right=bool(best[row] == label),
                trained_on=bool(answered.seen[row]),
            )
            for row in rows
        )

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


@dataclass(frozen=True, repr=False)
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
    group_names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Answered({counted(len(self.images), 'image')} of {self.source!r}, split={self.split!r})"

    @property
    def right(self) -> np.ndarray:
        return np.asarray(self.probabilities.argmax(1) == self.images.labels)

    def of(self, chosen: np.ndarray) -> Scores:
        """Return the scores of the `chosen` images, bool (n,)."""
        groups = None if self.images.groups is None else self.images.groups[chosen]
        return score(self.probabilities[chosen], self.images.labels[chosen], self.base.classes or (), groups)


def _percent(value: float | None) -> str:
    return "–" if value is None else in_percent(value)
