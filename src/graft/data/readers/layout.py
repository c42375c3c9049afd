"""What the folders of a tree stand for: splits, folds, classes, or nothing.

The cue is depth: a folder of a split holds folders of classes, a folder of a class holds images. So `train` and `test`
full of images beside another folder are classes, and full of folders they are splits. A lone folder above all that is
descended through; below a class, folders belong to it, unless every class holds the same splits. Where two readings are
as likely as each other, neither is chosen.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from graft.data.dataset import TRAIN, WHOLE
from graft.data.readers.aside import NO_LABELS, UNLABELLED, WHOLE_SETS, Aside, Sorted, sort_folders
from graft.data.readers.folder_tree import Folder, Tree
from graft.data.readers.split_names import fold_of, splits_of
from graft.data.readers.uses import FEW_GROUPS, FEW_IMAGES
from graft.endings import is_no_image
from graft.errors import DataError

# What images come from, and its number or letter.
_ORIGIN = re.compile(
    r"(?i)(patients?|subjects?|cases?|persons?|participants?|donors?|users?|writers?|animals?|sites?|sources?|cent(?:er"
    r"|re)s?|hospitals?|clinics?|labs?|cameras?|cam|scanners?|devices?|sessions?|batch|plates?|slides?|stations?"
    r"|locations?|visits?|videos?)?[ _-]*(?:id[ _-]*)?([a-z]?[ _-]*\d+|[a-z])"
)
# The part of the files in two folders that has to have the same names for them to be two forms of one set.
_SAME_IMAGES = 0.9
# Words in the name of a folder that is a data set rather than a class of one.
_SET_OF_CLASSES = re.compile(r"data(sets?)?|images?|imgs?")
# What a class may be called in the names of files: `cat.0.jpg`, `cloudy12.jpg`, `american_bulldog_7.jpg`; `32_0_1.jpg`.
_CLASS_IN_NAME = (r"(?:^|/)([^\W\d_][^/\d]*?)[ _.-]?\d[^/]*$", r"(?:^|/)([^/_]+)_[^/]*$")

# So many names of files are enough to see whether they name classes.
_NAMES_ASKED = 10_000


@dataclass(frozen=True)
class Place:
    """A folder whose images are of one class, in one split; `fold` is that of a cross-validation if there are some."""

    folder: Folder
    split: str
    label: str
    fold: str | None = None


@dataclass
class Layout:
    """What was understood: places of images, folders left out, empty folders of classes, and sentences about it.

    `root` is where splits or classes begin, `splits` are the folders of splits.
    """

    tree: Tree
    root: Folder
    places: list[Place] = field(default_factory=list)
    aside: list[Aside] = field(default_factory=list)
    empty: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    splits: list[Folder] = field(default_factory=list)
    _sorted: dict[Folder, Sorted] = field(default_factory=dict)

    def folders_in(self, folder: Folder) -> tuple[Folder, ...]:
        """The folders in a folder that may stand for something; the others are put aside."""
        if folder not in self._sorted:
            self._sorted[folder] = sort_folders(self.tree, folder)
            self.aside += self._sorted[folder].aside
        return self._sorted[folder].kept

    def empty_in(self, folder: Folder) -> tuple[Folder, ...]:
        self.folders_in(folder)
        return self._sorted[folder].empty


def understand(tree: Tree, name: str) -> Layout:
    """Read the layout of a tree called `name`. Raises DataError for one that can be read in two ways."""
    layout = Layout(tree, tree.root)
    layout.root = _beginning(layout)
    folders = layout.folders_in(layout.root)
    folds = [folder for folder in folders if fold_of(folder.name) and layout.folders_in(folder)]
    others = [folder for folder in folders if folder not in folds]
    beside = splits_of(folder.name for folder in others)
    if len(folds) > 1 and others and len(beside) == len(others) and TRAIN not in beside.values():
        # What is divided into folds is what is trained on.
        _read_splits(layout, _splits_among(layout, others, name))
        _read_classes(layout, layout.root, folds, TRAIN)
    elif splits := _splits_among(layout, folders, name):
        _read_splits(layout, splits)
    else:
        _refuse_sets(layout, folders, name)
        if not _read_splits_of_classes(layout, folders, name):
            _read_folders_without_splits(layout, folders, name)
    _put_aside_within(layout)
    if len({place.label for place in layout.places}) == 1:
        _tell_of_names(layout)
    return layout


def _beginning(layout: Layout) -> Folder:
    """The folder in which splits or classes begin: below single folders around everything.

    Of these, the innermost that is called as a split is one, unless what they hold in the end are splits.
    """
    chain = _descend(layout, layout.tree.root)
    inner = layout.folders_in(chain[-1])
    if inner and len(splits_of(each.name for each in inner)) == len(inner):
        return chain[-1]
    named = [depth for depth, folder in enumerate(chain) if splits_of([folder.name])]
    return chain[named[-1] - 1] if named else chain[-1]


def _descend(layout: Layout, folder: Folder, known: Iterable[str] = ()) -> list[Folder]:
    """A folder and the single folders of folders below it, one in the other, except one that is a class in `known`."""
    chain = [folder]
    while True:
        inner = _without_flat_splits(layout, layout.folders_in(chain[-1]))
        if len(inner) != 1 or inner[0].name in known or not _holds_folders(inner[0], layout.folders_in(inner[0])):
            return chain
        chain.append(inner[0])


def _inside(layout: Layout, folder: Folder) -> Folder:
    """The innermost of a folder and the single folders of folders in it, whatever they are called."""
    while len(inner := layout.folders_in(folder)) == 1 and _holds_folders(inner[0], layout.folders_in(inner[0])):
        folder = inner[0]
    return folder


def _without_flat_splits(layout: Layout, folders: tuple[Folder, ...]) -> tuple[Folder, ...]:
    """The only folder of folders of splits, where all beside it are called as splits and have no classes; else all."""
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


def _holds_folders(folder: Folder, inner: Sequence[Folder]) -> bool:
    """Whether what matters in a folder lies in its folders: few images beside several of them, or none."""
    below = sum(each.all_images for each in inner)
    return bool(inner) and folder.images < (below if len(inner) > 1 else 1)


def _splits_among(layout: Layout, folders: Sequence[Folder], name: str) -> dict[str, str]:
    """The split that each folder stands for, empty if they stand for classes; folders beside splits are put aside."""
    inner = {folder.name: layout.folders_in(folder) for folder in folders}
    nested = [folder for folder in folders if _holds_folders(folder, inner[folder.name])]
    named = splits_of(folder.name for folder in folders)
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
                f"expected folders of splits or folders of classes in {name}, got {_quoted(holding)} full of folders "
                f"and {_quoted(strange)} full of images: move {_quoted(strange)} elsewhere if {_quoted(holding)} is a "
                "split, or give it another name if it is a class"
            )
    labelled = [folder for folder in holding if not _is_unlabelled(layout, inner[folder.name], folder.name)]
    twice = [folder for folder in labelled if sum(named[each.name] == named[folder.name] for each in labelled) > 1]
    if twice:
        raise DataError(
            f"expected one folder per split in {name}, got {', '.join(folder.name for folder in twice)}: merge those "
            "that mean the same"
        )
    layout.aside += [Aside(folder, "is no split") for folder in others]
    return {folder.name: named[folder.name] for folder in folders if folder.name in named}


def _beside_flat_splits(layout: Layout, folders: Sequence[Folder], name: str) -> dict[str, str]:
    """The splits where one folder of folders lies beside images of `val` or `test` without classes, which are no class.

    Then the one folder is what is trained on. Empty if the folders are others.
    """
    named = splits_of(folder.name for folder in folders)
    rest = [folder for folder in folders if folder.name not in named]
    flat = [folder for folder in folders if folder.name in named and not _divided(layout, folder)]
    inner = layout.folders_in(_inside(layout, rest[0])) if len(rest) == 1 else ()
    if len(inner) < 2 or rest[0].images or len(flat) < max(len(named), 1) or TRAIN in named.values():
        return {}
    layout.notes.append(
        f"{name}: {_quoted(rest)} is what is trained on, with its folders ({_quoted(inner)}) as the classes, since "
        f"{_quoted(flat)} beside it {'has' if len(flat) == 1 else 'have'} no folders of classes"
    )
    return {rest[0].name: WHOLE, **named}


def _is_unlabelled(layout: Layout, folders: Sequence[Folder], above: str = "") -> bool:
    """Whether there is but one folder, of images, that is called after the whole rather than a class."""
    if len(folders) != 1 or layout.folders_in(folders[0]):
        return False
    return folders[0].name == above or bool(WHOLE_SETS.fullmatch(folders[0].name) or splits_of([folders[0].name]))


def _read_folders_without_splits(layout: Layout, folders: Sequence[Folder], name: str) -> None:
    """The places of classes; folders of images that are all called as splits or folds are no classes."""
    folds = _are_folds(folders) and not any(layout.folders_in(folder) for folder in folders)
    named = splits_of(folder.name for folder in folders)
    called = [folder for folder in folders if folds or folder.name in named]
    if _is_unlabelled(layout, folders) or (called and len(called) == len(folders)):
        layout.aside += [Aside(folder, NO_LABELS) for folder in folders]
        return
    _read_classes(layout, layout.root, folders, WHOLE)
    # A folder of its own may lie around the classes of each, as in `amazon/images/mug`.
    starts = [_inside(layout, folder) for folder in folders]
    within = [sorted(each.name for each in layout.folders_in(start)) for start in starts]
    alike = len(folders) > 1 and len(within[0]) > 1 and all(each == within[0] for each in within)
    if alike and not (_are_folds(folders) or all(map(fold_of, within[0])) or _are_origins(layout, folders)):
        _refuse_forms(layout, folders, starts, name)
        depths = {len(start.path) - len(layout.root.path) for start in starts}
        inner = _level(folders[0], max(depths)) if len(depths) == 1 else "'([^/]+)/[^/]+$'"
        both = f", {_level(folders[0]).replace(')', '/[^/]+)')} for both together" if depths == {1} else ""
        raise DataError(
            f"expected one meaning of the folders in {name}, got {_quoted(folders)}, which each hold "
            f"{_quoted(within[0])}: say which are the classes, --label-from {_level(folders[0])} for the outer, "
            f"--label-from {inner} for the inner folders{both}"
        )
    _refuse_whole(layout, folders, name)
    if called:
        layout.notes.append(
            f"{name}: {_quoted(called)} {'holds' if len(called) == 1 else 'hold'} no folders of classes beside "
            f"other folders of images and {'is read as a class' if len(called) == 1 else 'are read as classes'}"
        )


def _refuse_sets(layout: Layout, folders: Sequence[Folder], name: str) -> None:
    """Raise DataError where folders beside each other hold splits of classes of their own: none of them is a class."""
    starts = {folder: _inside(layout, folder) for folder in folders}
    splits = {folder: _splits_of_classes_in(layout, start) for folder, start in starts.items()}
    # One alone may be a kind of class, as in `vehicles/train/steam`.
    sets = [folder for folder in folders if len({*splits[folder].values()}) > 1]
    if not sets or len(folders) < 2 or _are_folds(folders):
        return
    beside = [folder for folder in folders if folder not in sets]
    if len(sets) > 1:
        got = f"{_quoted(sets)}, each with splits and classes of its own"
        advice = f"give the folder of one as DATA, as in {_given(starts[sets[0]])}"
    else:
        got = f"{_quoted(sets)}, with splits and classes of its own ({_quoted([*splits[sets[0]]])}), beside "
        got += _quoted(beside)
        advice = f"give its folder as DATA, {_given(starts[sets[0]])}"
    raise DataError(f"expected one set of images in {name}, got {got}: {advice}")


def _splits_of_classes_in(layout: Layout, folder: Folder) -> dict[str, str]:
    """The splits that folders in a folder are named after, of those that hold several folders themselves."""
    inner = layout.folders_in(folder)
    named = splits_of(each.name for each in inner)
    several = [each for each in inner if len(layout.folders_in(_inside(layout, each))) > 1]
    return {each.name: named[each.name] for each in several if each.name in named}


def _refuse_whole(layout: Layout, folders: Sequence[Folder], name: str) -> None:
    """Raise DataError where one folder, called as a whole data set, holds all folders of classes that there are."""
    holding = _holding_alone(layout, folders)
    if holding is None or not any(map(_SET_OF_CLASSES.fullmatch, re.split(r"[^a-z]+", holding.name.lower()))):
        return
    start = _inside(layout, holding)
    raise DataError(
        f"expected folders of classes in {name}, got {_quoted([holding])} with folders of its own "
        f"({_quoted(layout.folders_in(start))}) beside {_quoted([each for each in folders if each is not holding])}: "
        f"give {_given(start)} as DATA if these are the classes, or --label-from {_level(holding)} if "
        f"{_quoted([holding])} is one"
    )


def _holding_alone(layout: Layout, folders: Sequence[Folder]) -> Folder | None:
    """The only one of several folders that holds several folders of images, and no images itself, if there is one."""
    holding = [folder for folder in folders if len(layout.folders_in(_inside(layout, folder))) > 1]
    return holding[0] if len(holding) == 1 < len(folders) and not holding[0].images else None


def _refuse_forms(layout: Layout, folders: Sequence[Folder], starts: Sequence[Folder], name: str) -> None:
    """Raise DataError where two folders hold the same images in another form: then neither may be called a class.

    `starts` are the folders around the classes in each.
    """
    names = [layout.tree.names_in(folder) for folder in folders]
    stems = [{each.rpartition(".")[0] for each in own if not is_no_image(each)} for own in names]
    called = {start.name.strip().lower() for start in starts}
    # As where `photos` was unpacked again as `data/photos`.
    copied = len(called) == 1 and any(start in folders for start in starts)
    for number, own in enumerate(stems):
        for other in stems[:number]:
            both = own & other
            # Numbers recur in what has nothing else in common: `0002_03`, `frame_0001`.
            numbered = len({re.sub(r"[\d_]", "", stem) for stem in both}) < 2
            if copied or (not numbered and len(both) >= _SAME_IMAGES * max(len(own), len(other))):
                raise DataError(
                    f"expected one set of images in {name}, got {_quoted(folders)}, which hold the same classes and "
                    f"{'folders of the same name' if copied else 'files of the same names'}: give the folder of one, "
                    f"or --label-from {_level(folders[0])} if these folders are the classes"
                )


def _read_splits(layout: Layout, splits: dict[str, str]) -> None:
    """The places in folders of splits, each of which may have a folder of its own around its classes."""
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
    """The places of the classes in a folder, or in its folders of folds."""
    inner = {folder.name: layout.folders_in(folder) for folder in folders}
    if _are_folds(folders) and all(inner.values()):
        for folder in folders:
            if len(splits_of(each.name for each in inner[folder.name])) == len(inner[folder.name]):
                raise DataError(
                    f"expected the images of each fold once, got {_quoted(folders)}, each with splits of its own: give "
                    f"the folder of one fold"
                )
        layout.notes.append(
            f"{_quoted(folders)} are folds of a cross-validation: no fold is divided between splits, as if --group "
            "named them"
        )
        layout.places += [
            Place(each, split, each.name, fold_of(folder.name)) for folder in folders for each in inner[folder.name]
        ]
        return
    if _are_origins(layout, folders):
        # Few of them would divide the images into large parts.
        many = len(folders) >= FEW_GROUPS or sum(each.all_images for each in folders) <= FEW_IMAGES * len(folders)
        layout.notes.append(
            f"{_quoted(folders)} are where images come from, not classes, since what they hold recurs: "
            + ("no split divides one" if many else f"--group {_level(folders[0])} keeps each in one split")
        )
        origins = [(each, folder.name if many else None) for folder in folders for each in inner[folder.name]]
        layout.places += [Place(each, split, each.name, origin) for each, origin in origins]
        return
    layout.empty += [(split, each.name) for each in layout.empty_in(parent)]
    for folder in folders:
        folds = inner[folder.name]
        if _are_folds(folds) and not folder.images:
            layout.places += [Place(each, split, folder.name, fold_of(each.name)) for each in folds]
        else:
            layout.places.append(Place(folder, split, folder.name))
    _tell_of_parts(layout, folders)


def _tell_of_parts(layout: Layout, folders: Sequence[Folder]) -> None:
    """Say it where all images of classes lie in folders of their own, which may as well be the classes."""
    inner = [layout.folders_in(folder) for folder in folders]
    parts = [each for own in inner for each in own]
    holding = _holding_alone(layout, folders)
    if not all(inner) and holding is not None and not _are_folds(layout.folders_in(holding)):
        start = _inside(layout, holding)
        layout.notes.append(
            f"{_quoted([holding])} is read as a class, with all images in its folders "
            f"({_quoted(layout.folders_in(start), 3)}): give {_given(start)} as DATA if these are the classes"
        )
    if len(folders) < 2 or not all(inner) or any(folder.images for folder in folders):
        return
    if len(parts) == len(folders) or all(fold_of(each.name) or _ORIGIN.fullmatch(each.name) for each in parts):
        return
    note = (
        f"{_quoted(folders)} are read as the classes, with all images in their folders ({_quoted(parts, 3)}): "
        f"--label-from {_level(folders[0], 1)} makes these the classes"
    )
    layout.notes += [] if note in layout.notes else [note]


def _tell_of_names(layout: Layout) -> None:
    """Say it where all images are of one class and their files are named as if after several."""
    advice = from_names(layout, [place.folder for place in layout.places])
    if advice:
        label = layout.places[0].label
        layout.notes.append(f"all images are of one class, {label!r}, and their files are called {advice}")


def from_names(layout: Layout, folders: Sequence[Folder]) -> str:
    """How the classes of the files in folders may be had from their names, empty if these tell none in any folder."""
    for folder in folders:
        names = [name for name in layout.tree.names_in(folder)[:_NAMES_ASKED] if not is_no_image(name)]
        for pattern in _CLASS_IN_NAME:
            found = [re.search(pattern, name) for name in names]
            classes = sorted({each[1] for each in found if each is not None})
            # Of a number or a date there are about as many as images.
            if all(found) and 1 < len(classes) <= len(names) / 2:
                return f"as if after classes ({_quoted(classes, 4)}): --label-from '{pattern}' takes these"
    return ""


def _are_folds(folders: Sequence[Folder]) -> bool:
    return len(folders) > 1 and all(fold_of(folder.name) for folder in folders)


def _are_origins(layout: Layout, folders: Sequence[Folder]) -> bool:
    """Whether folders are patients, sites or the like, numbered or lettered, each with folders of the same classes."""
    named = [_ORIGIN.fullmatch(folder.name) for folder in folders]
    inner = [[each.name for each in layout.folders_in(folder)] for folder in folders]
    whats = {(each[1] or "").lower() if each else None for each in named}
    if len(folders) < 2 or len(whats) > 1 or None in whats or not all(inner) or any(map(splits_of, inner)):
        return False
    names = {name for each in inner for name in each}
    if any(whats):
        return 1 < len(names) < sum(map(len, inner))
    # Numbers from 0 or 1 on may well be classes.
    numbers = sorted(int(folder.name) for folder in folders if folder.name.isdecimal())
    counted = numbers[:1] in ([0], [1]) and numbers[-1] - numbers[0] < 2 * len(numbers)
    return len(numbers) == len(folders) and not counted and len(names) > 1 and all({*each} == names for each in inner)


def _given(folder: Folder) -> str:
    """A folder as it is given on the command line, below that which was."""
    return shlex.quote("/".join(("DATA", *folder.path)))


def _level(folder: Folder, below: int = 0) -> str:
    """An expression for the name of the folders beside one, or of those in it."""
    return f"'^{'[^/]+/' * (len(folder.path) - 1 + below)}([^/]+)/'"


def _read_splits_of_classes(layout: Layout, folders: Sequence[Folder], name: str) -> bool:
    """Whether every class holds the same splits, as in `cat/train`; then those are the places."""
    inner = {folder.name: layout.folders_in(folder) for folder in folders}
    named = {folder: splits_of(each.name for each in inside) for folder, inside in inner.items()}
    divided = [folder for folder in folders if 0 < len(inner[folder.name]) == len(named[folder.name])]
    whole = [folder for folder in folders if folder not in divided]
    if whole:
        divided = [folder for folder in divided if len(set(named[folder.name].values())) > 1]
    if not divided or len(folders) < 2 or _are_folds(folders):
        return False
    if whole:
        raise DataError(
            f"expected folders of splits in every class of {name} or in none, got some in {_quoted(divided)} and none "
            f"in {_quoted(whole)}: move the images of each split into train/CLASS, val/CLASS and test/CLASS"
        )
    if any(len(layout.folders_in(each)) > 1 for folder in divided for each in inner[folder.name]):
        raise DataError(
            f"expected one set of images in {name}, got {_quoted(divided)}, each with splits and classes of its own: "
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
    """Put aside what is in folders of classes and belongs to none: thumbnails of a system, masks beside images."""
    for place in layout.places:
        pending = [place.folder]
        while pending:
            pending.extend(layout.folders_in(pending.pop()))


def _quoted(folders: Sequence[Folder | str], most: int = 6) -> str:
    names = [repr(folder if isinstance(folder, str) else folder.name) for folder in folders]
    return ", ".join(names[: most - 1] + (["…"] if len(names) > most else []) + names[most - 1 :][-1:])
