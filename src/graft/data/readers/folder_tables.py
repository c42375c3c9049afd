"""Tables in a folder or archive of images: `labels.csv` beside `images/`, `train.csv` and `test.csv`, `meta/train.txt`.

A table counts if its rows lead to images of the folder. Folders that mean the same classes as the table are read as a
folder per class, and lists of images without labels divide them into splits. Where the folders have nothing to do with
the labels, the table is taken, and a note says so; where they are parts of each other, such as a species and its
breeds, the user is asked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.class_lists import CODE, read_list
from graft.data.class_naming import renamed
from graft.data.dataset import TRAIN, WHOLE, Dataset
from graft.data.readers.arrow import binary_array
from graft.data.readers.aside import SYSTEM, sort_folders
from graft.data.readers.class_lists import LISTS
from graft.data.readers.column_cells import COLUMNS_AT_ONCE, Columns
from graft.data.readers.column_names import SPELLINGS, SYNONYMS, named
from graft.data.readers.columns import first_three, join_tables
from graft.data.readers.finding_files import FileFinder
from graft.data.readers.folder_tree import Folder, are_no_images
from graft.data.readers.found_table import Found
from graft.data.readers.grid import ENDINGS, LIST_ENDINGS, open_grid
from graft.data.readers.joined_lists import join_lists
from graft.data.readers.line_lists import join_lines, labels_by_number
from graft.data.readers.packed_tables import PACKED, plain_table
from graft.data.readers.place import Place
from graft.data.readers.split_lists import LISTED_SHARE, divide, label_others
from graft.data.readers.split_names import SPLIT_FOLDERS, is_part, split_in_name, splits_of
from graft.data.readers.table import arrange_table, may_be_list, names_images, starting_from, understood_table
from graft.data.readers.tree import NoClassesError, arrange
from graft.data.table_options import FOLDER, TableOptions, refuse_columns
from graft.endings import IMAGE_ENDING
from graft.errors import DataError, InputError
from graft.spreadsheet import read_sheet
from graft.words import counted

if TYPE_CHECKING:
    import pyarrow

# Other files of XML are about one image each.
_IN_FOLDERS = "|".join(re.escape(each) for each in sorted({*ENDINGS, *LIST_ENDINGS} - {".xml"}))
_TABLE = rf"(?i)(({_IN_FOLDERS})({'|'.join(map(re.escape, PACKED))})?|(^|/)annotations\.xml)$"
# Tables that are forms for what is to be handed in, or made by programs that were asked about the images.
_ANSWERS = r"(?i)submi|predict|results?\b|audit"
# How graft itself begins the file that says the split of a run.
_OF_A_RUN = ("split.csv", b"path,label,split")
# Folders for what is told about images, even where masks lie in it too.
_ABOUT = re.compile(r"(?i)annotations?|labels?|meta([ _-]?data)?|splits?|lists?|tables?|csvs?|txts?|imagesets?|ann")
# Names without ending, which a few tables in a folder may have, and more images.
_UNENDED, _MOST_UNENDED = r"(^|/)[^./]+$", 3
# A larger table is not looked through for names, and columns with other roles say no labels.
_MOST_BYTES, _OTHER_ROLES = 2**27, ("split", "group", "weight")
# More tables in one folder are about one image each; so deep below the images' folder they are looked for.
_MOST_TABLES, _DEPTH = 60, 3


def read_place(place: Place, group: str | None, options: TableOptions, split: str | None = None) -> Dataset:
    """A Dataset from the tables of a place or its folders of classes, divided by lists of splits if there are some.

    `split` is the path of one such list, of several that could be meant, or `none`. Raises DataError for tables of
    which several or none could be meant, where no folder tells the classes either, and where tables and folders tell
    different ones.
    """
    notes: list[str] = []
    errors: dict[Path, InputError] = {}
    found: list[Found] = []
    lists: list[Found] = []
    try:
        folders: Dataset | DataError = arrange(place.listing, place.source, group is None)
    except DataError as error:
        folders = error
    known = frozenset(folders.classes if isinstance(folders, Dataset) else ())
    for where in _where_tables_are(place):
        for folder, of_split, names in where:
            each = _read_all(place, folder, of_split, names, group, (options, known), (notes, errors))
            lists += [table for table in each if not table.labelled]
            found += [table for table in each if table.labelled]
        if any(map(_says_train, found)) and options.label_from != FOLDER:
            break
    refused = {**errors}
    errors |= {each.files[0]: each.error for each in lists if each.error is not None}
    dataset: Dataset | None = None
    if found and options.label_from != FOLDER:
        if isinstance(folders, Dataset) and (more := label_others(place, folders, found, group is None)) is not None:
            dataset = replace(more, notes=(*more.notes, *notes))
        else:
            dataset = _decide(place, found, notes, options)
    if dataset is None:
        if isinstance(folders, DataError):
            raise next(iter(errors.values())) if errors and isinstance(folders, NoClassesError) else folders
        if errors and (len(folders.classes) < 2 or all(map(is_part, folders.classes))):
            raise next(iter(errors.values()))
        if options.label_from != FOLDER and (reason := _about_all(place, folders, refused, options)) is not None:
            raise DataError(f"{reason.args[0]}, or read the folders as classes with --label-from folder")
        if not errors:
            refuse_columns(replace(options, encoding=None) if place.packed else options, place.root)
        dataset = replace(folders, notes=(*folders.notes, *notes))
    return divide(place, dataset, lists, split)


def _about_all(
    place: Place, folders: Dataset, errors: Mapping[Path, InputError], options: TableOptions
) -> InputError | None:
    """Why a table cannot be used that is about most of the images and names no folder of them, None if there is none.

    The folders of such images are parts of a whole, rather than classes.
    """
    import pyarrow.compute

    if not errors:
        return None
    files = place.listing.files.filter(pyarrow.compute.invert(pyarrow.array(are_no_images(place.listing.files))))
    names = pyarrow.compute.replace_substring_regex(files, "(?s)^.*/", "")
    counts = pyarrow.compute.value_counts(pyarrow.compute.replace_substring_regex(names, IMAGE_ENDING, ""))
    # A name that several files have is that of none of them.
    stems = {os.fsdecode(each["values"].as_py()).lower() for each in counts if each["counts"].as_py() == 1}
    classes = {name.lower() for name in folders.classes}
    alike = len({re.sub(r"\d+", "", name) for name in classes} - {""}) == 1
    for file, error in errors.items():
        cells = _words_in(file)
        named = {re.sub(IMAGE_ENDING, "", re.split(r"[/\\]", cell)[-1]) for cell in cells}
        within = set() if alike else {part for cell in cells for part in re.split(r"[/\\]", cell)[:-1]}
        if 2 * len(stems & named) > len(files) and not classes & (cells | within) and _may_say_labels(file, options):
            return error
    return None


def _words_in(file: Path) -> set[str]:
    """The cells of a table of text, in lower case, however they are parted; none of one that is too large."""
    # A pipe or a device would never end.
    if not file.is_file():
        return set()
    try:
        if file.suffix.lower() == ".xlsx":
            return {cell.strip().lower() for row in read_sheet(file) for cell in row}
        path = plain_table(file)
        text = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else b""
    except (OSError, DataError):
        return set()
    parted = re.split(r"[,;|:\s]" if may_be_list(file) else r"[,;|:\t\r\n]", os.fsdecode(text))
    return {cell.strip(" \"'[]{}").lower() for cell in parted}


def _may_say_labels(file: Path, options: TableOptions) -> bool:
    """Whether a column that is not called as something else could hold labels, or none can be read."""
    try:
        columns = Columns(open_grid(file), FileFinder(file.parent, options), options)
        names = columns.grid.names
        others = {*named(names, [each for role in _OTHER_ROLES for each in (*SPELLINGS[role], *SYNONYMS[role])])}
        among = [number for number in range(min(len(names), COLUMNS_AT_ONCE)) if number not in others]
        texts = {number: columns.text(number) for number in among}
    except InputError:
        return True
    return any(columns.repeats(number) and len(text.unique()) > 1 for number, text in texts.items())


def _says_train(table: Found) -> bool:
    """Whether a table may label images to train on: where none does, others further off may."""
    return table.split in (WHOLE, TRAIN) or "split" in table.table.column_names


_Where = list[tuple[Folder, str, list[str]]]


def _where_tables_are(place: Place) -> Iterator[_Where]:
    """Tables by folder: around all images, in folders of splits, and in folders without images of their own."""
    by_folder: dict[tuple[str, ...], list[str]] = {}
    names = place.names(_TABLE)
    unpacked = {*names}
    for name in names:
        *above, _ = name.split("/")
        if Path(name).suffix.lower() in PACKED and name.removesuffix(Path(name).suffix) in unpacked:
            continue
        by_folder.setdefault(tuple(above), []).append(name)
    unended: dict[tuple[str, ...], list[str]] = {}
    for name in place.names(_UNENDED):
        unended.setdefault(tuple(name.split("/")[:-1]), []).append(name)
    for path, names in unended.items():
        if len(names) <= _MOST_UNENDED:
            by_folder.setdefault(path, []).extend(names)
    if not by_folder:
        return
    chain, inner = [place.tree.root], list[Folder]()
    while True:
        inner = [each for each in chain[-1].folders.values() if not SYSTEM.fullmatch(each.name)]
        # Not masks and the like, which pair with the images by name.
        holding = sort_folders(place.tree, chain[-1]).kept
        if len(holding) != 1 or chain[-1].images or split_in_name(holding[0].name) != WHOLE:
            break
        chain.append(holding[0])

    def tables(folders: Sequence[Folder], split: str = WHOLE) -> _Where:
        named = [(each, split, sorted(by_folder.get(each.path, ()))) for each in folders]
        return [(each, split, names) for each, split, names in named if 0 < len(names) <= _MOST_TABLES]

    yield tables(chain)
    splits = splits_of(each.name for each in inner)
    yield [found for each in inner if each.name in splits for found in tables(_alone(each), splits[each.name])]
    beside = [each for folder in chain for each in folder.folders.values() if each not in chain]
    found = []
    while beside:
        folder = beside.pop(0)
        if not folder.all_images or (_ABOUT.fullmatch(folder.name) and not folder.images):
            found.append(folder)
            beside += [each for each in folder.folders.values() if len(folder.path) < _DEPTH]
    yield tables(found)


def _alone(folder: Folder) -> list[Folder]:
    """A folder, and those that are the only one with images in the one before, which has none itself."""
    found = [folder]
    while not found[-1].images:
        inner = [each for each in found[-1].folders.values() if each.all_images]
        if len(inner) != 1:
            break
        found.append(inner[0])
    return found


def _class_folders(place: Place) -> set[str]:
    """The names of folders that may be classes: in the folder or below its splits."""
    root = place.tree.root.folders.values()
    above = [folder for folder in root if folder.name.lower() in SPLIT_FOLDERS]
    children = [*root, *(child for folder in above for child in folder.folders.values())]
    return {child.name for child in children if child.name.lower() not in SPLIT_FOLDERS and child.all_files}


def _read_all(
    place: Place,
    folder: Folder,
    split: str,
    names: list[str],
    group: str | None,
    understanding: tuple[TableOptions, frozenset[str]],
    told: tuple[list[str], dict[Path, InputError]],
) -> list[Found]:
    """The tables in a folder that say something of images."""
    (options, known), (notes, errors) = understanding, told
    beside = not folder.all_images or _ABOUT.fullmatch(folder.name) is not None
    # A table beside images starts from its folder, one in a folder of its own from anywhere.
    start = place.root if beside else place.root.joinpath(*folder.path)
    files = []
    # As YOLO's labels are: a text for each image, of its name.
    stems = "|".join(re.escape(Path(name).stem) for name in names if Path(name).suffix.lower() in LIST_ENDINGS)
    images = {Path(image).stem for image in place.names(rf"(^|/)({stems}){IMAGE_ENDING[4:]}")} if stems else set()
    of_one_image = {name for name in names if Path(name).suffix.lower() in LIST_ENDINGS and Path(name).stem in images}
    for name in names:
        if name in of_one_image:
            continue
        if re.search(_ANSWERS, name.rpartition("/")[2]) and Path(name).suffix.lower() in ENDINGS:
            notes.append(f"{Path(name).name} was not used, since its name says that it is made from the images")
            continue
        try:
            file = place.file(name)
            of_a_run = file.name == _OF_A_RUN[0] and _begins_with(file, _OF_A_RUN[1])
        except OSError as error:
            notes.append(f"{Path(name).name} was not used, since it cannot be read ({error})")
            continue
        if of_a_run:
            notes.append(f"{file.name} was not used, since it is like that of a run: --split-file FILE uses it")
        else:
            files.append(file)
    finder = FileFinder(start, options, place=place)
    joined = join_lists(files, finder, options) or labels_by_number(files, finder)
    found = []
    if joined is not None:
        if others := [file.name for file in files if file not in joined.files]:
            notes.append(f"{first_three(others)} {'was' if len(others) == 1 else 'were'} not used beside {joined.name}")
        files = []
        found.append(_placed(replace(joined, split=split, beside=beside), finder.root, place))
    for pair in join_lines(files, finder):
        files = [file for file in files if file not in pair.files]
        own = pair.split if split == WHOLE else split
        found.append(_placed(replace(pair, split=own, beside=beside), finder.root, place))
    for file in files:
        finder = FileFinder(start, options, file.stem, place)
        try:
            if may_be_list(file) and not names_images(file, finder):
                continue
            each = _read(file, finder, group, options, known)
        except InputError as error:
            listed = read_list(file) if re.search(LISTS, file.name) else ()
            # What names the classes by their numbers is no table of images.
            notes += [f"{file.name} was not used: {error}"] * (not listed)
            errors |= {} if isinstance(listed, Mapping) else {file: error}
            continue
        if each is not None:
            own = split_in_name(file.stem) if split == WHOLE else split
            found.append(_placed(replace(each, split=own, beside=beside), finder.root, place))
    return found


def _begins_with(file: Path, text: bytes) -> bool:
    if not file.is_file():
        # A pipe would never end.
        return False
    with file.open("rb") as opened:
        return opened.read(len(text)) == text


def _read(
    file: Path, finder: FileFinder, group: str | None, options: TableOptions, known: frozenset[str]
) -> Found | None:
    """A table whose rows lead to images, None if none does. Raises DataError for one without labels that is no list.

    Of columns that could be the labels, the one that names `known` classes is.
    """
    reason: DataError | None = None
    try:
        understood = understood_table(file, finder, options, group)
    except DataError as error:
        columns = Columns(open_grid(file), finder, options)
        origins = named(columns.grid.names, (*SPELLINGS["group"], *SYNONYMS["group"]))
        others = [number for number in range(len(columns.grid.names)) if number not in origins]
        label = columns.first_that_says_only(others, known)
        if label is not None and options.label_column is None:
            return _read(file, finder, group, replace(options, label_column=str(label + 1)), known)
        with_paths = understood_table(file, finder, options, group, labelled=False)
        if "split" not in with_paths.table.column_names and split_in_name(file.stem) == WHOLE:
            raise
        located = finder.locate(with_paths.table["path"].combine_chunks())
        if located.there.sum() < LISTED_SHARE * len(located.there):
            raise error
        understood, reason = with_paths, error
    located = finder.locate(understood.table["path"].combine_chunks())
    if not located.there.any():
        if located.reasons:
            # Not just a table about something else.
            arrange_table(file.stem, finder, understood.table)
        return None
    finder.refuse_masks(located, file.name)
    table = understood.table
    table = table.set_column(table.column_names.index("path"), "path", located.paths)
    return Found((file,), table, located.there, (*understood.notes, *located.notes), error=reason)


def _placed(found: Found, start: Path, place: Place) -> Found:
    """A table with its paths from the place on."""
    folder = Path(os.path.relpath(start, place.root))
    return replace(found, table=starting_from(found.table, folder))


def _decide(place: Place, found: list[Found], notes: list[str], options: TableOptions) -> Dataset | None:
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
            f"one that is meant as DATA, as in {chosen[0].files[0]}, or --label-from folder where folders are classes"
        )
    notes += [f"{each.name} was not used beside {chosen[0].name}" for each in found if each not in chosen]
    folders, names_of_folders, called = _against_folders(chosen)
    by_table = by_split or any("split" in each.table.column_names for each in chosen)
    said_again = chosen[0].beside and names_of_folders >= set().union(*(each.labels() for each in chosen))
    if not by_table and (folders == _SAME or said_again):
        notes += [f"{each.name} was not used, since the folders tell the classes" for each in chosen if each.beside]
        return None
    if folders == _NESTED:
        parents = first_three(sorted(_class_folders(place)))
        raise DataError(
            f"expected one meaning of {place.listing.name}, got labels in {chosen[0].name} and in folders ({parents}): "
            f"give {chosen[0].files[0]} as DATA for the first, or --label-from folder for the second"
        )
    if folders == _OTHER:
        notes.append(
            f"labels are those of {chosen[0].name}, not the folders of the images: --label-from folder takes these"
        )
    notes[:0] = [note for each in chosen for note in each.notes]
    table = _by_folder(join_tables([each.table for each in chosen], [each.split for each in chosen]))
    finder = FileFinder(root, replace(options, image_dir=None), place=place)
    name = chosen[0].files[0].stem if len(chosen) == 1 else place.listing.name
    dataset = arrange_table(name, finder, table, notes)
    if folders == _SAME and all(map(CODE.fullmatch, dataset.classes)) and not all(map(CODE.fullmatch, called.values())):
        dataset = renamed(dataset, called, f"classes are called as the folders that {chosen[0].name} numbers")
    tables = binary_array(os.fsencode(file.relative_to(root)) for each in chosen for file in each.files)
    located = pyarrow.concat_arrays([table["path"].combine_chunks(), tables])
    return replace(_with_strangers(dataset, place, located), name=place.listing.name)


def _by_folder(table: pyarrow.Table) -> pyarrow.Table:
    """With the outermost folder of each path as its split, if the table has no splits and all of these are some."""
    import pyarrow.compute

    if "split" in table.column_names:
        return table
    first = pyarrow.compute.replace_substring_regex(table["path"], "(?s)/.*$", "").combine_chunks()
    names = {os.fsdecode(name.as_py()).lower() for name in first.unique()}
    return table.append_column("split", first.cast(pyarrow.large_string())) if names <= SPLIT_FOLDERS.keys() else table


def _with_strangers(dataset: Dataset, place: Place, located: pyarrow.LargeBinaryArray) -> Dataset:
    """The dataset with the images that no table names in `left_out`."""

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
        f"{'it' if len(names) == 1 else 'them'} ({first_three(names)})"
    )
    left_out = {**dataset.left_out, **dict.fromkeys(names, "no table names it")}
    return replace(dataset, notes=(*dataset.notes, note), left_out=left_out)


# How the folders of the images compare with the labels in tables: they tell nothing, the same, parts, something else.
_NOTHING, _SAME, _NESTED, _OTHER = range(4)


def _against_folders(found: list[Found]) -> tuple[int, set[str], dict[str, str]]:
    """How they compare, the names of the folders, and the folder of each label where they tell the same."""
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
