"""Which file a cell of a table means: the path as written, or the file that shares the longest tail of the path.

Tables are written on other machines (`C:\\data\\cats\\1.jpg`), or name files without their folder or ending (`1` for
`images/001.bmp`), or in a different case. A file counts as another spelling only if no other file could be meant.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.data.dataset import TEST, WHOLE, Source
from graft.data.readers.aside import WHOLE_SETS
from graft.data.readers.folder import Files, list_folder, straight
from graft.data.readers.place import Place
from graft.data.readers.remote import SCHEME
from graft.data.readers.searched_places import (
    ALL,
    IMAGES,
    OWN,
    SPLITS,
    SearchedFiles,
    Where,
    everywhere,
    of_others,
    splits_above,
)
from graft.data.readers.split_names import SPLIT_FOLDERS, split_in_name
from graft.data.table_options import TableOptions
from graft.endings import IMAGE_ENDING
from graft.errors import DataError, ImageError, LeftOpenError
from graft.on_disk import as_written, exist_below
from graft.path_tails import NONE, NUMBER, SEVERAL, Key, cleaned, folded, numbered
from graft.words import counted

if TYPE_CHECKING:
    import pyarrow

# How many files are read to tell masks from images, and the most colours that a mask has.
_LOOKED_AT, _MASK_COLOURS = 6, 16
# The name of the form for the answers about the test images of a contest: `sample_submission.csv`.
_SUBMISSION = r"(?i)submi(t|ssion)"
SAME_NAME = "several files have that name"


@dataclass(frozen=True)
class Located:
    """For each cell, the path of its file below the root, large_binary (N,), and whether the file exists, bool (N,).

    `reasons` say why a cell has no file, unless there simply is none; `notes` say how files were found. `mask` is one
    of the files found if all of them look like masks and no image shares their names.
    """

    paths: pyarrow.LargeBinaryArray
    there: np.ndarray
    reasons: dict[int, str]
    notes: tuple[str, ...] = ()
    mask: str = ""


class FileFinder:
    """Finds the files below a folder that table cells mean; the folder is listed only when needed."""

    def __init__(
        self,
        root: Path,
        options: TableOptions | None = None,
        stem: str = "",
        place: Place | None = None,
        split: str = WHOLE,
    ) -> None:
        """`stem` is the name of the table: for `train.csv`, a folder `train/` is searched first, for a form `test/`.

        `place` is where `root` lies, if that has been listed. `split` is that of a table whose name says none.

        Raises DataError for an image folder that does not exist.
        """
        options = TableOptions() if options is None else options
        within = None if place is None or options.image_dir is None else _within(options.image_dir, root, place)
        self.root = straight(root if options.image_dir is None else within or _image_dir(options.image_dir, root))
        self.place = place if options.image_dir is None or within is not None else None
        self.name = self.root.name if place is None or self.root != place.root else place.listing.name
        self.suffix = options.suffix
        named = TEST if re.search(_SUBMISSION, stem) else split_in_name(stem)
        self.split = named if named != WHOLE else split

    def locate(self, cells: pyarrow.LargeBinaryArray, search: bool = True, splits: Sequence[str] = ()) -> Located:
        """Find the file that each cell means, leaving addresses as they are; without `search`, only as it is written.

        `splits` are those of the tables that cells come from, one for each cell, if there are several tables.

        Raises DataError if two files are equally likely.
        """
        import pyarrow
        import pyarrow.compute

        paths, there = as_written(cells if self.suffix is None else _with_suffix(cells, self.suffix), self._exist)
        named = pyarrow.compute.greater(pyarrow.compute.binary_length(cells), 0).to_numpy(zero_copy_only=False)
        addresses = pyarrow.compute.match_substring_regex(paths, SCHEME).to_numpy(zero_copy_only=False)
        wanted = np.flatnonzero(named & ~there & ~addresses)
        # If most cells are found as written, the rest are missing files and must not be matched to their namesakes.
        if not search or not len(wanted) or 2 * len(wanted) < (named & ~addresses).sum():
            return Located(paths, there, {})
        files, found, notes = self._files, np.full(len(wanted), NONE, np.int64), list[str]()
        of_all = np.array(splits) if len(splits) else np.full(len(paths), self.split)
        of_cell = of_all[wanted]
        for split in np.unique(of_cell).tolist():
            own = of_cell == split
            settled = paths.filter(there & (of_all == split)) if split != WHOLE else paths[:0]
            found[own], told = self._search(paths.take(wanted[own]), split, settled)
            notes += told
        reasons = {int(row): SAME_NAME for row in wanted[found == SEVERAL].tolist()}
        taken = _lead_to_one_file(cells, paths, there, wanted, files, found)
        reasons |= {int(row): "several rows that differ lead to one file" for row in wanted[taken].tolist()}
        found[taken] = SEVERAL
        hit = found >= 0
        mask = np.zeros(len(paths), bool)
        mask[wanted[hit]] = True
        paths = pyarrow.compute.replace_with_mask(paths, mask, files.take(found[hit]))
        there = there | mask
        if hit.any():
            first = int(np.argmax(hit))
            written, meant = (
                os.fsdecode(each.as_py()) for each in (cells[int(wanted[first])], files[int(found[first])])
            )
            notes.append(f"{counted(int(hit.sum()), 'file')} found by name below {self.name} ({written} is {meant})")
        return Located(paths, there, reasons, tuple(notes), self._only_masks(found[hit]))

    def _only_masks(self, rows: np.ndarray) -> str:
        """The first of some files if all lie in folders of masks and those sampled are masks, else an empty text."""
        about = ~self._searched.places[IMAGES, WHOLE]
        if not len(rows) or not about[rows].all():
            return ""
        looked_at = rows[np.unique(np.linspace(0, len(rows) - 1, _LOOKED_AT).astype(int))]
        return os.fsdecode(self._files[int(rows[0])].as_py()) if all(map(self._is_mask, looked_at.tolist())) else ""

    def refuse_masks(self, located: Located, name: str) -> None:
        """Raise DataError if a table leads only to masks; its images lie elsewhere."""
        if not located.mask:
            return
        beside = [] if self.place is not None and self.place.packed else sorted(self.root.parent.glob("*"))
        images = next((each for each in beside if each.is_dir() and WHOLE_SETS.fullmatch(each.name)), None)
        raise DataError(
            f"expected the images that {name} names below {self.root}, got only files that look like masks, such as "
            f"{located.mask!r}: say where the images are with --image-dir{'' if images is None else f' {images}'}"
        )

    def _exist(self, paths: pyarrow.LargeBinaryArray) -> np.ndarray:
        """Which paths below the root are files, bool (N,)."""
        import pyarrow.compute

        if self.place is None or not self.place.packed:
            return exist_below(self.root, paths)
        return np.array(pyarrow.compute.is_in(paths, value_set=self.all_files))

    def source(self, paths: pyarrow.LargeBinaryArray) -> Source:
        """The images at paths below the root."""
        return Files(self.root, paths) if self.place is None else self.place.source_of(self.root, paths)

    @cached_property
    def all_files(self) -> pyarrow.LargeBinaryArray:
        """The paths of all files below the root."""
        return list_folder(self.root).files if self.place is None else self.place.files_below(self.root)

    @cached_property
    def _searched(self) -> SearchedFiles:
        import pyarrow.compute

        files = self.all_files
        if self.suffix is not None:
            files = files.filter(pyarrow.compute.match_substring_regex(files, f"(?i){re.escape(self.suffix)}$"))
        return SearchedFiles(files)

    @property
    def _files(self) -> pyarrow.LargeBinaryArray:
        return self._searched.files

    def _search(
        self, cells: pyarrow.LargeBinaryArray, split: str, settled: pyarrow.LargeBinaryArray
    ) -> tuple[np.ndarray, list[str]]:
        """The index of the file that each cell of a table of a split means, int64 (N,), or NONE or SEVERAL.

        `settled` are the files that other cells of the table are known to mean.
        """
        cells = cleaned(cells)
        if split != WHOLE:
            return self._search_split(cells, split, settled)
        found, notes = self._found(cells, everywhere(WHOLE))
        if (found == SEVERAL).any():
            # If several splits have files of these names, all cells together mean the only split with a file for each.
            of_splits = {split: self._found(cells, [(OWN, split)]) for split in SPLITS}
            complete = [split for split, (own, _) in of_splits.items() if (own >= 0).all()]
            if len(complete) == 1:
                found, told = of_splits[complete[0]]
                notes = [*told, f"of files that have the same name in several splits, those of {complete[0]} are used"]
        return self._without_strays(cells, found), notes

    def _without_strays(self, cells: pyarrow.LargeBinaryArray, found: np.ndarray) -> np.ndarray:
        """The matches except those of cells that name a split's folder and lead to another's, if others lead there.

        If all cells name the folder of one split, that may be where the files once were: then a name that no other
        split has leads wherever it is.
        """
        hit, named = found >= 0, splits_above(cells)
        several = sum(bool(each.any()) for each in named.values()) > 1
        for split in SPLITS:
            only = hit & named[split] & ~np.any([named[other] for other in SPLITS if other != split], axis=0)
            if not only.any() or not (several or self._has_namesakes(split)):
                continue
            if self._searched.places[OWN, split][found[only]].any():
                stray = only.copy()
                stray[only] = ~self._searched.places[ALL, split][found[only]]
                found = np.where(stray, NONE, found)
        return found

    def _has_namesakes(self, split: str) -> bool:
        """Whether files of other splits have the names of files of this one."""
        import pyarrow
        import pyarrow.compute

        names = pyarrow.compute.replace_substring_regex(self._files, "(?s)^.*/", "")
        own = names.filter(pyarrow.array(self._searched.places[OWN, split]))
        others = names.filter(pyarrow.array(~self._searched.places[ALL, split]))
        return bool(pyarrow.compute.any(pyarrow.compute.is_in(others, value_set=own)).as_py())

    def _search_split(
        self, cells: pyarrow.LargeBinaryArray, split: str, settled: pyarrow.LargeBinaryArray
    ) -> tuple[np.ndarray, list[str]]:
        """Like `_search`; once the folders of the split have files for some cells, no cell means one of another split.

        Such a file has the name of one that is missing, but is another image. Only a cell that names the folder of
        another split leads there, unless all do, as in `/home/test/1.jpg`.
        """
        elsewhere = of_others(splits_above(cells), split)
        elsewhere &= not elsewhere.all()
        found = np.full(len(cells), NONE, np.int64)
        here = np.flatnonzero(~elsewhere)
        found[here], notes = self._found(cells.take(here), [(OWN, split)])
        within = split if (found != NONE).any() or splits_above(settled)[split].any() else WHOLE
        for rows, places in ((here, everywhere(within)), (np.flatnonzero(elsewhere), everywhere(WHOLE))):
            open_ = rows[found[rows] == NONE]
            if len(open_):
                found[open_], told = self._found(cells.take(open_), places)
                notes += told
        return found, list(dict.fromkeys(notes))

    def _found(self, cells: pyarrow.LargeBinaryArray, places: Sequence[Where]) -> tuple[np.ndarray, list[str]]:
        """Like `_search`, but in the given places only, one after the other."""
        import pyarrow.compute

        files = self._files
        found = np.full(len(cells), NONE, np.int64)
        notes: list[str] = []
        # If all files have endings and no cell has one, no cell can be a whole file name.
        dots = [pyarrow.compute.match_substring(each, ".") for each in (cells, files)]
        ended = pyarrow.compute.any(dots[0]).as_py() or not pyarrow.compute.all(dots[1]).as_py()
        for place in places:
            for key in (None, folded) if ended else ():
                open_ = np.flatnonzero(found == NONE)
                if len(open_):
                    found[open_] = self._searched.index(place, key).match(cells.take(open_))
            open_ = np.flatnonzero(found == NONE)
            if len(open_):
                found[open_], told = self._by_stem(cells.take(open_), place)
                notes += told
        return found, list(dict.fromkeys(notes))

    def _by_stem(self, cells: pyarrow.LargeBinaryArray, place: Where) -> tuple[np.ndarray, list[str]]:
        """Like `TailIndex.match`, but by names without endings; files that are masks of others are no images."""
        import pyarrow.compute

        found = np.full(len(cells), NONE, np.int64)
        ended = pyarrow.compute.match_substring_regex(cells, IMAGE_ENDING).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(~ended)
        if not len(rows) or not self._searched.places[place].any():
            return found, []
        notes: list[str] = []
        wanted = cells.take(rows)
        numbers = pyarrow.compute.all(pyarrow.compute.match_substring_regex(wanted, NUMBER)).as_py()
        if numbers:
            # Most cells match as numbers, and a match that is unique as a number is also unique as written.
            found[rows] = self._searched.index(place, numbered, stems=True).match(wanted)
            if not (found[rows] == SEVERAL).any():
                return found, notes
        for key in (None, numbered) if numbers else (None, folded, numbered):
            found[rows] = self._searched.index(place, key, stems=True).match(wanted)
            if (found[rows] == SEVERAL).any():
                masks, notes = self._mask_endings(wanted.filter(found[rows] == SEVERAL), place, key)
                if masks is not None:
                    found[rows] = self._searched.index_of(self._searched.places[place] & ~masks, key, stems=True).match(
                        wanted
                    )
            if (found[rows] >= 0).any():
                break
        return found, notes

    def _mask_endings(
        self, cells: pyarrow.LargeBinaryArray, place: Where, key: Key | None
    ) -> tuple[np.ndarray | None, list[str]]:
        """Which files, bool (F,), have the endings of masks of the images that cells mean; None if all have one ending.

        Raises DataError if more than one other ending is left.
        """
        import pyarrow.compute

        endings = pyarrow.compute.replace_substring_regex(self._files, r"(?s)^.*\.", ".").dictionary_encode()
        numbers, names = endings.indices.to_numpy(), [os.fsdecode(each.as_py()) for each in endings.dictionary]
        is_image = [re.search(IMAGE_ENDING, name) is not None for name in names]
        cells = cells[:_LOOKED_AT]
        among: dict[str, np.ndarray] = {}
        for number in np.unique(numbers[self._searched.places[place]]).tolist():
            if is_image[number]:
                own = self._searched.index_of(
                    self._searched.places[place] & (numbers == number), key, stems=True
                ).match(cells)
                if (own >= 0).any():
                    among[names[number]] = own[own >= 0]
        if len(among) < 2:
            return None, []
        masks = [ending for ending, own in among.items() if all(map(self._is_mask, own.tolist()))]
        left = [ending for ending in among if ending not in masks]
        if len(left) != 1:
            example = os.fsdecode(cells[0].as_py())
            shown = " and ".join(os.fsdecode(self._files[int(own[0])].as_py()) for own in list(among.values())[:3])
            raise LeftOpenError(
                f"expected one file for {example!r} below {self.root}, got {shown}",
                f"say which are the images, as in --suffix {next(iter(among))}",
            )
        note = (
            f"{' and '.join(masks)} files beside the {left[0]} files of the same names look like masks and were not "
            "used; --suffix chooses others"
        )
        return np.isin(numbers, [names.index(ending) for ending in masks]), [note]

    def _is_mask(self, row: int) -> bool:
        from graft.images.decoding import decode

        try:
            pixels = decode(bytes(self.source(self._files[row : row + 1]).read(0)), at_least=256)
        except (OSError, ImageError):
            return False
        return len(np.unique(pixels.reshape(-1, 3), axis=0)) <= _MASK_COLOURS


def splits_of_rows(table: pyarrow.Table, split: str) -> list[str]:
    """The split whose folders hold the file of each row: that of the table, or of the row if the table has a column."""
    if split == WHOLE or "split" not in table.column_names:
        return [split] * len(table)
    return [SPLIT_FOLDERS.get(word.lower(), WHOLE) for word in table["split"].to_pylist()]


def _within(given: str, root: Path, place: Place) -> Path | None:
    """A folder of an archive, relative to the archive or to the table's folder; None if there is no such folder."""
    if not place.packed:
        return None
    for start in (place.root, root):
        folder = Path(os.path.normpath(start / given.strip("/")))
        if folder.is_relative_to(place.root) and place.tree.reaches(folder.relative_to(place.root).parts):
            return folder
    return None


