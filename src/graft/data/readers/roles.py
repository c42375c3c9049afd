"""Which column of a table has which role: by graft's own names, by names that the values confirm, or as the user says.

Notes tell which columns are read, and which look as if they should be but are not. If two columns are equally likely,
neither is chosen: the error names both and the option that decides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from graft.data.readers.column_cells import NAMED_ABOUT_IMAGES, NAMED_SHARE, Columns, pixels_in
from graft.data.readers.column_names import SPELLINGS, SYNONYMS, given_column, named, plain_name
from graft.data.readers.columns import told_missing
from graft.data.readers.finding_files import FileFinder
from graft.data.readers.grid import Grid
from graft.data.readers.more_roles import given_groups, groups, seeming_groups, splits, weights
from graft.data.readers.several_labels import (
    disagreements,
    first_slip,
    labels_of_columns,
    labels_of_one_hot,
    one_hot_columns,
    refuse_structures,
    refuse_twice,
    single_labels,
    taken_for_no,
    together_by_path,
)
from graft.data.readers.uses import numbers_in
from graft.data.table_options import TableOptions
from graft.errors import DataError

if TYPE_CHECKING:
    import pyarrow

# The share of cells that must be found on disk if the column has no name for paths.
_UNNAMED_SHARE = 0.9
# How many columns an error suggests as that of the labels.
_MOST_LIKELY = 6


@dataclass(frozen=True)
class Understood:
    """The columns of a table by role: `path` as large_binary, the others as `columns.as_text` returns them.

    `used` says which column has each role, as messages call it.
    """

    table: pyarrow.Table
    notes: tuple[str, ...] = ()
    used: Mapping[str, str] = field(default_factory=dict)


def understand(
    grid: Grid, finder: FileFinder, options: TableOptions, group: str | None = None, labelled: bool = True
) -> Understood:
    """Find what the columns of a table mean, by `options` where these say so; `group` also names the column of groups.

    Without `labelled`, no labels are looked for. Raises DataError for a table without a column of paths or labels, or
    with several that could be either, and for cells with several labels or with the next row in them.
    """
    try:
        return _understand(grid, finder, options, group, labelled)
    except DataError:
        if grid.unquoted is None:
            raise
        with suppress(DataError):
            plain = understand(grid.unquoted, finder, options, group, labelled)
            if finder.locate(plain.table["path"].combine_chunks()).there.mean() >= NAMED_SHARE:
                note = f"{grid.path.name}: double quotes were read as part of the cells, since they are not in pairs"
                return replace(plain, notes=(note, *plain.notes))
        raise


def _understand(grid: Grid, finder: FileFinder, options: TableOptions, group: str | None, labelled: bool) -> Understood:
    import pyarrow
    import pyarrow.compute

    reader = Columns(grid, finder, options)
    if pixels_in(grid, options):
        raise DataError(
            f"expected paths of images in {grid.path.name}, got the pixels of images themselves: give it alone as "
            "DATA, or with others such as it in a folder without images"
        )
    path = _path(reader)
    if path is None:
        if grid.unnamed is not None and not _has_known_names(grid):
            # What was read as names may be the first image.
            with suppress(DataError):
                return understand(grid.unnamed, finder, options, group, labelled)
        called = named(grid.names, (*SPELLINGS["path"], *SYNONYMS["path"]))
        reader.refuse_same_names(called)
        likely = [f"; if {reader.shown(each)} names them" for each in called if reader.mostly_distinct(each)]
        advice = f"{likely[0]}, say with --image-dir where the images are" if likely else ""
        raise reader.nothing("path", f"rename or add it, or name it with --path-column{advice}")
    if grid.unnamed is not None and not _has_known_names(grid) and reader.is_file(grid.names[path]):
        return understand(grid.unnamed, finder, options, group, labelled)
    columns = {"path": reader.paths(path)}
    used = {"path": reader.shown(path)}
    if labelled:
        columns["label"], used["label"] = labels(reader, path)
        if options.multi_label:
            # An empty cell is an image without a label, unless nobody has labelled it.
            blank = pyarrow.compute.equal(columns["label"], "")
            if reader.unlabelled is not None:
                blank = pyarrow.compute.and_not(blank, reader.unlabelled)
            columns["label"] = pyarrow.compute.if_else(blank, "[]", columns["label"])
    elif len(grid.names) == 1:
        return Understood(pyarrow.table(columns))
    # A column of folds that is to keep images together is not said to be unused as that of splits.
    if (given := given_groups(reader, group)) is not None:
        reader.taken.add(given)
    found = {"split": splits(reader), "group": groups(reader, group), "weight": weights(reader)}
    for role, column in found.items():
        if column is not None:
            number, columns[role] = column
            used[role] = reader.shown(number)
    for role, cells in columns.items():
        if role != "label" or options.pattern is None:
            _refuse_swallowed(grid, finder, role, cells)
    notes = [*grid.notes, *reader.notes, *_told_namesakes(reader, used)]
    if labelled and group is None and not reader.refused("group") and not used.keys() & {"group", "split"}:
        taken = {path, *reader.taken, *(column[0] for column in found.values() if column is not None)}
        notes += seeming_groups(reader, columns["label"], taken)
    # Columns with graft's own names need no note unless they decide weights or groups.
    own = {role: {*map(plain_name, SPELLINGS[role])} for role in ("path", "label", "split")}
    if any(plain_name(name) not in own.get(role, ()) for role, name in used.items()):
        what = ", ".join(f"{role} from {name}" for role, name in used.items())
        notes.insert(0, f"{grid.path.name}: {what}")
    if grid.western:
        notes.insert(0, f"{grid.path.name} is not in UTF-8 and was read as Windows-1252: save it as UTF-8")
    table = pyarrow.table(columns)
    if labelled and options.multi_label and (grid.answers or {"annotation_id", "annotator"} <= set(grid.names)):
        notes += disagreements(table)
    return Understood(together_by_path(table) if labelled and options.multi_label else table, tuple(notes), used)


def _told_namesakes(columns: Columns, used: Mapping[str, str]) -> list[str]:
    """Notes on columns that have the name of a column that is used, and other cells."""
    notes = []
    for role, shown in used.items() if columns.grid.named else ():
        # The user may have numbered one of them.
        if (columns.options.column(role) or "").strip().isdigit():
            continue
        first = next((number for number in range(len(columns.grid.names)) if columns.shown(number) == shown), None)
        if first is None or not plain_name(columns.grid.names[first]):
            continue
        alike = [number for number, name in enumerate(columns.grid.names) if plain_name(name) == plain_name(shown)]
        others = [each for each in alike if each != first and not columns.sure(each).equals(columns.sure(first))]
        if others:
            notes.append(
                f"columns {first + 1} and {' and '.join(str(each + 1) for each in others)} of {columns.grid.path.name} "
                f"are called {shown} and differ, and column {first + 1} was read: --{role}-column {others[0] + 1} "
                "reads the other"
            )
    return notes


def _refuse_swallowed(grid: Grid, finder: FileFinder, role: str, cells: pyarrow.ChunkedArray) -> None:
    """Raise DataError for a cell that begins with a double quote and so holds the beginning of the next row."""
    import pyarrow.compute

    if grid.line_of is None:
        return
    # In a list of several labels, newlines and tabs are written as in JSON. A cell that goes on in the next line, as an
    # address may, holds the rest of a row and the beginning of the next only with as many separators as a row has.
    over = pyarrow.compute.match_substring_regex(cells, r"[\r\n]|[^\\]\\[rn]")
    between = re.escape(grid.separator) + (r"|\\t" if grid.separator == "\t" else "")
    parted = pyarrow.compute.count_substring_regex(cells, between)
    whole_row = pyarrow.compute.greater_equal(parted, max(len(grid.names) - 1, 1))
    rows = np.flatnonzero(pyarrow.compute.and_(over, whole_row).to_numpy())
    if role == "path" and len(rows):
        # The name of a file may have both.
        rows = rows[~finder.locate(cells.combine_chunks().take(rows)).there]
    if len(rows):
        cell = cells[int(rows[0])].as_py()
        shown = cell.decode(errors="replace") if isinstance(cell, bytes) else cell
        raise DataError(
            f"expected a row in each line of {grid.path.name}, got a {role} that goes on in the next line, in line "
            f"{grid.line_of(int(rows[0]))} ({shown[:40]!r}): remove the double quote that it begins with, or write it "
            'as """'
        )


