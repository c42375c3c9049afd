"""What each level does with images and a base: features and a head, activations and a crown, or nothing at all.

A level cuts the base in two: the trunk is kept as it is, and its activations at the cut are computed once; the crown,
the stages after the cut and a new head, is trained on them. Where graft set val aside itself, a level is measured on
val first and then fitted again on all the images: the figures are those of the first, the classifier is the second.
"""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from graft.data.dataset import TEST, TRAIN, VAL, Dataset, Images, together
from graft.errors import DataError, GraftError
from graft.evaluation.calibration import fit_temperature
from graft.evaluation.domain import MOST_IMAGES, FittedDomain, fit_domain
from graft.features.cache import Activations
from graft.features.engine import Precision, precision_for
from graft.features.extraction import output_shape
from graft.files import write_aside, write_json
from graft.models.network import HEAD, INPUT, Section
from graft.seeding import seeded
from graft.training.examples import computed, crown_inputs, frozen_features, more_crops
from graft.training.heads import put_head, solve_head, solve_head_on_crops
from graft.training.history import Epoch
from graft.training.inputs import Inputs, SomeInputs
from graft.training.learning_rate_range import RATE_RANGE_FILE, RateRange, find_learning_rate
from graft.training.loop import Watcher, crown_logits, fit_crown
from graft.training.memory import check_step_fits
from graft.training.notes import notes_on_baseline, notes_on_curve
from graft.training.task import Task, Trained, sample
from graft.training.time_budget import Budget
from graft.transfer.class_names.matching import note_on_others
from graft.transfer.levels import Plan, head_kind
from graft.weights.saved import class_logits
from graft.words import counted

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
    """What a crown is trained on: those of train, those of all splits that it may be trained on, those held out."""

    train: Inputs
    every: Inputs
    held_out: dict[str, Inputs]
    skipped: dict[str, str]
    seconds: float

    @property
    def labels(self) -> dict[str, np.ndarray]:
        return {TRAIN: self.train.labels, **{name: split.labels for name, split in self.held_out.items()}}


@dataclass(frozen=True)
class Measured:
    """A level fitted on train alone and scored on what is held out, with what a second fit can use again."""

    trained: Trained
    examples: Examples | None = None


def fit_level(task: Task, plan: Plan, folder: Path | None = None, measured: Measured | None = None) -> Trained:
    """Train the base's network at the level of `plan`, in place; where the task says so, on val as well in the end.

    What was `measured` before is not measured again. With `folder`, that of a run, metrics and checkpoints are written
    there. What makes the scores doubtful is told and noted. The random state of the process is left as it was. Raises
    DataError where unreadable images leave a class or a split empty, InputError where time or memory are too short,
    GraftError where a loss, a weight or a score is not finite.
    """
    if task.refit:
        trained = refit(task, plan, measured or measure(task.on_a_copy(), plan, folder), folder)
    else:
        trained = measure(task, plan, folder).trained
    for note in trained.notes:
        task.reporter.note(note)
    return trained


def measure(task: Task, plan: Plan, folder: Path | None = None) -> Measured:
    """Train the base's network on train, in place, and score it on the other splits; see `fit_level`."""
    examples = None
    with seeded(task.seed, task.choice.device):
        if plan.level == "as-is":
            trained = _fit_nothing(task)
        elif plan.cut == task.base.network.cuts[-2]:
            trained = _fit_head(task, plan, (TRAIN,))
        else:
            _check_memory(task, plan)
            examples = _examples(task, plan)
            trained = _measure_crown(task, plan, examples, folder)
    _check_all_finite(task, plan, trained)
    doubts = notes_on_baseline(trained.logits[VAL], trained.labels[VAL])
    return Measured(
        replace(trained, notes=(*trained.notes, *(f"level {plan.level}: {doubt}" for doubt in doubts))), examples
    )


