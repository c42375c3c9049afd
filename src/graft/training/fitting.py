"""What each level does with images and a base: features and a head, activations and a crown, or nothing at all.

A level cuts the base in two. The trunk stays as it is, and its activations at the cut are computed once. The crown, the
stages after the cut and a new head, is trained on them. Where graft set val aside itself, a level is first measured on
val and then fitted again on all the images: the figures come from the first fit, the classifier from the second.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from graft.data.dataset import TRAIN, VAL, together
from graft.errors import GraftError
from graft.evaluation.calibration import fit_temperature
from graft.evaluation.domain import MOST_IMAGES, fit_domain
from graft.models.cuts import HEAD
from graft.models.network import Network
from graft.progress import Reporter
from graft.seeding import seeded
from graft.training.beside import LANES, in_a_lane, lanes, refits_ahead, side_by_side
from graft.training.checks import check_all_finite, check_classes, check_readable, skipped_of
from graft.training.crowns import (
    Examples,
    Start,
    check_memory,
    examples_of,
    has_memory,
    measure_crown,
    refit_crown,
    share_before_refit,
    start_crown,
    with_measured,
)
from graft.training.examples import as_answered, computed, frozen_features, more_crops
from graft.training.heads import put_head, solve_head_on_crops, solve_stored_head, targets_of, thresholds_of
from graft.training.memory import check_in_memory, note_on_streaming
from graft.training.notes import note_on_time, notes_on_baseline
from graft.training.task import Task, Trained, groups_of_split, sample
from graft.transfer.class_names.matching import note_on_others
from graft.transfer.levels import Plan
from graft.transfer.streamed_head import StoredRows
from graft.weights.saved import class_logits


@dataclass(frozen=True)
class Measured:
    """A level fitted on train alone and scored on the held-out images, with what a second fit can reuse, or with the
    result of that fit if it ran `ahead`."""

    trained: Trained
    examples: Examples | None = None
    ahead: "Refitted | None" = None


@dataclass(frozen=True)
class Refitted:
    """A network fitted on all images, and the outcome of the fit."""

    network: Network
    trained: Trained


def fit_level(task: Task, plan: Plan, folder: Path | None = None, measured: Measured | None = None) -> Trained:
    """Train the base's network in place at the level of `plan`; when the task says so, on val as well in the end.

    Pass `measured` to reuse an earlier measurement. Metrics and checkpoints are written to `folder`, a run folder, if
    given. Reasons to doubt the scores are reported and noted. The random state of the process is left unchanged. Raises
    DataError when unreadable images leave a class or a split empty, InputError when time or memory is too short, and
    GraftError when a loss, a weight or a score is not finite.
    """
    if task.refit:
        trained = refit(task, plan, measured or measure_each([task], plan, folder, ahead=True)[0], folder)
    else:
        trained = measure(task, plan, folder).trained
    trained = _told_late(task, plan, trained)
    for note in trained.notes:
        task.reporter.note(note)
    return trained


def _told_late(task: Task, plan: Plan, trained: Trained) -> Trained:
    """Add a note if the time was up before a level was done that is not cut short."""
    past = 0.0 if task.deadline is None else time.perf_counter() - task.deadline
    if past <= 0 or plan.cut not in task.base.network.cuts[-2:]:
        return trained
    return replace(trained, notes=(*trained.notes, note_on_time(plan.level == "as-is", past)))


def fit_unmeasured(task: Task, plan: Plan, measured: Measured | None = None) -> Trained:
    """Like `fit_level`, for callers that score the classifier themselves: return the same classifier, but skip figures
    that would take a fit of their own, as those of a solved head do."""
    if not task.refit or plan.cut != task.base.network.cuts[-2]:
        return fit_level(task, plan, None, measured)
    with seeded(task.seed, task.choice.device):
        trained = _fit_head(task, plan, task.to_train_on)
    check_all_finite(task, plan, trained)
    return trained


def measure(task: Task, plan: Plan, folder: Path | None = None) -> Measured:
    """Train the base's network in place on train and score it on the other splits; see `fit_level`."""
    examples = None
    with seeded(task.seed, task.choice.device):
        if plan.level == "as-is":
            trained = _fit_nothing(task)
        elif plan.cut == task.base.network.cuts[-2]:
            trained = _fit_head(task, plan, (TRAIN,))
        else:
            check_memory(task, plan)
            examples = examples_of(task, plan)
            share = share_before_refit(task, examples)
            trained = measure_crown(task, plan, examples, start_crown(task, plan, examples, folder), folder, share)
    return _measured(task, plan, trained, examples)


