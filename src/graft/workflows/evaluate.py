"""Evaluate a trained classifier, or a base with its own classes, on labelled images."""

import time
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np

from graft.audit.slicing import slices_of
from graft.data.dataset import TEST, VAL, WHOLE, Dataset, Images, counts, relabel, used_classes
from graft.data.readers.split_names import SPLIT_FOLDERS
from graft.data.unlabelled import open_images as unlabelled_images
from graft.errors import DataError, InputError, did_you_mean
from graft.evaluation.calibration import softmax
from graft.evaluation.label_scores import sigmoid
from graft.evaluation.slices import Slice
from graft.features.engine import choose, for_answers
from graft.features.extraction import extract
from graft.given import path, text, truth, with_hints
from graft.progress import Reporter, reporting
from graft.torch_modes import in_own_modes
from graft.training.task import sample
from graft.transfer.class_names.matching import find_outputs, note_on_others
from graft.weights.base import Base
from graft.weights.model_files import gives_several_labels
from graft.weights.saved import class_logits
from graft.words import counted, first_few
from graft.workflows.evaluation_values import Answered, Evaluation
from graft.workflows.label_evaluation import LabelEvaluation, check_options, check_same_kind, labels_of
from graft.workflows.own_columns import with_columns_of
from graft.workflows.prepare import (
    DATA_KINDS,
    BaseOptions,
    Data,
    DataOptions,
    open_images,
    prepare,
    with_several_labels,
)
from graft.workflows.promises import Detection, detection, kept
from graft.workflows.unseen import trained_on

__all__ = ["Answered", "Evaluation", "LabelEvaluation", "answer", "evaluate"]
# The most images per side on which to measure how well unlike images are told from the others.
MOST_COMPARED = 1000
IN_OTHER_CLASSES = (
    "the error budgets and prediction sets of the run hold for its own classes, so they are not checked on these"
)


@with_hints(*DATA_KINDS)
@in_own_modes
def evaluate(
    run: str | PathLike[str] | BaseOptions,
    data: Data,
    *,
    split: str | None = None,
    classes_file: str | Path | None = None,
    class_map: str | Path | None = None,
    known_only: bool = False,
    slices: bool = False,
    unlike: str | Path | None = None,
    engine: str = "auto",
    precision: str = "auto",
    reporter: Reporter | None = None,
    quiet: bool = False,
) -> Evaluation:
    """Evaluate the classifier in `run` on the labelled images at `data`.

    `run` is a run folder, its `model/`, or a file of weights that includes a classifier; `BaseOptions` also state the
    architecture of a file, how its images are scaled and their size, which a run knows itself. Of several splits,
    `test` is used, else `val`, else the only one; `split` names another.

    Classes are matched by name. An image whose class the classifier does not know is an error, not a miss; `known_only`
    leaves such images out. If weights without a run name their classes differently from the images, or a JSON file
    `class_map` is given, the weights are read in the images' classes, as at level `as-is`, and their other classes play
    no part in the scores. Where `data` do not say which column of a table is which, or which images belong together,
    they are read as those that the run was trained with, as far as they have such columns or paths.

    With `slices`, parts of the images, by size, brightness, blur, folder and group, are compared with the rest. With
    `unlike`, the location of images unlike those trained on, the result says how well the classifier recognises them as
    unfamiliar. Raises InputError and its subclasses.

    A multi-label classifier needs images with several labels, which are read so automatically; the result is a
    `LabelEvaluation`.
    """
    started = time.perf_counter()
    known_only, slices = truth(known_only, "--known-only"), truth(slices, "--slices")
    classifier = run if isinstance(run, BaseOptions) else BaseOptions(path(run, "RUN"))
    names = classifier.classes_file if classes_file is None else classes_file
    run = path(classifier.name, "RUN")
    classifier = replace(classifier, name=run, classes_file=names)
    _refuse_stated(classifier)
    if several := gives_several_labels(run):
        check_options(known_only=known_only, slices=slices, unlike=unlike, class_map=class_map, classes=names)
        data = with_several_labels(data)
    others = None if unlike is None else _largest_split(path(unlike, "--unlike"))
    with reporting(reporter, quiet) as told:
        answered = answer(
            *(classifier, data, split, class_map, known_only, engine, precision, told),
            needs_domain=others is not None,
        )
        seen, calibration = answered.seen, answered.base.calibration
        # A run on the Hub and a file of weights say only now that they give several labels.
        several = answered.base.thresholds is not None
        unseen_images = answered.images.take(np.flatnonzero(~seen))
        parts: tuple[Slice, ...] | None = None
        if slices and not several and len(unseen_images):
            levels = answered.base.preprocessing.levels
            parts = slices_of(unseen_images, answered.right[~seen], levels, told, answered.group_names)
        strange = None if others is None else _strange(answered, others, path(unlike, "--unlike"), told)
    notes = answered.notes
    if seen.any():
        where = "" if answered.split == WHOLE else f" in {answered.split}"
        what = f"{seen.sum():,} of {counted(len(seen), 'image')}{where} are among those that {run} was trained on"
        notes = (*notes, f"{what}: they are counted separately" if not seen.all() else f"{what}: nothing is measured")
    if several:
        return LabelEvaluation(
            model=run,
            data=answered.source,
            split=answered.split,
            scores=None,
            skipped=answered.skipped,
            engine=str(answered.choice),
            seconds=time.perf_counter() - started,
            notes=notes,
            answered=answered,
            trained_on=tuple(answered.images.name(int(row)) for row in np.flatnonzero(seen)),
            labels=labels_of(answered, ~seen),
            labels_seen=labels_of(answered, seen),
        )
    promises = None
    if calibration is not None and (calibration.budgets or calibration.sets) and not seen.all():
        groups = unseen_images.groups
        promises = kept(calibration, answered.probabilities[~seen], answered.images.labels[~seen], groups)
    return Evaluation(
        model=run,
        data=answered.source,
        split=answered.split,
        scores=None if seen.all() else answered.of(~seen),
        skipped=answered.skipped,
        engine=str(answered.choice),
        seconds=time.perf_counter() - started,
        notes=notes,
        answered=answered,
        seen=answered.of(seen) if seen.any() else None,
        trained_on=tuple(answered.images.name(int(row)) for row in np.flatnonzero(seen)),
        promises=promises,
        slices=parts,
        unlike=strange,
    )