def _image_dir(given: str, root: Path) -> Path:
    """A folder given relative to the working directory or to the table's folder."""
    path = Path(given).expanduser()
    found = next((each for each in (path.absolute(), root / path) if each.is_dir()), None)
    if found is None:
        raise DataError(
            f"expected a folder of images for --image-dir, got {given!r}, which is not a folder: check the path"
        )
    return found


def _with_suffix(cells: pyarrow.LargeBinaryArray, suffix: str) -> pyarrow.LargeBinaryArray:
    import pyarrow
    import pyarrow.compute

    stems = pyarrow.compute.replace_substring_regex(cells, IMAGE_ENDING, "")
    ended = pyarrow.compute.match_substring_regex(cells, f"(?i){re.escape(suffix)}$|^$")
    parts = [pyarrow.scalar(each, pyarrow.large_binary()) for each in (os.fsencode(suffix), b"")]
    return pyarrow.compute.if_else(ended, cells, pyarrow.compute.binary_join_element_wise(stems, *parts))


def _lead_to_one_file(
    cells: pyarrow.LargeBinaryArray,
    paths: pyarrow.LargeBinaryArray,
    there: np.ndarray,
    wanted: np.ndarray,
    files: pyarrow.LargeBinaryArray,
    found: np.ndarray,
) -> np.ndarray:
    """Which of the wanted rows lead to a file that a cell with different text means as well, bool (W,)."""
    import pyarrow.compute

    cell = cells.take(wanted).dictionary_encode().indices.to_numpy().astype(np.int64)
    hit = np.flatnonzero(found >= 0)
    if len(hit) and not there.any() and np.bincount(found[hit]).max() == 1:
        return np.zeros(len(found), bool)
    pairs = np.unique(found[hit] * (cell.max(initial=0) + 1) + cell[hit])
    owners = np.bincount(pairs // (cell.max(initial=0) + 1), minlength=len(files))
    if there.any():
        owned = pyarrow.compute.index_in(paths.filter(there), value_set=files).drop_null().to_numpy()
        owners[owned] += 1
    return (found >= 0) & (owners[np.maximum(found, 0)] > 1) if len(files) else np.zeros(len(found), bool)