def measure_each(
    tasks: Sequence[Task],
    plan: Plan,
    folder: Path | None = None,
    ahead: bool = False,
    before: Measured | None = None,
) -> list[Measured]:
    """Run `measure` on copies of tasks that differ only in which of the same images are set aside.

    The fits run side by side where possible. The fit on all images runs beside them, `ahead` of its time, when it can
    use a lane they leave free. Another of these tasks may have been measured `before`: its examples are used again.
    """
    first = tasks[0]
    _, crown = first.base.network.split(plan.cut)
    solved = plan.level == "as-is" or plan.cut == first.base.network.cuts[-2]
    ahead = ahead and not solved and refits_ahead(first, crown)
    if solved or lanes(first, crown) == 1 or not (ahead or len(tasks) > 1):
        return [measure(task.on_a_copy(), plan, folder) for task in tasks]
    copies, found, starts = [task.on_a_copy() for task in tasks], list[Examples](), list[Start]()
    like = None if before is None else before.examples
    for task in copies:
        with seeded(task.seed):
            check_memory(task, plan)
            found.append(examples_of(task, plan, like=like))
            starts.append(start_crown(task, plan, found[-1], folder))
        like = found[0]
    # Inputs that are read again in every epoch, or that fill memory, are trained on one after the other.
    at_once = LANES if found[0].views and has_memory(first, plan, LANES) else 1
    ahead = ahead and at_once > 1
    refits_later = not ahead and (before is None or before.ahead is None)
    jobs: list[Callable[[Reporter], Any]] = []
    for number, (task, examples, start) in enumerate(zip(copies, found, starts, strict=True)):
        in_lane = len(range(number, len(copies) + ahead, at_once))
        share = share_before_refit(task, examples, in_lane, refits_later)
        jobs.append(partial(_measured_beside, task, plan, examples, start, folder, share))
    whole = first.on_a_copy()
    if ahead:
        with seeded(whole.seed):
            start = start_crown(whole, plan, found[0], folder, whole=True)
        jobs.append(partial(_refitted_beside, whole, plan, found[0], start, folder))
    outcomes = side_by_side(jobs, first.reporter, at_once)
    measured = [
        _measured(task, plan, trained, examples)
        for task, trained, examples in zip(copies, outcomes, found, strict=False)
    ]
    refitted = outcomes[len(tasks)] if len(outcomes) > len(tasks) else None
    if refitted is not None:
        measured[0] = replace(measured[0], ahead=Refitted(whole.base.network, refitted))
    return measured


def _measured_beside(
    task: Task, plan: Plan, examples: Examples, start: Start, folder: Path | None, share: float, told: Reporter
) -> Trained:
    return measure_crown(replace(task, reporter=told), plan, examples, start, folder, share)


def _refitted_beside(
    task: Task, plan: Plan, examples: Examples, start: Start, folder: Path | None, told: Reporter
) -> Trained | None:
    """Return None when the fit fails: whether that matters shows when the fit on all images has its turn."""
    try:
        return refit_crown(replace(task, reporter=told), plan, examples, start, folder)
    except GraftError:
        return None


def _measured(task: Task, plan: Plan, trained: Trained, examples: Examples | None) -> Measured:
    check_all_finite(task, plan, trained)
    doubts = () if trained.thresholds is not None else _doubts(task, trained)
    return Measured(
        replace(trained, notes=(*trained.notes, *(f"level {plan.level}: {doubt}" for doubt in doubts))), examples
    )


def _doubts(task: Task, trained: Trained) -> Iterator[str]:
    """Yield a note if it is no better than guessing, on val and, if that is a part of train, by folds of the rest."""
    logits, labels, groups = trained.logits[VAL], trained.labels[VAL], groups_of_split(task.dataset, trained, VAL)
    if not task.refit or trained.held_out is None:
        return notes_on_baseline(logits, labels, groups)
    logits, labels = (np.concatenate(both) for both in zip((logits, labels), trained.held_out, strict=True))
    if groups is not None and trained.fold_groups is not None:
        # No group is in both.
        groups = np.concatenate([groups, trained.fold_groups])
    return notes_on_baseline(logits, labels, groups, "held-out")


def refit(task: Task, plan: Plan, measured: Measured, folder: Path | None = None) -> Trained:
    """Train the base's network in place on every split it may be trained on; the figures on val stay as `measured`."""
    before = measured.trained
    with seeded(task.seed, task.choice.device):
        if plan.cut == task.base.network.cuts[-2]:
            trained = _fit_head(task, plan, task.to_train_on)
        else:
            trained = with_measured(before, _refitted(task, plan, measured, folder))
    check_all_finite(task, plan, trained)
    return replace(
        trained,
        logits={**trained.logits, VAL: before.logits[VAL]},
        labels={**trained.labels, VAL: before.labels[VAL]},
        skipped={**before.skipped, **trained.skipped},
        feature_seconds=before.feature_seconds + trained.feature_seconds,
        training_seconds=before.training_seconds + trained.training_seconds,
        history=before.history,
        notes=before.notes,
        # The thresholds that the figures were computed with.
        thresholds=before.thresholds,
    )


