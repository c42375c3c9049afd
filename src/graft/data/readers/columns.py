"""What the columns of a table say about its images: the class, split, group and weight of each row.

Shared by all tabular sources: manifests, Parquet with embedded images, and datasets on the Hub.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from graft.data.dataset import TEST, TRAIN, VAL, WHOLE, Dataset, Images, Source, class_order
from graft.data.readers.split_names import SPLIT_FOLDERS
from graft.errors import DataError
from graft.words import counted, first_few

if TYPE_CHECKING:
    import pyarrow

# What pandas reads as a missing value, except `None`, which may be a class.
_MISSING = ("#N/A", "#N/A N/A", "#NA", "N/A", "n/a", "NA", "<NA>", "NaN", "nan", "-nan", "NULL", "null", "-1.#IND")
# What a note on them says, and above which share of all rows it says how to write a class of such a name.
_AS_MISSING, _MANY_MISSING = "taken as missing", 0.2


def as_text(column: pyarrow.ChunkedArray, where: str) -> pyarrow.ChunkedArray:
    """Return cells as large_string, stripped, empty for null; whole numbers of any type have no decimal point.

    Raises DataError for cells that are neither text nor numbers.
    """
    import pyarrow
    import pyarrow.compute

    if pyarrow.types.is_floating(column.type):
        column = pyarrow.compute.if_else(pyarrow.compute.is_nan(column), None, column)
    try:
        text = column.cast(pyarrow.large_string())
    except pyarrow.ArrowNotImplementedError:
        raise DataError(f"expected text or numbers in {where}, got {column.type}: write names there") from None
    except pyarrow.ArrowInvalid:
        raise DataError(f"expected text in UTF-8 in {where}, got other bytes: save it as UTF-8") from None
    return pyarrow.compute.utf8_trim_whitespace(text.fill_null(""))


def names_of_labels(
    column: pyarrow.ChunkedArray, classes: Sequence[str] | None, name: str, multi_label: bool = False
) -> pyarrow.ChunkedArray:
    """Return labels as `as_text` does; given a list of `classes`, whole numbers become the names that they index.

    -1 stands for no label, as in datasets on the Hugging Face Hub. With `multi_label`, cells may be lists of labels,
    which become JSON. Raises DataError for a number beyond the list.
    """
    import pyarrow
    import pyarrow.compute

    kind = column.type
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
        if not multi_label:
            raise DataError(
                f"expected one label for each image of {name}, got a column of {kind}: write one there, or train on "
                "all of them with --multi-label"
            )
        whole = column.combine_chunks()
        flat = names_of_labels(pyarrow.chunked_array([whole.flatten()]), classes, name).to_pylist()
        lengths = pyarrow.compute.list_value_length(whole).fill_null(0).to_numpy()
        cells = [json.dumps(flat[end - length : end]) for length, end in zip(lengths, np.cumsum(lengths), strict=True)]
        return pyarrow.chunked_array([pyarrow.array(cells, pyarrow.large_string())])
    if classes is None or not pyarrow.types.is_integer(column.type):
        return as_text(column, f"the labels of {name}")
    numbers = column.cast(pyarrow.int64()).fill_null(-1).to_numpy()
    wrong = np.flatnonzero((numbers < -1) | (numbers >= len(classes)))
    if len(wrong):
        raise DataError(
            f"expected a label among the {counted(len(classes), 'class', 'classes')} of {name}, got "
            f"{numbers[wrong[0]]} in row {wrong[0]}: correct the label or the list of classes"
        )
    names = pyarrow.array([*classes, ""], pyarrow.large_string())
    return pyarrow.chunked_array([names.take(pyarrow.array(numbers % len(names)))])


def without_missing(labels: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    """Labels, large_string, with words for a missing value, such as `NA`, emptied."""
    import pyarrow
    import pyarrow.compute

    words = pyarrow.array(_MISSING, pyarrow.large_string())
    return pyarrow.compute.if_else(pyarrow.compute.is_in(labels, value_set=words), "", labels)


def told_missing(labels: pyarrow.ChunkedArray, where: str) -> list[str]:
    """A note that counts the words for a missing value that `without_missing` empties, if there are any."""
    often = {each["values"].as_py(): each["counts"].as_py() for each in labels.value_counts()}
    found = {word: often[word] for word in _MISSING if word in often}
    count = sum(found.values())
    if not count:
        return []
    shown = ", ".join(f"{word!r} {each:,}" for word, each in found.items())
    were = counted(count, "label was", "labels were")
    advice = ""
    if count > _MANY_MISSING * len(labels):
        first = next(iter(found))
        advice = f"; these are many of the {counted(len(labels), 'row')}: if {first!r} is a class, give it another name"
    return [f"{were} {_AS_MISSING} in {where} ({shown}){advice}"]


def join_tables(tables: Sequence[pyarrow.Table], splits: Sequence[str]) -> pyarrow.Table:
    """Concatenate tables of text; rows of a table without a `split` column get the split given for that table."""
    import pyarrow

    roles = {role for table in tables for role in table.column_names}
    if any(split != WHOLE for split in splits):
        roles.add("split")
    parts = []
    for table, split in zip(tables, splits, strict=True):
        instead = {"split": split, "group": "", "weight": "1"}
        for role in sorted(roles - set(table.column_names)):
            table = table.append_column(
                role, pyarrow.repeat(pyarrow.scalar(instead[role], pyarrow.large_string()), len(table))
            )
        parts.append(table.select(sorted(roles)))
    return pyarrow.concat_tables(parts)


def arrange_rows(
    name: str,
    source: Source,
    table: pyarrow.Table,
    *,
    classes: tuple[str, ...] | None = None,
    usable: np.ndarray | None = None,
    notes: Sequence[str] = (),
    left_out: Mapping[str, str] | None = None,
) -> Dataset:
    """Build a Dataset from the rows of `source`, in order, and the columns of `table`, text as `as_text` returns it.

    `table` has `label` and may have `split`, `group`, `weight`, and `path` (large_binary), which identifies repeated
    rows. Only `usable` rows, bool (N,), are considered; `notes` and `left_out` say why others are not. Rows without a
    label or a split are left out by name. `classes` are the class names in order, if a list of them was given. Raises
    DataError if no row is left, for a label that is not in `classes`, and for an invalid weight.
    """
    import pyarrow
    import pyarrow.compute

    usable = np.ones(len(table), bool) if usable is None else usable.copy()
    notes, left_out = [*notes], dict(left_out or {})
    for role in ("label", "split"):
        if role in table.column_names:
            blank = usable & pyarrow.compute.equal(table[role], "").to_numpy()
            if blank.any():
                of_blank = {source.name(row): f"it has no {role}" for row in np.flatnonzero(blank).tolist()}
                notes.append(
                    f"{int(blank.sum()):,} of {counted(len(table), 'row')} of {name} left out: no {role} "
                    f"({first_few(list(of_blank))})"
                )
                left_out |= of_blank
                usable &= ~blank
    splits, split = _splits(table, usable, name)
    if "path" in table.column_names:
        kept = _drop_repeated(table, split, usable, notes, name)
        _forgive(left_out, source, table["path"], usable)
        usable = kept
    rows = np.flatnonzero(usable)
    if not len(rows):
        missing = next((f" ({note})" for note in notes if _AS_MISSING in note), "")
        raise DataError(
            f"expected rows with an image and a label in {name}, got none of {len(table):,}{missing}: add some"
        )
    words, numbers = _encode(table["label"])
    used = [words[number] for number in np.unique(numbers[rows])]
    order = class_order(set(used)) if classes is None else classes
    position = {word: index for index, word in enumerate(order)}
    labels = np.array([position.get(word, -1) for word in words], dtype=np.int64)[numbers]
    strangers = rows[labels[rows] < 0]
    if len(strangers):
        raise DataError(
            f"expected a label among the {counted(len(order), 'class', 'classes')} of {name}, got "
            f"{words[numbers[strangers[0]]]!r} in row {strangers[0]}: correct the label or the list of classes"
        )
    group_names, groups = numbered_groups(table["group"]) if "group" in table.column_names else ((), None)
    weights = _weights(table["weight"], rows, name) if "weight" in table.column_names else None
    images = {}
    for number, own in enumerate(splits):
        chosen = rows[split[rows] == number]
        if len(chosen):
            images[own] = Images(
                source,
                chosen,
                labels[chosen],
                None if groups is None else groups[chosen],
                None if weights is None else weights[chosen],
            )
    return Dataset(name, order, images, tuple(notes), left_out, group_names=group_names)


def _encode(column: pyarrow.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """The distinct texts of a column, and the index of each row's text, int64 (N,)."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def _splits(table: pyarrow.Table, usable: np.ndarray, name: str) -> tuple[list[str], np.ndarray]:
    """The names of splits that have rows, and the index of each row's split, int64 (N,), -1 for none."""
    if "split" not in table.column_names:
        return [WHOLE], np.zeros(len(table), np.int64)
    words, numbers = _encode(table["split"])
    meant = [SPLIT_FOLDERS.get(word.lower(), word) for word in words]
    used = {meant[number] for number in np.unique(numbers[usable])}
    if WHOLE in used and len(used) > 1:
        raise DataError(
            f"expected splits such as train, val and test in {name}, got {WHOLE!r} beside "
            f"{first_few(sorted(used - {WHOLE}))}: give the split of each row"
        )
    splits = [*(known for known in (TRAIN, VAL, TEST) if known in used), *sorted(used - {TRAIN, VAL, TEST})]
    position = {word: index for index, word in enumerate(splits)}
    return splits, np.array([position.get(word, -1) for word in meant], dtype=np.int64)[numbers]


