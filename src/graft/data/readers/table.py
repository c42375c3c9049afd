"""Manifests: one row per image with its path and label, in any form that `grid` reads.

The columns are `path`, `label` and optionally `split`, `group` and `weight`; `roles` finds them if they have other
names. Paths are relative to the manifest's folder, absolute, or addresses (`https://…`, `s3://…`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.data.dataset import WHOLE, Dataset, Source
from graft.data.readers.columns import arrange_rows
from graft.data.readers.finding_files import SAME_NAME, FileFinder, Located, splits_of_rows
from graft.data.readers.folder import Files
from graft.data.readers.grid import ENDINGS, LIST_ENDINGS, open_grid
from graft.data.readers.remote import SCHEME, Addresses
from graft.data.readers.roles import Understood, understand
from graft.data.readers.split_names import SPLIT_FOLDERS, split_in_name
from graft.data.table_options import TableOptions
from graft.errors import DataError
from graft.on_disk import below, in_one_spelling
from graft.packed_tables import ending_of
from graft.words import counted, first_few

if TYPE_CHECKING:
    import pyarrow


def is_table(path: Path) -> bool:
    """Whether a file is a table, by its ending or, for a list of text, by its content."""
    if ending_of(path) in ENDINGS:
        return True
    return may_be_list(path) and path.is_file() and names_images(path, FileFinder(path.parent))


def may_be_list(path: Path) -> bool:
    """Whether a file may be a table or anything else, by its ending or the lack of one."""
    return ending_of(path) in LIST_ENDINGS or not path.suffix


def names_images(path: Path, finder: FileFinder) -> bool:
    """Whether the lines of a list name images, judging by the first of them."""
    try:
        return len(understand(open_grid(path, beginning=True), finder, TableOptions(), labelled=False).table) > 0
    except DataError:
        return False


def read_table(path: Path, group: str | None = None, options: TableOptions | None = None) -> Dataset:
    """Read a Dataset from a manifest. `group` names the column of groups, `group` by default.

    Missing files, and rows without a path, label or split, are left out by name. Raises DataError for a table that
    cannot be read or that has no image left.
    """
    finder = FileFinder(path.parent, options, path.stem)
    understood = understand(open_grid(path), finder, options or TableOptions(), group)
    return arrange_table(path.stem, finder, understood.table, understood.notes)


def arrange_table(
    name: str,
    root: Path | FileFinder,
    table: pyarrow.Table,
    notes: Sequence[str] = (),
    splits: Sequence[str] = (),
) -> Dataset:
    """Build a Dataset from a manifest's columns as `understood_table` returns them, with paths relative to `root`.

    `splits` are those of the tables that rows come from, one for each row, if there are several tables.
    """
    import pyarrow.compute

    finder = root if isinstance(root, FileFinder) else FileFinder(root)
    located = located_by_split(finder, table, splits)
    finder.refuse_masks(located, name)
    paths, there = located.paths, located.there.copy()
    addresses = _are_addresses(paths)
    source = Addresses(finder.root, paths) if addresses.any() else finder.source(paths)
    named = pyarrow.compute.greater(pyarrow.compute.binary_length(paths), 0).to_numpy(zero_copy_only=False)
    there |= addresses
    notes = [*notes, *located.notes]
    left_out: dict[str, str] = {}
    if not named.all():
        unnamed = np.flatnonzero(~named).tolist()
        notes.append(f"{len(unnamed):,} of {counted(len(table), 'row')} of {name} left out: no path")
        left_out |= {f"{name}, row {row}": "it has no path" for row in unnamed}
    missing = np.flatnonzero(named & ~there).tolist()
    if missing:
        if not there.any():
            raise _none_there(name, source, finder.root, missing, located.reasons)
        files = {source.name(row): located.reasons.get(row, "no such file") for row in missing}
        for reason in dict.fromkeys(files.values()):
            of_reason = [file for file, why in files.items() if why == reason]
            notes.append(
                f"{counted(len(of_reason), 'file')} that {name} names left out: {reason} ({first_few(of_reason)})"
            )
        left_out |= files
    # Two rows about one image may spell its path differently.
    spelled = in_one_spelling(finder.root, paths)
    table = table.set_column(table.column_names.index("path"), "path", spelled)
    return arrange_rows(name, source, table, usable=named & there, notes=notes, left_out=left_out)


def located_by_split(finder: FileFinder, table: pyarrow.Table, splits: Sequence[str] = ()) -> Located:
    """Find the file that each `path` means; of files of one name in several splits, the one in the row's `split`.

    A path that names a split itself means what it says. `splits` are those of the tables that rows come from, if there
    are several.
    """
    import pyarrow
    import pyarrow.compute

    cells = table["path"].combine_chunks()
    located = finder.locate(cells, splits=splits or splits_of_rows(table, finder.split))
    if "split" not in table.column_names or splits or finder.split != WHOLE:
        return located
    searched = pyarrow.compute.not_equal(cells, located.paths).to_numpy(zero_copy_only=False)
    searched[[row for row, reason in located.reasons.items() if reason == SAME_NAME]] = True
    by_split: dict[str, list[int]] = {}
    splits = [SPLIT_FOLDERS.get(word.lower(), WHOLE) for word in table["split"].to_pylist()]
    for row in np.flatnonzero(searched).tolist():
        split = splits[row]
        elsewhere = not located.there[row] or _split_above(located.paths[row]) not in (WHOLE, split)
        if split != WHOLE and elsewhere and _split_above(cells[row]) == WHOLE:
            by_split.setdefault(split, []).append(row)
    paths, there, reasons, told = located.paths, located.there.copy(), {**located.reasons}, list[str]()
    for split, rows in by_split.items():
        # A finder for a table that is named after a split searches its folders first.
        of_split = FileFinder(finder.root, TableOptions(suffix=finder.suffix), split, finder.place)
        own = of_split.locate(cells.take(pyarrow.array(rows)))
        hits = [each for each in np.flatnonzero(own.there).tolist() if _split_above(own.paths[each]) == split]
        if not hits:
            continue
        mask = np.zeros(len(cells), bool)
        mask[[rows[each] for each in hits]] = True
        paths = pyarrow.compute.replace_with_mask(paths, mask, own.paths.take(pyarrow.array(hits)))
        there |= mask
        reasons = {row: reason for row, reason in reasons.items() if not mask[row]}
        told.append(
            f"of files that have the same name in several splits, {counted(len(hits), 'row')} of {split} "
            f"{'means the one' if len(hits) == 1 else 'mean those'} in a folder of {split}"
        )
    # That one split has files for all cells no longer decides.
    notes = [note for note in located.notes if not (told and "in several splits" in note)]
    return replace(located, paths=paths, there=there, reasons=reasons, notes=(*notes, *told))


def _split_above(path: pyarrow.Scalar) -> str:
    """The split that a folder of a path is named after, the outermost first."""
    *above, _ = os.fsdecode(path.as_py()).split("/")
    return next((split for part in above if (split := split_in_name(part)) != WHOLE), WHOLE)


def _none_there(name: str, source: Source, root: Path, missing: Sequence[int], reasons: dict[int, str]) -> DataError:
    first = missing[0]
    if first in reasons:
        return DataError(
            f"expected one image for each row of {name} below {root}, got none of {len(missing):,} that matches only "
            f"one file: {reasons[first]}, as for {source.key(first)!r}; say where the images are with --image-dir, or "
            "give their extension with --suffix"
        )
    return DataError(
        f"expected the images that {name} names below {root}, got none of {len(missing):,}; there is no "
        f"{source.name(first)!r}: move the table to the folder that its paths start from, correct them, or say where "
        "the images are with --image-dir"
    )


def read_paths(path: Path) -> Files:
    """Read the images that a manifest names, one per row, with or without labels; some may not exist.

    Raises DataError for a table that cannot be read or has no column of paths.
    """
    finder = FileFinder(path.parent, stem=path.stem)
    table = understand(open_grid(path), finder, TableOptions(), labelled=False).table
    paths = finder.locate(table["path"].combine_chunks()).paths
    return Addresses(path.parent, paths) if _are_addresses(paths).any() else Files(path.parent, paths)


def _are_addresses(paths: pyarrow.LargeBinaryArray) -> np.ndarray:
    import pyarrow.compute

    return pyarrow.compute.match_substring_regex(paths, SCHEME).to_numpy(zero_copy_only=False)


def understood_table(
    path: Path,
    finder: FileFinder,
    options: TableOptions | None = None,
    group: str | None = None,
    labelled: bool = True,
) -> Understood:
    """Read the columns of a manifest by role, with notes on how they were found."""
    return understand(open_grid(path), finder, options or TableOptions(), group, labelled)


def column_names(path: Path) -> list[str]:
    """Return the column names of a manifest. Raises DataError if it is not a table."""
    return list(open_grid(path).names)


def starting_from(table: pyarrow.Table, folder: Path) -> pyarrow.Table:
    """The same columns with `folder` prepended to relative paths."""
    import pyarrow
    import pyarrow.compute

    if folder == Path():
        return table
    paths = table["path"].combine_chunks()
    fixed = pyarrow.compute.match_substring_regex(paths, f"{SCHEME}|^/|^$")
    place = table.column_names.index("path")
    return table.set_column(
        place, "path", pyarrow.compute.if_else(fixed, paths, below(os.fsencode(folder) + b"/", paths))
    )
