"""Checks that the results of a level are finite, and that its data hold every class."""

from collections.abc import Mapping

import numpy as np

from graft.data.dataset import TRAIN, Dataset, Images
from graft.errors import DataError, GraftError
from graft.features.cache import Activations
from graft.training.task import Task, Trained
from graft.transfer.levels import Plan
from graft.words import counted


def check_all_finite(task: Task, plan: Plan, trained: Trained) -> None:
    for name, logits in trained.logits.items():
        _check_finite(f"scores of {name}", logits, task, plan)
    for name, tensor in task.base.network.state_dict().items():
        _check_finite(f"weights in {name}", tensor.cpu().numpy(), task, plan)


def _check_finite(what: str, values: np.ndarray, task: Task, plan: Plan) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        raise GraftError(
            f"expected finite {what} at level {plan.level}, got NaN or infinity in {(~finite).sum():,} of "
            f"{counted(finite.size, 'number')}: check the weights of {task.base.name}, lower --lr, or give --precision "
            "float32"
        )


def check_classes(dataset: Dataset, labels: dict[str, np.ndarray]) -> None:
    """Raise DataError if unreadable images left a class, or the whole of a split, empty."""
    trained = labels[TRAIN]
    present = set(np.unique(trained) if trained.ndim == 1 else np.flatnonzero(trained.any(0)))
    gone = [name for index, name in enumerate(dataset.classes) if index not in present]
    if gone:
        raise DataError(
            f"expected a readable image of every class to train on, got none of {', '.join(map(repr, gone[:6]))}: "
            "replace the files that cannot be decoded, or remove the class"
        )
    for name, split in labels.items():
        if not len(split):
            raise DataError(f"expected readable images in {name}, got none: replace the files that cannot be decoded")


def check_readable(task: Task, skipped: Mapping[str, str]) -> None:
    """Raise DataError if an image could not be decoded, by its name and the reason, and the task is strict."""
    if skipped and task.strict:
        name, reason = next(iter(skipped.items()))
        raise DataError(f"expected every image to be readable with --strict, got {name}: {reason}")


def skipped_of(splits: Mapping[str, Images], found: dict[str, Activations]) -> dict[str, str]:
    return {
        splits[name].name(index): reason
        for name, activations in found.items()
        for index, reason in activations.failures.items()
    }
