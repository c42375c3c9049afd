"""Paths and labels in separate files: `images.txt` and `labels.txt`, line by line, or such a pair for each split.

Also labels by the numbers in file names: Flowers-102's `imagelabels.mat` and `setid.mat` beside `image_00001.jpg`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.array_files import matlab_columns, vectors
from graft.data.dataset import TEST, TRAIN, VAL, WHOLE
from graft.data.readers.column_names import known_names
from graft.data.readers.columns import as_text
from graft.data.readers.finding_files import FileFinder
from graft.data.readers.found_table import Found
from graft.data.readers.grid import LIST_ENDINGS
from graft.data.readers.split_names import split_in_name
from graft.endings import IMAGE_ENDING
from graft.errors import DataError
from graft.packed_tables import ending_of, plain_table
from graft.words import counted

if TYPE_CHECKING:
    import pyarrow

_LABELS = re.compile(r"(?i)class|label|categor|species|breed|target|(^|_)y($|_)")
# The share of a list's lines that must lead to files, since some may be missing, and how many lines are checked.
_MOST, _LOOKED_UP = 0.5, 200
_MOST_BYTES = 2**27
# The last number in a file name. In `_PARTS`: how the names of arrays start that hold splits.
_NUMBER = rf"(\d+){IMAGE_ENDING[4:]}"
# Names of series of numbered images, used where other files are numbered beside them.
_IMAGES = r"(?i)(^|[/_ -])(jpe?gs?|images?|imgs?|photos?|pictures?|pics?)[^/]*([/_ -]|\*$)"
_PARTS = (("tr", TRAIN), ("val", VAL), ("t(e)?st", TEST))


def join_lines(files: Sequence[Path], finder: FileFinder) -> list[Found]:
    """Pair lists of paths with lists of labels that have as many lines, one pair in all or one for each split.

    Raises DataError if two lists could be the labels of one.
    """
    plain = [file for file in files if ending_of(file) in (*LIST_ENDINGS, ".csv")]
    if not any(_LABELS.search(file.stem) for file in plain) or len(plain) < 2:
        return []
    lists = dict(_lists_of_one(plain))
    found = []
    for base, lines in lists.items():
        if _LABELS.search(base.stem) or not _lead_to_files(lines, finder):
            continue
        paths = _without_head(lines)
        # A column name that no other line repeats is no class, even if the lists have as many lines with it.
        alike = {
            file: _without_head(labels) if len(labels) != len(paths) or labels[0] not in labels[1:] else labels
            for file, labels in lists.items()
            if _LABELS.search(file.stem)
            and split_in_name(file.stem) == split_in_name(base.stem)
            and _are_labels(labels)
        }
        others = {file: labels for file, labels in alike.items() if len(labels) == len(paths)}
        if len(others) > 1:
            raise DataError(
                f"expected one list of the labels of {base.name}, got {' and '.join(file.name for file in others)}: "
                "give a table of paths and labels as DATA, or move one of them elsewhere"
            )
        of_other_length = [(file, labels) for file, labels in alike.items() if len({*labels}) < len(labels)]
        if len(of_other_length) == 1 and not others:
            file, labels = of_other_length[0]
            raise DataError(
                f"expected a line in {file.name} for each of {len(paths):,} in {base.name}, got {len(labels):,}: "
                "correct them, or give a table of paths and labels as DATA"
            )
        for file, labels in others.items():
            found.append(_found((base, file), paths, labels, finder))
    return found


def _lists_of_one(files: Sequence[Path]) -> Iterator[tuple[Path, list[str]]]:
    """Yield the lines of each list that has one cell per line."""
    for file in files:
        if not file.is_file() or file.stat().st_size > _MOST_BYTES:
            continue
        with plain_table(file).open(encoding="utf-8-sig", errors="surrogateescape") as opened:
            first = opened.readline(2**16)
            if first.startswith("#") or (ending_of(file) == ".csv" and re.search("[,;\t].", first)):
                continue
            lines = [line.strip() for line in (first, *opened)]
        while lines and not lines[-1]:
            lines.pop()
        if all(line.endswith(first.strip()[-1:]) for line in lines) and first.strip()[-1:] in (",", ";"):
            # Nothing follows the last separator of a row.
            lines = [line[:-1].rstrip() for line in lines]
        # A blank line is an image without a label, or a label without an image.
        if len(lines) > 1 and 2 * sum(map(bool, lines)) > len(lines):
            yield file, lines


def _without_head(lines: Sequence[str]) -> Sequence[str]:
    """The lines without the first if it is a column name."""
    return lines[bool(known_names(lines[:1])) :]


def _lead_to_files(lines: Sequence[str], finder: FileFinder) -> bool:
    lines = _without_head(lines)
    chosen = np.unique(np.linspace(0, len(lines) - 1, _LOOKED_UP).astype(int)).tolist()
    return bool(lines) and float(finder.locate(_cells([lines[row] for row in chosen])).there.mean()) >= _MOST


def _are_labels(lines: Sequence[str]) -> bool:
    """Whether there are few distinct lines, perhaps one in a split; a list of class names has each name once."""
    words = _without_head(lines)
    # A comma in prose is followed by a blank; other commas separate the cells of a table, as tabs do.
    table = any(re.search(r"[;\t]|,(?! )", line) for line in words)
    return not table and len({*words} - {""}) <= max(3, len(words) / 2)


def _cells(words: Sequence[str]) -> pyarrow.LargeBinaryArray:
    import pyarrow

    return pyarrow.array(map(os.fsencode, words), pyarrow.large_binary())


def _found(
    files: tuple[Path, ...], paths: Sequence[str], labels: Sequence[str], finder: FileFinder, splits: Sequence[str] = ()
) -> Found:
    import pyarrow

    split = WHOLE if splits else split_in_name(files[0].stem)
    located = finder.locate(_cells(paths), splits=[split] * len(paths))
    where = f"the labels of {files[-1].name}"
    texts = as_text(pyarrow.chunked_array([_cells(labels)]), where).combine_chunks()
    columns = {"path": located.paths, "label": texts}
    if splits:
        columns["split"] = pyarrow.array(splits, pyarrow.large_string())
    note = f"{files[0].name}: paths, line by line with the labels in {files[1].name}" if not splits else ""
    table = pyarrow.table({name: pyarrow.chunked_array([column]) for name, column in columns.items()})
    return Found(files, table, located.there, (*filter(None, [note]), *located.notes), split)


def labels_by_number(files: Sequence[Path], finder: FileFinder) -> Found | None:
    """The images whose files are numbered from 1, with the labels that a vector in a MATLAB file gives by number.

    Vectors of numbers named after splits (`trnid`, `valid`, `tstid`) divide the images. None if there is no such vector
    or there are no such files.
    """
    arrays = {name: (file, vector) for file in files for name, vector in vectors(file).items()}
    labels = {name: vector for name, (_, vector) in arrays.items() if _LABELS.search(name)}
    if len(labels) != 1:
        return None
    name, vector = next(iter(labels.items()))
    numbered = _by_number(finder, len(vector), arrays[name][0])
    if numbered is None:
        return None
    splits = _splits(arrays, len(vector))
    used = (arrays[name][0], *dict.fromkeys(file for file, _ in (arrays[each] for each in splits)))
    of_number = np.full(len(vector), "" if splits else WHOLE, dtype=object)
    for each, split in splits.items():
        of_number[arrays[each][1] - 1] = split
    numbers = np.array(sorted(numbered))
    keys = [numbered[number] for number in numbers.tolist()]
    labels_there, splits_there = vector[numbers - 1], of_number[numbers - 1]
    found = _found(used, keys, [str(label) for label in labels_there.tolist()], finder, splits_there.tolist())
    place = "the first" if numbers[0] == 1 else f"number {numbers[0]:,}"
    shown = f"{keys[0]} has {place} of {name} in {used[0].name}"
    if len(numbers) < len(vector):
        shown += f" ({counted(len(vector) - len(numbers), 'label')} without a file)"
    divided = f", and splits are {', '.join(splits)} in {used[-1].name}" if splits else ""
    table = found.table if splits else found.table.drop_columns("split")
    return Found(
        tuple(dict.fromkeys(used)),
        table,
        found.there,
        (f"labels are matched to files by the numbers in their names: {shown}{divided}", *found.notes),
    )


def _by_number(finder: FileFinder, count: int, file: Path) -> dict[int, str] | None:
    """The images below the finder's root by the last number in their names, from 1 to `count`; None if none fit.

    Some may be missing, but if only the last ones are, the files may have been renumbered and do not fit. Of several
    series, for example images and what was made from them, the one named after images is meant. Raises DataError if
    none is, or if several are and the `file` of the labels names no images itself.
    """
    series: dict[str, dict[int, str]] = {}
    for path in finder.all_files:
        name = os.fsdecode(path.as_py())
        number = re.search(_NUMBER, name, re.IGNORECASE)
        if number is not None:
            # The part of the path before the number.
            called = f"{name[: number.start()]}*"
            if series.setdefault(called, {}).setdefault(int(number[1]), name) != name:
                return None
    fitting = {called: files for called, files in series.items() if _are_numbered(files, count)}
    meant = [called for called in fitting if re.search(_IMAGES, called)] if len(fitting) > 1 else [*fitting]
    if len(meant) > 1 and known_names([*matlab_columns(file)]):
        return None
    if len(meant) != 1 and fitting:
        shown = " and ".join(sorted(next(iter(files.values())) for files in fitting.values())[:3])
        raise DataError(
            f"expected one file for each number from 1 to {count:,} below {finder.root}, got several, such as {shown}: "
            "say where the images are with --image-dir"
        )
    return fitting[meant[0]] if meant else None


def _are_numbered(files: Mapping[int, str], count: int) -> bool:
    first, last = min(files), max(files)
    return 1 <= first <= last <= count and 2 * len(files) >= count and (last == count or len(files) < last)


def _splits(arrays: Mapping[str, tuple[Path, np.ndarray]], count: int) -> dict[str, str]:
    """The vectors that divide numbers from 1 to `count` into splits, with the split of each; empty if they do not."""
    found = {
        name: split
        for name in arrays
        for start, split in _PARTS
        if re.match(rf"(?i){start}[a-z]*[_ ]?(id|idx|ind|set|index)?", name) and not _LABELS.search(name)
    }
    numbers = np.concatenate([np.zeros(0, np.int64), *(arrays[name][1] for name in found)])
    fitting = len({*found.values()}) == len(found) and len(np.unique(numbers)) == len(numbers)
    return found if found and fitting and 1 <= numbers.min() <= numbers.max() <= count else {}
