"""From the splits a source has to the ones training needs: `train` and `val`, and `test` when there is one."""

from dataclasses import replace

import numpy as np

from graft.data.dataset import TEST, TRAIN, VAL, WHOLE, Dataset, Pictures
from graft.errors import DataError

VAL_FRACTION = 0.2


def with_validation(dataset: Dataset, seed: int = 0, fraction: float = VAL_FRACTION) -> Dataset:
    """A Dataset with `train` and `val`; a missing `val` is carved from `train`, stratified and seeded.

    Classes are those of `train`. Raises DataError when there is nothing to train on, fewer than two classes, or a
    label in another split that `train` does not have.
    """
    splits = dict(dataset.splits)
    if WHOLE in splits:
        splits[TRAIN] = splits.pop(WHOLE)
    if TRAIN not in splits or not len(splits[TRAIN]):
        raise DataError(f"expected pictures to train on in {dataset.name}, got {_sizes(dataset)}: add a folder 'train'")
    dataset = replace(dataset, splits=splits)
    _refuse_unknown_labels(dataset)
    dataset = _only_trained_classes(dataset)
    if len(dataset.classes) < 2:
        raise DataError(
            f"expected two classes or more, got only {dataset.classes[0]!r} in {dataset.name}: add pictures of another"
        )
    notes = [*dataset.notes, *_single_pictures(dataset)]
    splits = dict(dataset.splits)
    if VAL not in splits or not len(splits[VAL]):
        splits[TRAIN], splits[VAL] = carve(splits[TRAIN], len(dataset.classes), fraction, seed)
        if not len(splits[VAL]):
            raise DataError(
                "expected a class with two pictures or more, so that one can be kept for validation, got "
                f"{_sizes(dataset)} in {dataset.name}: add pictures or a folder 'val'"
            )
        notes.append(
            f"no val split: {len(splits[VAL]):,} of {len(splits[TRAIN]) + len(splits[VAL]):,} pictures were set aside "
            f"for it, stratified by class, seed {seed}"
        )
    notes += _missing(dataset.classes, splits)
    notes += [
        f"split {name!r} is none of train, val and test: its {len(pictures):,} pictures were left out"
        for name, pictures in splits.items()
        if name not in (TRAIN, VAL, TEST) and len(pictures)
    ]
    order = [name for name in (TRAIN, VAL, TEST) if name in splits and len(splits[name])]
    return Dataset(dataset.name, dataset.classes, {name: splits[name] for name in order}, tuple(notes))


def carve(pictures: Pictures, classes: int, fraction: float, seed: int) -> tuple[Pictures, Pictures]:
    """Split off `fraction` of every class, at least one picture of each that has two, both parts in the old order."""
    random = np.random.default_rng(seed)
    kept_out = np.zeros(len(pictures), dtype=bool)
    for label in range(classes):
        members = np.flatnonzero(pictures.labels == label)
        size = min(max(round(fraction * len(members)), 1), len(members) - 1) if len(members) > 1 else 0
        kept_out[random.permutation(members)[:size]] = True
    return pictures.take(np.flatnonzero(~kept_out)), pictures.take(np.flatnonzero(kept_out))


def _refuse_unknown_labels(dataset: Dataset) -> None:
    trained = set(np.unique(dataset.splits[TRAIN].labels).tolist())
    for name, pictures in dataset.splits.items():
        strangers = [dataset.classes[label] for label in np.unique(pictures.labels) if label not in trained]
        if strangers:
            shown = ", ".join(repr(label) for label in strangers[:6])
            raise DataError(
                f"expected the classes of 'train' in {name!r}, got {shown} as well, of which 'train' has no pictures: "
                "add some to 'train', or rename or remove the class"
            )


def _only_trained_classes(dataset: Dataset) -> Dataset:
    used = np.unique(dataset.splits[TRAIN].labels)
    if len(used) == len(dataset.classes):
        return dataset
    table = np.full(len(dataset.classes), -1, dtype=np.int64)
    table[used] = np.arange(len(used))
    splits = {name: replace(pictures, labels=table[pictures.labels]) for name, pictures in dataset.splits.items()}
    dropped = [name for index, name in enumerate(dataset.classes) if table[index] < 0]
    note = f"{len(dropped)} declared class(es) have no pictures and were left out: {', '.join(dropped[:6])}"
    classes = tuple(dataset.classes[label] for label in used)
    return Dataset(dataset.name, classes, splits, (*dataset.notes, note))


def _single_pictures(dataset: Dataset) -> list[str]:
    sizes = np.bincount(dataset.splits[TRAIN].labels, minlength=len(dataset.classes))
    single = [name for name, size in zip(dataset.classes, sizes, strict=True) if size == 1]
    return [f"only one picture to train on: {', '.join(repr(name) for name in single)}"] if single else []


def _missing(classes: tuple[str, ...], splits: dict[str, Pictures]) -> list[str]:
    notes = []
    for name in (VAL, TEST):
        if name in splits and len(splits[name]):
            present = set(np.unique(splits[name].labels).tolist())
            absent = [label for index, label in enumerate(classes) if index not in present]
            if absent:
                shown = ", ".join(repr(label) for label in absent[:6])
                notes.append(f"{name} has no pictures of {shown}: its figures say nothing of that")
    return notes


def _sizes(dataset: Dataset) -> str:
    return ", ".join(f"{len(pictures):,} in {name!r}" for name, pictures in dataset.splits.items()) or "none"
