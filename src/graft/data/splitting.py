"""Turn the splits of a source into those that training needs: `train` and `val`, and `test` if there is one."""

from dataclasses import replace

import numpy as np

from graft.data.dataset import TEST, TRAIN, VAL, WHOLE, Dataset, Images, are_equal, counts, used_classes
from graft.errors import DataError
from graft.stratification import held_out_part
from graft.words import counted

VAL_FRACTION = 0.2


def with_validation(dataset: Dataset, seed: int = 0, fraction: float = VAL_FRACTION) -> Dataset:
    """Return the dataset with `train` and `val`.

    A missing `val` is carved from `train`, stratified and seeded, with groups kept whole. The classes are those of
    `train`. Weights that are equal for all images of a split are left out. Raises DataError if there is nothing to
    train on, if there are fewer than two classes, or if another split has a label that `train` lacks.
    """
    splits = {name: _unweighted(images) for name, images in dataset.splits.items()}
    if WHOLE in splits:
        splits[TRAIN] = splits.pop(WHOLE)
    if TRAIN not in splits or not len(splits[TRAIN]):
        raise DataError(
            f"expected images to train on in {dataset.name}, got {_sizes(dataset)}: add a folder 'train' or a table "
            "of it; where a column says the split, write train, val and test there, or use --split-column none"
        )
    dataset = replace(dataset, splits=splits)
    _refuse_unknown_labels(dataset)
    dataset = _only_trained_classes(dataset)
    if dataset.label_sets is not None:
        dataset = _varied(dataset)
    elif len(dataset.classes) < 2:
        raise DataError(
            f"expected two classes or more, got only {dataset.classes[0]!r} in {dataset.name}: add images of another"
        )
    notes = [*dataset.notes, *_single_images(dataset)]
    splits = dict(dataset.splits)
    if VAL not in splits or not len(splits[VAL]):
        splits[TRAIN], splits[VAL] = carve_from(dataset, splits[TRAIN], fraction, seed)
        if not len(splits[VAL]):
            alone = len(splits[TRAIN]) == len(dataset.classes)
            joins = (
                "" if alone else "; copies join their groups, so remove them if there are any (graft audit names them)"
            )
            raise DataError(
                "expected a class with two images or more that may be in different splits, so that one can be kept for "
                f"validation, got {'only one image of each class' if alone else 'one group of images for each class'} "
                f"in {dataset.name}: add images or a folder 'val'{joins}"
            )
        by = "class" if dataset.label_sets is None else "label"
        notes.append(
            f"no val split: {len(splits[VAL]):,} of {len(splits[TRAIN]) + len(splits[VAL]):,} images were set aside "
            f"for it, stratified by {by}, seed {seed}{'' if splits[TRAIN].groups is None else ', groups kept whole'}"
        )
    notes += _missing(replace(dataset, splits=splits))
    left_out = dict(dataset.left_out)
    for name, images in splits.items():
        if name not in (TRAIN, VAL, TEST) and len(images):
            why = f"split {name!r} is not train, val or test"
            notes.append(f"{why}: {counted(len(images), 'image was', 'images were')} left out")
            left_out |= {images.name(index): why for index in range(len(images))}
    order = [name for name in (TRAIN, VAL, TEST) if name in splits and len(splits[name])]
    splits = {name: splits[name] for name in order}
    return replace(dataset, splits=splits, notes=tuple(notes), left_out=left_out)


def carve_from(dataset: Dataset, images: Images, fraction: float, seed: int) -> tuple[Images, Images]:
    """Split images of this dataset as `carve` does, stratified by class or, with several labels, by all labels."""
    if dataset.label_sets is None:
        return carve(images, len(dataset.classes), fraction, seed)
    out = held_out_part(dataset.label_matrix(images.labels), fraction, seed, images.groups)
    return images.take(np.flatnonzero(~out)), images.take(np.flatnonzero(out))


def carve(images: Images, classes: int, fraction: float, seed: int) -> tuple[Images, Images]:
    """Split off `fraction` of each class, and at least one image of any class with two or more, keeping the order.

    Groups stay whole, so the fraction is met only as closely as they allow. A class whose images are all in one group
    stays in the first part.
    """
    random = np.random.default_rng(seed)
    sizes = np.bincount(images.labels, minlength=classes)
    wanted = np.where(sizes > 1, np.clip(np.rint(fraction * sizes), 1, np.maximum(sizes - 1, 1)), 0).astype(np.int64)
    kept_out = np.zeros(len(images), dtype=bool)
    alone = np.ones(len(images), dtype=bool)
    if images.groups is not None:
        kept_out, alone = _carve_groups(images.groups, images.labels, sizes, wanted, random)
        wanted = np.maximum(wanted - np.bincount(images.labels[kept_out], minlength=classes), 0)
    rows = np.flatnonzero(np.broadcast_to(alone, len(images)))
    rows = rows[np.argsort(images.labels[rows], kind="stable")]
    ends = np.cumsum(np.bincount(images.labels[rows], minlength=classes))
    for members, number in zip(np.split(rows, ends[:-1]), wanted.tolist(), strict=True):
        kept_out[random.permutation(members)[:number]] = True
    return images.take(np.flatnonzero(~kept_out)), images.take(np.flatnonzero(kept_out))


