"""Which column of a table says what: by graft's own names, by names that the values prove, or by what a user says.

What is read, and what looks as if it should be and is not, is told in notes. Of two columns that are equally likely
neither is taken: the error names both, and the option that decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from graft.data.readers.column_names import SPELLINGS, SYNONYMS, given_column, is_no_column, named, plain_name
from graft.data.readers.columns import as_text
from graft.data.readers.finding_files import IMAGE_ENDING, FileFinder
from graft.data.readers.grid import Grid
from graft.data.readers.remote import SCHEME
from graft.data.readers.several_labels import labels_of_one_hot, one_hot_columns, single_labels
from graft.data.readers.uses import as_splits, can_be_groups, can_be_weights, numbers_in
from graft.data.table_options import TableOptions
from graft.errors import DataError
from graft.words import counted

if TYPE_CHECKING:
    import pyarrow

# Cells that are looked up on disk to tell whether a column holds paths.
_LOOKED_UP = 200
# The share of them that has to be found where the column has a name for paths, and where it has not.
_NAMED_SHARE, _UNNAMED_SHARE = 0.5, 0.9
_ABOUT_IMAGES = r"(?i)mask|segment|annot|thumb"


@dataclass(frozen=True)
class Understood:
    """The columns of a table by their roles: `path` as large_binary, the others as `columns.as_text` gives them."""

    table: pyarrow.Table
    notes: tuple[str, ...] = ()


def understand(
    grid: Grid, finder: FileFinder, options: TableOptions, group: str | None = None, labelled: bool = True
) -> Understood:
    """What the columns of a table mean, by `options` where these say it; `group` names the column of groups as well.

    Without `labelled` only paths are looked for. Raises DataError for a table without a column of paths or labels, for
    one in which several columns could be either, and for cells with several labels.
    """
    import pyarrow

    reader = _Reader(grid, finder, options)
    path = reader.path()
    if path is None:
        if grid.unnamed is not None and not _has_known_names(grid):
            # What was taken for names may be the first image.
            with suppress(DataError):
                return understand(grid.unnamed, finder, options, group, labelled)
        raise reader.nothing("path", "rename or add it, or name it with --path-column")
    if grid.unnamed is not None and not _has_known_names(grid) and reader.is_file(grid.names[path]):
        return understand(grid.unnamed, finder, options, group, labelled)
    columns = {"path": reader.paths(path)}
    used = {"path": reader.shown(path)}
    if not labelled:
        return Understood(pyarrow.table(columns))
    columns["label"], used["label"] = reader.labels(path)
    taken = [path]
    for role, find in (("split", reader.splits), ("group", reader.groups), ("weight", reader.weights)):
        column = find(group) if role == "group" else find(None)
        if column is not None:
            columns[role] = column[1]
            used[role] = reader.shown(column[0])
            taken.append(column[0])
    notes = [*reader.notes]
    # What is called as graft calls it, and decides no weight and no group, needs no word.
    own = {each for role in ("path", "label", "split") for each in map(plain_name, SPELLINGS[role])}
    if any(plain_name(name) not in own for name in used.values()):
        what = ", ".join(f"{role} from {name}" for role, name in used.items())
        notes.insert(0, f"{grid.path.name}: {what}")
    return Understood(pyarrow.table(columns), tuple(notes))


def _has_known_names(grid: Grid) -> bool:
    return bool(named(grid.names, [each for role in ("path", "label") for each in SPELLINGS[role]]))


@dataclass
class _Reader:
    """Finds the columns of one table, reading each once."""

    grid: Grid
    finder: FileFinder
    options: TableOptions
    notes: list[str] = field(default_factory=list)
    _texts: dict[int, pyarrow.ChunkedArray] = field(default_factory=dict)
    _taken: set[int] = field(default_factory=set)

    def shown(self, column: int) -> str:
        name = self.grid.names[column]
        return repr(name.strip()) if self.grid.named else f"column {name}"

    def paths(self, column: int) -> pyarrow.ChunkedArray:
        import pyarrow

        cells = self.grid.column(column)
        try:
            if pyarrow.types.is_integer(cells.type):
                cells = cells.cast(pyarrow.large_string())
            return cells.cast(pyarrow.large_binary()).fill_null(b"")
        except pyarrow.ArrowNotImplementedError:
            raise DataError(
                f"expected paths in {self.grid.path.name}, got a column of {cells.type}: write the paths of the files "
                "there"
            ) from None

    def text(self, column: int) -> pyarrow.ChunkedArray:
        if column not in self._texts:
            where = f"the column {self.shown(column)} of {self.grid.path.name}"
            self._texts[column] = as_text(self.grid.column(column), where)
        return self._texts[column]

    def given(self, role: str) -> int | None:
        """The column that the user named for a role. Raises InputError if there is none of that name."""
        name = self.options.column(role)
        return None if name is None else given_column(role, name, self.grid.names)

    def refused(self, role: str) -> bool:
        """Whether the user said that no column has this role."""
        name = self.options.column(role)
        return name is not None and is_no_column(name, self.grid.names)

    def nothing(self, role: str, advice: str) -> DataError:
        wanted = f"{role!r} (or {', '.join(SPELLINGS[role][1:])})"
        return DataError(f"expected a column {wanted} in {self.grid.path.name}, got {self._columns()}: {advice}")

    def _columns(self) -> str:
        names = [self.shown(number) for number in range(len(self.grid.names))]
        return ", ".join(names[:8]) + (", …" if len(names) > 8 else "") or "none"

    # Paths

    def path(self) -> int | None:
        """The column of paths, None if there is none. Raises DataError where several could be it."""
        if (given := self.given("path")) is not None:
            return given
        own, others = (named(self.grid.names, names["path"]) for names in (SPELLINGS, SYNONYMS))
        labels = named(self.grid.names, SPELLINGS["label"])
        for column in (*own, *others):
            if self._found(column) >= _NAMED_SHARE and (column in own or self._mostly_distinct(column)):
                return column
        if own:
            return own[0]
        rest = [column for column in range(len(self.grid.names)) if column not in (*others, *labels)]
        rest = [
            column
            for column in rest
            if not re.search(_ABOUT_IMAGES, self.grid.names[column])
            and self._mostly_distinct(column)
            and self._found(column) >= _UNNAMED_SHARE
        ]
        if len(rest) > 1:
            raise self._either("path", rest)
        if rest:
            return rest[0]
        # Paths of which no file is there; what is missing is told later.
        return next((column for column in others if self._looks_like_paths(column)), None)

    def is_file(self, name: str) -> bool:
        """Whether what stands for the name of the column of paths leads to a file itself."""
        import pyarrow

        return bool(self.finder.locate(pyarrow.array([name.encode(errors="replace")], pyarrow.large_binary())).there[0])

    def _sample(self, column: int) -> pyarrow.LargeBinaryArray:
        """Some of the distinct cells."""
        cells = self.paths(column).unique()
        return cells.take(np.unique(np.linspace(0, len(cells) - 1, _LOOKED_UP).astype(int))) if len(cells) else cells

    def _found(self, column: int) -> float:
        """The share of a column's cells that lead to files, or are addresses."""
        import pyarrow.compute

        try:
            cells = self._sample(column)
        except DataError:
            return 0.0
        if not len(cells):
            return 0.0
        addresses = pyarrow.compute.match_substring_regex(cells, SCHEME).to_numpy(zero_copy_only=False)
        there = self.finder.locate(cells).there
        about = pyarrow.compute.match_substring_regex(cells, _ABOUT_IMAGES).to_numpy(zero_copy_only=False)
        if about.mean() > _NAMED_SHARE and len(self.grid.names) > 2 and not self._only_paths(column):
            return 0.0
        return float((there | addresses).mean())

    def _only_paths(self, column: int) -> bool:
        """Whether no other column names files."""
        others = (other for other in range(len(self.grid.names)) if other != column)
        return not any(self._looks_like_paths(other) for other in others)

    def _looks_like_paths(self, column: int) -> bool:
        import pyarrow.compute

        try:
            cells = self._sample(column)
        except DataError:
            return False
        ended = pyarrow.compute.match_substring_regex(cells, f"{IMAGE_ENDING}|{SCHEME}")
        return len(cells) > 0 and float(ended.to_numpy(zero_copy_only=False).mean()) >= _NAMED_SHARE

    def _mostly_distinct(self, column: int) -> bool:
        try:
            cells = self.paths(column)
        except DataError:
            return False
        return 2 * len(cells.unique()) > len(cells)

    def _either(self, role: str, columns: Sequence[int]) -> DataError:
        both = " and ".join(map(self.shown, columns[:4]))
        first = self.grid.names[columns[0]].strip()
        return DataError(
            f"expected one column of {role}s in {self.grid.path.name}, got {both}, which are equally likely: say "
            f"which, as in --{role}-column {first!r}"
        )

    # Labels

    def labels(self, path: int) -> tuple[pyarrow.ChunkedArray, str]:
        """The label of each row, empty where there is none, and what it is from."""
        where = self.grid.path.name
        if (pattern := self.options.pattern) is not None:
            return _from_names(self.paths(path), pattern), "the names of files"
        column = self.given("label")
        if column is None:
            column = self._label_by_name(path)
        if column is None:
            taken = [
                path,
                *(each for role in ("split", "group", "weight") if (each := self._claimed(role)) is not None),
            ]
            rest = [number for number in range(len(self.grid.names)) if number not in taken]
            hot = self._one_hot(rest)
            if len(hot) > 1:
                names = [self.grid.names[number] for number in hot]
                texts = [self.text(number) for number in hot]
                found = labels_of_one_hot(names, texts, self.paths(path), where)
                return found, f"the columns {', '.join(map(repr, names[:4]))}{', …' if len(names) > 4 else ''}"
            rest = [number for number in rest if self._repeats(number)]
            if len(self.grid.names) > 2 and self.grid.named and rest:
                shown = " or ".join(f"--label-column {self.grid.names[number].strip()!r}" for number in rest[:3])
                raise self.nothing("label", f"rename it or name it, as in {shown}")
            column = self._one_of(rest)
        if column is None:
            raise self.nothing("label", "rename or add it, or name it with --label-column")
        self._taken.add(column)
        return single_labels(self.text(column), f"{self.shown(column)} of {where}"), self.shown(column)

    def _claimed(self, role: str) -> int | None:
        given = None if self.refused(role) else self.given(role)
        return next(iter([given] if given is not None else named(self.grid.names, SPELLINGS[role])), None)

    def _label_by_name(self, path: int) -> int | None:
        own = [column for column in named(self.grid.names, SPELLINGS["label"]) if column != path]
        if own:
            others = [column for column in own[1:] if not self._say_the_same(own[0], column)]
            if others:
                self.notes.append(
                    f"{' and '.join(map(self.shown, others))} could be the label as well as {self.shown(own[0])}: "
                    "--label-column says which"
                )
            return own[0]
        return self._one_of(
            [column for column in named(self.grid.names, SYNONYMS["label"]) if column != path and self._repeats(column)]
        )

    def _one_of(self, columns: Sequence[int]) -> int | None:
        """The only one of some columns, or of those that say the same the one in words. Raises DataError if unlike."""
        if not columns:
            return None
        unlike = [column for column in columns[1:] if not self._say_the_same(columns[0], column)]
        if unlike:
            raise self._either("label", [columns[0], *unlike])
        return min(columns, key=lambda column: bool(np.isfinite(numbers_in(self.text(column))).any()))

    def _repeats(self, column: int) -> bool:
        """Whether a column has few distinct cells, as labels have, and none that is a fraction."""
        try:
            text = self.text(column)
        except DataError:
            return False
        words = [word for word in text.unique().to_pylist() if word]
        fractions = sum(bool(re.fullmatch(r"-?\d*\.\d*[1-9]\d*", word)) for word in words)
        return 0 < len(words) <= max(3, len(text) / 2) and 2 * fractions <= len(words)

    def _say_the_same(self, first: int, second: int) -> bool:
        """Whether two columns part the rows alike."""
        try:
            codes = [self.text(column).combine_chunks().dictionary_encode().indices for column in (first, second)]
        except DataError:
            return False
        one, other = (each.to_numpy().astype(np.int64) for each in codes)
        if not len(one):
            return True
        pairs = len(np.unique(one * (other.max() + 1) + other))
        return bool(pairs == one.max() + 1 == other.max() + 1)

    def _one_hot(self, columns: Sequence[int]) -> list[int]:
        splits = named(self.grid.names, SYNONYMS["split"])
        columns = [column for column in columns if column not in splits]
        try:
            texts = [self.text(column) for column in columns]
        except DataError:
            return []
        return [columns[number] for number in one_hot_columns(texts)]

    # Splits, groups and weights

    def splits(self, _: str | None) -> tuple[int, pyarrow.ChunkedArray] | None:
        if self.refused("split"):
            return None
        given = self.given("split")
        if given is not None:
            found = as_splits(self.grid.names[given], self.text(given))
            if found is None:
                words = ", ".join(map(repr, sorted(set(self.text(given).unique().to_pylist()))[:4]))
                raise DataError(
                    f"expected train, val and test, or true and false in a column such as is_valid, in "
                    f"{self.shown(given)} of --split-column, got {words}: name another column, or correct it"
                )
            return given, found
        chosen: tuple[int, pyarrow.ChunkedArray] | None = None
        own = named(self.grid.names, SPELLINGS["split"])
        for column in (*own, *named(self.grid.names, SYNONYMS["split"])):
            if column in self._taken:
                continue
            found = as_splits(self.grid.names[column], self.text(column), any_word=column in own)
            if found is not None and chosen is None:
                chosen = column, found
            elif found is not None and chosen is not None and found.combine_chunks() != chosen[1].combine_chunks():
                self.notes.append(
                    f"{self.shown(column)} could be the split as well as {self.shown(chosen[0])}: --split-column says "
                    "which"
                )
            elif found is None and plain_name(self.grid.names[column]) not in ("dataset", "purpose", "phase", "set"):
                self._unused(column, "split", "its cells are not train, val and test")
        return chosen

    def groups(self, name: str | None) -> tuple[int, pyarrow.ChunkedArray] | None:
        if self.refused("group"):
            return None
        given = self.given("group")
        if given is None and name is not None:
            given = next(iter(named(self.grid.names, [name])), None)
        if given is not None:
            return given, self.text(given)
        for column in named(self.grid.names, SPELLINGS["group"]):
            if column not in self._taken and can_be_groups(self.text(column)):
                return column, self.text(column)
            if column not in self._taken:
                count = counted(len(self.text(column).unique()), "value")
                self._unused(column, "group", f"its {count} would divide the images into large parts")
        for column in named(self.grid.names, SYNONYMS["group"]):
            if column not in self._taken and name is None and self._has_company(column):
                self.notes.append(
                    f"{self.shown(column)} was not used, though it may say which images belong together: "
                    f"--group-column {self.grid.names[column].strip()!r} keeps them in one split"
                )
        return None

    def _has_company(self, column: int) -> bool:
        text = self.text(column)
        return 1 < len(text.unique()) < len(text)

    def weights(self, _: str | None) -> tuple[int, pyarrow.ChunkedArray] | None:
        if self.refused("weight"):
            return None
        given = self.given("weight")
        if given is not None:
            return given, self.text(given)
        for column in named(self.grid.names, SPELLINGS["weight"]):
            if column in self._taken:
                continue
            if can_be_weights(self.text(column)):
                return column, self.text(column)
            self._unused(column, "weight", "its cells do not look like weights of images in training")
        return None

    def _unused(self, column: int, role: str, why: str) -> None:
        name = self.grid.names[column].strip()
        self.notes.append(f"{self.shown(column)} was not used, since {why}: --{role}-column {name!r} uses it")


def _from_names(paths: pyarrow.ChunkedArray, pattern: re.Pattern[str]) -> pyarrow.ChunkedArray:
    """What the group of an expression finds in each path, large_string, empty where it finds nothing."""
    import pyarrow

    found = (pattern.search(cell.as_py().decode(errors="replace")) for cell in paths)
    return pyarrow.chunked_array([pyarrow.array([(each and each[1]) or "" for each in found], pyarrow.large_string())])
