"""What each level does with images and a base: features and a head, activations and a crown, or nothing at all.

A level cuts the base in two: the trunk is kept as it is, and its activations at the cut are computed once; the crown,
the stages after the cut and a new head, is trained on them.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from graft.data.dataset import TRAIN, VAL, Dataset, Images
from graft.data.loading import batches
from graft.errors import DataError, GraftError
from graft.evaluation.calibration import fit_temperature
from graft.features.cache import Activations
from graft.features.engine import Choice, Precision
from graft.features.extraction import activation_bytes, extract, output_shape
from graft.files import cache_budget, write_aside, write_json
from graft.images.augmenting import STRENGTHS, View
from graft.images.preprocessing import Preprocessing
from graft.models.network import HEAD, INPUT, HeadKind, Network, Section, body_parameter_count, freeze
from graft.progress import NOBODY, Reporter
from graft.seeding import seeded
from graft.training.history import Epoch
from graft.training.inputs import ActivationInputs, ImageInputs, Inputs, PixelInputs, SomeInputs, view_of
from graft.training.learning_rate_range import RATE_RANGE_FILE, RateRange, find_learning_rate
from graft.training.loop import Watcher, crown_logits, fit_crown
from graft.training.memory import check_step_fits
from graft.training.notes import notes_on_baseline, notes_on_curve
from graft.training.recipe import Recipe, ResolvedRecipe
from graft.training.time_budget import Budget
from graft.transfer.class_names.matching import note_on_others
from graft.transfer.head import HeadFit, fit_head
from graft.transfer.levels import Plan, head_kind
from graft.weights.base import Base
from graft.weights.saved import Outputs, class_logits
from graft.words import counted

# Decoded images up to this size stay in memory between epochs.
PIXELS_IN_MEMORY_BYTES = 2 * 2**30
# With few images the head sees each at two more sizes as well, nearer by a fifth and the whole of the shorter side,
# as long as that adds no more than so many. On ants and bees, 245 to train on, it lifted cross-validated accuracy from
# 0.971 to 0.984, and from 146 to 148 of the 153 validation images. These sizes are one choice of nine that were
# tried, with the validation score in view; they gave 146 to 148, a difference that chance makes too.
NEARER = 0.8
MOST_EXTRA_VIEWS = 1000
# What calibrating and writing the run folder take of a time budget.
SAVING_SECONDS = 2.0
# What finding a learning rate may take of the time that is left.
FINDING_SHARE = 0.2


@dataclass(frozen=True)
class Task:
    """What a training is given: labelled images, a base to start from, an engine, and a recipe with nothing left open.

    What is decided about it, a level and its cut, is a `Plan`.
    """

    dataset: Dataset
    base: Base
    choice: Choice
    recipe: ResolvedRecipe
    seed: int = 0
    reporter: Reporter = NOBODY
    # By when all is to be done, on the clock of time.perf_counter.
    deadline: float | None = None

    @classmethod
    def of(cls, dataset: Dataset, base: Base, choice: Choice, recipe: Recipe, **others: Any) -> "Task":
        """The task in which `recipe` is resolved for this base and as many images as the dataset has to train on."""
        parameters, images = body_parameter_count(base.network), len(dataset.splits[TRAIN])
        return cls(
            dataset, base, choice, recipe.resolve(base.pretrained, parameters=parameters, images=images), **others
        )

    @property
    def preprocessing(self) -> Preprocessing:
        return self.base.preprocessing

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image as the network sees it."""
        return (self.preprocessing.channels, self.preprocessing.size, self.preprocessing.size)


@dataclass(frozen=True)
class Trained:
    """What a level made: logits (n, classes) and labels by split, the temperature, and where the time went."""

    logits: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    temperature: float
    skipped: dict[str, str]
    feature_seconds: float
    training_seconds: float
    history: tuple[Epoch, ...] = ()
    # For a network that has more outputs than there are classes, those of each class.
    outputs: Outputs | None = None
    notes: tuple[str, ...] = ()