def _refitted(task: Task, plan: Plan, measured: Measured, folder: Path | None) -> Trained:
    """Return the outcome of the fit on all images: the same, to the bit, whether it ran ahead or runs now."""
    network = task.base.network
    if measured.ahead is not None:
        network.new_head(len(task.dataset.classes), plan.head)
        network.load_state_dict(measured.ahead.network.state_dict())
        network.eval()
        ahead, beside = measured.ahead.trained, measured.trained.training_seconds
        return replace(ahead, training_seconds=max(0.0, ahead.training_seconds - beside))
    examples = measured.examples or examples_of(task, plan)
    start = start_crown(task, plan, examples, folder, whole=True)
    fit = partial(refit_crown, task, plan, examples, start, folder)
    return in_a_lane(fit) if refits_ahead(task, start.crown) else fit()


def _fit_nothing(task: Task) -> Trained:
    """Score the base as it is on every split but train, using the logits of the classes it is read in."""
    splits = {name: images for name, images in task.dataset.splits.items() if name != TRAIN}
    started = time.perf_counter()
    network, outputs = task.base.network, task.base.outputs
    found = computed(as_answered(task), network.split(HEAD)[0], splits, "features")
    like_val = sample(splits[VAL], task.seed, MOST_IMAGES)
    near, shown = frozen_features(task, like_val, network.config.head)
    of_base = {name: activations.values.float() for name, activations in found.items()}
    notes = (note_on_others(VAL, of_base[VAL], outputs),) if outputs is not None else ()
    skipped = skipped_of(task.dataset.splits, found)
    check_readable(task, skipped)
    logits = {name: class_logits(values, outputs).numpy() for name, values in of_base.items()}
    labels = {name: task.dataset.splits[name].labels[found[name].indices] for name in found}
    seconds = time.perf_counter() - started
    domain = fit_domain(near[0], shown.groups, task.seed)
    return Trained(logits, labels, 1.0, skipped, seconds, 0.0, outputs=outputs, notes=notes, domain=domain)


def _fit_head(task: Task, plan: Plan, fitted_on: tuple[str, ...]) -> Trained:
    """Fit a new head on the frozen features of the stage before it, or of all stages, for the images of some splits."""
    started = time.perf_counter()
    network, dataset, kind = task.base.network, task.dataset, plan.head
    crops = more_crops(task)
    views = {f"{name} with a crop of {crop:.2f}": (name, crop) for crop in crops for name in fitted_on}
    held_out = [name for name in dataset.splits if name not in fitted_on]
    images = {name: dataset.splits[name] for name in fitted_on}
    images |= {view: dataset.splits[name] for view, (name, _) in views.items()}
    of_view = {view: crop for view, (_, crop) in views.items()}
    judged = {name: dataset.splits[name] for name in held_out}
    if dataset.label_sets is not None:
        check_in_memory(sum(map(len, images.values())), sum(network.head_blocks(kind)))
    # Held-out images are seen as the saved classifier will see them, so that their score is that of its answers.
    choices = dict.fromkeys(judged, as_answered(task).choice)
    trunk = network.before_head(kind)
    found = computed(task, trunk, {**images, **judged}, "features", of_view, choices=choices)
    skipped = skipped_of(dataset.splits, {name: found[name] for name in dataset.splits})
    check_readable(task, skipped)
    labels = {name: targets_of(dataset, dataset.splits[name].take(found[name].indices)) for name in dataset.splits}
    check_classes(dataset, labels)
    extracted = time.perf_counter()
    stored = {name: StoredRows((activations.values,)) for name, activations in found.items()}
    rows = [StoredRows(tuple(found[name].values for name in fitted_on))]
    for crop in crops:
        rows.append(StoredRows(tuple(found[f"{name} with a crop of {crop:.2f}"].values for name in fitted_on)))
    shown = together([dataset.splits[name].take(found[name].indices) for name in fitted_on])
    streams = not crops and dataset.label_sets is None
    note = note_on_streaming(*rows[0].shape, len(dataset.classes)) if streams else None
    if note is None:
        head = solve_head_on_crops(task, np.stack([each.read() for each in rows]), shown, kind)
    else:
        task.reporter.note_once(note)
        head = solve_stored_head(task, rows[0], shown, kind)
    put_head(network, head, kind)
    several = dataset.label_sets is not None
    known = None if several else head.logits.argmax(1) == head.labels
    temperature = 1.0 if several else fit_temperature(head.logits, head.labels)
    logits = {name: stored[name].logits(head.weight, head.bias) for name in held_out}
    seconds = (extracted - started, time.perf_counter() - extracted)
    return Trained(
        logits,
        labels,
        temperature,
        skipped,
        *seconds,
        cross_validated=known,
        folds=tuple(shown.key(row) for row in head.rows.tolist()),
        fold_groups=None if shown.groups is None else shown.groups[head.rows],
        held_out=(head.logits, head.labels) if len(head.labels) else None,
        domain=fit_domain(rows[0], shown.groups, task.seed),
        thresholds=thresholds_of(task, head.logits, head.labels),
    )