def _has_known_names(grid: Grid) -> bool:
    return bool(named(grid.names, [each for role in ("path", "label") for each in SPELLINGS[role]]))


def _path(columns: Columns) -> int | None:
    """The column of paths, or None if there is none. Raises DataError if several could be it."""
    if (given := columns.given("path")) is not None:
        return given
    own, others = (named(columns.grid.names, names["path"]) for names in (SPELLINGS, SYNONYMS))
    of_labels = named(columns.grid.names, SPELLINGS["label"])
    for column in (*own, *others):
        if columns.found_share(column) >= NAMED_SHARE and (column in own or columns.mostly_distinct(column)):
            if beside := columns.naming_other_images(column):
                if column not in own:
                    raise columns.either("path", [column, *beside])
                columns.notes.append(
                    f"images are those in {columns.shown(column)}, and others are in "
                    f"{' and '.join(map(columns.shown, beside))}: --path-column chooses"
                )
            return column
    if own:
        return own[0]
    rest = [column for column in range(len(columns.grid.names)) if column not in (*others, *of_labels)]
    rest = [
        column
        for column in rest
        if not re.search(NAMED_ABOUT_IMAGES, columns.grid.names[column])
        and columns.mostly_distinct(column)
        and columns.found_share(column) >= _UNNAMED_SHARE
    ]
    if len(rest) > 1:
        raise columns.either("path", rest)
    if rest:
        return rest[0]
    # None of these paths may lead to a file; missing files are reported later.
    return next((column for column in others if columns.looks_like_paths(column)), None)


