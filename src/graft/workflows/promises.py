"""Check whether a classifier keeps its calibration's promises on other images."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.evaluation.conformal import in_set
from graft.evaluation.error_budget import images_needed
from graft.evaluation.intervals import accuracy_interval
from graft.evaluation.ranking import roc_area
from graft.weights.calibration import Calibration, Domain

SHOWN_BUDGETS, SHOWN_COVERAGES = (0.01, 0.02, 0.05, 0.1), (0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Promises:
    """How error budgets and conformal sets held up on the evaluated images, as plain rows."""

    budgets: tuple[dict[str, Any], ...]
    sets: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        return {"error_budgets": list(self.budgets), "sets": list(self.sets)}


def kept(
    calibration: Calibration, probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None
) -> Promises:
    """Check promises on images the classifier has not seen: probabilities (n, classes), labels int (n,), and groups."""
    confidences, right = probabilities.max(1), probabilities.argmax(1) == labels
    budgets: list[dict[str, Any]] = []
    for asked in SHOWN_BUDGETS:
        row = calibration.budget(asked)
        if row is None or row.threshold is None:
            needed = images_needed(asked, calibration.confidence)
            independent = calibration.n if row is None else row.n
            known = {"held_out": calibration.n, "independent": independent, "needed": needed}
            budgets.append({"budget": asked, "reachable": False, **known})
            continue
        answered = confidences >= row.threshold
        number, wrong = int(answered.sum()), ~right[answered]
        interval = accuracy_interval(wrong, None if groups is None else groups[answered]) if number else None
        budgets.append(
            {
                "budget": asked,
                "reachable": True,
                "threshold": row.threshold,
                "answered": number,
                "wrong": int(wrong.sum()),
                "wrong_share": float(wrong.mean()) if number else None,
                "wrong_share_ci95": None if interval is None else list(interval),
            }
        )
    sets = []
    for asked in SHOWN_COVERAGES:
        found = calibration.sets_of(asked)
        if found is not None:
            members = in_set(probabilities, found.threshold)
            held = members[np.arange(len(labels)), labels]
            sets.append(
                {
                    "coverage": asked,
                    "held": float(held.mean()),
                    "held_ci95": list(accuracy_interval(held, groups)),
                    "mean_size": float(members.sum(1).mean()),
                }
            )
    return Promises(tuple(budgets), tuple(sets))


@dataclass(frozen=True)
class Detection:
    """How well images `unlike` the training images are told from the evaluated ones, by distance to the training
    images.

    `roc_area` is the chance that an unlike image is farther away than an evaluated one. `detected` is the share of
    unlike images beyond the threshold, `false_alarms` the share of evaluated ones.
    """

    unlike: str
    n: int
    n_unlike: int
    roc_area: float
    detected: float | None
    false_alarms: float | None

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def detection(domain: Domain, features: np.ndarray, of_unlike: np.ndarray, unlike: str) -> Detection:
    """Measure detection from features (n, D) of the evaluated images and of those at `unlike`, at least one of each."""
    near, far = domain.distances(features), domain.distances(of_unlike)
    area = roc_area(np.concatenate([far, near]), np.arange(len(far) + len(near)) < len(far))
    limit = domain.threshold
    shares = (None, None) if limit is None else (float((far > limit).mean()), float((near > limit).mean()))
    assert area is not None
    return Detection(unlike, len(near), len(far), area, *shares)