def _refuse_stated(classifier: BaseOptions) -> None:
    """Raise InputError where the architecture, or how images are prepared, is stated for a run, which knows its own."""
    if not Path(classifier.name).expanduser().is_dir():
        return
    sees = "reads images as it was trained to"
    for option, value, why in (
        ("--arch", classifier.arch, "names its architecture"),
        ("--mean", classifier.mean, sees),
        ("--std", classifier.std, sees),
        ("--image-size", classifier.image_size, sees),
        ("--resize", classifier.resize_mode, sees),
    ):
        if value is not None:
            raise InputError(
                f"expected no {option} for the run {classifier.name}, which {why}, got {value}: leave it out"
            )


def answer(
    base: BaseOptions,
    data: Data,
    split: str | None,
    class_map: str | Path | None,
    known_only: bool,
    engine: str,
    precision: str,
    reporter: Reporter,
    *,
    needs_domain: bool = False,
) -> Answered:
    """Return the answers of the classifier that `base` names for the images of one split.

    With `needs_domain`, a classifier that keeps no features of its training images is refused before any is decoded.
    """
    run = Path(base.name).expanduser()
    if split is not None:
        split = text(split, "--split")
    prepared = prepare(
        with_columns_of(run, data, reporter),
        base,
        choose(engine, precision),
        audit=False,
        splittable=False,
        as_is=True,
        multi_label=True,
        reporter=reporter,
    )
    classifier = _classifier(prepared.start)
    check_same_kind(classifier, prepared.dataset.label_sets is not None, prepared.dataset.name)
    if needs_domain and (classifier.calibration is None or classifier.calibration.domain is None):
        raise InputError(
            "expected a run that keeps features of its training images for --unlike, got one without: train it again"
        )
    dataset = _known_only(prepared.dataset, classifier) if known_only else prepared.dataset
    own = classifier.classes or ()
    dataset, classifier = _in_the_same_classes(dataset, classifier, class_map)
    name = _choose_split(split, tuple(name for name, images in dataset.splits.items() if len(images)))
    images = dataset.splits[name]
    whole, _ = classifier.network.split(classifier.network.cuts[-1])
    asked = {name: images}
    choice = for_answers(prepared.choice, classifier.network, precision)
    found = extract(whole, asked, classifier.preprocessing, choice, step="images", reporter=reporter)[name]
    if not len(found.indices):
        raise DataError(f"expected readable images in {dataset.name}, got none: replace the files that cannot be read")
    logits, notes = found.values.float(), (*dataset.notes, *classifier.notes)
    if classifier.outputs is not None:
        notes = (*notes, note_on_others(name, logits, classifier.outputs))
    shown = images.take(found.indices)
    sizes = counts(shown, classifier.classes or (), dataset.label_sets)
    missing = [label for label, count in sizes.items() if not count]
    if missing:
        what = ", ".join(map(repr, missing[:6])) + (f", … ({len(missing)} in all)" if len(missing) > 6 else "")
        notes = (
            *notes,
            f"there are no images of {what}: nothing is measured for {'it' if len(missing) == 1 else 'them'}",
        )
    matrix = np.empty((0, 0))
    if dataset.label_sets is None:
        probabilities = softmax(class_logits(logits, classifier.outputs).numpy(), classifier.temperature)
    else:
        probabilities, matrix = sigmoid(logits.numpy()), dataset.label_matrix(shown.labels)
    skipped = {images.name(index): reason for index, reason in found.failures.items()}
    seen, unknown = trained_on(run, own, shown)
    if unknown is not None:
        notes = (*notes, unknown)
    groups = dataset.group_names
    return Answered(
        classifier, prepared.source, name, shown, probabilities, seen, skipped, choice, notes, matrix, groups
    )


