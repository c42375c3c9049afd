"""Determine what a trained classifier promises, when training ends, from images that no weights saw."""

import numpy as np

from graft.data.dataset import TRAIN, VAL
from graft.data.grouping import copied
from graft.evaluation.calibration import softmax
from graft.evaluation.conformal import class_thresholds, set_threshold
from graft.evaluation.domain import KEPT, NEIGHBOURS
from graft.evaluation.error_budget import CONFIDENCE, find_threshold
from graft.training.task import Task, Trained
from graft.weights.calibration import Calibration, Domain, ErrorBudget, Sets

BUDGETS = tuple(
    sorted({0.001, 0.002, *(step / 200 for step in range(1, 21)), *(step / 100 for step in range(11, 31)), 0.4, 0.5})
)
COVERAGES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, *(step / 100 for step in range(90, 100)), 0.995, 0.999)
# With fewer held-out images, nothing is promised.
FEWEST_TO_CALIBRATE = 10


def calibrate(task: Task, trained: Trained) -> Calibration | None:
    """Calibrate on the cross-validated logits of a head, else on those of val without copies of training images.

    The temperature is one number, and the penalty or epoch one of a few, chosen on the same images; this is not
    corrected for. Images with several labels get no promises.
    """
    if trained.thresholds is not None:
        return None
    if trained.held_out is not None:
        source, (logits, labels), groups = "cross-validated", trained.held_out, trained.fold_groups
    else:
        source, logits, labels = VAL, trained.logits[VAL], trained.labels[VAL]
        images = task.dataset.splits[VAL]
        readable = [index for index in range(len(images)) if images.name(index) not in trained.skipped]
        images = images.take(np.array(readable, dtype=np.int64))
        unseen = ~copied(images, task.dataset.splits[TRAIN])
        logits, labels = logits[unseen], labels[unseen]
        groups = None if images.groups is None else images.groups[unseen]
    if len(labels) < FEWEST_TO_CALIBRATE:
        return None
    probabilities = softmax(logits, trained.temperature)
    # Rounding a threshold down ensures that the image it comes from passes it.
    confidences, of_label = _rounded(probabilities.max(1)), _rounded(probabilities[np.arange(len(labels)), labels])
    right, classes = probabilities.argmax(1) == labels, len(task.dataset.classes)
    budgets = [find_threshold(confidences, right, budget, groups=groups) for budget in BUDGETS]
    domain = trained.domain
    return Calibration(
        source,
        len(labels),
        CONFIDENCE,
        tuple(ErrorBudget(row.budget, row.at, row.n, row.answered, row.wrong, row.needed) for row in budgets),
        tuple(
            Sets(
                coverage,
                set_threshold(of_label, coverage, groups),
                tuple(class_thresholds(of_label, labels, classes, coverage, groups).tolist()),
            )
            for coverage in COVERAGES
        ),
        None if domain is None else Domain(domain.bank, NEIGHBOURS, domain.threshold, KEPT, domain.n),
    )


def _rounded(probabilities: np.ndarray) -> np.ndarray:
    return np.asarray(np.floor(np.clip(probabilities, 0.0, 1.0) * 1e9) / 1e9)