def fit_level(task: Task, plan: Plan, folder: Path | None = None) -> Trained:
    """Train the base's network at the level of `plan`, in place.

    With `folder`, that of a run, metrics and checkpoints are written there. What makes the scores doubtful is told and
    noted. The random state of the process is left as it was. Raises DataError where unreadable images leave a class or
    a split empty, InputError where time or memory are too short, GraftError where a loss, a weight or a score is not
    finite.
    """
    with seeded(task.seed, task.choice.device):
        if plan.level == "as-is":
            trained = _fit_nothing(task)
        elif plan.cut == task.base.network.cuts[-2]:
            trained = _fit_head(task, plan)
        else:
            trained = _fit_crown(task, plan, folder)
    for name, logits in trained.logits.items():
        _check_finite(f"scores of {name}", logits, task, plan)
    for name, tensor in task.base.network.state_dict().items():
        _check_finite(f"weights in {name}", tensor.cpu().numpy(), task, plan)
    doubts = notes_on_baseline(trained.logits[VAL], trained.labels[VAL])
    notes = (*trained.notes, *(f"level {plan.level}: {doubt}" for doubt in doubts))
    for note in notes:
        task.reporter.note(note)
    return replace(trained, notes=notes)


def _fit_nothing(task: Task) -> Trained:
    """The base as it is, on every split but train: the logits of the classes that it is read in."""
    splits = {name: images for name, images in task.dataset.splits.items() if name != TRAIN}
    started = time.perf_counter()
    network, outputs = task.base.network, task.base.outputs
    found = _extract(task, network.split(HEAD)[0], splits, "features")
    of_base = {name: activations.values.float() for name, activations in found.items()}
    notes = (note_on_others(VAL, of_base[VAL], outputs),) if outputs is not None else ()
    logits = {name: class_logits(values, outputs).numpy() for name, values in of_base.items()}
    labels = {name: task.dataset.splits[name].labels[found[name].indices] for name in found}
    seconds = time.perf_counter() - started
    skipped = _skipped(task.dataset.splits, found)
    return Trained(logits, labels, 1.0, skipped, seconds, 0.0, outputs=outputs, notes=notes)


def _fit_head(task: Task, plan: Plan) -> Trained:
    """A new head on the frozen features of the stage before it, or of all stages."""
    started = time.perf_counter()
    network, dataset, kind = task.base.network, task.dataset, head_kind(plan.level)
    views = {f"{TRAIN} with a crop of {fraction:.2f}": fraction for fraction in _more_crops(task)}
    images = {**dataset.splits, **dict.fromkeys(views, dataset.splits[TRAIN])}
    found = _extract(task, network.before_head(kind), images, "features", views)
    labels = {name: dataset.splits[name].labels[found[name].indices] for name in dataset.splits}
    _check_classes(dataset, labels)
    extracted = time.perf_counter()
    features = {name: activations.values.float().numpy() for name, activations in found.items()}
    of_train = np.stack([features[name] for name in (TRAIN, *views)])
    shown = dataset.splits[TRAIN].take(found[TRAIN].indices)
    head = solve_head(task, of_train, shown, kind)
    put_head(network, head, kind)
    temperature = fit_temperature(head.logits, head.labels)
    logits = {name: features[name] @ head.weight.T + head.bias for name in dataset.splits if name != TRAIN}
    skipped = _skipped(dataset.splits, {name: found[name] for name in dataset.splits})
    return Trained(logits, labels, temperature, skipped, extracted - started, time.perf_counter() - extracted)


def _more_crops(task: Task) -> tuple[float, ...]:
    """Other crops that the head is to see the training images with: where they are few and the crop leaves room."""
    preprocessing = task.preprocessing
    few = 2 * len(task.dataset.splits[TRAIN]) <= MOST_EXTRA_VIEWS
    room = preprocessing.resize_mode == "crop" and preprocessing.crop_fraction < 1
    return (NEARER * preprocessing.crop_fraction, 1.0) if few and room else ()


