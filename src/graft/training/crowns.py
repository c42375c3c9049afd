"""The stages after a cut, and a new head, trained: on train alone and measured, and again on all the images."""

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
from graft.errors import InputError
from graft.evaluation.calibration import fit_temperature
from graft.evaluation.domain import MOST_IMAGES, FittedDomain, fit_domain
from graft.features.engine import Precision, precision_for
from graft.features.extraction import output_shape
from graft.files import write_aside, write_json
from graft.models.cuts import INPUT
from graft.training.checkpoint import CheckpointFile
from graft.training.checks import check_classes
from graft.training.examples import crown_inputs, frozen_features
from graft.training.heads import put_head, solve_head, targets_of, thresholds_of
from graft.training.history import Epoch
from graft.training.inputs import Inputs, SomeInputs, with_targets
from graft.training.learning_rate_range import RATE_RANGE_FILE, RateRange, find_learning_rate
from graft.training.loop import Watcher, crown_logits, fit_crown
from graft.training.memory import check_step_fits
from graft.training.notes import notes_on_curve
from graft.training.recipe import ResolvedRecipe
from graft.training.task import Task, Trained
from graft.training.time_budget import Budget
from graft.transfer.levels import Plan

# What calibrating and writing the run folder take of a time budget.
SAVING_SECONDS = 2.0
# What finding a learning rate may take of the time that is left.
FINDING_SHARE = 0.2
# The epochs of a run, a line for each.
METRICS_FILE = "metrics.jsonl"
# Checkpoints of a run, by what is being trained.
MEASURING_FILE, REFITTING_FILE = "last.safetensors", "refit.safetensors"


@dataclass(frozen=True)
class Examples:
    """What a crown is trained on: those of train, those of all splits that it may be trained on, those held out.

    `readable`, int64 (n,), are those of all that could be read, in the order of their source. Those trained on are in
    so many `views`, 0 where none is kept. `val_groups`, int (m,), are the groups of those of val, None where it has
    none.
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
    """What the crown of `plan` is trained on and measured on, in so many views, or as many as there is time for.

    Examples `like` these have the same images, of which others are set aside.
    """
    started = time.perf_counter()
    splits = task.dataset.splits
    # Those that are trained on in the end are seen in the same views in every fit, whatever is set aside in it, so
    # these are made once: in the order of their source.
    whole = together([splits[name] for name in task.to_train_on])
    order = np.argsort(whole.rows, kind="stable")
    whole, of_train = whole.take(order), order < len(splits[TRAIN])
    if like is None:
        every, failures = crown_inputs(task, plan.cut, TRAIN, whole, task.recipe.epochs, views)
        made = len(getattr(every, "views", ()))  # what is read again in every epoch has none
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
            of_split, failures = crown_inputs(task, plan.cut, name, images, task.recipe.epochs)
            held_out[name] = with_targets(of_split, task.dataset)
            if name == VAL and images.groups is not None:
                val_groups = images.groups[_readable(images, failures)]
            skipped |= {images.name(index): reason for index, reason in failures.items()}
    train = every if len(rows) == len(readable) else SomeInputs(every, rows)
    examples = Examples(train, every, readable, made, held_out, skipped, time.perf_counter() - started, val_groups)
    check_classes(task.dataset, examples.labels)
    return examples


def _readable(images: Images, failures: Mapping[int, str]) -> np.ndarray:
    """The indices of all images but those that failed, int64 (n,)."""
    return np.setdiff1d(np.arange(len(images)), np.fromiter(failures, dtype=np.int64, count=len(failures)))


@dataclass(frozen=True)
class Start:
    """A crown with a head for the classes, about to be trained in `precision` by a recipe with a rate."""

    crown: nn.Module
    precision: Precision
    recipe: ResolvedRecipe


def start_crown(task: Task, plan: Plan, examples: Examples, folder: Path | None, whole: bool = False) -> Start:
    """Head first: a pretrained base starts from the optimal one on its frozen features, those of the `whole` or train.

    The network of `task` has it then.
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


def measure_crown(task: Task, plan: Plan, examples: Examples, start: Start, folder: Path | None) -> Trained:
    """Train the crown on train, and score it on what is held out."""
    started, device = time.perf_counter(), task.choice.device
    fit = fit_crown(
        start.crown,
        examples.train,
        examples.held_out[VAL],
        start.recipe,
        seed=task.seed,
        device=device,
        precision=start.precision,
        budget=_budget(task, examples.labels),
        checkpoint=_checkpoint(task, folder, MEASURING_FILE),
        watcher=_watcher(task, folder),
        # The second fit, on all images, has no others to choose an epoch by.
        keep_last=task.refit,
        processes=task.processes,
    )
    held_out = {name: split for name, split in examples.held_out.items() if not task.refit or name == VAL}
    logits = {name: crown_logits(start.crown, split, device, start.precision) for name, split in held_out.items()}
    return Trained(
        logits,
        examples.labels,
        fit_temperature(logits[VAL], examples.labels[VAL]) if task.dataset.label_sets is None else 1.0,
        examples.skipped,
        feature_seconds=examples.seconds,
        training_seconds=time.perf_counter() - started,
        history=fit.history,
        notes=tuple(f"level {plan.level}: {doubt}" for doubt in notes_on_curve(fit.history, fit.kept, start.recipe)),
        domain=_domain_of(task, plan, examples, start.precision),
        thresholds=thresholds_of(task, logits[VAL], examples.labels[VAL]),
    )


