"""Tables in a folder or archive of images: `labels.csv` beside `images/`, `train.csv` and `test.csv`, `meta/train.txt`.

A table counts if its rows lead to images in the folder; `tables_or_folders` decides whether tables or folders give the
classes. Lists of images without labels divide the labelled images into splits.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from graft.class_lists import read_list
from graft.data.dataset import TRAIN, WHOLE, Dataset
from graft.data.readers.aside import SYSTEM, sort_folders
from graft.data.readers.class_lists import LISTS
from graft.data.readers.column_cells import COLUMNS_AT_ONCE, Columns
from graft.data.readers.column_names import SPELLINGS, SYNONYMS, named
from graft.data.readers.file_labels import read_named_after_classes
from graft.data.readers.finding_files import FileFinder
from graft.data.readers.folder_tree import Folder, are_no_images
from graft.data.readers.found_table import Found
from graft.data.readers.grid import ENDINGS, LIST_ENDINGS, open_grid
from graft.data.readers.joined_lists import join_lists
from graft.data.readers.line_lists import join_lines, labels_by_number
from graft.data.readers.place import Place
from graft.data.readers.split_lists import LISTED_SHARE, divide, label_others
from graft.data.readers.split_names import is_part, split_in_name, splits_of
from graft.data.readers.table import (
    arrange_table,
    located_by_split,
    may_be_list,
    names_images,
    starting_from,
    understood_table,
)
from graft.data.readers.tables_or_folders import decide
from graft.data.readers.tree import NoClassesError, arrange
from graft.data.readers.voc_annotations import read_voc, without_other_lists
from graft.data.table_options import FOLDER, NO_COLUMN, TableOptions, refuse_columns
from graft.endings import IMAGE_ENDING
from graft.errors import DataError, InputError
from graft.on_disk import in_one_spelling
from graft.packed_tables import PACKED, plain_table
from graft.spreadsheet import read_sheets
from graft.words import first_few

# Other XML files describe one image each.
_IN_FOLDERS = "|".join(re.escape(each) for each in sorted({*ENDINGS, *LIST_ENDINGS} - {".xml"}))
_TABLE = rf"(?i)(({_IN_FOLDERS})({'|'.join(map(re.escape, PACKED))})?|(^|/)annotations\.xml)$"
# Submission forms, and tables of results that programs computed from the images.
_ANSWERS = r"(?i)submi|predict|results?\b|audit"
# The name and the first bytes of the split file that graft writes for a run.
_OF_A_RUN = ("split.csv", b"path,label,split")
# What COCO says of the same images for other tasks than their objects.
_OF_OTHER_TASKS = re.compile(r"(?i)(.*/)?(?:person_keypoints|captions|stuff|panoptic|image_info)_([^/]+\.json)")
# Folders for information about images, even if they hold masks too.
_ABOUT = re.compile(r"(?i)annotations?|labels?|meta([ _-]?data)?|splits?|lists?|tables?|csvs?|txts?|imagesets?|ann")
# Names without an ending: a few in a folder may be tables; more than this are images.
_UNENDED, _MOST_UNENDED = r"(^|/)[^./]+$", 3
# Larger tables are not searched for names; columns with these roles hold no labels.
_MOST_BYTES, _OTHER_ROLES = 2**27, ("split", "group", "weight")
# A folder with more tables has one per image; tables are searched for this deep below the images' folder.
_MOST_TABLES, _DEPTH = 60, 3


def read_place(place: Place, group: str | None, options: TableOptions, split: str | None = None) -> Dataset:
    """Read a Dataset from the tables of a place or its folders of classes, divided by its lists of splits, if any.

    `split` is the path of one list where several could be meant, or `none`. Raises DataError if several tables or none
    could be meant and no folders give the classes either, and if tables and folders give different classes.
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
    for where in _where_tables_are(place, named_list=split):
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
            dataset = decide(place, found, notes, options)
    if dataset is None:
        if isinstance(folders, DataError):
            none = isinstance(folders, NoClassesError)
            elsewhere = read_voc(place, options) if none and options.label_from != FOLDER else None
            if elsewhere is None and none and not errors and options.label_from != FOLDER:
                elsewhere = read_named_after_classes(place)
            if elsewhere is None:
                raise next(iter(errors.values())) if errors and none else _also_by_table(folders, errors)
            folders, errors = elsewhere, {}
        if errors and (len(folders.classes) < 2 or all(map(is_part, folders.classes))):
            raise next(iter(errors.values()))
        if options.label_from != FOLDER and (reason := _about_all(place, folders, refused, options)) is not None:
            raise DataError(f"{reason.args[0]}, or read the folders as classes with --label-from folder")
        unused = replace(options, encoding=None) if place.packed else options
        if lists and errors:
            # The lists were read by these, though they hold no labels.
            unused = replace(unused, path_column=None, split_column=None)
        if not errors or any(getattr(unused, f"{role}_column") is not None for role in SPELLINGS):
            refuse_columns(unused, place.root, *_unread_tables(place, unused, errors))
        dataset = replace(folders, notes=(*folders.notes, *notes))
    return divide(place, dataset, lists, split)