def labels(columns: Columns, path: int) -> tuple[pyarrow.ChunkedArray, str]:
    """The label of each row, empty where there is none, and its source; `path` is -1 if no column holds paths.

    Raises DataError if there is no column of labels, and for cells with several labels.
    """
    where = columns.grid.path.name
    if (pattern := columns.options.pattern) is not None:
        return _from_names(columns.paths(path), pattern), "the names of files"
    if columns.options.label_columns:
        hot = [given_column("label", each, columns.grid.names, where) for each in columns.options.label_columns]
        names, texts = [columns.grid.names[number] for number in hot], [columns.text(number) for number in hot]
        found = labels_of_columns(names, texts, where)
        columns.taken.update(hot)
        return found, _of_yes_and_no(columns, names, texts)
    column = columns.given("label")
    if column is None:
        column = _label_by_name(columns, path)
    if column is None:
        taken = [
            path,
            *(each for role in ("split", "group", "weight") if (each := _claimed(columns, role)) is not None),
        ]
        rest = [number for number in range(len(columns.grid.names)) if number not in taken]
        hot = _one_hot(columns, rest, path)
        if len(hot) > 1:
            names = [columns.grid.names[number] for number in hot]
            texts = [columns.text(number) for number in hot]
            refuse_twice(names, f"columns of {where}")
            found = labels_of_one_hot(names, texts, columns.paths(path), where, columns.options.multi_label)
            return found, _of_yes_and_no(columns, names, texts)
        # A split is not a class, however few words it uses.
        about_splits = {*columns.about_splits(), *columns.saying_splits()}
        rest = [number for number in rest if number not in about_splits and columns.repeats(number)]
        # A column that is the same in all rows distinguishes nothing.
        rest = [number for number in rest if len(columns.labels(number).unique()) > 1 or len(columns.text(number)) < 2]
        if len(columns.grid.names) > 2 and columns.grid.named and rest:
            # What may name a patient is the least likely class.
            origins = named(columns.grid.names, SYNONYMS["group"])
            likely = sorted(rest, key=lambda number: number in origins)[:_MOST_LIKELY]
            shown = " or ".join(f"--label-column {columns.grid.names[number].strip()!r}" for number in likely)
            raise columns.nothing("label", f"rename it or name it, as in {shown}")
        column = _one_of(columns, rest)
    if column is None:
        for number in (number for number in range(len(columns.grid.names)) if number != path):
            # If the cells are not text, this raises that as the reason.
            columns.text(number)
        raise columns.nothing("label", "rename or add it, or name it with --label-column")
    columns.taken.add(column)
    columns.notes += told_missing(columns.text(column), f"{columns.shown(column)} of {where}")
    refuse_structures(columns.labels(column), f"{columns.shown(column)} of {where}")
    if columns.options.multi_label:
        return columns.labels(column), columns.shown(column)
    return single_labels(columns.labels(column), f"{columns.shown(column)} of {where}"), columns.shown(column)