def _drop_repeated(
    table: pyarrow.Table, split: np.ndarray, usable: np.ndarray, notes: list[str], name: str
) -> np.ndarray:
    """The usable rows except those whose image is already in the same split, bool (N,); adds notes on the others."""
    rows = np.flatnonzero(usable)
    paths = table["path"].combine_chunks()
    image = paths.dictionary_encode().indices.to_numpy().astype(np.int64)[rows] * (split.max(initial=0) + 1)
    _, first, number = np.unique(image + split[rows], return_index=True, return_inverse=True)
    if len(first) == len(rows):
        return usable
    again = np.ones(len(rows), bool)
    again[first] = False
    repeated, original = rows[again], rows[first[number[again]]]
    kept = usable.copy()
    kept[repeated] = False
    labels = table["label"].combine_chunks()

    def shown(row: int) -> str:
        return str(paths[row].as_py().decode(errors="replace"))

    contradictions = []
    copies: list[str] = []
    for row, before in zip(repeated.tolist(), original.tolist(), strict=True):
        label, kept_label = labels[row].as_py(), labels[before].as_py()
        if label == kept_label:
            copies.append(shown(row))
        else:
            contradictions.append(f"{shown(row)}: {kept_label!r} and {label!r}")
    if copies:
        one, many = f"row of {name} repeats another and counts", f"rows of {name} repeat others and count"
        notes.append(f"{counted(len(copies), one, many)} once ({first_few(copies)})")
    if contradictions:
        notes.append(
            f"{counted(len(contradictions), f'row of {name} contradicts', f'rows of {name} contradict')} the label of "
            f"an earlier one, which was kept ({first_few(contradictions)})"
        )
    return kept