def _fit_crown(task: Task, plan: Plan, folder: Path | None) -> Trained:
    """Head first, then the crown: a pretrained base starts from the optimal head on its frozen features."""
    started = time.perf_counter()
    network, dataset, recipe = task.base.network, task.dataset, task.recipe
    _check_memory(task, plan)
    _start_head(task, plan)
    inputs: dict[str, Inputs] = {}
    skipped: dict[str, str] = {}
    for name, images in dataset.splits.items():
        inputs[name], failures = crown_inputs(task, plan.cut, name, images, recipe.epochs)
        skipped |= {images.name(index): reason for index, reason in failures.items()}
    labels = {name: split.labels for name, split in inputs.items()}
    _check_classes(dataset, labels)
    extracted = time.perf_counter()
    _, crown = network.split(plan.cut)
    crown.requires_grad_(True)
    device, precision = task.choice.device, crown_precision(crown, task.choice)
    if recipe.find_learning_rate:
        recipe = replace(recipe, learning_rate=_found_rate(task, crown, inputs[TRAIN], precision, folder))
    fit = fit_crown(
        crown,
        inputs[TRAIN],
        inputs[VAL],
        recipe,
        seed=task.seed,
        device=device,
        precision=precision,
        budget=_budget(task, labels),
        checkpoint=folder / "checkpoints" / "last.safetensors" if folder else None,
        watcher=_watcher(task, folder),
    )
    logits = {name: crown_logits(crown, split, device, precision) for name, split in inputs.items() if name != TRAIN}
    return Trained(
        logits,
        labels,
        fit_temperature(logits[VAL], labels[VAL]),
        skipped,
        feature_seconds=extracted - started,
        training_seconds=time.perf_counter() - extracted,
        history=fit.history,
        notes=tuple(f"level {plan.level}: {doubt}" for doubt in notes_on_curve(fit.history, fit.kept, recipe)),
    )


def _check_memory(task: Task, plan: Plan) -> None:
    """Refuse a step that a processor has no memory for; on a GPU torch tells, and batches are halved."""
    if task.choice.device != "cpu":
        return
    trunk, crown = task.base.network.split(plan.cut)
    crown.requires_grad_(True)
    shape = task.input_shape if plan.cut == INPUT else output_shape(trunk, task.preprocessing)
    batch_size = min(task.recipe.batch_size, len(task.dataset.splits[TRAIN]))
    check_step_fits(crown, shape, batch_size, task.recipe.optimizer, crown_precision(crown, task.choice))


def _start_head(task: Task, plan: Plan) -> None:
    """Give the base a head for the classes: solved on its frozen features if it is pretrained, else at random."""
    network, dataset = task.base.network, task.dataset
    solvable = any(True for _ in network.head.parameters())
    if not (task.base.pretrained and plan.level != "scratch" and solvable):
        network.new_head(len(dataset.classes))
        return
    features, shown = frozen_features(task, dataset.splits[TRAIN])
    _check_classes(dataset, {TRAIN: shown.labels})
    put_head(network, solve_head(task, features, shown))


def _budget(task: Task, labels: Mapping[str, np.ndarray]) -> Budget | None:
    """What is left of the time, less what scoring all that is held out takes when training ends."""
    if task.deadline is None:
        return None
    held_out = sum(len(split) for name, split in labels.items() if name != TRAIN)
    return Budget(task.deadline - time.perf_counter() - SAVING_SECONDS, 1.5 + held_out / len(labels[VAL]))


def _watcher(task: Task, folder: Path | None) -> Watcher:
    """Tells the reporter of epochs and steps, and writes the epochs so far to `metrics.jsonl` of a run."""

    def epoch(history: tuple[Epoch, ...]) -> None:
        if folder is not None:
            lines = "".join(json.dumps(asdict(epoch)) + "\n" for epoch in history)
            write_aside(folder / "metrics.jsonl", lambda file: file.write(lines.encode()))
        latest = history[-1]
        scores = f"loss {latest.val_loss:.3f}, val {latest.val_top1:.1%}" if latest.val_top1 is not None else ""
        task.reporter.step("epochs", latest.epoch, task.recipe.epochs, scores)

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