def refit(task: Task, plan: Plan, measured: Measured, folder: Path | None = None) -> Trained:
    """Train the base's network, in place, on all splits that it may be trained on; figures on val are as `measured`."""
    before = measured.trained
    with seeded(task.seed, task.choice.device):
        if plan.cut == task.base.network.cuts[-2]:
            trained = _fit_head(task, plan, task.to_train_on)
        else:
            trained = _refit_crown(task, plan, measured.examples or _examples(task, plan), before, folder)
    _check_all_finite(task, plan, trained)
    return replace(
        trained,
        logits={**trained.logits, VAL: before.logits[VAL]},
        labels={**trained.labels, VAL: before.labels[VAL]},
        skipped={**before.skipped, **trained.skipped},
        feature_seconds=before.feature_seconds + trained.feature_seconds,
        training_seconds=before.training_seconds + trained.training_seconds,
        history=before.history,
        notes=before.notes,
    )


def _fit_nothing(task: Task) -> Trained:
    """The base as it is, on every split but train: the logits of the classes that it is read in."""
    splits = {name: images for name, images in task.dataset.splits.items() if name != TRAIN}
    started = time.perf_counter()
    network, outputs = task.base.network, task.base.outputs
    found = computed(task, network.split(HEAD)[0], splits, "features")
    like_val = sample(splits[VAL], task.seed, MOST_IMAGES)
    near, shown = frozen_features(task, like_val, network.config.head)
    of_base = {name: activations.values.float() for name, activations in found.items()}
    notes = (note_on_others(VAL, of_base[VAL], outputs),) if outputs is not None else ()
    logits = {name: class_logits(values, outputs).numpy() for name, values in of_base.items()}
    labels = {name: task.dataset.splits[name].labels[found[name].indices] for name in found}
    seconds = time.perf_counter() - started
    skipped = _skipped(task.dataset.splits, found)
    domain = fit_domain(near[0], shown.groups, task.seed)
    return Trained(logits, labels, 1.0, skipped, seconds, 0.0, outputs=outputs, notes=notes, domain=domain)


def _fit_head(task: Task, plan: Plan, fitted_on: tuple[str, ...]) -> Trained:
    """A new head on the frozen features of the stage before it, or of all stages, for the images of some splits."""
    started = time.perf_counter()
    network, dataset, kind = task.base.network, task.dataset, head_kind(plan.level)
    crops = more_crops(task)
    views = {f"{name} with a crop of {crop:.2f}": (name, crop) for crop in crops for name in fitted_on}
    images = {**dataset.splits, **{view: dataset.splits[name] for view, (name, _) in views.items()}}
    of_view = {view: crop for view, (_, crop) in views.items()}
    found = computed(task, network.before_head(kind), images, "features", of_view)
    labels = {name: dataset.splits[name].labels[found[name].indices] for name in dataset.splits}
    _check_classes(dataset, labels)
    extracted = time.perf_counter()
    features = {name: activations.values.float().numpy() for name, activations in found.items()}
    rows = [np.concatenate([features[name] for name in fitted_on])]
    for crop in crops:
        rows.append(np.concatenate([features[f"{name} with a crop of {crop:.2f}"] for name in fitted_on]))
    shown = together([dataset.splits[name].take(found[name].indices) for name in fitted_on])
    head = solve_head_on_crops(task, np.stack(rows), shown, kind)
    put_head(network, head, kind)
    known = head.logits.argmax(1) == head.labels
    temperature = fit_temperature(head.logits, head.labels)
    held_out = [name for name in dataset.splits if name not in fitted_on]
    logits = {name: features[name] @ head.weight.T + head.bias for name in held_out}
    skipped = _skipped(dataset.splits, {name: found[name] for name in dataset.splits})
    seconds = (extracted - started, time.perf_counter() - extracted)
    return Trained(
        logits,
        labels,
        temperature,
        skipped,
        *seconds,
        cross_validated=known,
        folds=tuple(shown.key(row) for row in head.rows.tolist()),
        held_out=(head.logits, head.labels) if len(head.labels) else None,
        domain=fit_domain(rows[0], shown.groups, task.seed),
    )