def _forgive(left_out: dict[str, str], source: Source, paths: pyarrow.ChunkedArray, usable: np.ndarray) -> None:
    """Remove from `left_out` the images that another row keeps."""
    import pyarrow.compute

    refused = np.flatnonzero(~usable)
    if len(refused):
        used = paths.filter(usable)
        again = pyarrow.compute.is_in(paths.take(refused), value_set=used.combine_chunks()).to_numpy()
        for row in refused[again].tolist():
            left_out.pop(source.name(row), None)


def numbered_groups(column: pyarrow.ChunkedArray) -> tuple[tuple[str, ...], np.ndarray]:
    """The group names, and the index of each row's group, int64 (N,); a row without a group gets one of its own."""
    words, numbers = _encode(column)
    alone = np.array([not word for word in words], bool)[numbers]
    return tuple(words), np.where(alone, len(words) + np.arange(len(numbers)), numbers)


def as_weights(numbers: np.ndarray) -> tuple[np.ndarray, int | None]:
    """Numbers (N,) as weights, float32 (N,), and the index of the first invalid one: below 0 or not finite."""
    with np.errstate(over="ignore"):
        weights = numbers.astype(np.float32)
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    return weights, int(np.argmax(wrong)) if wrong.any() else None


def _weights(column: pyarrow.ChunkedArray, rows: np.ndarray, name: str) -> np.ndarray:
    """The weights of some rows, float32 (N,), 0 for the others."""
    import pyarrow

    weights = np.zeros(len(column), np.float32)
    texts = column.take(rows)
    try:
        given = texts.cast(pyarrow.float64()).to_numpy()
    except pyarrow.ArrowInvalid:
        given = np.array([_number(text) for text in texts.to_pylist()])
    weights[rows], row = as_weights(given)
    if row is not None:
        raise DataError(
            f"expected a weight of 0 or more in every row of {name}, got {texts[row].as_py()!r} in row {rows[row]}: "
            "correct it"
        )
    return weights


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
