"""A classifier's predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graft.html import table
from graft.serving.abstaining import NO_RULE, Rule


@dataclass(frozen=True, repr=False)
class Prediction:
    """The prediction for one image. `top` holds the likeliest classes with their probabilities, likeliest first.

    For an image that could not be decoded, `error` says why and the rest is empty. When the classifier abstains under
    the rule it was given, `abstained` says why and there is no `label`; `probability` is still that of the likeliest
    class. With a class that is favoured by `recall`, `label` and `probability` may be of another than the likeliest.
    `set` holds the classes of a conformal set, likeliest first, and `distance` how far the image is from the
    training images; each is None unless asked for.

    A multi-label classifier returns in `labels` every class whose probability reaches its threshold, in class order.
    `label` joins them, as in a|b, and is empty when there is none; `probability` is that of the likeliest class.
    """

    path: str
    label: str | None
    probability: float | None
    top: tuple[tuple[str, float], ...]
    error: str | None = None
    abstained: str | None = None
    set: tuple[str, ...] | None = None
    distance: float | None = None
    labels: tuple[str, ...] | None = None

    @property
    def likeliest(self) -> str | None:
        """The likeliest class, whether or not it is the answer; None for an image that could not be decoded."""
        return self.top[0][0] if self.top else None

    def __repr__(self) -> str:
        if self.error is not None:
            return f"Prediction({self.path!r}, error={self.error!r})"
        if self.abstained is not None:
            return f"Prediction({self.path!r}, abstained={self.abstained!r})"
        if self.labels is not None:
            return f"Prediction({self.path!r}, labels={self.labels!r})"
        return f"Prediction({self.path!r}, {self.label!r}, {self.probability or 0.0:.3f})"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of a line of `graft predict --format jsonl`."""
        if self.error is not None:
            return {"path": self.path, "error": self.error}
        if self.labels is not None:
            several = {"labels": list(self.labels), "likeliest": self.likeliest}
            told = {"path": self.path, "label": self.label, "probability": self.probability, **several}
            return {**told, "top": [list(pair) for pair in self.top]}
        return {
            "path": self.path,
            "label": self.label,
            "probability": self.probability,
            "top": [[name, probability] for name, probability in self.top],
            **({} if self.abstained is None else {"abstained": self.abstained}),
            **({} if self.set is None else {"set": list(self.set)}),
            **({} if self.distance is None else {"distance": self.distance}),
        }


class Predictions(list[Prediction]):
    """A list of predictions that notebooks show as a table."""

    def _repr_html_(self) -> str:
        rows = [
            (
                each.path,
                each.error or each.label or each.abstained or "no label",
                "" if each.probability is None else f"{each.probability:.1%}",
            )
            for each in self
        ]
        return table(("image", "label", "probability"), rows)


def labelled(
    path: str, probabilities: np.ndarray, classes: tuple[str, ...], thresholds: Sequence[float], top: int
) -> Prediction:
    """Return the labels of an image from its probabilities (classes,): each class that reaches its threshold."""
    order = np.argsort(-probabilities, kind="stable").tolist()
    # In class order, so that a set of labels is always written the same way.
    labels = tuple(name for name, each, least in zip(classes, probabilities, thresholds, strict=True) if each >= least)
    likeliest = tuple((classes[index], float(probabilities[index])) for index in order[:top])
    return Prediction(path, "|".join(labels), likeliest[0][1], likeliest, labels=labels)


def obeying(
    rule: Rule,
    answer: Prediction,
    probabilities: np.ndarray,
    classes: tuple[str, ...],
    distance: float | None = None,
) -> Prediction:
    """Apply a rule, given probabilities (classes,): return its answer or an abstention, with the set of classes."""
    if rule is NO_RULE:
        return answer
    reason, members = rule.reason(float(probabilities.max()), distance), rule.members(probabilities)
    number = rule.answer(probabilities) if rule.favoured is not None and reason is None else None
    if number is not None:
        answer = replace(answer, label=classes[number], probability=float(probabilities[number]))
    return replace(
        answer,
        label=answer.label if reason is None else None,
        abstained=reason,
        set=None if members is None else tuple(classes[index] for index in members),
        distance=distance,
    )
