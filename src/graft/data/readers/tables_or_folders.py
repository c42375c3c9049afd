"""Which of the tables found beside images gives their labels, if folders could give them too.

Folders that mean the same classes as the table are read as one folder per class. If they have nothing to do with the
labels, the table is used and a note says so. If one divides the other, as species and breeds do, the user is asked.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from graft.arrow import binary_array
from graft.class_lists import CODE
from graft.data.class_naming import renamed
from graft.data.dataset import TRAIN, WHOLE, Dataset
from graft.data.readers.columns import join_tables
from graft.data.readers.finding_files import FileFinder, splits_of_rows
from graft.data.readers.folder_tree import are_no_images
from graft.data.readers.found_table import Found
from graft.data.readers.place import Place
from graft.data.readers.split_names import SPLIT_FOLDERS, split_in_name
from graft.data.readers.table import arrange_table
from graft.data.table_options import TableOptions
from graft.errors import DataError
from graft.words import counted, first_few

if TYPE_CHECKING:
    import pyarrow

# How image folders compare with table labels: they say nothing, the same, parts of each other, something else.
_NOTHING, _SAME, _NESTED, _OTHER = range(4)


def decide(place: Place, found: list[Found], notes: list[str], options: TableOptions) -> Dataset | None:
    """Build a Dataset from the tables of a place that give labels, or None if its folders do; adds to `notes`.

    Raises DataError if several tables could be meant, and if labels and folders subdivide each other.
    """
    import pyarrow

    root = place.root
    by_split = [each for each in found if each.split != WHOLE]
    chosen = by_split if len({each.split for each in by_split}) == len(by_split) > 0 else found
    if TRAIN not in {each.split for each in chosen} and len(chosen) < len(found):
        chosen = found
    whole = [each for each in chosen if each.split == WHOLE]
    if len(whole) > 1 or len({each.split for each in chosen}) < len(chosen):
        names = " and ".join(each.name for each in chosen)
        raise DataError(
            f"expected one table of the images in {place.listing.name}, or one for each split, got {names}: give the "
            f"right one as DATA, as in {chosen[0].files[0]}, or --label-from folder where folders are classes"
        )
    notes += [f"{each.name} was not used beside {chosen[0].name}" for each in found if each not in chosen]
    folders, names_of_folders, called = _against_folders(chosen)
    by_table = by_split or any("split" in each.table.column_names for each in chosen)
    said_again = chosen[0].beside and names_of_folders >= set().union(*(each.labels() for each in chosen))
    if not by_table and (folders == _SAME or said_again):
        notes += [f"{each.name} was not used, since the folders give the classes" for each in chosen if each.beside]
        return None
    if folders == _NESTED:
        parents = first_few(sorted(_class_folders(place)))
        raise DataError(
            f"expected one meaning of {place.listing.name}, got labels in {chosen[0].name} and in folders ({parents}): "
            f"give {chosen[0].files[0]} as DATA for the first, or --label-from folder for the second"
        )
    if folders == _OTHER:
        notes.append(
            f"labels are those of {chosen[0].name}, not the folders of the images: --label-from folder uses these"
        )
    notes[:0] = [note for each in chosen for note in each.notes]
    table = _by_folder(join_tables([each.table for each in chosen], [each.split for each in chosen]))
    finder = FileFinder(root, replace(options, image_dir=None), place=place)
    name = chosen[0].files[0].stem if len(chosen) == 1 else place.listing.name
    splits = [split for each in chosen for split in splits_of_rows(each.table, each.split)]
    dataset = arrange_table(name, finder, table, notes, splits)
    if folders == _SAME and all(map(CODE.fullmatch, dataset.classes)) and not all(map(CODE.fullmatch, called.values())):
        dataset = renamed(dataset, called, f"classes are named after the folders that {chosen[0].name} numbers")
    tables = binary_array(os.fsencode(file.relative_to(root)) for each in chosen for file in each.files)
    located = pyarrow.concat_arrays([table["path"].combine_chunks(), tables])
    return replace(with_strangers(dataset, place, located), name=place.listing.name)


def _class_folders(place: Place) -> set[str]:
    """The names of folders that may be classes: in the root or below its splits."""
    root = place.tree.root.folders.values()
    above = [folder for folder in root if folder.name.lower() in SPLIT_FOLDERS]
    children = [*root, *(child for folder in above for child in folder.folders.values())]
    return {child.name for child in children if child.name.lower() not in SPLIT_FOLDERS and child.all_files}


def _by_folder(table: pyarrow.Table) -> pyarrow.Table:
    """Take the first folder of each path as its split, if the table has no splits and all these folders are some."""
    import pyarrow.compute

    if "split" in table.column_names:
        return table
    first = pyarrow.compute.replace_substring_regex(table["path"], "(?s)/.*$", "").combine_chunks()
    names = {os.fsdecode(name.as_py()).lower() for name in first.unique()}
    return table.append_column("split", first.cast(pyarrow.large_string())) if names <= SPLIT_FOLDERS.keys() else table


def with_strangers(dataset: Dataset, place: Place, located: pyarrow.LargeBinaryArray) -> Dataset:
    """The dataset with the images that no table names added to `left_out`."""

    known = np.zeros(len(place.listing.files), bool)
    rows = place.rows(located)
    known[rows[rows >= 0]] = True
    others = are_no_images(place.listing.files)
    names = [place.source.name(row) for row in np.flatnonzero(~known & ~others).tolist()]
    names = [name for name in names if name not in dataset.left_out]
    if not names:
        return dataset
    note = (
        f"{counted(len(names), 'file')} in {place.listing.name} left out: no table names "
        f"{'it' if len(names) == 1 else 'them'} ({first_few(names)})"
    )
    left_out = {**dataset.left_out, **dict.fromkeys(names, "no table names it")}
    return replace(dataset, notes=(*dataset.notes, note), left_out=left_out)


def _against_folders(found: list[Found]) -> tuple[int, set[str], dict[str, str]]:
    """How folders and labels compare, the folder names, and the folder of each label if they say the same."""
    import pyarrow
    import pyarrow.compute

    paths = pyarrow.concat_arrays([each.table["path"].combine_chunks().filter(each.there) for each in found])
    labels = pyarrow.concat_arrays([each.table["label"].combine_chunks().filter(each.there) for each in found])
    folders = pyarrow.compute.replace_substring_regex(paths, "(?s)[^/]*$", "")
    parents = pyarrow.compute.replace_substring_regex(folders, r"(?s)^(.*/)?([^/]+)/$", r"\2").dictionary_encode()
    names = [os.fsdecode(each.as_py()) for each in parents.dictionary]
    telling = {name for name in names if name and split_in_name(name) == WHOLE}
    if len(telling) < 2:
        return _NOTHING, telling, {}
    one = parents.indices.to_numpy().astype(np.int64)
    encoded = labels.dictionary_encode()
    other = encoded.indices.to_numpy().astype(np.int64)
    both = np.unique(one * (other.max() + 1) + other)
    pairs, kinds, words = len(both), one.max() + 1, other.max() + 1
    if pairs == kinds == words:
        of_label = encoded.dictionary.to_pylist()
        return _SAME, telling, {of_label[pair % words]: names[pair // words] for pair in both.tolist()}
    # Parts: each label is in one folder, or each folder has one label.
    return (_NESTED if pairs in (kinds, words) and words > 1 else _OTHER), telling, {}