def _of_yes_and_no(columns: Columns, names: Sequence[str], texts: Sequence[pyarrow.ChunkedArray]) -> str:
    """What to call the columns that say yes and no; adds notes on cells taken for no, and on classes without a yes."""
    columns.notes += taken_for_no(names, texts)
    never = [name.strip() for name, text in zip(names, texts, strict=True) if not one_hot_columns([text])[1]]
    if columns.options.multi_label and never:
        columns.notes.append(f"no row is positive for {', '.join(map(repr, never[:6]))}: nothing can be learned")
    return f"the columns {', '.join(map(repr, names[:4]))}{', …' if len(names) > 4 else ''}"


def _claimed(columns: Columns, role: str) -> int | None:
    given = None if columns.refused(role) else columns.given(role)
    return next(iter([given] if given is not None else named(columns.grid.names, SPELLINGS[role])), None)


def _label_by_name(columns: Columns, path: int) -> int | None:
    own = [column for column in named(columns.grid.names, SPELLINGS["label"]) if column != path]
    if len(own) > 1:
        own = [column for column in own if column not in columns.saying_splits()] or own
    if own:
        others = [column for column in own[1:] if not columns.say_the_same(own[0], column)]
        if others:
            columns.notes.append(
                f"{' and '.join(map(columns.shown, others))} could be the label as well as {columns.shown(own[0])}: "
                "--label-column chooses"
            )
        words = [column for column in named(columns.grid.names, SYNONYMS["label"]) if column not in (path, *own)]
        # A class number beside the class name.
        return _one_of(columns, [own[0], *(column for column in words if columns.say_the_same(own[0], column))])
    synonyms = [column for column in named(columns.grid.names, SYNONYMS["label"]) if column != path]
    # A `type` column of train and test is not a class.
    synonyms = [column for column in synonyms if column not in columns.saying_splits()]
    # Sets of labels need not repeat.
    several = columns.options.multi_label and len(synonyms) == 1
    return _one_of(columns, [column for column in synonyms if several or columns.repeats(column)])


def _one_of(columns: Columns, among: Sequence[int]) -> int | None:
    """The only column given, or the one in words if all say the same. Raises DataError if they differ."""
    if len(among) < 2:
        return next(iter(among), None)
    unlike = [column for column in among[1:] if not columns.say_the_same(among[0], column)]
    if unlike:
        raise columns.either("label", [among[0], *unlike])
    return min(among, key=lambda column: _in_numbers(columns.text(column)))


def _in_numbers(column: pyarrow.ChunkedArray) -> bool:
    """Whether labels are numbers or lists of numbers, for example `[0, 1, 0]`."""
    import pyarrow.compute

    lists = pyarrow.compute.match_substring_regex(column, r"^\[[\d., ]*\]$")
    return bool(np.isfinite(numbers_in(column)).any() or pyarrow.compute.all(lists).as_py())


def _one_hot(columns: Columns, among: Sequence[int], path: int) -> list[int]:
    """The columns that say yes and no. Raises DataError for a column that would if not for a few cells."""
    about_splits = {*columns.about_splits(), *columns.saying_splits()}
    rest = [column for column in among if column not in about_splits]
    try:
        texts = [columns.text(column) for column in rest]
    except DataError:
        return []
    hot, saying_yes = one_hot_columns(texts)
    for number in range(len(rest)) if len(hot) > 1 or columns.options.multi_label else ():
        if number not in hot and (row := first_slip(texts[number])) is not None:
            of_image = f" ({columns.paths(path)[row].as_py().decode(errors='replace')})" if path >= 0 else ""
            raise DataError(
                f"expected 0 or 1 in the column {columns.shown(rest[number])} of {columns.grid.path.name}, as in nearly"
                f" all of its rows, got {texts[number][row].as_py()!r} in row {row}, counted from 0{of_image}: correct "
                "it, or remove the column if it is no class"
            )
    # Columns of counts may happen to hold only 0 and 1.
    return [rest[number] for number in hot] if len(hot) == len(rest) or saying_yes > 1 else []


def _from_names(paths: pyarrow.ChunkedArray, pattern: re.Pattern[str]) -> pyarrow.ChunkedArray:
    """What the group of `pattern` matches in each path, large_string, empty where nothing matches."""
    import pyarrow

    found = (pattern.search(cell.as_py().decode(errors="replace")) for cell in paths)
    return pyarrow.chunked_array([pyarrow.array([(each and each[1]) or "" for each in found], pyarrow.large_string())])
