"""Whether a classifier keeps on other images what its calibration promises."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.evaluation.conformal import in_set
from graft.evaluation.error_budget import images_needed
from graft.evaluation.intervals import wilson_interval
from graft.evaluation.ranking import roc_area
from graft.weights.calibration import Calibration, Domain

SHOWN_BUDGETS, SHOWN_COVERAGES = (0.01, 0.02, 0.05, 0.1), (0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Promises:
    """What became of error budgets and conformal sets on the images evaluated, as plain rows."""

    budgets: tuple[dict[str, Any], ...]
    sets: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        return {"error_budgets": list(self.budgets), "sets": list(self.sets)}


def kept(calibration: Calibration, probabilities: np.ndarray, labels: np.ndarray) -> Promises:
    """By probabilities (n, classes) and labels int (n,) of images that the classifier has not seen."""
    confidences, right = probabilities.max(1), probabilities.argmax(1) == labels
    budgets: list[dict[str, Any]] = []
    for asked in SHOWN_BUDGETS:
        row = calibration.budget(asked)
        if row is None or row.threshold is None:
            needed = images_needed(asked, calibration.confidence)
            budgets.append({"budget": asked, "reachable": False, "held_out": calibration.n, "needed": needed})
            continue
        answered = confidences >= row.threshold
        number, wrong = int(answered.sum()), int((~right[answered]).sum())
        budgets.append(
            {
                "budget": asked,
                "reachable": True,
                "threshold": row.threshold,
                "answered": number,
                "wrong": wrong,
                "wrong_share": wrong / number if number else None,
                "wrong_share_ci95": list(wilson_interval(wrong, number)) if number else None,
            }
        )
    sets = []
    for asked in SHOWN_COVERAGES:
        found = calibration.sets_of(asked)
        if found is not None:
            members = in_set(probabilities, found.threshold)
            held = int(members[np.arange(len(labels)), labels].sum())
            sets.append(
                {
                    "coverage": asked,
                    "held": held / len(labels),
                    "held_ci95": list(wilson_interval(held, len(labels))),
                    "mean_size": float(members.sum(1).mean()),
                }
            )
    return Promises(tuple(budgets), tuple(sets))


@dataclass(frozen=True)
class Detection:
    """How well images `unlike` those trained on are told from those evaluated, by their distance to the former.

    `roc_area` is the chance that one of them is further off; `detected` is the part of them beyond the threshold, and
    `false_alarms` the part of those evaluated.
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
    """By features (n, D) of the images evaluated and of those at `unlike`, one or more each."""
    near, far = domain.distances(features), domain.distances(of_unlike)
    area = roc_area(np.concatenate([far, near]), np.arange(len(far) + len(near)) < len(far))
    limit = domain.threshold
    shares = (None, None) if limit is None else (float((far > limit).mean()), float((near > limit).mean()))
    assert area is not None
    return Detection(unlike, len(near), len(far), area, *shares)