def _also_by_table(of_folders: DataError, errors: Mapping[Path, InputError]) -> DataError:
    """Return the error of folders that cannot be read, with why the first table beside them was not read instead."""
    if not errors:
        return of_folders
    file, reason = next(iter(errors.items()))
    return type(of_folders)(f"{of_folders}; or have the labels read from {file.name}, which was not used: {reason}")


def _unread_tables(place: Place, options: TableOptions, errors: Mapping[Path, InputError]) -> tuple[str, str]:
    """What the tables of a place that is read without them say of the columns in `options`, and which one to give."""
    given = [each for role in SPELLINGS if (each := options.column(role)) is not None] + [*options.label_columns]
    given = [each for each in given if each != NO_COLUMN]
    if not given:
        return "", ""
    having, lacking = dict[str, str](), dict[str, str]()
    for name in sorted(place.names(_TABLE), key=lambda name: (name.count("/"), name))[:_MOST_TABLES]:
        if Path(name).suffix.lower() in LIST_ENDINGS:
            continue
        with suppress(InputError, OSError):
            file = place.file(name)
            # A pipe would never end, and a large table takes long.
            names = open_grid(file).names if file.is_file() and file.stat().st_size <= _MOST_BYTES else ()
            absent = [each for each in given if not named(names, [each])]
            if names and absent:
                lacking[name] = f"no column {' and '.join(map(repr, absent))} in {name}"
            elif names:
                reason = f" but was not used: {errors[file]}" if file in errors else ""
                having[name] = f"{name} has {' and '.join(map(repr, given))}{reason}"
    if having:
        return "; ".join([*having.values()][:3]), f"give {place.root / next(iter(having))}"
    return "; ".join([*lacking.values()][:3]) or "a folder has no columns", "" if lacking else "give a table"


def _about_all(
    place: Place, folders: Dataset, errors: Mapping[Path, InputError], options: TableOptions
) -> InputError | None:
    """Return the error of a table about most of the images that names none of their folders, None if there is none.

    The folders of such images are parts of a whole rather than classes.
    """
    import pyarrow.compute

    if not errors:
        return None
    files = place.listing.files.filter(pyarrow.compute.invert(pyarrow.array(are_no_images(place.listing.files))))
    names = pyarrow.compute.replace_substring_regex(files, "(?s)^.*/", "")
    counts = pyarrow.compute.value_counts(pyarrow.compute.replace_substring_regex(names, IMAGE_ENDING, ""))
    # A name that several files share identifies none of them.
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
    """The cells of a text table in lower case, whatever separates them; empty for a table that is too large."""
    # A pipe or a device would never end.
    if not file.is_file():
        return set()
    try:
        if file.suffix.lower() == ".xlsx":
            return {cell.strip().lower() for sheet in read_sheets(file) for row in sheet.rows for cell in row}
        path = plain_table(file)
        text = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else b""
    except (OSError, DataError):
        return set()
    parted = re.split(r"[,;|:\s]" if may_be_list(file) else r"[,;|:\t\r\n]", os.fsdecode(text))
    return {cell.strip(" \"'[]{}").lower() for cell in parted}


def _may_say_labels(file: Path, options: TableOptions) -> bool:
    """Whether any column without a name for another role could hold labels, or the table cannot be read."""
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
    """Whether a table may label training images; if none does, tables further away may."""
    return table.split in (WHOLE, TRAIN) or "split" in table.table.column_names


_Where = list[tuple[Folder, str, list[str]]]


def _where_tables_are(place: Place, named_list: str | None = None) -> Iterator[_Where]:
    """Yield tables by folder: around all images, in folders of splits, and in folders without images of their own.

    Of VOC's lists, those are left out that say nothing new; the user may have named one that counts.
    """
    by_folder: dict[tuple[str, ...], list[str]] = {}
    names = place.names(_TABLE)
    if place.names(r"(?i)\.xml$"):
        names = without_other_lists(names, named_list)
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
        # Excludes masks and the like, which pair with the images by name.
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
    """A folder and, while the last one has no images of its own, the only folder in it that has any."""
    found = [folder]
    while not found[-1].images:
        inner = [each for each in found[-1].folders.values() if each.all_images]
        if len(inner) != 1:
            break
        found.append(inner[0])
    return found