def _examples(task: Task, plan: Plan) -> Examples:
    """What the crown of `plan` is trained on and measured on."""
    started = time.perf_counter()
    splits = task.dataset.splits
    # Those that are trained on in the end are seen in the same views in every fit, whatever is set aside in it, so
    # these are made once: in the order of their source.
    whole = together([splits[name] for name in task.to_train_on])
    order = np.argsort(whole.rows, kind="stable")
    whole, of_train = whole.take(order), order < len(splits[TRAIN])
    every, failures = crown_inputs(task, plan.cut, TRAIN, whole, task.recipe.epochs)
    skipped = {whole.name(index): reason for index, reason in failures.items()}
    readable = np.setdiff1d(np.arange(len(whole)), np.fromiter(failures, dtype=np.int64, count=len(failures)))
    rows = np.flatnonzero(of_train[readable])
    held_out: dict[str, Inputs] = {}
    for name, images in splits.items():
        if name != TRAIN:
            held_out[name], failures = crown_inputs(task, plan.cut, name, images, task.recipe.epochs)
            skipped |= {images.name(index): reason for index, reason in failures.items()}
    train = every if len(rows) == len(readable) else SomeInputs(every, rows)
    examples = Examples(train, every, held_out, skipped, time.perf_counter() - started)
    _check_classes(task.dataset, examples.labels)
    return examples


def _measure_crown(task: Task, plan: Plan, examples: Examples, folder: Path | None) -> Trained:
    """Head first, then the crown: a pretrained base starts from the optimal head on its frozen features."""
    started = time.perf_counter()
    recipe, device = task.recipe, task.choice.device
    _start_head(task, plan, (TRAIN,))
    crown, precision = _crown(task, plan)
    if recipe.find_learning_rate:
        recipe = replace(recipe, learning_rate=_found_rate(task, crown, examples.train, precision, folder))
    fit = fit_crown(
        crown,
        examples.train,
        examples.held_out[VAL],
        recipe,
        seed=task.seed,
        device=device,
        precision=precision,
        budget=_budget(task, examples.labels),
        checkpoint=folder / "checkpoints" / MEASURING_FILE if folder else None,
        watcher=_watcher(task, folder),
        # The second fit, on all images, has no others to choose an epoch by.
        keep_last=task.refit,
    )
    held_out = {name: split for name, split in examples.held_out.items() if not task.refit or name == VAL}
    logits = {name: crown_logits(crown, split, device, precision) for name, split in held_out.items()}
    return Trained(
        logits,
        examples.labels,
        fit_temperature(logits[VAL], examples.labels[VAL]),
        examples.skipped,
        feature_seconds=examples.seconds,
        training_seconds=time.perf_counter() - started,
        history=fit.history,
        notes=tuple(f"level {plan.level}: {doubt}" for doubt in notes_on_curve(fit.history, fit.kept, recipe)),
        domain=_domain_of(task, plan, examples, precision),
    )


def _refit_crown(task: Task, plan: Plan, examples: Examples, before: Trained, folder: Path | None) -> Trained:
    started = time.perf_counter()
    recipe, device = task.recipe, task.choice.device
    _start_head(task, plan, task.to_train_on)
    crown, precision = _crown(task, plan)
    if recipe.find_learning_rate:
        recipe = replace(recipe, learning_rate=_found_rate(task, crown, examples.every, precision, folder))
    fit_crown(
        crown,
        examples.every,
        None,
        recipe,
        seed=task.seed,
        device=device,
        precision=precision,
        budget=_budget(task, examples.labels, last=True),
        checkpoint=folder / "checkpoints" / REFITTING_FILE if folder else None,
        watcher=_watcher(task, None, f"epochs on all {len(examples.every.labels):,} images"),
    )
    held_out = {name: split for name, split in examples.held_out.items() if name == TEST}
    logits = {name: crown_logits(crown, split, device, precision) for name, split in held_out.items()}
    seconds = time.perf_counter() - started
    domain = _domain_of(task, plan, examples, precision)
    if domain is not None and before.domain is not None:
        # How far off unseen images are was measured before val was trained on.
        domain = replace(domain, threshold=before.domain.threshold, n=before.domain.n)
    return Trained(logits, examples.labels, before.temperature, examples.skipped, 0.0, seconds, domain=domain)


