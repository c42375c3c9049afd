"""What the folders of a tree stand for: splits, folds, classes, or nothing.

Depth is the cue: a folder of a split holds folders of classes, and a folder of a class holds images. So `train` and
`test` are classes if they are full of images and lie beside another folder, and splits if they are full of folders. A
lone folder above all that is descended into. Folders below a class belong to it, unless every class holds the same
splits. If two readings are equally likely, neither is chosen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from graft.data.dataset import TRAIN, WHOLE
from graft.data.readers.aside import NO_LABELS, UNLABELLED, WHOLE_SETS, Aside
from graft.data.readers.folder_tree import Folder, Tree
from graft.data.readers.layout import Layout, Place, are_folds, holds_folders
from graft.data.readers.layout_advice import (
    ORIGIN,
    level,
    quoted,
    refuse_forms,
    refuse_sets,
    refuse_whole,
    tell_of_names,
    tell_of_parts,
)
from graft.data.readers.split_names import fold_of, splits_by_letter, splits_of
from graft.data.readers.uses import FEW_GROUPS, FEW_IMAGES
from graft.errors import DataError

# Dates, which name when images were taken: `2023-05-17`, `20230517`, `17.05.2023`, perhaps with a time.
_DATE = re.compile(r"((19|20)\d\d([-_. ]?)[01]\d\3[0-3]\d|[0-3]?\d([-_. ])[0-3]?\d\4(19|20)\d\d)([-_ T]+\d[\d_.:h-]*)?")


def understand(tree: Tree, name: str) -> Layout:
    """Read the layout of a tree named `name`. Raises DataError for a tree that can be read in two ways."""
    layout = Layout(tree, tree.root)
    layout.root = _beginning(layout)
    folders = layout.folders_in(layout.root)
    folds = [folder for folder in folders if fold_of(folder.name) and layout.folders_in(folder)]
    others = [folder for folder in folders if folder not in folds]
    beside = splits_of(folder.name for folder in others)
    if len(folds) > 1 and others and len(beside) == len(others) and TRAIN not in beside.values():
        # What is divided into folds is the training data.
        _read_splits(layout, _splits_among(layout, others, name))
        _read_classes(layout, layout.root, folds, TRAIN)
    elif splits := _splits_among(layout, folders, name):
        _read_splits(layout, splits)
    else:
        refuse_sets(layout, folders, name)
        if not _read_splits_of_classes(layout, folders, name):
            _read_folders_without_splits(layout, folders, name)
    _put_aside_within(layout)
    if len({place.label for place in layout.places}) == 1:
        tell_of_names(layout)
    return layout


def _beginning(layout: Layout) -> Folder:
    """The folder in which splits or classes begin, below any single folders around everything.

    The innermost of these that is named after a split is one, unless what they hold in the end are splits.
    """
    chain = _descend(layout, layout.tree.root)
    inner = layout.folders_in(chain[-1])
    if inner and len(splits_of(each.name for each in inner)) == len(inner):
        return chain[-1]
    named = [depth for depth, folder in enumerate(chain) if splits_of([folder.name])]
    return chain[named[-1] - 1] if named else chain[-1]


def _descend(layout: Layout, folder: Folder, known: Iterable[str] = ()) -> list[Folder]:
    """A folder and the chain of single folders of folders below it, up to one that is a class in `known`."""
    chain = [folder]
    while True:
        inner = _without_flat_splits(layout, layout.folders_in(chain[-1]))
        if len(inner) != 1 or inner[0].name in known or not holds_folders(inner[0], layout.folders_in(inner[0])):
            return chain
        chain.append(inner[0])


def _without_flat_splits(layout: Layout, folders: tuple[Folder, ...]) -> tuple[Folder, ...]:
    """The only folder of folders of splits, if all others are named after splits and have no classes; otherwise all."""
    named = splits_of(folder.name for folder in folders)
    flat = [folder for folder in folders if folder.name in named and not _divided(layout, folder)]
    rest = tuple(folder for folder in folders if folder not in flat)
    if not flat or len(rest) != 1 or rest[0].name in named:
        return folders
    inner = layout.folders_in(_descend(layout, rest[0])[-1])
    if len(inner) < 2 or len(splits_of(each.name for each in inner)) < len(inner):
        return folders
    layout.aside += [Aside(folder, NO_LABELS) for folder in flat]
    return rest


def _divided(layout: Layout, folder: Folder) -> bool:
    inner = layout.folders_in(folder)
    return bool(inner) and not _is_unlabelled(layout, inner, folder.name)


def _splits_among(layout: Layout, folders: Sequence[Folder], name: str) -> dict[str, str]:
    """The split that each folder stands for, empty if they stand for classes; puts aside folders beside splits."""
    inner = {folder.name: layout.folders_in(folder) for folder in folders}
    nested = [folder for folder in folders if holds_folders(folder, inner[folder.name])]
    named = splits_of(folder.name for folder in folders)
    if not named and len(nested) == len(folders):
        named = _by_letter(layout, folders, inner)
    holding = [folder for folder in nested if folder.name in named]
    if not holding:
        return _beside_flat_splits(layout, folders, name)
    others = [folder for folder in folders if folder.name not in named]
    if others and (TRAIN not in {named[folder.name] for folder in holding} or len(set(named.values())) == 1):
        classes = {each.name for folder in holding for each in inner[folder.name]}
        strange = [
            folder
            for folder in others
            if not UNLABELLED.fullmatch(folder.name) and not classes & {each.name for each in inner[folder.name]}
        ]
        if strange and (set(strange) <= set(nested) or any(len(inner[folder.name]) == 1 for folder in holding)):
            return {}
        if strange:
            raise DataError(
                f"expected folders of splits or folders of classes in {name}, got {quoted(holding)} full of folders "
                f"and {quoted(strange)} full of images: move {quoted(strange)} elsewhere if {quoted(holding)} is a "
                "split, or give it another name if it is a class"
            )
    labelled = [folder for folder in holding if not _is_unlabelled(layout, inner[folder.name], folder.name)]
    twice = [folder for folder in labelled if sum(named[each.name] == named[folder.name] for each in labelled) > 1]
    if twice:
        raise DataError(
            f"expected one folder per split in {name}, got {', '.join(folder.name for folder in twice)}: merge those "
            "that mean the same"
        )
    layout.aside += [Aside(folder, "is not a split") for folder in others]
    return {folder.name: named[folder.name] for folder in folders if folder.name in named}


def _by_letter(layout: Layout, folders: Sequence[Folder], inner: Mapping[str, Sequence[Folder]]) -> dict[str, str]:
    """The splits that folders named T, V and S stand for, if T holds everything that V and S hold."""
    named = splits_by_letter(folder.name for folder in folders)
    classes = {split: {each.name for each in inner[name]} for name, split in named.items()}
    if not named or not all(own <= classes[TRAIN] for own in classes.values()):
        return {}
    layout.notes.append(", ".join(f"{name!r} is read as {split}" for name, split in named.items()))
    return named


def _beside_flat_splits(layout: Layout, folders: Sequence[Folder], name: str) -> dict[str, str]:
    """The splits if one folder of folders lies beside `val` or `test` images without classes, which are no class.

    That folder is then the training data. Empty for any other folders.
    """
    named = splits_of(folder.name for folder in folders)
    rest = [folder for folder in folders if folder.name not in named]
    flat = [folder for folder in folders if folder.name in named and not _divided(layout, folder)]
    inner = layout.folders_in(layout.inside(rest[0])) if len(rest) == 1 else ()
    if len(inner) < 2 or rest[0].images or len(flat) < max(len(named), 1) or TRAIN in named.values():
        return {}
    layout.notes.append(
        f"{name}: {quoted(rest)} is what is trained on, with its folders ({quoted(inner)}) as the classes, since "
        f"{quoted(flat)} beside it {'has' if len(flat) == 1 else 'have'} no folders of classes"
    )
    return {rest[0].name: WHOLE, **named}


def _is_unlabelled(layout: Layout, folders: Sequence[Folder], above: str = "") -> bool:
    """Whether there is only one folder, of images, and it is named after the whole set rather than a class."""
    if len(folders) != 1 or layout.folders_in(folders[0]):
        return False
    return folders[0].name == above or bool(WHOLE_SETS.fullmatch(folders[0].name) or splits_of([folders[0].name]))


def _read_folders_without_splits(layout: Layout, folders: Sequence[Folder], name: str) -> None:
    """Add the places of classes; folders of images that are all named after splits or folds are not classes."""
    folds = are_folds(folders) and not any(layout.folders_in(folder) for folder in folders)
    named = splits_of(folder.name for folder in folders)
    called = [folder for folder in folders if folds or folder.name in named]
    if _is_unlabelled(layout, folders) or (called and len(called) == len(folders)):
        layout.aside += [Aside(folder, NO_LABELS) for folder in folders]
        return
    _read_classes(layout, layout.root, folders, WHOLE)
    # Each may have another folder around its classes, as in `amazon/images/mug`.
    starts = [layout.inside(folder) for folder in folders]
    within = [sorted(each.name for each in layout.folders_in(start)) for start in starts]
    alike = len(folders) > 1 and len(within[0]) > 1 and all(each == within[0] for each in within)
    dated = len(folders) > 1 and all(within) and all(_DATE.fullmatch(folder.name) for folder in folders)
    of_folds = are_folds(folders) or all(map(fold_of, within[0])) if within else False
    if (alike or dated) and not (of_folds or _are_origins(layout, folders)):
        refuse_forms(layout, folders, starts, name)
        depths = {len(start.path) - len(layout.root.path) for start in starts}
        inner = level(folders[0], max(depths)) if len(depths) == 1 else "'([^/]+)/[^/]+$'"
        parts = quoted([*dict.fromkeys(each for own in within for each in own)], 3)
        hold = f"each hold {quoted(within[0])}" if alike else f"are dates, with folders in them ({parts})"
        both = f", {level(folders[0]).replace(')', '/[^/]+)')} for both together" if depths == {1} else ""
        raise DataError(
            f"expected one meaning of the folders in {name}, got {quoted(folders)}, which "
            f"{hold}: say which are the classes, --label-from {level(folders[0])} for the outer, "
            f"--label-from {inner} for the inner folders{both}"
        )
    refuse_whole(layout, folders, name)
    if called:
        layout.notes.append(
            f"{name}: {quoted(called)} {'holds' if len(called) == 1 else 'hold'} no folders of classes beside "
            f"other folders of images and {'is read as a class' if len(called) == 1 else 'are read as classes'}"
        )


def _read_splits(layout: Layout, splits: dict[str, str]) -> None:
    """Add the places in folders of splits, each of which may have another folder around its classes."""
    inner = {folder: layout.folders_in(layout.root.folders[folder]) for folder in splits}
    known = {each.name for folders in inner.values() if len(folders) > 1 for each in folders}
    for called, split in splits.items():
        folder = layout.root.folders[called]
        layout.splits.append(folder)
        start = _descend(layout, folder, known)[-1]
        folders = layout.folders_in(start)
        if not folders and folder.images:
            layout.aside.append(Aside(folder, NO_LABELS))
        elif _is_unlabelled(layout, folders, called) and folders[0].name not in known:
            layout.aside.append(Aside(folders[0], NO_LABELS))
        else:
            _read_classes(layout, start, folders, split)


def _read_classes(layout: Layout, parent: Folder, folders: Sequence[Folder], split: str) -> None:
    """Add the places of the classes in a folder or in its folds."""
    inner = {folder.name: layout.folders_in(folder) for folder in folders}
    if are_folds(folders) and all(inner.values()):
        for folder in folders:
            if len(splits_of(each.name for each in inner[folder.name])) == len(inner[folder.name]):
                raise DataError(
                    f"expected the images of each fold once, got {quoted(folders)}, each with splits of its own: give "
                    f"the folder of one fold"
                )
        layout.notes.append(
            f"{quoted(folders)} are folds of a cross-validation: no fold is divided between splits, as if --group "
            "named them"
        )
        layout.places += [
            Place(each, split, each.name, fold_of(folder.name)) for folder in folders for each in inner[folder.name]
        ]
        return
    if _are_origins(layout, folders):
        # With few origins, each would hold a large part of the images.
        many = len(folders) >= FEW_GROUPS or sum(each.all_images for each in folders) <= FEW_IMAGES * len(folders)
        layout.notes.append(
            f"{quoted(folders)} are sources of images, not classes, since the same folders recur in them: "
            + ("no split divides one" if many else f"--group {level(folders[0])} keeps each in one split")
        )
        origins = [(each, folder.name if many else None) for folder in folders for each in inner[folder.name]]
        layout.places += [Place(each, split, each.name, origin) for each, origin in origins]
        return
    layout.empty += [(split, each.name) for each in layout.empty_in(parent)]
    for folder in folders:
        folds = inner[folder.name]
        if are_folds(folds) and not folder.images:
            layout.places += [Place(each, split, folder.name, fold_of(each.name)) for each in folds]
        else:
            layout.places.append(Place(folder, split, folder.name))
    tell_of_parts(layout, folders)


def _are_origins(layout: Layout, folders: Sequence[Folder]) -> bool:
    """Whether folders are patients, sites or the like, numbered or lettered, each with folders of the same classes."""
    named = [ORIGIN.fullmatch(folder.name) for folder in folders]
    inner = [[each.name for each in layout.folders_in(folder)] for folder in folders]
    whats = {(each[1] or "").lower() if each else None for each in named}
    if len(folders) < 2 or len(whats) > 1 or None in whats or not all(inner) or any(map(splits_of, inner)):
        return False
    names = {name for each in inner for name in each}
    if any(whats):
        return 1 < len(names) < sum(map(len, inner))
    # Numbers that count from 0 or 1 may well be classes.
    numbers = sorted(int(folder.name) for folder in folders if folder.name.isdecimal())
    counted = numbers[:1] in ([0], [1]) and numbers[-1] - numbers[0] < 2 * len(numbers)
    return len(numbers) == len(folders) and not counted and len(names) > 1 and all({*each} == names for each in inner)


def _read_splits_of_classes(layout: Layout, folders: Sequence[Folder], name: str) -> bool:
    """Whether every class holds the same splits, as in `cat/train`; if so, add them as the places."""
    inner = {folder.name: layout.folders_in(folder) for folder in folders}
    named = {folder: splits_of(each.name for each in inside) for folder, inside in inner.items()}
    divided = [folder for folder in folders if 0 < len(inner[folder.name]) == len(named[folder.name])]
    whole = [folder for folder in folders if folder not in divided]
    if whole:
        divided = [folder for folder in divided if len(set(named[folder.name].values())) > 1]
    if not divided or len(folders) < 2 or are_folds(folders):
        return False
    if whole:
        raise DataError(
            f"expected folders of splits in every class of {name} or in none, got some in {quoted(divided)} and none "
            f"in {quoted(whole)}: move the images of each split into train/CLASS, val/CLASS and test/CLASS"
        )
    if any(len(layout.folders_in(each)) > 1 for folder in divided for each in inner[folder.name]):
        raise DataError(
            f"expected one set of images in {name}, got {quoted(divided)}, each with splits and classes of its own: "
            "give the folder of one"
        )
    for folder in divided:
        meant = named[folder.name]
        if len(set(meant.values())) < len(meant):
            raise DataError(
                f"expected one folder per split in {folder.name}, got {', '.join(meant)}: merge those that mean "
                "the same"
            )
        layout.places += [Place(each, meant[each.name], folder.name) for each in inner[folder.name]]
    return True


def _put_aside_within(layout: Layout) -> None:
    """Put aside what lies in folders of classes but belongs to no class: a system's thumbnails, masks beside images."""
    for place in layout.places:
        pending = [place.folder]
        while pending:
            pending.extend(layout.folders_in(pending.pop()))