def _carve_groups(
    groups: np.ndarray, labels: np.ndarray, sizes: np.ndarray, wanted: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out whole groups; return two masks, bool (N,): the images held out, and those alone in their group.

    Of the images of a class, those in groups give their share of the wanted number, so that a few copies among many
    single images do not all end up on one side. A group of two or more images is held out if that brings its classes
    closer to these shares, by squared differences, and leaves images of each class behind. A class that then has no
    image held out, and none that is alone in its group, gives its smallest group.
    """
    _, group, members = np.unique(groups, return_inverse=True, return_counts=True)
    alone = members[group] == 1
    # The images per class in each group, as flat lists: there may be a million groups.
    pairs, counts = np.unique(group * len(sizes) + labels, return_counts=True)
    starts = np.searchsorted(pairs, np.arange(len(members) + 1) * len(sizes)).tolist()
    classes, in_group = (pairs % len(sizes)).tolist(), counts.tolist()
    grouped = np.bincount(labels[~alone], minlength=len(sizes))
    share = wanted * grouped / np.maximum(sizes, 1)
    missing, left = share.tolist(), sizes.tolist()
    chosen = np.zeros(len(members), dtype=bool)

    def keep_out(number: int, whatever: bool = False) -> None:
        own = range(starts[number], starts[number + 1])
        nearer = sum(in_group[at] * (2 * missing[classes[at]] - in_group[at]) for at in own) > 0
        if (nearer or whatever) and all(left[classes[at]] > in_group[at] for at in own):
            for at in own:
                missing[classes[at]] -= in_group[at]
                left[classes[at]] -= in_group[at]
            chosen[number] = True

    for number in random.permutation(np.flatnonzero(members > 1)).tolist():
        keep_out(number)
    for label in np.flatnonzero((np.array(left) == sizes) & (wanted > 0) & (grouped == sizes)):
        for number in sorted(np.unique(group[labels == label]).tolist(), key=lambda number: members[number]):
            if left[label] == sizes[label]:
                keep_out(number, whatever=True)
    return chosen[group], alone


def stratified_folds(labels: np.ndarray, folds: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Return the fold of each image, int (N,), -1 for the only image of a class.

    Images are sorted by class and dealt out in turn, so no fold gets a second image of a class before every fold has
    one: a rare class does not lower the number of folds, and is trained on in all of them. Groups are dealt out whole,
    the largest first, each to the fold with the fewest images of its classes; ties go to the fold with the fewest
    images. With fewer groups than folds, there are only as many folds as groups. `answerable` says which images the
    other folds can tell anything about.
    """
    random = np.random.default_rng(seed)
    fold = np.full(len(labels), -1)
    order = random.permutation(len(labels))
    sizes = np.bincount(labels)
    filled = 0
    if groups is not None and len(groups):
        _, group, members = np.unique(groups, return_inverse=True, return_counts=True)
        folds = min(folds, len(members))
        several = random.permutation(np.flatnonzero(members > 1))
        several = several[np.argsort(-members[several], kind="stable")]
        of_group = _dealt_out(several, group, labels, sizes, folds)
        fold = of_group[group]
        filled = min(len(several), folds)
        order = order[members[group[order]] == 1]
    order = order[np.argsort(labels[order], kind="stable")]
    order = order[sizes[labels[order]] > 1]
    # Too few to reach every fold, they go where there is nothing yet.
    first = filled if len(order) < folds else 0
    fold[order] = (first + np.arange(len(order))) % folds
    return fold


def _dealt_out(several: np.ndarray, group: np.ndarray, labels: np.ndarray, sizes: np.ndarray, folds: int) -> np.ndarray:
    """Return the fold of each group, int (G,), -1 for all but `several`, which are dealt out in this order.

    `group` (N,) numbers the groups of the images, and `sizes` (C,) are those of the classes.
    """
    number = int(group.max()) + 1
    # The images per class in each group, as flat lists: there may be a million groups and a thousand classes.
    pairs, counts = np.unique(group * len(sizes) + labels, return_counts=True)
    starts = np.searchsorted(pairs, np.arange(number + 1) * len(sizes)).tolist()
    classes, in_group, of_class = (pairs % len(sizes)).tolist(), counts.tolist(), sizes.tolist()
    dealt, images = [[0] * folds for _ in of_class], [0] * folds
    chosen = [-1] * number
    for each in several.tolist():
        own = range(starts[each], starts[each + 1])
        share = [0.0] * folds
        for at in own:
            size, count = of_class[classes[at]], in_group[at]
            for fold, already in enumerate(dealt[classes[at]]):
                share[fold] += already / size * count
        _, _, best = min(zip(share, images, range(folds), strict=True))
        for at in own:
            dealt[classes[at]][best] += in_group[at]
            images[best] += in_group[at]
        chosen[each] = best
    return np.array(chosen)


def answerable(labels: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return which images have a fold and others of their class outside it, bool (N,); -1 in `fold` is in all others.

    About any other image, a classifier fitted on the other folds can say nothing.
    """
    folds = int(fold.max(initial=-1)) + 1
    # The last row is the one that -1 indexes.
    within = np.zeros((folds + 1, int(labels.max(initial=0)) + 1), np.int64)
    np.add.at(within, (fold, labels), 1)
    return np.asarray((fold >= 0) & (within.sum(0) > within)[fold, labels])


def _unweighted(images: Images) -> Images:
    """Leave out weights that are equal and above 0: they say nothing, and only change how sums are rounded."""
    said = images.weights is not None and (not are_equal(images.weights) or not images.weights.all())
    return images if said else replace(images, weights=None)


def _refuse_unknown_labels(dataset: Dataset) -> None:
    trained = used_classes(dataset, [dataset.splits[TRAIN]])
    for name, images in dataset.splits.items():
        strangers = [dataset.classes[label] for label in sorted(used_classes(dataset, [images]) - trained)]
        if strangers:
            shown = ", ".join(repr(label) for label in strangers[:6])
            raise DataError(
                f"expected the classes of 'train' in {name!r}, got {shown} as well, of which 'train' has no images: "
                "add some to 'train', or rename or remove the class"
            )


def _only_trained_classes(dataset: Dataset) -> Dataset:
    used = sorted(used_classes(dataset, [dataset.splits[TRAIN]]))
    if len(used) == len(dataset.classes):
        return dataset
    table = np.full(len(dataset.classes), -1, dtype=np.int64)
    table[used] = np.arange(len(used))
    splits, sets = dict(dataset.splits), dataset.label_sets
    if sets is None:
        splits = {name: replace(images, labels=table[images.labels]) for name, images in splits.items()}
    else:
        sets = tuple(tuple(each for each in table[list(of_set)].tolist() if each >= 0) for of_set in sets)
    dropped = [name for index, name in enumerate(dataset.classes) if table[index] < 0]
    note = (
        f"{counted(len(dropped), 'declared class has', 'declared classes have')} no images to train on and cannot be "
        f"learned: {', '.join(dropped[:6])}"
    )
    classes = tuple(dataset.classes[label] for label in used)
    return replace(dataset, classes=classes, splits=splits, notes=(*dataset.notes, note), label_sets=sets)


def _varied(dataset: Dataset) -> Dataset:
    """Add a note on labels that every training image has. Raises DataError if no label varies."""
    matrix = dataset.label_matrix(dataset.splits[TRAIN].labels)
    always = [name for name, share in zip(dataset.classes, matrix.mean(0), strict=True) if share == 1]
    if len(always) == len(dataset.classes):
        raise DataError(
            f"expected labels that some images of {dataset.name} have and others do not, got "
            f"{', '.join(map(repr, always[:6])) or 'none'} for every one: add other images"
        )
    if not always:
        return dataset
    note = f"every image to train on is labelled {', '.join(map(repr, always[:6]))}: nothing can be learned about that"
    return replace(dataset, notes=(*dataset.notes, note))


def _single_images(dataset: Dataset) -> list[str]:
    sizes = counts(dataset.splits[TRAIN], dataset.classes, dataset.label_sets)
    single = [name for name, size in sizes.items() if size == 1]
    return [f"classes with only one image to train on: {', '.join(repr(name) for name in single)}"] if single else []


def _missing(dataset: Dataset) -> list[str]:
    notes, splits = [], dataset.splits
    for name in (VAL, TEST):
        if name in splits and len(splits[name]):
            present = used_classes(dataset, [splits[name]])
            absent = [label for index, label in enumerate(dataset.classes) if index not in present]
            if absent:
                shown = ", ".join(repr(label) for label in absent[:6])
                notes.append(f"{name} has no images of {shown}: its scores say nothing about that")
    return notes


def _sizes(dataset: Dataset) -> str:
    return ", ".join(f"{len(images):,} in {name!r}" for name, images in dataset.splits.items()) or "none"
