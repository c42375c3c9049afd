"""The columns beyond path and label: splits, groups and weights, if their cells can mean these."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from graft.data.readers.column_cells import COLUMNS_AT_ONCE, Columns
from graft.data.readers.column_names import SPELLINGS, SYNONYMS, named, plain_name
from graft.data.readers.columns import as_text
from graft.data.readers.split_names import splits_by_letter
from graft.data.readers.uses import as_splits, can_be_groups, can_be_weights, numbers_in, values_that_group
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
        if letters := splits_by_letter(filter(None, columns.text(column).unique().to_pylist())):
            meant = ", ".join(f"{word!r} is read as {split}" for word, split in letters.items())
            columns.notes.append(f"in {columns.shown(column)} {meant}")
        if found is not None and chosen is None:
            chosen = column, found
        elif found is not None and chosen is not None and found.combine_chunks() != chosen[1].combine_chunks():
            columns.notes.append(
                f"{columns.shown(column)} could be the split as well as {columns.shown(chosen[0])}: --split-column "
                "chooses"
            )
        elif found is None and plain_name(columns.grid.names[column]) not in ("dataset", "purpose", "phase", "set"):
            columns.say_unused(column, "split", "its cells are not train, val and test", _instead(columns, column))
    return chosen or _split_by_cells(columns)


def _instead(columns: Columns, column: int) -> str:
    """What to do with a split column that gives no splits, for example one of folds."""
    name = columns.grid.names[column].strip()
    numbered = bool(np.isfinite(numbers_in(columns.text(column))).all())
    whole = f", or --group-column {name!r} keeps the images of each number in one split" * numbered
    return f"write these there{whole}"


def _split_by_cells(columns: Columns) -> tuple[int, pyarrow.ChunkedArray] | None:
    """The split from a column of any name whose cells are all words for splits; None if several differ."""
    given = {columns.given(role) for role in ("label", "group", "weight") if not columns.refused(role)}
    found: dict[int, pyarrow.ChunkedArray] = {}
    for column in columns.saying_splits():
        text = columns.text(column)
        if column in columns.taken | given:
            continue
        if "" in text.unique().to_pylist():
            columns.say_unused(column, "split", "some of its cells are empty")
        elif (splits := as_splits(columns.name_of(column), text)) is not None:
            found[column] = splits
    first = next(iter(found), None)
    if first is None:
        return None
    unlike = [column for column in found if found[column].combine_chunks() != found[first].combine_chunks()]
    if unlike:
        names = " and ".join(map(columns.shown, [first, *unlike]))
        columns.notes.append(
            f"{names} could be the split and were not used, since they differ: choose one with --split-column"
        )
        return None
    columns.taken.add(first)
    return first, found[first]


def given_groups(columns: Columns, name: str | None) -> int | None:
    """The column of groups that the user gave as such, or by its `name` as the rule for groups."""
    if columns.refused("group"):
        return None
    given = columns.given("group")
    return next(iter(named(columns.grid.names, [name])), None) if given is None and name is not None else given


def groups(columns: Columns, name: str | None) -> tuple[int, pyarrow.ChunkedArray] | None:
    if columns.refused("group"):
        return None
    given = given_groups(columns, name)
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


def seeming_groups(columns: Columns, labels: pyarrow.ChunkedArray, taken: Collection[int]) -> list[str]:
    """A note on the column of any name whose few-image values seem to say which images belong together, if one does."""
    names = columns.grid.names
    known = named(names, [*SPELLINGS["label"], *SYNONYMS["label"]])
    among = [column for column in columns.of_words(numbers=True) if column not in (*taken, *known)]
    if len(among) > COLUMNS_AT_ONCE or any(map(columns.has_company, named(names, SYNONYMS["group"]))):
        return []
    found: dict[int, int] = {}
    with suppress(DataError):
        for column, cells in zip(among, columns.grid.read(among) if among else [], strict=True):
            with suppress(DataError):
                found[column] = values_that_group(as_text(cells, columns.shown(column)), labels)
    found = {column: count for column, count in found.items() if count}
    if not found:
        return []
    # The coarsest keeps the others together too.
    column = min(found, key=found.__getitem__)
    each = round(len(labels) / found[column])
    return [
        f"{columns.shown(column)} looks as if several images belonged together ({found[column]:,} values, about {each} "
        f"images each): --group {names[column].strip()!r} keeps them in one split"
    ]


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