def _domain_of(task: Task, plan: Plan, examples: Examples, precision: Precision) -> FittedDomain | None:
    """What the images of val are like to the crown as it is now."""
    network, val = task.base.network, examples.held_out[VAL]
    _, crown = network.split(plan.cut)
    before_head = Section(network, crown.stages[:-1])
    rows = np.sort(np.random.default_rng(task.seed).permutation(len(val.labels))[:MOST_IMAGES])
    features = crown_logits(before_head, SomeInputs(val, rows), task.choice.device, precision)
    return fit_domain(features.reshape(len(rows), -1), seed=task.seed)


def _crown(task: Task, plan: Plan) -> tuple[nn.Module, Precision]:
    _, crown = task.base.network.split(plan.cut)
    crown.requires_grad_(True)
    return crown, precision_for(crown, task.choice)


def _check_memory(task: Task, plan: Plan) -> None:
    """Refuse a step that a processor has no memory for; on a GPU torch tells, and batches are halved."""
    if task.choice.device != "cpu":
        return
    trunk, crown = task.base.network.split(plan.cut)
    crown.requires_grad_(True)
    shape = task.input_shape if plan.cut == INPUT else output_shape(trunk, task.preprocessing)
    batch_size = min(task.recipe.batch_size, len(task.dataset.splits[TRAIN]))
    check_step_fits(crown, shape, batch_size, task.recipe.optimizer, precision_for(crown, task.choice))


def _start_head(task: Task, plan: Plan, fitted_on: tuple[str, ...]) -> None:
    """Give the base a head for the classes: solved on its frozen features if it is pretrained, else at random."""
    network, dataset = task.base.network, task.dataset
    solvable = any(True for _ in network.head.parameters())
    if not (task.base.pretrained and plan.level != "scratch" and solvable):
        network.new_head(len(dataset.classes))
        return
    features, shown = zip(*(frozen_features(task, dataset.splits[name]) for name in fitted_on), strict=True)
    every = together(shown)
    _check_classes(dataset, {TRAIN: every.labels})
    put_head(network, solve_head(task, np.concatenate(features, axis=1), every))


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
            lines = "".join(json.dumps(asdict(epoch)) + "\n" for epoch in history)
            write_aside(folder / METRICS_FILE, lambda file: file.write(lines.encode()))
            task.reporter.row(asdict(history[-1]))
        latest = history[-1]
        scores = f"loss {latest.val_loss:.3f}, val {latest.val_top1:.1%}" if latest.val_top1 is not None else ""
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


def _check_all_finite(task: Task, plan: Plan, trained: Trained) -> None:
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


def _check_classes(dataset: Dataset, labels: dict[str, np.ndarray]) -> None:
    """Refuse a training in which unreadable images left a class, or the whole of val, empty."""
    present = set(np.unique(labels[TRAIN]).tolist())
    gone = [name for index, name in enumerate(dataset.classes) if index not in present]
    if gone:
        raise DataError(
            f"expected a readable image of every class to train on, got none of {', '.join(map(repr, gone[:6]))}: "
            "replace the files that cannot be decoded, or remove the class"
        )
    for name, split in labels.items():
        if not len(split):
            raise DataError(f"expected readable images in {name}, got none: replace the files that cannot be decoded")


def _skipped(splits: Mapping[str, Images], found: dict[str, Activations]) -> dict[str, str]:
    return {
        splits[name].name(index): reason
        for name, activations in found.items()
        for index, reason in activations.failures.items()
    }