def crown_inputs(task: Task, cut: str, name: str, images: Images, epochs: int) -> tuple[Inputs, dict[int, str]]:
    """What the crown after `cut` is trained on, and why some images are not among it.

    Activations at the cut are kept, or pixels for a cut before everything, of as many views as there is room for. What
    is too large to keep is read again in every epoch.
    """
    trunk, _ = task.base.network.split(cut)
    freeze(trunk)
    augmentation = task.recipe.augmentation() if name == TRAIN else STRENGTHS["none"]
    wanted = 1 if augmentation == STRENGTHS["none"] else max(1, min(epochs, task.recipe.views))
    number, size = task.preprocessing.channels, task.preprocessing.size
    if cut == INPUT:
        room, row_bytes = PIXELS_IN_MEMORY_BYTES, number * size**2
    else:
        room = cache_budget()
        row_bytes = activation_bytes(1, output_shape(trunk, task.preprocessing), task.choice.precision)
    kept = min(wanted, room // max(1, row_bytes * len(images)))
    views = [view_of(augmentation, task.seed, number) for number in range(1, kept + 1)]
    if not kept:
        what = "images are decoded" if cut == INPUT else "the trunk runs"
        task.reporter.note(f"there is no room to keep activations of {name}: {what} again in every epoch")
        device = torch.device(task.choice.device)
        readable, failures, _ = _decode(task, name, images, [None], keep=False)
        inputs = ImageInputs(images, task.preprocessing, trunk.to(device), device, augmentation, task.seed)
        return SomeInputs(inputs, readable), failures
    if cut == INPUT:
        readable, failures, pixels = _decode(task, name, images, views, keep=True)
        shown = images.take(readable)
        return PixelInputs(pixels, shown.labels, task.preprocessing, shown.weights), failures
    named = {name if view is None else f"{name}, view {view.number}": view for view in views}
    found = _extract(task, trunk, dict.fromkeys(named, images), f"activations of {name}", views=named)
    first = next(iter(found.values()))
    shown = images.take(first.indices)
    views_kept = tuple(each.values for each in found.values())
    return ActivationInputs(views_kept, shown.labels, shown.weights), first.failures


def _decode(
    task: Task, name: str, images: Images, views: Sequence[View | None], keep: bool
) -> tuple[np.ndarray, dict[int, str], tuple[Tensor, ...]]:
    """Which images can be decoded, why others cannot, and the pixels of every view where they are to be kept."""
    failures: dict[int, str] = {}
    indices, kept, done = [np.empty(0, np.int64)], [], 0
    for number, view in enumerate(views):
        pixels = []
        for batch in batches(images, task.preprocessing, 32, view=view):
            if number == 0:
                failures |= batch.failures
                indices.append(batch.indices)
            if keep:
                pixels.append(batch.pixels)
            done += len(batch.indices) + len(batch.failures)
            task.reporter.step(f"decoding {name}", done, len(images) * len(views))
        kept += [torch.cat(pixels)] if keep else []
    return np.concatenate(indices), failures, tuple(kept)


def frozen_features(
    task: Task, images: Images, crops: bool = False, kind: HeadKind = "last"
) -> tuple[np.ndarray, Images]:
    """What a head of this kind classifies, float32 (views, n, D), of the images that can be decoded, and those images.

    There is one view, or with `crops` as many as a level of the head alone would see.
    """
    views = {f"{TRAIN} with a crop of {fraction:.2f}": fraction for fraction in (_more_crops(task) if crops else ())}
    splits = dict.fromkeys((TRAIN, *views), images)
    found = _extract(task, task.base.network.before_head(kind), splits, "features for the head", views)
    return np.stack([each.values.float().numpy() for each in found.values()]), images.take(found[TRAIN].indices)


def solve_head(task: Task, features: np.ndarray, shown: Images, kind: HeadKind = "last") -> HeadFit:
    """The head of this kind on features (views, n, D) of n images, for the classes that are among them, in order."""
    views, _, width = features.shape
    seen, labels = np.unique(shown.labels, return_inverse=True)
    blocks = task.base.network.head_blocks(kind) if kind == "stages" else None
    every_label = np.tile(labels, views)
    return fit_head(
        features.reshape(-1, width), every_label, len(seen), task.seed, views, shown.groups, shown.weights, blocks
    )


def _extract(
    task: Task,
    trunk: Section,
    splits: dict[str, Images],
    step: str,
    crops: dict[str, float] | None = None,
    views: dict[str, View | None] | None = None,
) -> dict[str, Activations]:
    trunk.eval()
    return extract(
        trunk, splits, task.preprocessing, task.choice, crops=crops, views=views, step=step, reporter=task.reporter
    )


def crown_precision(crown: nn.Module, choice: Choice) -> Precision:
    """That of the engine; but float32 for depthwise convolutions on a processor, which bfloat16 makes slower.

    On two cores with AMX, steps per second over those in float32: ResNet-50 1.8, CIFAR ResNet-20 1.3, MobileNetV2 from
    its middle on 0.9, MobileNet 0.25 from its middle on 0.8.
    """
    depthwise = any(
        isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1 for module in crown.modules()
    )
    return "float32" if depthwise and choice.device == "cpu" else choice.precision


def put_head(network: Network, head: HeadFit, kind: HeadKind = "last") -> None:
    """Give `network` a head of this kind with this weight and bias in place of the one it has."""
    layer = network.new_head(len(head.bias), kind)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(head.weight).view_as(layer.weight))
        layer.bias.copy_(torch.from_numpy(head.bias))


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
