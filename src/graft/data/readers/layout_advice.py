"""Errors and notes on folders that can be read in two ways: the readings, and the option or folder for each.

If one reading is far likelier, a note says so; otherwise neither is chosen.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from graft.data.readers.folder_tree import Folder
from graft.data.readers.layout import Layout, are_folds
from graft.data.readers.named_after_classes import are_no_classes
from graft.data.readers.split_names import fold_of, splits_of
from graft.endings import is_no_image
from graft.errors import DataError

# What images come from, with its number or letter.
ORIGIN = re.compile(
    r"(?i)(patients?|subjects?|cases?|persons?|participants?|donors?|users?|writers?|animals?|sites?|sources?|cent(?:er"
    r"|re)s?|hospitals?|clinics?|labs?|cameras?|cam|scanners?|devices?|sessions?|batch|plates?|slides?|stations?"
    r"|locations?|visits?|videos?)?[ _-]*(?:id[ _-]*)?([a-z]?[ _-]*\d+|[a-z])"
)
# Two folders hold two forms of one data set when at least this share of their file names match.
_SAME_IMAGES = 0.9
# Words in the name of a folder that is a data set rather than one of its classes.
_SET_OF_CLASSES = re.compile(r"data(sets?)?|images?|imgs?")
# How file names may give a class: `cat.0.jpg`, `cloudy12.jpg`, `american_bulldog_7.jpg`; `32_0_1.jpg`.
_CLASS_IN_NAME = (r"(?:^|/)([^\W\d_][^/\d]*?)[ _.-]?\d[^/]*$", r"(?:^|/)([^/_]+)_[^/]*$")

# This many file names suffice to see whether they name classes, and this share of them must.
_NAMES_ASKED, _NAMED_SO = 10_000, 0.8


def refuse_sets(layout: Layout, folders: Sequence[Folder], name: str) -> None:
    """Raise DataError if sibling folders hold splits of classes of their own: none of them is a class."""
    starts = {folder: layout.inside(folder) for folder in folders}
    splits = {folder: _splits_of_classes_in(layout, start) for folder, start in starts.items()}
    # A single one may be a kind of class, as in `vehicles/train/steam`.
    sets = [folder for folder in folders if len({*splits[folder].values()}) > 1]
    if not sets or len(folders) < 2 or are_folds(folders):
        return
    beside = [folder for folder in folders if folder not in sets]
    if len(sets) > 1:
        got = f"{quoted(sets)}, each with splits and classes of its own"
        advice = f"give the folder of one as DATA, as in {_given(starts[sets[0]])}"
    else:
        got = f"{quoted(sets)}, with splits and classes of its own ({quoted([*splits[sets[0]]])}), beside "
        got += quoted(beside)
        advice = f"give its folder as DATA, {_given(starts[sets[0]])}"
    raise DataError(f"expected one set of images in {name}, got {got}: {advice}")


def _splits_of_classes_in(layout: Layout, folder: Folder) -> dict[str, str]:
    """The splits that subfolders are named after, for those that hold several folders themselves."""
    inner = layout.folders_in(folder)
    named = splits_of(each.name for each in inner)
    several = [each for each in inner if len(layout.folders_in(layout.inside(each))) > 1]
    return {each.name: named[each.name] for each in several if each.name in named}


def refuse_whole(layout: Layout, folders: Sequence[Folder], name: str) -> None:
    """Raise DataError if one folder, named after a whole data set, holds all folders of classes there are."""
    holding = _holding_alone(layout, folders)
    if holding is None or not any(map(_SET_OF_CLASSES.fullmatch, re.split(r"[^a-z]+", holding.name.lower()))):
        return
    start = layout.inside(holding)
    raise DataError(
        f"expected folders of classes in {name}, got {quoted([holding])} with folders of its own "
        f"({quoted(layout.folders_in(start))}) beside {quoted([each for each in folders if each is not holding])}: "
        f"give {_given(start)} as DATA if these are the classes, or --label-from {level(holding)} if "
        f"{quoted([holding])} is one"
    )


def refuse_forms(layout: Layout, folders: Sequence[Folder], starts: Sequence[Folder], name: str) -> None:
    """Raise DataError if two folders hold the same images in different forms: then neither may be taken for a class.

    `starts` are the folders around the classes in each.
    """
    names = [layout.tree.names_in(folder) for folder in folders]
    stems = [{each.rpartition(".")[0] for each in own if not is_no_image(each)} for own in names]
    called = {start.name.strip().lower() for start in starts}
    # For example, `photos` unpacked again as `data/photos`.
    copied = len(called) == 1 and any(start in folders for start in starts)
    for number, own in enumerate(stems):
        for other in stems[:number]:
            both = own & other
            # Numbers recur in sets that have nothing else in common: `0002_03`, `frame_0001`.
            numbered = len({re.sub(r"[\d_]", "", stem) for stem in both}) < 2
            if copied or (not numbered and len(both) >= _SAME_IMAGES * max(len(own), len(other))):
                raise DataError(
                    f"expected one set of images in {name}, got {quoted(folders)}, which hold the same classes and "
                    f"{'folders of the same name' if copied else 'files of the same names'}: give the folder of one, "
                    f"or --label-from {level(folders[0])} if these folders are the classes"
                )


def tell_of_parts(layout: Layout, folders: Sequence[Folder]) -> None:
    """Add a note if all images of classes lie in subfolders, which may just as well be the classes."""
    inner = [layout.folders_in(folder) for folder in folders]
    parts = [each for own in inner for each in own]
    holding = _holding_alone(layout, folders)
    if not all(inner) and holding is not None and not are_folds(layout.folders_in(holding)):
        start = layout.inside(holding)
        layout.notes.append(
            f"{quoted([holding])} is read as a class, with all images in its folders "
            f"({quoted(layout.folders_in(start), 3)}): give {_given(start)} as DATA if these are the classes"
        )
    if len(folders) < 2 or not all(inner) or any(folder.images for folder in folders):
        return
    if len(parts) == len(folders) or all(fold_of(each.name) or ORIGIN.fullmatch(each.name) for each in parts):
        return
    note = (
        f"{quoted(folders)} are read as the classes, with all images in their folders ({quoted(parts, 3)}): "
        f"--label-from {level(folders[0], 1)} makes these the classes"
    )
    layout.notes += [] if note in layout.notes else [note]


def tell_of_names(layout: Layout) -> None:
    """Add a note if all images are of one class but their files seem to be named after several."""
    advice = from_names(layout, [place.folder for place in layout.places])
    if advice:
        label = layout.places[0].label
        layout.notes.append(f"all images are of one class, {label!r}, and their files are called {advice}")


def from_names(layout: Layout, folders: Sequence[Folder]) -> str:
    """How to get the classes of files in folders from their names; empty if the names in no folder give any."""
    for folder in folders:
        names = [name for name in layout.tree.names_in(folder)[:_NAMES_ASKED] if not is_no_image(name)]
        for pattern in _CLASS_IN_NAME:
            found = [re.search(pattern, name) for name in names]
            classes = sorted({each[1] for each in found if each is not None})
            named = sum(each is not None for each in found) >= _NAMED_SO * len(names)
            # Numbers and dates give about as many values as there are images.
            if named and 1 < len(classes) <= len(names) / 2 and not are_no_classes(classes):
                return f"as if after classes ({quoted(classes, 4)}): --label-from '{pattern}' takes these"
    return ""


def _holding_alone(layout: Layout, folders: Sequence[Folder]) -> Folder | None:
    """The only one of several folders that holds several folders of images and no images itself, or None."""
    holding = [folder for folder in folders if len(layout.folders_in(layout.inside(folder))) > 1]
    return holding[0] if len(holding) == 1 < len(folders) and not holding[0].images else None


def level(folder: Folder, below: int = 0) -> str:
    """An expression for the names of the folders at the level of `folder`, or `below` levels under it."""
    return f"'^{'[^/]+/' * (len(folder.path) - 1 + below)}([^/]+)/'"


def _given(folder: Folder) -> str:
    """A folder as given on the command line, below the one that was given."""
    return shlex.quote("/".join(("DATA", *folder.path)))


def quoted(folders: Sequence[Folder | str], most: int = 6) -> str:
    """The names of folders as messages show them, at most `most`."""
    names = [repr(folder if isinstance(folder, str) else folder.name) for folder in folders]
    return ", ".join(names[: most - 1] + (["…"] if len(names) > most else []) + names[most - 1 :][-1:])
