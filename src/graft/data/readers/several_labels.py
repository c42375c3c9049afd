"""Cells and columns that give an image several labels, as opposed to class names that merely have several words.

Unless several labels are asked for, anything that would become a class of its own, for example "dog|cat", is refused.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING
from unicodedata import normalize

import numpy as np

from graft.annotation_exports import labels_in
from graft.errors import DataError
from graft.words import counted, first_few

if TYPE_CHECKING:
    import pyarrow

# Separators of labels in a cell, the surest first.
_SEPARATORS = ("|", ";", ",", " ")
# Words are tags if they make up many more labels than there are words: this many labels per word, and this many words
# in some label.
_LABELS_PER_WORD, _WORDS = 1.5, 3
# Marks a JSON list of what several rows about one image say.
SEVERAL_ROWS = "\x1e"
# At most this share of the cells in a yes/no column may be slips.
_SLIPS = 0.2
TRUE, FALSE = ("1", "1.0", "true", "yes"), ("0", "0.0", "-1", "-1.0", "false", "no", "")


def single_labels(column: pyarrow.ChunkedArray, where: str) -> pyarrow.ChunkedArray:
    """Labels, large_string, with lists of one unwrapped. Raises DataError for cells with several labels."""
    import pyarrow

    encoded = column.combine_chunks().dictionary_encode()
    words = encoded.dictionary.to_pylist()
    unwrapped = [_only_one(word) for word in words]
    several = [word for word, only in zip(words, unwrapped, strict=True) if only is None] or _composed(words)
    if several:
        # Of boxes, only their classes are worth showing.
        told = [
            json.dumps(listed(word), ensure_ascii=False) if "{" in word and listed(word) else word for word in several
        ]
        shown = first_few(repr(word[:60]) for word in dict.fromkeys(told))
        raise DataError(
            f"expected one label for each image in {where}, got several in a cell ({shown}): keep one in each row, "
            "name another column with --label-column, or train on all of them with --multi-label"
        )
    if unwrapped == words:
        return column
    names = pyarrow.array(unwrapped, pyarrow.large_string())
    return pyarrow.chunked_array([names.take(encoded.indices)])


def _only_one(word: str) -> str | None:
    """The label in a list of one, or the word itself; None for a list of several."""
    names = listed(word)
    if names is None:
        return word
    return None if len(names) > 1 else "".join(names)


def listed(word: str) -> list[str] | None:
    """The labels in a list as JSON or Python writes it; None for a text that is not a list."""
    if not re.match(r"\s*[\[{(]", word):
        return None
    try:
        value = json.loads(word)
    except (ValueError, RecursionError):
        # A list as Python prints it.
        inner = re.fullmatch(r"\s*[\[(]\s*(.*?)\s*,?\s*[\])]\s*", word, re.DOTALL)
        quoted = re.findall(r"'([^']*)'|\"([^\"]*)\"", inner[1]) if inner else []
        value = [first or second for first, second in quoted] if quoted else word
    return labels_in(value)


def refuse_structures(column: pyarrow.ChunkedArray, where: str) -> None:
    """Raise DataError for a label, large_string, that is an object or a list in JSON of which no part is labels."""
    for word in column.unique().to_pylist():
        if re.match(r"\s*[\[{]", word) and listed(word) is None and _is_json(word):
            raise DataError(
                f"expected names of classes in {where}, got a structure in which no list is called labels "
                f"({word[:60]!r}): write names there, or name another column with --label-column"
            )


def _is_json(word: str) -> bool:
    try:
        json.loads(word)
    except (ValueError, RecursionError):
        return False
    return True


def separator_of(words: Sequence[str]) -> str | None:
    """The separator of labels in texts of which some hold several; None if none does.

    Commas are trusted as bars and semicolons are; blanks only if the parts are labels of other texts, or tags.
    """
    present = next((each for each in _SEPARATORS[:-1] if any(each in word for word in words)), None)
    return present or (" " if _composed(words) else None)


def together_by_path(table: pyarrow.Table) -> pyarrow.Table:
    """A table of `path` and `label`, and perhaps `split`, with one row per image instead of one per label."""
    import pyarrow

    keys = [table[role].to_pylist() for role in ("path", "split") if role in table.column_names]
    rows: dict[tuple[object, ...], list[int]] = {}
    for row, key in enumerate(zip(*keys, strict=True)):
        rows.setdefault(key, []).append(row)
    if len(rows) == len(table):
        return table
    labels = table["label"].to_pylist()
    cells = [union_of_rows([labels[row] for row in of_image]) for of_image in rows.values()]
    first = table.take(pyarrow.array([of_image[0] for of_image in rows.values()], pyarrow.int64()))
    column = pyarrow.chunked_array([pyarrow.array(cells, pyarrow.large_string())])
    return first.set_column(first.column_names.index("label"), "label", column)


def union_of_rows(cells: Sequence[str]) -> str:
    """What several rows about one image say together, as one cell."""
    distinct = list(dict.fromkeys(filter(None, cells))) or [""]
    return distinct[0] if len(distinct) == 1 else SEVERAL_ROWS + json.dumps(distinct, ensure_ascii=False)


def disagreements(table: pyarrow.Table) -> list[str]:
    """A note that counts the images of which several people say different labels, each in a row of their own."""
    said: dict[bytes, set[frozenset[str]]] = {}
    for path, label in zip(table["path"].to_pylist(), table["label"].to_pylist(), strict=True):
        if label:
            names = listed(label)
            said.setdefault(path, set()).add(frozenset([label] if names is None else names))
    unlike = [os.fsdecode(path) for path, different in said.items() if len(different) > 1]
    if not unlike:
        return []
    shown = first_few(unlike)
    were = counted(len(unlike), "image was", "images were")
    return [f"{were} labelled differently by several people: every label that any of them gave counts ({shown})"]


def _composed(words: Sequence[str]) -> list[str]:
    """The words whose parts are labels of other rows."""
    known = {word.strip() for word in words}
    for separator in _SEPARATORS:
        parts = {word: _parts(word, separator) for word in words}
        several = {word: each for word, each in parts.items() if len(each) > 1}
        if not several:
            continue
        often = Counter(part for each in parts.values() for part in set(each))
        if separator in "|;":
            # Class names rarely contain these separators, but often commas and blanks.
            found = [word for word, each in several.items() if all(part in known or often[part] > 1 for part in each)]
        else:
            found = [word for word, each in several.items() if all(part in known for part in each)]
            longest = max(map(len, several.values()))
            if not found and longest >= _WORDS and len(words) > _LABELS_PER_WORD * len(often):
                found = list(several)
        if found:
            return found
    return []


def _parts(word: str, separator: str) -> list[str]:
    return [part for part in (each.strip() for each in word.split(separator)) if part]


def one_hot_columns(columns: Sequence[pyarrow.ChunkedArray]) -> tuple[list[int], int]:
    """Which columns of text, large_string, say only yes and no, and how many of them ever say yes."""
    found, saying_yes = [], 0
    for number, column in enumerate(columns):
        words = {word.strip().lower() for word in column.unique().to_pylist()}
        if words <= {*TRUE, *FALSE} and words != {""}:
            found.append(number)
            saying_yes += not words.isdisjoint(TRUE)
    return found, saying_yes


def first_slip(column: pyarrow.ChunkedArray) -> int | None:
    """The first row of a text column that says neither yes nor no, if few rows do and the others say both."""
    import pyarrow
    import pyarrow.compute

    lower = pyarrow.compute.utf8_lower(pyarrow.compute.utf8_trim_whitespace(column))
    words = set(lower.unique().to_pylist()) - {""}
    if words.isdisjoint(TRUE) or words.isdisjoint(FALSE):
        return None
    wrong = ~pyarrow.compute.is_in(lower, value_set=pyarrow.array([*TRUE, *FALSE], pyarrow.large_string())).to_numpy()
    return int(wrong.argmax()) if 0 < wrong.sum() <= _SLIPS * len(wrong) else None


def taken_for_no(names: Sequence[str], columns: Sequence[pyarrow.ChunkedArray]) -> list[str]:
    """A note that counts cells that are -1 or blank by column, if other cells say no explicitly."""
    counts = [Counter(word.strip().lower() for word in column.to_pylist()) for column in columns]
    plain = any(each[word] for each in counts for word in ("0", "0.0", "false", "no"))
    unsure = ("-1", "-1.0", "") if plain else ("",) if any(each["-1"] or each["-1.0"] for each in counts) else ()
    found = {name.strip(): sum(each[word] for word in unsure) for name, each in zip(names, counts, strict=True)}
    shown = [f"{name!r} {count:,}" for name, count in found.items() if count]
    if not shown:
        return []
    by_column = first_few(shown, 6)
    cells = counted(sum(found.values()), "cell is", "cells are")
    return [f"{cells} {'-1 or ' * plain}blank and {'counts' if cells.startswith('1 ') else 'count'} as no: {by_column}"]


def refuse_twice(names: Sequence[str], where: str) -> None:
    """Raise DataError for a class that two columns name, by spelling or by appearance."""
    often = Counter(normalize("NFC", name).strip() for name in names)
    twice = next((name for name, count in often.items() if count > 1), None)
    if twice is not None:
        raise DataError(f"expected a class of its own for each of the {where}, got {twice!r} twice: rename one of them")


def labels_of_columns(
    names: Sequence[str], columns: Sequence[pyarrow.ChunkedArray], where: str
) -> pyarrow.ChunkedArray:
    """A list of the columns that say yes in each row, of those that the user named, large_string.

    Raises DataError for a cell that says neither yes nor no, and for a column named twice.
    """
    refuse_twice(names, f"columns of {where}")
    for name, column in zip(names, columns, strict=True):
        for row, word in enumerate(column.to_pylist()):
            if word.strip().lower() not in (*TRUE, *FALSE):
                raise DataError(
                    f"expected 0 or 1 in each column of several in --label-column, got {word[:60]!r} in the column "
                    f"{name.strip()!r} of {where}, row {row}, counted from 0: correct it, or name one column alone"
                )
    return labels_of_one_hot(names, columns, columns[0], where, multi_label=True)


def labels_of_one_hot(
    names: Sequence[str],
    columns: Sequence[pyarrow.ChunkedArray],
    paths: pyarrow.ChunkedArray,
    where: str,
    multi_label: bool = False,
) -> pyarrow.ChunkedArray:
    """The name of the column that says yes in each row, empty if none does; with `multi_label`, a list of names.

    Raises DataError if several do and one is expected.
    """
    import pyarrow
    import pyarrow.compute

    yes = pyarrow.array(TRUE, pyarrow.large_string())
    lower = (pyarrow.compute.utf8_lower(pyarrow.compute.utf8_trim_whitespace(column)) for column in columns)
    table = np.stack([pyarrow.compute.is_in(column, value_set=yes).to_numpy() for column in lower], axis=1)
    if multi_label:
        stripped = np.array([name.strip() for name in names], object)
        cells = [json.dumps(stripped[row].tolist(), ensure_ascii=False) for row in table]
        return pyarrow.chunked_array([pyarrow.array(cells, pyarrow.large_string())])
    count = table.sum(axis=1)
    if (count > 1).any():
        rows = np.flatnonzero(count > 1)
        shown = ", ".join(
            f"{paths[row].as_py().decode(errors='replace')}: "
            + " and ".join(names[column] for column in np.flatnonzero(table[row]).tolist()[:4])
            for row in rows[:3].tolist()
        )
        raise DataError(
            f"expected one label for each image in {where}, got several in {len(rows):,} of {len(table):,} rows "
            f"({shown}): keep one in each row, name the column to learn with --label-column, or train on all of them "
            "with --multi-label"
        )
    words = pyarrow.array([*(name.strip() for name in names), ""], pyarrow.large_string())
    return pyarrow.chunked_array([words.take(pyarrow.array(np.where(count == 1, table.argmax(axis=1), len(names))))])