def _known_only(dataset: Dataset, base: Base) -> Dataset:
    """Keep only images of classes that the classifier knows, and note the others. Raises DataError if none are left."""
    known = np.array([name in set(base.classes or ()) for name in dataset.classes] + [False])
    kept_images = {name: images.take(np.flatnonzero(known[images.labels])) for name, images in dataset.splits.items()}
    left_out = sum(map(len, dataset.splits.values())) - sum(map(len, kept_images.values()))
    if not any(map(len, kept_images.values())):
        own, others = (first_few(map(repr, each), 6) for each in (base.classes or (), dataset.classes))
        raise DataError(
            f"expected images of classes that {base.name} knows ({own}) in {dataset.name}, got images of {others} "
            "only: give images of its classes, or map its classes to those of the images with --class-map"
        )
    if not left_out:
        return dataset
    strangers = [repr(name) for name, is_known in zip(dataset.classes, known, strict=False) if not is_known]
    which = first_few(strangers, 6)
    note = f"{counted(left_out, 'image')} left out, of classes that the classifier does not know: {which}"
    return replace(dataset, splits=kept_images, notes=(*dataset.notes, note))


def _largest_split(unlike: str) -> Images:
    try:
        return max(open_images(DataOptions(unlike)).splits.values(), key=len)
    except DataError:
        # Images unlike those trained on need no classes.
        if not Path(unlike).expanduser().is_dir():
            raise
        return unlabelled_images(Path(unlike).expanduser())


def _strange(answered: Answered, others: Images, unlike: str, reporter: Reporter) -> Detection:
    """Measure how well the `others`, at `unlike`, are told from the evaluated images."""
    base = answered.base
    assert base.calibration is not None and base.calibration.domain is not None
    splits = {"images": sample(answered.images, 0, MOST_COMPARED), "unlike": sample(others, 0, MOST_COMPARED)}
    section = base.network.before_head(base.network.config.head)
    found = extract(section, splits, base.preprocessing, answered.choice, step="features", reporter=reporter)
    near, far = (found[name].values.flatten(1).float().numpy() for name in splits)
    if not len(far):
        raise DataError(f"expected readable images in {unlike}, got none: replace the files that cannot be read")
    return detection(base.calibration.domain, near, far, unlike)


def _classifier(base: Base) -> Base:
    """Return `base` if it has a head with class names. Raises InputError otherwise."""
    if not base.has_head or base.classes is None:
        advice = (
            "give the names with --classes" if base.has_head else "train a new head on it with `graft train --base`"
        )
        raise InputError(
            f"expected a run folder or weights with a classifier and class names, got {base.name} with "
            f"{base.without_classifier}: {advice}"
        )
    return base


def _in_the_same_classes(dataset: Dataset, base: Base, class_map: str | Path | None) -> tuple[Dataset, Base]:
    """Bring data and classifier to the same classes: the data's if the classifier is read in them, else its own.

    Of the calibration only what holds in other classes is kept, with a note.
    """
    own = base.classes or ()
    present = {dataset.classes[each] for each in used_classes(dataset, dataset.splits.values())}
    if class_map is not None or not (Path(base.name).expanduser().is_dir() or present <= set(own)):
        outputs, how_read = find_outputs(dataset.classes, own, base.outputs, class_map)
        one_each = tuple((index,) for index in range(len(own)))
        calibration, differing = base.calibration, (dataset.classes, outputs) != (own, base.outputs or one_each)
        if calibration is not None and differing:
            calibration, how_read = calibration.in_other_classes(), (*how_read, IN_OTHER_CLASSES)
        notes = (*base.notes, *how_read)
        base = replace(base, classes=dataset.classes, outputs=outputs, notes=notes, calibration=calibration)
    try:
        return relabel(dataset, base.classes or ()), base
    except DataError as error:
        raise DataError(f"{error}; --known-only leaves out the images of such classes") from None


def _choose_split(asked: str | None, present: tuple[str, ...]) -> str:
    if asked is not None:
        # As in the names of folders, `validation` is val.
        meant = SPLIT_FOLDERS.get(asked.strip().lower(), asked)
        if asked not in present and meant in present:
            return meant
        if asked not in present:
            raise InputError(
                f"expected one of the splits {', '.join(present)} for --split, got {asked!r}"
                f"{did_you_mean(asked, present)}: choose one of them"
            )
        return asked
    return next((name for name in (TEST, VAL, WHOLE) if name in present), present[0])
