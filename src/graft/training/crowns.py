"""Training a crown, the stages after a cut and a new head: on train alone and measured, then on all the images."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from graft.data.dataset import TEST, TRAIN, VAL, Images, together
from graft.data.grouping import copied
from graft.errors import InputError
from graft.evaluation.calibration import fit_temperature
from graft.evaluation.domain import MOST_IMAGES, FittedDomain, fit_domain
from graft.features.engine import Precision
from graft.features.extraction import output_shape
from graft.files import write_aside, write_json
from graft.models.cuts import INPUT
from graft.training.checkpoint import CheckpointFile
from graft.training.checks import check_classes, check_readable
from graft.training.examples import as_answered, crown_inputs, frozen_features
from graft.training.heads import put_head, solve_head, targets_of, thresholds_of
from graft.training.history import Epoch
from graft.training.inputs import Inputs, SomeInputs, with_targets
from graft.training.learning_rate_range import RATE_RANGE_FILE, RateRange, find_learning_rate
from graft.training.loop import Watcher, crown_logits, fit_crown
from graft.training.memory import check_step_fits
from graft.training.notes import note_on_thresholds, notes_on_curve
from graft.training.recipe import ResolvedRecipe
from graft.training.task import Task, Trained, readable_rows
from graft.training.time_budget import Budget
from graft.transfer.levels import Plan

# Seconds of a time budget reserved for calibrating and writing the run folder.
SAVING_SECONDS = 2.0
# The number of images that tell how long scoring takes.
TO_TIME = 64
# The share of the remaining time that finding a learning rate may take.
FINDING_SHARE = 0.2
# The epochs of a run, one per line.
METRICS_FILE = "metrics.jsonl"
# Checkpoints of a run: of the measured fit and of the fit on all images.
MEASURING_FILE, REFITTING_FILE = "last.safetensors", "refit.safetensors"


@dataclass(frozen=True)
class Examples:
    """The inputs a crown is trained and scored on: `train`, `every` (all splits it may be trained on), and `held_out`.

    `readable`, int64 (n,), are the indices of the readable images among those of `every`, in the order of their source.
    `views` is how many views of each are kept, 0 for none. `val_groups`, int (m,), are the groups of the images of val,
    None where it has none.
    """

    train: Inputs
    every: Inputs
    readable: np.ndarray
    views: int
    held_out: dict[str, Inputs]
    skipped: dict[str, str]
    seconds: float
    val_groups: np.ndarray | None = None

    @property
    def labels(self) -> dict[str, np.ndarray]:
        return {TRAIN: self.train.labels, **{name: split.labels for name, split in self.held_out.items()}}


def examples_of(task: Task, plan: Plan, views: int | None = None, like: Examples | None = None) -> Examples:
    """Prepare what the crown of `plan` is trained on and scored on, in `views` views, or as many as time allows.

    Pass `like` to reuse examples of the same images with others set aside.
    """
    started = time.perf_counter()
    splits = task.dataset.splits
    # The images that are trained on in the end are seen in the same views in every fit, whatever is set aside, so the
    # views are made once, in the order of their source.
    whole = together([splits[name] for name in task.to_train_on])
    order = np.argsort(whole.rows, kind="stable")
    whole, of_train = whole.take(order), order < len(splits[TRAIN])
    if like is None:
        every, failures = crown_inputs(task, plan.cut, TRAIN, whole, task.recipe.epochs, views)
        made = len(getattr(every, "views", ()))  # none when images are read again in every epoch
        every = with_targets(every, task.dataset)
        skipped = {whole.name(index): reason for index, reason in failures.items()}
        readable = _readable(whole, failures)
    else:
        every, made, skipped, readable = like.every, like.views, dict(like.skipped), like.readable
    rows = np.flatnonzero(of_train[readable])
    held_out: dict[str, Inputs] = {}
    val_groups = None
    for name, images in splits.items():
        if name != TRAIN:
            # As the saved classifier will see them, so that their score is that of its answers.
            of_split, failures = crown_inputs(as_answered(task), plan.cut, name, images, task.recipe.epochs)
            held_out[name] = with_targets(of_split, task.dataset)
            if name == VAL and images.groups is not None:
                val_groups = images.groups[_readable(images, failures)]
            skipped |= {images.name(index): reason for index, reason in failures.items()}
    check_readable(task, skipped)
    train = every if len(rows) == len(readable) else SomeInputs(every, rows)
    examples = Examples(train, every, readable, made, held_out, skipped, time.perf_counter() - started, val_groups)
    check_classes(task.dataset, examples.labels)
    return examples


def _readable(images: Images, failures: Mapping[int, str]) -> np.ndarray:
    """Return the indices of all images but those that failed, int64 (n,)."""
    return np.setdiff1d(np.arange(len(images)), np.fromiter(failures, dtype=np.int64, count=len(failures)))


@dataclass(frozen=True)
class Start:
    """A crown with a head for the classes, ready to be trained in `precision` by a recipe with a learning rate."""

    crown: nn.Module
    precision: Precision
    recipe: ResolvedRecipe


def start_crown(task: Task, plan: Plan, examples: Examples, folder: Path | None, whole: bool = False) -> Start:
    """Prepare a crown, head first: a pretrained base starts with the optimal head on frozen features, of train or all.

    The network of `task` has that head afterwards.
    """
    task.processes.call({"fit": REFITTING_FILE if whole else MEASURING_FILE, "views": examples.views})
    _start_head(task, plan, task.to_train_on if whole else (TRAIN,))
    crown, precision = _crown(task, plan)
    recipe = task.recipe
    if recipe.find_learning_rate:
        inputs = examples.every if whole else examples.train
        recipe = replace(recipe, learning_rate=_found_rate(task, crown, inputs, precision, folder))
    task.processes.gather()
    return Start(crown, precision, recipe)


def measure_crown(
    task: Task, plan: Plan, examples: Examples, start: Start, folder: Path | None, share: float = 1.0
) -> Trained:
    """Train the crown on train, in a `share` of what is left of a limited time, and score it on the held-out images.

    If a fit on all images follows, only val is scored here.
    """
    started, device = time.perf_counter(), task.choice.device
    held_out = {name: split for name, split in examples.held_out.items() if not task.refit or name == VAL}
    scored = {name: split.labels for name, split in held_out.items()}
    fit = fit_crown(
        start.crown,
        examples.train,
        examples.held_out[VAL],
        start.recipe,
        seed=task.seed,
        device=device,
        precision=start.precision,
        budget=_budget(task, scored, share, _seconds_after(task, examples, start)),
        checkpoint=_checkpoint(task, folder, MEASURING_FILE),
        watcher=_watcher(task, folder),
        # The second fit, on all images, has no held-out images to choose an epoch by.
        keep_last=task.refit,
        processes=task.processes,
    )
    logits = {name: crown_logits(start.crown, split, device, start.precision) for name, split in held_out.items()}
    # The crown is surer of copies of what it was trained on than of other images.
    unseen = _unseen_of_val(task, examples)
    of_unseen, labels = logits[VAL][unseen], examples.labels[VAL][unseen]
    return Trained(
        logits,
        examples.labels,
        fit_temperature(of_unseen, labels) if task.dataset.label_sets is None else 1.0,
        examples.skipped,
        feature_seconds=examples.seconds,
        training_seconds=time.perf_counter() - started,
        history=fit.history,
        notes=tuple(
            f"level {plan.level}: {said}"
            for said in (
                *notes_on_curve(fit.history, fit.kept, start.recipe, task.refit),
                *([] if task.dataset.label_sets is None else [note_on_thresholds(len(labels))]),
            )
        ),
        domain=_domain_of(task, plan, examples, start.precision),
        thresholds=thresholds_of(task, of_unseen, labels),
    )


def _unseen_of_val(task: Task, examples: Examples) -> np.ndarray:
    """Return which readable images of val have no copy in train, bool (n,)."""
    val, train = task.dataset.splits[VAL], task.dataset.splits[TRAIN]
    return ~copied(val.take(readable_rows(val, examples.skipped)), train)


def refit_crown(task: Task, plan: Plan, examples: Examples, start: Start, folder: Path | None) -> Trained:
    """Train the crown on all images; what needs held-out images, like the temperature, is left to the measured fit."""
    started, device = time.perf_counter(), task.choice.device
    fit_crown(
        start.crown,
        examples.every,
        None,
        start.recipe,
        seed=task.seed,
        device=device,
        precision=start.precision,
        budget=_budget(task, {}, after=_seconds_after(task, examples, start)),
        checkpoint=_checkpoint(task, folder, REFITTING_FILE),
        watcher=_watcher(task, None, f"epochs on all {len(examples.every.labels):,} images"),
        processes=task.processes,
    )
    held_out = {name: split for name, split in examples.held_out.items() if name == TEST}
    logits = {name: crown_logits(start.crown, split, device, start.precision) for name, split in held_out.items()}
    seconds = time.perf_counter() - started
    domain = _domain_of(task, plan, examples, start.precision)
    return Trained(logits, examples.labels, 1.0, examples.skipped, 0.0, seconds, domain=domain)


def with_measured(before: Trained, refitted: Trained) -> Trained:
    """Return the outcome of the fit on all images, with the values from the fit `before` that need held-out images."""
    domain = refitted.domain
    if domain is not None and before.domain is not None:
        # How far off unseen images are was measured before val was trained on.
        domain = replace(domain, threshold=before.domain.threshold, n=before.domain.n)
    return replace(refitted, temperature=before.temperature, domain=domain, thresholds=before.thresholds)


def follow_fits(task: Task, plan: Plan) -> dict[str, Any]:
    """In every process but the first, join each fit that the first calls for; return its first word of another kind.

    By then the examples are in the cache if that is shared; otherwise they are computed again.
    """
    examples: Examples | None = None
    while "fit" in (word := task.processes.called()):
        examples = examples or examples_of(task, plan, word["views"])
        whole = word["fit"] == REFITTING_FILE
        # Its weights come from the first process.
        task.base.network.new_head(len(task.dataset.classes), plan.head)
        crown, precision = _crown(task, plan)
        task.processes.answer()
        fit_crown(
            crown,
            examples.every if whole else examples.train,
            None if whole else examples.held_out[VAL],
            task.recipe,
            seed=task.seed,
            device=task.choice.device,
            precision=precision,
            # Only whether there is one matters: the clock of the first process decides.
            budget=_budget(task, {}),
            keep_last=task.refit,
            processes=task.processes,
        )
    return word


def _checkpoint(task: Task, folder: Path | None, name: str) -> CheckpointFile | None:
    return None if folder is None else CheckpointFile(folder / "checkpoints" / name, task.checkpoint_every)


def _domain_of(task: Task, plan: Plan, examples: Examples, precision: Precision) -> FittedDomain | None:
    """Describe the images of val as the crown in its current state sees them."""
    network, val = task.base.network, examples.held_out[VAL]
    before_head = network.before_head(plan.head, after=plan.cut)
    rows = np.sort(np.random.default_rng(task.seed).permutation(len(val.labels))[:MOST_IMAGES])
    features = crown_logits(before_head, SomeInputs(val, rows), task.choice.device, precision)
    groups = None if examples.val_groups is None else examples.val_groups[rows]
    return fit_domain(features.reshape(len(rows), -1), groups, task.seed)


def _crown(task: Task, plan: Plan) -> tuple[nn.Module, Precision]:
    _, crown = task.base.network.split(plan.cut)
    crown.requires_grad_(True)
    return crown, as_answered(task).choice.precision


def check_memory(task: Task, plan: Plan, at_once: int = 1) -> None:
    """Refuse a step of `at_once` fits together that the CPU has no memory for. Raises InputError.

    On a GPU torch reports the lack of memory, and batches are halved.
    """
    if task.choice.device != "cpu":
        return
    trunk, crown = task.base.network.split(plan.cut)
    crown.requires_grad_(True)
    shape = task.input_shape if plan.cut == INPUT else output_shape(trunk, task.preprocessing)
    batch_size = at_once * min(task.recipe.batch_size, len(task.dataset.splits[TRAIN]))
    check_step_fits(crown, shape, batch_size, task.recipe.optimizer, as_answered(task).choice.precision)


def has_memory(task: Task, plan: Plan, at_once: int) -> bool:
    """Return whether there is memory for a step of `at_once` fits together."""
    try:
        check_memory(task, plan, at_once)
    except InputError:
        return False
    return True


def _start_head(task: Task, plan: Plan, fitted_on: tuple[str, ...]) -> None:
    """Give the base a head for the classes: solved on its frozen features if it is pretrained, random otherwise."""
    network, dataset = task.base.network, task.dataset
    solvable = any(True for _ in network.head.parameters())
    if not (task.base.pretrained and plan.level != "scratch" and solvable):
        network.new_head(len(dataset.classes), plan.head)
        return
    features, shown = zip(*(frozen_features(task, dataset.splits[name], plan.head) for name in fitted_on), strict=True)
    every = together(shown)
    check_classes(dataset, {TRAIN: targets_of(dataset, every)})
    put_head(network, solve_head(task, np.concatenate(features, axis=1), every, plan.head), plan.head)


def share_before_refit(task: Task, examples: Examples, fits: int = 1, refits_later: bool = True) -> float:
    """Return the share of the remaining time for the first of `fits` on train, one after the other.

    The fit on all images, if one follows them, takes longer, by the number of images.
    """
    later = len(examples.every.labels) / len(examples.train.labels) if task.refit and refits_later else 0.0
    return 1 / (fits + later)


def _budget(task: Task, scored: Mapping[str, np.ndarray], share: float = 1.0, after: float = 0.0) -> Budget | None:
    """Return a share of the remaining time for a fit, less the time for scoring the images `scored` when it ends.

    They are given as their labels by split, val among them unless there are none. The last `after` seconds are not to
    be shared.
    """
    if task.deadline is None:
        return None
    left = share * (task.deadline - time.perf_counter() - SAVING_SECONDS - after)
    of_val = len(scored.get(VAL, ()))
    return Budget(left, 1.5 + sum(map(len, scored.values())) / of_val if of_val else 0.0)


def _seconds_after(task: Task, examples: Examples, start: Start) -> float:
    """Return the seconds for scoring test after the fit on all images, judged by a few; 0 unless there is a limit."""
    test = examples.held_out.get(TEST)
    if task.deadline is None or not task.refit or test is None:
        return 0.0
    rows = np.arange(min(TO_TIME, len(test.labels)))
    began = time.perf_counter()
    crown_logits(start.crown, SomeInputs(test, rows), task.choice.device, start.precision)
    return (time.perf_counter() - began) * len(test.labels) / len(rows)


def _watcher(task: Task, folder: Path | None, step: str = "epochs") -> Watcher:
    """Report epochs and steps, and write the epochs so far to `metrics.jsonl` of a run."""

    def epoch(history: tuple[Epoch, ...]) -> None:
        if folder is not None:
            lines = "".join(json.dumps(epoch.row()) + "\n" for epoch in history)
            write_aside(folder / METRICS_FILE, lambda file: file.write(lines.encode()))
            task.reporter.row(history[-1].row())
        latest = history[-1]
        scores = f"loss {latest.val_loss:.3f}, val {latest.score:.1%}" if latest.score is not None else ""
        task.reporter.step(step, latest.epoch, task.recipe.epochs, scores)

    return Watcher(epoch, lambda done, total: task.reporter.step("training", done, total))


def _found_rate(task: Task, crown: nn.Module, train: Inputs, precision: Precision, folder: Path | None) -> float:
    """Return the learning rate that the range test suggests; a resumed run keeps the one found when it began."""
    file = None if folder is None else folder / RATE_RANGE_FILE
    if file is not None and file.is_file():
        found = RateRange(**json.loads(file.read_text(encoding="utf-8")))
    else:
        left = math.inf if task.deadline is None else task.deadline - time.perf_counter()
        found = find_learning_rate(
            crown,
            train,
            task.recipe,
            seed=task.seed,
            device=task.choice.device,
            precision=precision,
            seconds=FINDING_SHARE * left,
            step=lambda done, total: task.reporter.step("finding a learning rate", done, total),
        )
        if file is not None:
            write_json(file, asdict(found))
    task.reporter.note(
        f"learning rate {found.suggested:.2g} in place of {task.recipe.learning_rate:.2g}: found among "
        f"{len(found.rates)} from {found.rates[0]:.1g} to {found.rates[-1]:.1g}"
    )
    return found.suggested
