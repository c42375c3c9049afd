"""The columns that say more than path and label: splits, groups and weights, where their cells can mean these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graft.data.readers.column_cells import Columns
from graft.data.readers.column_names import SPELLINGS, SYNONYMS, named, plain_name
from graft.data.readers.uses import as_splits, can_be_groups, can_be_weights
from graft.errors import DataError
from graft.words import counted

if TYPE_CHECKING:
    import pyarrow


def splits(columns: Columns) -> tuple[int, pyarrow.ChunkedArray] | None:
    if columns.refused("split"):
        return None
    given = columns.given("split")
    if given is not None:
        found = as_splits(columns.grid.names[given], columns.text(given))
        if found is None:
            words = ", ".join(map(repr, sorted(set(columns.text(given).unique().to_pylist()))[:4]))
            raise DataError(
                f"expected train, val and test, or true and false in a column such as is_valid, in "
                f"{columns.shown(given)} of --split-column, got {words}: name another column, or correct it"
            )
        return given, found
    chosen: tuple[int, pyarrow.ChunkedArray] | None = None
    own = named(columns.grid.names, SPELLINGS["split"])
    for column in (*own, *columns.about_splits()):
        if column in columns.taken:
            continue
        found = as_splits(columns.name_of(column), columns.text(column), any_word=column in own)
        if found is not None and chosen is None:
            chosen = column, found
        elif found is not None and chosen is not None and found.combine_chunks() != chosen[1].combine_chunks():
            columns.notes.append(
                f"{columns.shown(column)} could be the split as well as {columns.shown(chosen[0])}: "
                "--split-column says which"
            )
        elif found is None and plain_name(columns.grid.names[column]) not in ("dataset", "purpose", "phase", "set"):
            columns.say_unused(column, "split", "its cells are not train, val and test")
    return chosen


def groups(columns: Columns, name: str | None) -> tuple[int, pyarrow.ChunkedArray] | None:
    if columns.refused("group"):
        return None
    given = columns.given("group")
    if given is None and name is not None:
        given = next(iter(named(columns.grid.names, [name])), None)
    if given is not None:
        return given, columns.text(given)
    for column in named(columns.grid.names, SPELLINGS["group"]):
        if column not in columns.taken and can_be_groups(columns.text(column)):
            return column, columns.text(column)
        if column not in columns.taken:
            count = counted(len(columns.text(column).unique()), "value")
            columns.say_unused(column, "group", f"its {count} would divide the images into large parts")
    for column in named(columns.grid.names, SYNONYMS["group"]):
        if column not in columns.taken and name is None and columns.has_company(column):
            columns.notes.append(
                f"{columns.shown(column)} was not used, though it may say which images belong together: "
                f"--group-column {columns.grid.names[column].strip()!r} keeps them in one split"
            )
    return None


def weights(columns: Columns) -> tuple[int, pyarrow.ChunkedArray] | None:
    if columns.refused("weight"):
        return None
    given = columns.given("weight")
    if given is not None:
        return given, columns.text(given)
    for column in named(columns.grid.names, SPELLINGS["weight"]):
        if column in columns.taken:
            continue
        if can_be_weights(columns.text(column)):
            return column, columns.text(column)
        columns.say_unused(column, "weight", "its cells do not look like weights of images in training")
    return None
