"""Measure only on images that were not trained on, or say that nothing is measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graft.audit.looking import Looks
from graft.audit.slicing import measures_of
from graft.data.content import content_digests
from graft.data.dataset import TRAIN, VAL, Dataset, Images
from graft.data.grouping import copied
from graft.data.handed_over import HandedOver
from graft.data.split_file import read_digests
from graft.errors import ImageError, InputError
from graft.evaluation.accuracy import FEWEST_TO_MEASURE, Accuracy
from graft.evaluation.calibration import softmax
from graft.evaluation.label_figures import MeasuredLabels, measure_labels
from graft.evaluation.label_scores import sigmoid
from graft.evaluation.scores import Scores, score
from graft.training.task import Task, Trained, readable_rows
from graft.weights.model_files import is_on_hub
from graft.weights.saved import ARGUMENTS_FILE
from graft.words import counted
from graft.workflows.arguments import read_arguments
from graft.workflows.kept_answers import KeptAnswers, KeptSplit
from graft.workflows.own_images import trained_images
from graft.workflows.run import PLAN_FILE, SPLIT_FILE, near, was_refitted


@dataclass(frozen=True)
class Measured:
    """Scores of a split as a whole, and of its images that have no copy among the training images.

    `unseen` equals `whole` if no image has a copy, and is None if too few have none.
    """

    whole: Scores
    unseen: Scores | None
    unseen_count: int

    def accuracy(self) -> Accuracy:
        whole = _accuracy(self.whole)
        if self.unseen is self.whole:
            return whole
        if self.unseen is None:
            return Accuracy(None, None, self.unseen_count, whole)
        return _accuracy(self.unseen, whole)


def _accuracy(scores: Scores, with_copies: Accuracy | None = None) -> Accuracy:
    return Accuracy(scores.top1, scores.top1_ci95, scores.n, with_copies, groups=scores.groups)


def kept_answers(task: Task, trained: Trained, looks: Looks | None) -> KeptAnswers:
    """Return the answers for everything held out, with what the audit, if any, saw of the images."""
    splits, measures = {}, {}
    for name, logits in trained.logits.items():
        rows = readable_rows(task.dataset.splits[name], trained.skipped)
        images = task.dataset.splits[name].take(rows)
        splits[name] = KeptSplit(
            rows, trained.labels[name], logits, ~copied(images, task.dataset.splits[TRAIN]), images.groups
        )
        if looks is not None and images.digests is not None:
            measures[name] = _measures(images.digests, looks)
    folds = None
    if trained.held_out is not None and trained.folds:
        logits, labels = trained.held_out
        folds = (trained.folds, labels, logits)
    thresholds = None if trained.thresholds is None else tuple(trained.thresholds.tolist())
    held_out = [split.groups for split in splits.values() if split.groups is not None]
    numbers = np.unique(np.concatenate(held_out)).tolist() if held_out else []
    names = dict(enumerate(task.dataset.group_names))
    called = {number: names[number] for number in numbers if names.get(number)}
    return KeptAnswers(task.dataset.classes, trained.temperature, splits, measures, folds, thresholds, called)


def _measures(digests: np.ndarray, looks: Looks) -> dict[str, np.ndarray]:
    """Return what was seen of images, looked up by the digests of their content, float32 (n,) each."""
    order = np.argsort(looks.digest[:, 0], kind="stable")
    rows = order[np.searchsorted(looks.digest[order, 0], digests[:, 0]).clip(0, len(order) - 1)]
    return measures_of(looks, rows)


def measure_split(task: Task, trained: Trained, name: str) -> Measured | MeasuredLabels:
    """Measure how well the images of a split were classified."""
    images, classes, labels = task.dataset.splits[name], task.dataset.classes, trained.labels[name]
    images = images.take(readable_rows(images, trained.skipped))
    unseen = ~copied(images, task.dataset.splits[TRAIN])
    if trained.thresholds is not None:
        probabilities = sigmoid(trained.logits[name])
        return measure_labels(probabilities, labels, classes, trained.thresholds, images.groups, unseen)
    return measure(softmax(trained.logits[name], trained.temperature), labels, classes, images.groups, unseen)


def measure(
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: tuple[str, ...],
    groups: np.ndarray | None,
    unseen: np.ndarray,
) -> Measured:
    """Return the scores of all images, and of those that are `unseen`, bool (n,)."""
    whole = score(probabilities, labels, classes, groups)
    if unseen.all():
        return Measured(whole, whole, whole.n)
    count = int(unseen.sum())
    if count < FEWEST_TO_MEASURE:
        return Measured(whole, None, count)
    return Measured(
        whole, score(probabilities[unseen], labels[unseen], classes, None if groups is None else groups[unseen]), count
    )


def leakage(dataset: Dataset) -> Iterator[str]:
    """Say what copies of training images mean for the figures of other splits."""
    for name, images in dataset.splits.items():
        seen = int(copied(images, dataset.splits[TRAIN]).sum()) if name != TRAIN else 0
        if not seen:
            continue
        left = len(images) - seen
        what = f"{seen:,} of {counted(len(images), 'image')} in {name} have copies in train"
        if left < FEWEST_TO_MEASURE:
            yield f"{what}: the {left:,} without copies are too few to measure anything"
        else:
            yield f"{what} and are not counted in its figures"


def trained_on(run: Path, classes: tuple[str, ...], images: Images) -> tuple[np.ndarray, str | None]:
    """Return which of `images`, bool (n,), the classifier in `run` was trained on, by content, and what is not known.

    If the run did not look over its own images, they are read again. For a model folder without its run, or a `run` on
    the Hub, nothing is known. A run that does not say whether it was finally trained on val counts as if it was. A file
    of weights is not examined: its publisher says what it has seen.
    """
    nothing = np.zeros(len(images), dtype=bool)
    if not (run.is_dir() or is_on_hub(run)):
        return nothing, None
    folder = run if (run / ARGUMENTS_FILE).is_file() else run.absolute().parent
    kept, told = folder / SPLIT_FILE, None
    if not (folder / ARGUMENTS_FILE).is_file():
        return nothing, _unknown(f"{run} is a model without its run")
    if not kept.is_file():
        return nothing, _unknown(f"{near(folder)} has no {SPLIT_FILE}")
    names: tuple[str, ...] = (TRAIN, VAL)
    if not (folder / PLAN_FILE).is_file():
        told = f"{near(folder)} has no {PLAN_FILE}, which says whether val was trained on: val is treated as if it was"
    elif not was_refitted(folder):
        names = (TRAIN,)
    known = [read_digests(kept, name) or frozenset() for name in names]
    if not any(known):
        try:
            own = trained_images(folder, classes, "that it was trained on", "")
        except InputError:
            return nothing, _unknown(f"{near(folder)} was trained with --no-audit, and its images are gone")
        known = [frozenset(each.tobytes() for each in content_digests(part) if each.any()) for part in own.values()]
    seen = [any(digest.tobytes() in part for part in known) for digest in content_digests(images)]
    if not any(seen) and _are_values(images) and not read_arguments(folder).in_memory:
        told = _unknown("they may have been files, and pixels in memory do not have the bytes of a file")
    return np.array(seen, dtype=bool), told


def _are_values(images: Images) -> bool:
    """Whether images were handed over as pixels, not as paths or the bytes of files."""
    if not isinstance(images.source, HandedOver) or not len(images):
        return False
    try:
        return not isinstance(images.read(0), bytes)
    except (OSError, ImageError):
        return False


def _unknown(why: str) -> str:
    return f"its training images are not known ({why}): if some of them are here, the figures are optimistic"
