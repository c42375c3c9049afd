"""The columns of one table, as candidates for roles: each is read once and tested for what it can mean."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from graft.annotation_exports import UNLABELLED
from graft.data.readers.column_names import (
    ABOUT_SPLITS,
    SPELLINGS,
    SYNONYMS,
    given_column,
    is_no_column,
    named,
    plain_name,
)
from graft.data.readers.columns import as_text, without_missing
from graft.data.readers.finding_files import SAME_NAME, FileFinder, Located
from graft.data.readers.grid import Grid
from graft.data.readers.remote import SCHEME
from graft.data.readers.uses import are_words_of_splits, numbers_in, say_splits
from graft.data.table_options import TableOptions
from graft.endings import IMAGE_ENDING
from graft.errors import DataError, LeftOpenError
from graft.images.numbers import side_of
from graft.packed_tables import WESTERN
from graft.words import first_few

if TYPE_CHECKING:
    import pyarrow

# The number of columns read in one pass over a file when all may be needed.
COLUMNS_AT_ONCE = 128
# How many cells are looked up on disk to tell whether a column holds paths.
_LOOKED_UP = 200
# The share of these that must be found, or look like files, if the column has a name for paths.
NAMED_SHARE = 0.5
# No file system takes longer paths.
_LONGEST_PATH = 4096
# Names of columns, and cells, of files about images.
NAMED_ABOUT_IMAGES = r"(?i)mask|segment|annot|thumb"
# Up to this many columns with such names are checked for naming other images than the chosen column does.
_NAMING_IMAGES, _MOST_BESIDE = r"(?i)im(g|age)|photo|pic|file|path|left|right|fundus|view", 6


# Names of pixel columns: `pixel0`, `28x28`, `p3`, `12`.
_PIXEL = re.compile(r"(?i)(pixels?|px|pix|p|x|f|features?|col|column|v|attr|att|var)?[ _.-]?\d+([x_]\d+)*(_?[rgb])?")
# The name of Kaggle's column of boxes, and how many numbers follow the label of each box.
_PREDICTION_STRING, _CORNERS = "predictionstring", 4
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
# How likely a column is that of the labels, beside 0 and 1: it counts up from 0 or 1, or holds words.
_COUNTS_UP, _WORDS = 2, 3


def pixels_in(grid: Grid, options: TableOptions) -> list[int]:
    """The columns that hold each row's pixels: as many as a square image has, or one with many numbers per cell.

    Raises DataError if the column before them and the one behind them could both be the label and `options` do not say.
    """
    if grid.path.suffix.lower() not in (".csv", ".tsv"):
        return []
    if grid.named and (one := named(grid.names, ("pixels", "pixel_values", "image_pixels"))):
        # Empty cells are refused where the pixels are read.
        cell = next((cell for each in grid.column(one[0]) if (cell := each.as_py() or b"").strip()), b"")
        return one[:1] if side_of(len(re.findall(rb"\d+", cell))) else []
    found = [number for number, name in enumerate(grid.names) if not grid.named or _PIXEL.fullmatch(name.strip())]
    if side_of(len(found)) or not side_of(len(found) - 1):
        return found if side_of(len(found)) else []
    label = options.column("label")
    if label is not None and not is_no_column(label, grid.names):
        given = given_column("label", label, grid.names, grid.path.name)
        if given in found:
            return [number for number in found if number != given]
    # The first or the last is the label: it takes all values from 0 to 9, say, where a corner pixel is black or of any
    # brightness.
    ends = (found[0], found[-1])
    first, last = (_likely_label(grid.column(number)) for number in ends)
    if first[0] == _COUNTS_UP and first == last:
        before, behind = (repr(grid.names[number].strip()) if grid.named else grid.names[number] for number in ends)
        raise LeftOpenError(
            f"expected one column of {grid.path.name} that could be the label, got the first and the last, which both "
            "count up from 0 or 1",
            f"name one, as in --label-column {before} or --label-column {behind}",
        )
    return found[:-1] if last > first else found[1:]


def _likely_label(column: pyarrow.ChunkedArray) -> tuple[int, int]:
    """How likely a column at the end of pixels is the label: words are, and a number that never changes is not.

    Of columns that count up, the one that counts further is, which a pixel of a binary image does not.
    """
    import pyarrow

    words = {word.decode(errors="replace").strip() for word in column.unique().to_pylist()}
    # Empty cells are refused where the pixels are read.
    if np.isnan(numbers_in(pyarrow.array([word for word in words if word], pyarrow.large_string()))).any():
        return _WORDS, 0
    numbers = sorted(int(word) for word in words if word.isdigit())
    up = len(numbers) == len(words) > 1 and numbers[0] in (0, 1) and numbers[-1] - numbers[0] == len(numbers) - 1
    return (_COUNTS_UP, len(numbers)) if up else (int(len(words) > 1), 0)


def _without_points(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    """Drop `.0` from whole numbers if every cell has it, as pandas writes numbers beside an empty cell."""
    import pyarrow.compute

    for some in (column[:100], column):
        if not pyarrow.compute.all(pyarrow.compute.match_substring_regex(some, r"^(-?\d+\.0)?$")).as_py():
            return column
    return pyarrow.compute.replace_substring_regex(column, r"\.0$", "")


def _of_boxes(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    """The labels alone if all cells are boxes as Kaggle writes those of ImageNet: `n01978287 240 170 260 240 …`."""
    import pyarrow

    encoded = column.combine_chunks().dictionary_encode()
    found = [_labels_of_boxes(cell) for cell in encoded.dictionary.to_pylist()]
    if None in found:
        return column
    return pyarrow.chunked_array([pyarrow.array(found, pyarrow.large_string()).take(encoded.indices)])


def _labels_of_boxes(cell: str) -> str | None:
    """The label of the boxes in a cell: a list if they differ, empty for an empty cell, None for any other text."""
    words = cell.split()
    labels = list(dict.fromkeys(words[:: 1 + _CORNERS]))
    numbers = [word for place, word in enumerate(words) if place % (1 + _CORNERS)]
    if len(words) % (1 + _CORNERS) or not all(map(_NUMBER.fullmatch, numbers)):
        return None
    return json.dumps(labels) if len(labels) > 1 else "".join(labels)


def _of_words(grid: Grid, numbers: bool = False) -> list[int]:
    """The columns that can hold words, or whole `numbers` too; in Parquet, this excludes lists, which may be large."""
    import pyarrow
    import pyarrow.parquet

    every = list(range(len(grid.names)))
    if grid.path.suffix.lower() != ".parquet":
        return every
    kinds = pyarrow.parquet.read_schema(grid.path).types
    words = [pyarrow.types.is_string, pyarrow.types.is_large_string, pyarrow.types.is_dictionary]
    words += [pyarrow.types.is_integer] * numbers
    return [column for column in every if any(each(kinds[column]) for each in words)]


@dataclass
class Columns:
    """The columns of a table by number; `taken` are those that have a role, `notes` what to tell the user."""

    grid: Grid
    finder: FileFinder
    options: TableOptions
    notes: list[str] = field(default_factory=list)
    _texts: dict[int, pyarrow.ChunkedArray] = field(default_factory=dict)
    _labels: dict[int, pyarrow.ChunkedArray] = field(default_factory=dict)
    _cells: dict[int, pyarrow.ChunkedArray] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)
    _saying_splits: list[int] | None = None
    # The rows of images that nobody has labelled, bool (N,).
    unlabelled: pyarrow.ChunkedArray | None = None

    def shown(self, column: int) -> str:
        name = self.grid.names[column]
        return repr(name.strip()) if self.grid.named else f"column {name}"

    def paths(self, column: int) -> pyarrow.ChunkedArray:
        import pyarrow
        import pyarrow.compute

        cells = self.grid.column(column)
        try:
            if pyarrow.types.is_integer(cells.type):
                cells = cells.cast(pyarrow.large_string())
            cells = cells.cast(pyarrow.large_binary()).fill_null(b"")
        except pyarrow.ArrowNotImplementedError:
            raise DataError(
                f"expected paths in {self.grid.path.name}, got a column of {cells.type}: write the paths of the files "
                "there"
            ) from None
        if (pyarrow.compute.max(pyarrow.compute.binary_length(cells[:_LOOKED_UP])).as_py() or 0) > _LONGEST_PATH:
            raise DataError(
                f"expected paths of images in the column {self.shown(column)} of {self.grid.path.name}, got cells "
                "with content in them that is in no supported image format: write the images to files, and their "
                "paths there"
            )
        return self._as_files_are(cells) if self.grid.western else cells

    def _as_files_are(self, cells: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
        """The paths of a table in Windows-1252 in UTF-8, or as written if that is how the files are named."""
        import pyarrow

        written = [cell.as_py().decode().encode(WESTERN) for cell in cells]
        differing = [raw for raw, cell in zip(written, cells, strict=True) if raw != cell.as_py()][:_LOOKED_UP]
        if not differing or not self.finder.locate(pyarrow.array(differing, pyarrow.large_binary())).there.any():
            return cells
        return pyarrow.chunked_array([pyarrow.array(written, pyarrow.large_binary())])

    def text(self, column: int) -> pyarrow.ChunkedArray:
        if column not in self._texts:
            where = f"the column {self.shown(column)} of {self.grid.path.name}"
            cells = self._cells[column] if column in self._cells else self.grid.column(column)
            texts = _without_points(self._without_unlabelled(as_text(cells, where)))
            boxes = plain_name(self.grid.names[column]) == _PREDICTION_STRING
            self._texts[column] = _of_boxes(texts) if boxes else texts
        return self._texts[column]

    def labels(self, column: int) -> pyarrow.ChunkedArray:
        """The cells as text, if they are labels: words for a missing value are empty."""
        if column not in self._labels:
            self._labels[column] = _without_points(without_missing(self.text(column)))
        return self._labels[column]

    def _without_unlabelled(self, texts: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
        """The texts with those that say that nobody has labelled an image emptied, and these rows kept in mind."""
        import pyarrow.compute

        if not self.grid.answers:
            return texts
        found = pyarrow.compute.equal(texts, UNLABELLED)
        self.unlabelled = found if self.unlabelled is None else pyarrow.compute.or_(self.unlabelled, found)
        return pyarrow.compute.if_else(found, "", texts)

    def sure(self, column: int) -> pyarrow.ChunkedArray:
        """The cells as text, or an empty column if they are something else."""
        import pyarrow

        with suppress(DataError):
            return self.text(column)
        return pyarrow.chunked_array([pyarrow.array([], pyarrow.large_string())])

    def given(self, role: str) -> int | None:
        """The column that the user named for a role. Raises InputError if no column has that name."""
        name = self.options.column(role)
        return None if name is None else given_column(role, name, self.grid.names, self.grid.path.name)

    def refused(self, role: str) -> bool:
        """Whether the user said that no column has this role."""
        name = self.options.column(role)
        return name is not None and is_no_column(name, self.grid.names)

    def nothing(self, role: str, advice: str) -> DataError:
        wanted = f"{role!r} (or {', '.join(SPELLINGS[role][1:])})"
        return LeftOpenError(f"expected a column {wanted} in {self.grid.path.name}, got {self.all_shown()}", advice)

    def all_shown(self) -> str:
        return first_few(map(self.shown, range(len(self.grid.names))), 8) or "none"

    def is_file(self, name: str) -> bool:
        """Whether the header of the path column is itself the path of a file."""
        import pyarrow

        return bool(self.finder.locate(pyarrow.array([name.encode(errors="replace")], pyarrow.large_binary())).there[0])

    def sample(self, column: int) -> pyarrow.LargeBinaryArray:
        """A sample of the distinct cells, empty if they cannot be paths."""
        import pyarrow

        try:
            cells = self.paths(column).unique()
        except DataError:
            return pyarrow.array([], pyarrow.large_binary())
        return cells.take(np.unique(np.linspace(0, len(cells) - 1, _LOOKED_UP).astype(int))) if len(cells) else cells

    def found_share(self, column: int) -> float:
        """The share of a column's cells that lead to files or are addresses."""
        import pyarrow.compute

        cells = self.sample(column)
        if not len(cells):
            return 0.0
        addresses = pyarrow.compute.match_substring_regex(cells, SCHEME).to_numpy(zero_copy_only=False)
        there = self.finder.locate(cells).there
        about = pyarrow.compute.match_substring_regex(cells, NAMED_ABOUT_IMAGES).to_numpy(zero_copy_only=False)
        if about.mean() > NAMED_SHARE and len(self.grid.names) > 2 and not self.only_paths(column):
            return 0.0
        return float((there | addresses).mean())

    def refuse_same_names(self, columns: Sequence[int]) -> None:
        """Raise DataError for the first of some columns whose cells are mostly names that several files share."""
        for column in columns:
            cells = self.sample(column)
            same = [row for row, why in self.finder.locate(cells).reasons.items() if why == SAME_NAME]
            if same and len(same) >= NAMED_SHARE * len(cells):
                cell = os.fsdecode(cells[same[0]].as_py())
                raise LeftOpenError(
                    f"expected one file for each cell of {self.shown(column)} in {self.grid.path.name} below "
                    f"{self.finder.root}, got several of the same name, as for {cell!r}",
                    "say where the images are with --image-dir",
                )

    def only_paths(self, column: int) -> bool:
        """Whether no other column names files."""
        others = (other for other in range(len(self.grid.names)) if other != column)
        return not any(self.looks_like_paths(other) for other in others)

    def looks_like_paths(self, column: int) -> bool:
        import pyarrow.compute

        cells = self.sample(column)
        ended = pyarrow.compute.match_substring_regex(cells, f"{IMAGE_ENDING}|{SCHEME}")
        return len(cells) > 0 and float(ended.to_numpy(zero_copy_only=False).mean()) >= NAMED_SHARE

    def naming_other_images(self, column: int) -> list[int]:
        """The other columns with names for images whose first rows lead to files, and never to the same ones."""
        import pyarrow.compute

        among = [number for number, name in enumerate(self.grid.names) if re.search(_NAMING_IMAGES, name)]
        among = [number for number in among if not re.search(NAMED_ABOUT_IMAGES, self.grid.names[number])]
        among = [number for number in among if number != column][:_MOST_BESIDE]
        own, found = self._beginning(column) if among else None, list[int]()
        if own is None:
            return found
        for number in among:
            # If the first column leads to files without a search, so do the others.
            other = self._beginning(number, search=bool(own.notes))
            if other is None or 2 * len(other.paths.unique()) <= len(other.paths):
                continue
            both = own.there & other.there
            same = pyarrow.compute.equal(own.paths, other.paths).to_numpy(zero_copy_only=False)
            if 2 * both.sum() > len(both) and not same[both].any():
                found.append(number)
        return found

    def _beginning(self, column: int, search: bool = True) -> Located | None:
        """The files that the first cells lead to; None if they cannot be paths or one leads to two files."""
        with suppress(DataError):
            return self.finder.locate(self.paths(column)[:_LOOKED_UP].combine_chunks(), search)
        return None

    def name_of(self, column: int) -> str:
        """The name of a column; the second column of an unnamed list of two takes the name of the file."""
        second = not self.grid.named and len(self.grid.names) == 2 and column == 1
        return self.grid.path.stem if second else self.grid.names[column]

    def about_splits(self) -> list[int]:
        """The columns whose names suggest splits, the likeliest first."""
        found = named(self.grid.names, SYNONYMS["split"])
        last = len(self.grid.names) - 1
        return [*found, last] if last == 1 and re.search(ABOUT_SPLITS, self.name_of(last)) else found

    def saying_splits(self) -> list[int]:
        """The columns whose cells are all words for splits or empty, whatever the columns' names."""
        if self._saying_splits is None:
            self._saying_splits = [column for column in self._beginning_as_splits() if say_splits(self.sure(column))]
        return self._saying_splits

    def of_words(self, numbers: bool) -> list[int]:
        """The columns that can hold words, or whole `numbers` too."""
        return _of_words(self.grid, numbers)

    def _beginning_as_splits(self) -> list[int]:
        """The columns whose first cells are words for splits; the others are not read further."""
        among, found = _of_words(self.grid), []
        for start in range(0, len(among), COLUMNS_AT_ONCE):
            some = among[start : start + COLUMNS_AT_ONCE]
            with suppress(DataError):
                for column, cells in zip(some, self.grid.read(some), strict=True):
                    with suppress(DataError):
                        found += [column] * are_words_of_splits(as_text(cells[:_LOOKED_UP], self.shown(column)))
        return found

    def mostly_distinct(self, column: int) -> bool:
        with suppress(DataError):
            return 2 * len(self.paths(column).unique()) > len(self.paths(column))
        return False

    def either(self, role: str, columns: Sequence[int]) -> DataError:
        both = " and ".join(map(self.shown, columns[:4]))
        first = self.grid.names[columns[0]].strip()
        return LeftOpenError(
            f"expected one column of {role}s in {self.grid.path.name}, got {both}, which are equally likely",
            f"name one, as in --{role}-column {first!r}",
        )

    def repeats(self, column: int) -> bool:
        """Whether a column has few distinct values, as labels do, and at most half of them are fractions."""
        text = without_missing(self.sure(column))
        words = [word for word in text.unique().to_pylist() if word]
        fractions = sum(bool(re.fullmatch(r"-?\d*\.\d*[1-9]\d*", word)) for word in words)
        return 0 < len(words) <= max(3, len(text) / 2) and 2 * fractions <= len(words)

    def first_that_says_only(self, columns: Sequence[int], words: frozenset[str]) -> int | None:
        """The first of some columns whose cells are all among `words` and not all the same; None if there is none.

        A table of pixels has hundreds of columns, so each pass over the file reads many of them.
        """
        for start in range(0, len(columns), COLUMNS_AT_ONCE):
            some = columns[start : start + COLUMNS_AT_ONCE]
            # Columns that cannot be read together are read one by one.
            with suppress(DataError):
                self._cells = dict(zip(some, self.grid.read(some), strict=True))
            found = next((column for column in some if self._says_only(column, words)), None)
            self._cells = {}
            if found is not None:
                return found
        return None

    def _says_only(self, column: int, words: frozenset[str]) -> bool:
        found = set(without_missing(self.sure(column)).unique().to_pylist()) - {""}
        return len(found) > 1 and found <= words

    def say_the_same(self, first: int, second: int) -> bool:
        """Whether two columns of labels divide the rows alike."""
        try:
            codes = [self.labels(column).combine_chunks().dictionary_encode().indices for column in (first, second)]
        except DataError:
            return False
        one, other = (each.to_numpy().astype(np.int64) for each in codes)
        if not len(one):
            return True
        pairs = len(np.unique(one * (other.max() + 1) + other))
        return bool(pairs == one.max() + 1 == other.max() + 1)

    def say_unused(self, column: int, role: str, why: str, advice: str = "") -> None:
        name = self.grid.names[column].strip()
        advice = advice or f"--{role}-column {name!r} uses it"
        self.notes.append(f"{self.shown(column)} was not used, since {why}: {advice}")

    def has_company(self, column: int) -> bool:
        text = self.text(column)
        return 1 < len(text.unique()) < len(text)