def refit_crown(task: Task, plan: Plan, examples: Examples, start: Start, folder: Path | None) -> Trained:
    """Train the crown on all images; what only others can tell, as a temperature, is left to the measured fit."""
    started, device = time.perf_counter(), task.choice.device
    fit_crown(
        start.crown,
        examples.every,
        None,
        start.recipe,
        seed=task.seed,
        device=device,
        precision=start.precision,
        budget=_budget(task, examples.labels, last=True),
        checkpoint=_checkpoint(task, folder, REFITTING_FILE),
        watcher=_watcher(task, None, f"epochs on all {len(examples.every.labels):,} images"),
        processes=task.processes,
    )
    held_out = {name: split for name, split in examples.held_out.items() if name == TEST}
    logits = {name: crown_logits(start.crown, split, device, start.precision) for name, split in held_out.items()}
    seconds = time.perf_counter() - started
    domain = _domain_of(task, plan, examples, start.precision)
    return Trained(logits, examples.labels, 1.0, examples.skipped, 0.0, seconds, domain=domain)


def figures_of(before: Trained, refitted: Trained) -> Trained:
    """What a crown that was trained on all images came to, with what was told by images it had not seen `before`."""
    domain = refitted.domain
    if domain is not None and before.domain is not None:
        # How far off unseen images are was measured before val was trained on.
        domain = replace(domain, threshold=before.domain.threshold, n=before.domain.n)
    return replace(refitted, temperature=before.temperature, domain=domain, thresholds=before.thresholds)


def follow_fits(task: Task, plan: Plan) -> dict[str, Any]:
    """Of every process but the first: its part of each fit that the first calls for; the first word of anything else.

    Examples are in the cache by then where that is shared, and computed again where it is not.
    """
    examples: Examples | None = None
    while "fit" in (word := task.processes.called()):
        examples = examples or examples_of(task, plan, word["views"])
        whole = word["fit"] == REFITTING_FILE
        # Its weights come from the first.
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
            budget=_budget(task, examples.labels, last=whole),
            keep_last=task.refit,
            processes=task.processes,
        )
    return word


def _checkpoint(task: Task, folder: Path | None, name: str) -> CheckpointFile | None:
    return None if folder is None else CheckpointFile(folder / "checkpoints" / name, task.checkpoint_every)


def _domain_of(task: Task, plan: Plan, examples: Examples, precision: Precision) -> FittedDomain | None:
    """What the images of val are like to the crown as it is now."""
    network, val = task.base.network, examples.held_out[VAL]
    before_head = network.before_head(plan.head, after=plan.cut)
    rows = np.sort(np.random.default_rng(task.seed).permutation(len(val.labels))[:MOST_IMAGES])
    features = crown_logits(before_head, SomeInputs(val, rows), task.choice.device, precision)
    groups = None if examples.val_groups is None else examples.val_groups[rows]
    return fit_domain(features.reshape(len(rows), -1), groups, task.seed)


def _crown(task: Task, plan: Plan) -> tuple[nn.Module, Precision]:
    _, crown = task.base.network.split(plan.cut)
    crown.requires_grad_(True)
    return crown, precision_for(crown, task.choice)


def check_memory(task: Task, plan: Plan, at_once: int = 1) -> None:
    """Refuse a step, of so many fits at once, that a processor has no memory for; on a GPU torch tells, and batches
    are halved."""
    if task.choice.device != "cpu":
        return
    trunk, crown = task.base.network.split(plan.cut)
    crown.requires_grad_(True)
    shape = task.input_shape if plan.cut == INPUT else output_shape(trunk, task.preprocessing)
    batch_size = at_once * min(task.recipe.batch_size, len(task.dataset.splits[TRAIN]))
    check_step_fits(crown, shape, batch_size, task.recipe.optimizer, precision_for(crown, task.choice))


def has_memory(task: Task, plan: Plan, at_once: int) -> bool:
    """Whether there is memory for a step of so many fits at once."""
    try:
        check_memory(task, plan, at_once)
    except InputError:
        return False
    return True


def _start_head(task: Task, plan: Plan, fitted_on: tuple[str, ...]) -> None:
    """Give the base a head for the classes: solved on its frozen features if it is pretrained, else at random."""
    network, dataset = task.base.network, task.dataset
    solvable = any(True for _ in network.head.parameters())
    if not (task.base.pretrained and plan.level != "scratch" and solvable):
        network.new_head(len(dataset.classes), plan.head)
        return
    features, shown = zip(*(frozen_features(task, dataset.splits[name], plan.head) for name in fitted_on), strict=True)
    every = together(shown)
    check_classes(dataset, {TRAIN: targets_of(dataset, every)})
    put_head(network, solve_head(task, np.concatenate(features, axis=1), every, plan.head), plan.head)


def _budget(task: Task, labels: Mapping[str, np.ndarray], last: bool = False) -> Budget | None:
    """What this fit may take of the time that is left, less what scoring all that is held out takes when it ends.

    A first fit leaves a `last` one, on more images, its part.
    """
    if task.deadline is None:
        return None
    left = task.deadline - time.perf_counter() - SAVING_SECONDS
    if task.refit and not last:
        left *= len(labels[TRAIN]) / (2 * len(labels[TRAIN]) + len(labels[VAL]))
    held_out = sum(len(split) for name, split in labels.items() if name != TRAIN)
    return Budget(left, 1.5 + held_out / len(labels[VAL]))


def _watcher(task: Task, folder: Path | None, step: str = "epochs") -> Watcher:
    """Tells the reporter of epochs and steps, and writes the epochs so far to `metrics.jsonl` of a run."""

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
    """What the range test suggests; for a run that is resumed, what it suggested when the run was begun."""
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