def _read_all(
    place: Place,
    folder: Folder,
    split: str,
    names: list[str],
    group: str | None,
    understanding: tuple[TableOptions, frozenset[str]],
    told: tuple[list[str], dict[Path, InputError]],
) -> list[Found]:
    """Read the tables in a folder that are about images."""
    (options, known), (notes, errors) = understanding, told
    beside = not folder.all_images or _ABOUT.fullmatch(folder.name) is not None
    # Paths in a table beside images start at its folder; those in a table in a folder of its own may lead anywhere.
    start = place.root if beside else place.root.joinpath(*folder.path)
    files = []
    # YOLO's labels, for example: one text file per image, with the image's name.
    stems = "|".join(re.escape(Path(name).stem) for name in names if Path(name).suffix.lower() in LIST_ENDINGS)
    images = {Path(image).stem for image in place.names(rf"(^|/)({stems}){IMAGE_ENDING[4:]}")} if stems else set()
    names = _without_other_tasks(names, notes)
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
            notes.append(
                f"{file.name} was not used, since it looks like the split file of a run: --split-file FILE uses it"
            )
        else:
            files.append(file)
    finder = FileFinder(start, options, place=place)
    joined = join_lists(files, finder, options) or labels_by_number(files, finder)
    found = []
    if joined is not None:
        if others := [file.name for file in files if file not in joined.files]:
            notes.append(f"{first_few(others)} {'was' if len(others) == 1 else 'were'} not used beside {joined.name}")
        files = []
        found.append(_placed(replace(joined, split=split, beside=beside), finder.root, place))
    for pair in join_lines(files, finder):
        files = [file for file in files if file not in pair.files]
        own = pair.split if split == WHOLE else split
        found.append(_placed(replace(pair, split=own, beside=beside), finder.root, place))
    for file in files:
        finder = FileFinder(start, options, file.stem, place, split)
        try:
            if may_be_list(file) and not names_images(file, finder):
                continue
            each = _read(file, finder, group, options, known)
        except InputError as error:
            listed = read_list(file) if re.search(LISTS, file.name) else ()
            # A list that numbers the classes is not a table of images.
            notes += [f"{file.name} was not used: {error}"] * (not listed)
            errors |= {} if isinstance(listed, Mapping) else {file: error}
            continue
        if each is not None:
            own = split_in_name(file.stem) if split == WHOLE else split
            found.append(_placed(replace(each, split=own, beside=beside), finder.root, place))
    return found


def _without_other_tasks(names: list[str], notes: list[str]) -> list[str]:
    """The tables without those of COCO that say other things of the images of an `instances_*.json`; adds notes."""
    known = {name.lower(): name for name in names}
    beside: dict[str, list[str]] = {}
    for name in names:
        if other := _OF_OTHER_TASKS.fullmatch(name):
            objects = known.get(f"{other[1] or ''}instances_{other[2]}".lower())
            if objects is not None:
                beside.setdefault(objects, []).append(name)
    for objects, others in beside.items():
        shown = first_few(Path(name).name for name in others)
        notes.append(f"{shown} {'was' if len(others) == 1 else 'were'} not used beside {Path(objects).name}")
    return [name for name in names if not any(name in others for others in beside.values())]


def _begins_with(file: Path, text: bytes) -> bool:
    if not file.is_file():
        # A pipe would never end.
        return False
    with file.open("rb") as opened:
        return opened.read(len(text)) == text


def _read(
    file: Path, finder: FileFinder, group: str | None, options: TableOptions, known: frozenset[str]
) -> Found | None:
    """A table whose rows lead to images, or None if none does. Raises DataError if it has no labels and is no list.

    Among columns that could be the labels, the one that names the `known` classes is chosen.
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
    located = located_by_split(finder, understood.table)
    if not located.there.any():
        if located.reasons:
            # Not merely a table about something else: `arrange_table` reports the reasons.
            arrange_table(file.stem, finder, understood.table)
        return None
    finder.refuse_masks(located, file.name)
    table = understood.table
    table = table.set_column(table.column_names.index("path"), "path", located.paths)
    return Found((file,), table, located.there, (*understood.notes, *located.notes), error=reason)


def _placed(found: Found, start: Path, place: Place) -> Found:
    """A table with its paths relative to the place."""
    folder = Path(os.path.relpath(start, place.root))
    table = starting_from(found.table, folder)
    spelled = in_one_spelling(place.root, table["path"].combine_chunks())
    return replace(found, table=table.set_column(table.column_names.index("path"), "path", spelled))
