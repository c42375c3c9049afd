"""Which file a cell of a table means: as it is written, or by the longest tail of its path that a file shares.

Tables are written on other machines (`C:\\data\\cats\\1.jpg`), name files without their folder or their ending (`1` for
`images/001.bmp`), or in another case. A file is only taken for another spelling where no other file could be meant.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.data.dataset import WHOLE
from graft.data.readers.folder import Files, list_folder, read_file
from graft.data.readers.remote import SCHEME
from graft.data.readers.tree import split_in_name
from graft.data.table_options import TableOptions
from graft.errors import DataError, ImageError
from graft.names import restored
from graft.words import counted

if TYPE_CHECKING:
    import pyarrow

# Endings of files that are images.
IMAGE_ENDINGS = (
    *("jpg", "jpeg", "jpe", "jfif", "png", "bmp", "dib", "gif", "tif", "tiff", "webp", "ppm", "pgm", "pbm", "pnm"),
    *("jp2", "j2k", "avif", "heic", "heif", "jxl", "dcm"),
)
IMAGE_ENDING = rf"(?i)\.({'|'.join(IMAGE_ENDINGS)})$"
# Folders whose files are about images: of the same name, the one in another folder is meant.
_ABOUT_IMAGES = r"(?i)(^|/)[^/]*(mask|segment|annotation|ground[ _-]?truth|thumb|overlay)[^/]*/"
# Asking the system about one file takes about as long as listing ten, so a folder with fewer rows is not listed.
_WORTH_LISTING = 100
# Pairs of files that are looked at to tell masks from images, and the most colours that a mask has.
_LOOKED_AT, _MASK_COLOURS = 6, 16
_NONE, _SEVERAL = -1, -2
# A number as a name, with the zeros before and the point after it that are no part of it.
_NUMBER = r"(^|/)0*([0-9]+)(\.0)?$"
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")


@dataclass(frozen=True)
class Located:
    """For each cell the path of its file below the root, large_binary (N,), and whether it is there, bool (N,).

    `reasons` tell why a cell has no file where that is not just that there is none; `notes` tell how files were found.
    """

    paths: pyarrow.LargeBinaryArray
    there: np.ndarray
    reasons: dict[int, str]
    notes: tuple[str, ...] = ()


class FileFinder:
    """Finds the files below a folder that the cells of a table mean; the folder is listed when that is needed."""

    def __init__(self, root: Path, options: TableOptions | None = None, stem: str = "") -> None:
        """`stem` is the name of the table: of `train.csv` a folder `train/` is looked through first.

        Raises DataError for an image folder that does not exist.
        """
        options = TableOptions() if options is None else options
        self.root = root if options.image_dir is None else _image_dir(options.image_dir, root)
        self.suffix = options.suffix
        self.split = split_in_name(stem)
        self._indices: dict[tuple[int, Key | None, bool], TailIndex] = {}

    def locate(self, cells: pyarrow.LargeBinaryArray) -> Located:
        """The file that each cell means, addresses as they are. Raises DataError where two files are equally likely."""
        import pyarrow
        import pyarrow.compute

        paths, there = _as_written(self.root, cells if self.suffix is None else _with_suffix(cells, self.suffix))
        named = pyarrow.compute.greater(pyarrow.compute.binary_length(cells), 0).to_numpy(zero_copy_only=False)
        addresses = pyarrow.compute.match_substring_regex(paths, SCHEME).to_numpy(zero_copy_only=False)
        wanted = np.flatnonzero(named & ~there & ~addresses)
        # Where most are found as they are written, the others are missing, and not to be taken for their namesakes.
        if not len(wanted) or 2 * len(wanted) < (named & ~addresses).sum():
            return Located(paths, there, {})
        files, found, notes = self._search(paths.take(wanted))
        reasons = {int(row): "several files have that name" for row in wanted[found == _SEVERAL].tolist()}
        taken = _lead_to_one_file(cells, paths, there, wanted, files, found)
        reasons |= {int(row): "several rows that differ lead to one file" for row in wanted[taken].tolist()}
        found[taken] = _SEVERAL
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
            notes.append(
                f"{counted(int(hit.sum()), 'file')} found by name below {self.root.name} ({written} is {meant})"
            )
        return Located(paths, there, reasons, tuple(notes))

    @cached_property
    def _files(self) -> pyarrow.LargeBinaryArray:
        import pyarrow.compute

        files = list_folder(self.root).files
        if self.suffix is not None:
            files = files.filter(pyarrow.compute.match_substring_regex(files, f"(?i){re.escape(self.suffix)}$"))
        return files

    def _search(self, cells: pyarrow.LargeBinaryArray) -> tuple[pyarrow.LargeBinaryArray, np.ndarray, list[str]]:
        """Files, and for each cell the number of its file among them, int64 (N,), _NONE or _SEVERAL."""
        import pyarrow.compute

        files, cells = self._files, _cleaned(cells)
        found = np.full(len(cells), _NONE, np.int64)
        notes: list[str] = []
        # The files of images have endings; cells without any mean none of them by their whole name.
        ended = pyarrow.compute.any(pyarrow.compute.match_substring(cells, ".")).as_py()
        for place in range(len(self._places)):
            for key in (None, _folded) if ended else ():
                open_ = np.flatnonzero(found == _NONE)
                if len(open_):
                    found[open_] = self._index(place, key).match(cells.take(open_))
            open_ = np.flatnonzero(found == _NONE)
            if len(open_):
                found[open_], told = self._by_stem(cells.take(open_), place)
                notes += told
        return files, found, list(dict.fromkeys(notes))

    def _index(self, place: int, key: Key | None, stems: bool = False) -> TailIndex:
        """The files in a place by their paths, or by those without their ending if they are images."""
        import pyarrow.compute

        name = (place, key, stems)
        if name not in self._indices:
            rows = self._places[place]
            if stems:
                rows = rows & pyarrow.compute.match_substring_regex(self._files, IMAGE_ENDING).to_numpy(
                    zero_copy_only=False
                )
            self._indices[name] = self._index_of(rows, key, stems)
        return self._indices[name]

    def _index_of(self, rows: np.ndarray, key: Key | None, stems: bool) -> TailIndex:
        import pyarrow.compute

        numbers = np.flatnonzero(rows)
        files = self._files.take(numbers)
        files = pyarrow.compute.replace_substring_regex(files, IMAGE_ENDING, "") if stems else files
        return TailIndex(files, numbers, key)

    @cached_property
    def _places(self) -> list[np.ndarray]:
        """Which files to look among, bool (F,), the likeliest first."""
        import pyarrow.compute

        files = self._files
        about = pyarrow.compute.match_substring_regex(files, _ABOUT_IMAGES).to_numpy(zero_copy_only=False)
        places = [~about, np.ones(len(files), bool)]
        if self.split != WHOLE:
            outer = pyarrow.compute.replace_substring_regex(files, "(?s)(/.*|^[^/]*$)", "").dictionary_encode()
            own = [split_in_name(os.fsdecode(name.as_py())) == self.split for name in outer.dictionary]
            places.insert(0, places[0] & np.array([*own, False])[outer.indices.to_numpy()])
        return places

    def _by_stem(self, cells: pyarrow.LargeBinaryArray, place: int) -> tuple[np.ndarray, list[str]]:
        """As `TailIndex.match`, by names without their ending; files that are masks of others are no images."""
        import pyarrow.compute

        found = np.full(len(cells), _NONE, np.int64)
        ended = pyarrow.compute.match_substring_regex(cells, IMAGE_ENDING).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(~ended)
        if not len(rows) or not self._places[place].any():
            return found, []
        notes: list[str] = []
        wanted = cells.take(rows)
        numbers = pyarrow.compute.all(pyarrow.compute.match_substring_regex(wanted, _NUMBER)).as_py()
        for key in (None, _numbered) if numbers else (None, _folded, _numbered):
            found[rows] = self._index(place, key, stems=True).match(wanted)
            if (found[rows] == _SEVERAL).any():
                masks, notes = self._mask_endings(wanted.filter(found[rows] == _SEVERAL), place, key)
                if masks is not None:
                    found[rows] = self._index_of(self._places[place] & ~masks, key, stems=True).match(wanted)
            if (found[rows] >= 0).any():
                break
        return found, notes

    def _mask_endings(
        self, cells: pyarrow.LargeBinaryArray, place: int, key: Key | None
    ) -> tuple[np.ndarray | None, list[str]]:
        """The files, bool (F,), with endings by which masks of the images that cells mean go; None if all have one.

        Raises DataError if more than one ending is left.
        """
        import pyarrow.compute

        endings = pyarrow.compute.replace_substring_regex(self._files, r"(?s)^.*\.", ".").dictionary_encode()
        numbers, names = endings.indices.to_numpy(), [os.fsdecode(each.as_py()) for each in endings.dictionary]
        is_image = [re.search(IMAGE_ENDING, name) is not None for name in names]
        cells = cells[:_LOOKED_AT]
        among: dict[str, np.ndarray] = {}
        for number in np.unique(numbers[self._places[place]]).tolist():
            if is_image[number]:
                own = self._index_of(self._places[place] & (numbers == number), key, stems=True).match(cells)
                if (own >= 0).any():
                    among[names[number]] = own[own >= 0]
        if len(among) < 2:
            return None, []
        masks = [ending for ending, own in among.items() if all(map(self._is_mask, own.tolist()))]
        left = [ending for ending in among if ending not in masks]
        if len(left) != 1:
            example = os.fsdecode(cells[0].as_py())
            shown = " and ".join(os.fsdecode(self._files[int(own[0])].as_py()) for own in list(among.values())[:3])
            raise DataError(
                f"expected one file for {example!r} below {self.root}, got {shown}: say which are the images, as in "
                f"--suffix {next(iter(among))}"
            )
        note = (
            f"{' and '.join(masks)} files beside the {left[0]} files of the same names look like masks and were not "
            "used; --suffix says otherwise"
        )
        return np.isin(numbers, [names.index(ending) for ending in masks]), [note]

    def _is_mask(self, row: int) -> bool:
        from graft.images.decoding import decode

        try:
            pixels = decode(read_file(Files(self.root, self._files).path(row)), at_least=256)
        except (OSError, ImageError):
            return False
        return len(np.unique(pixels.reshape(-1, 3), axis=0)) <= _MASK_COLOURS


Key = Callable[["pyarrow.LargeBinaryArray"], "pyarrow.LargeBinaryArray"]


def _image_dir(given: str, root: Path) -> Path:
    """A folder from the working folder on, or from the table's."""
    path = Path(given).expanduser()
    found = next((each for each in (path.absolute(), root / path) if each.is_dir()), None)
    if found is None:
        raise DataError(f"expected a folder of images for --image-dir, got {given!r}, which is none: check the path")
    return found


def _with_suffix(cells: pyarrow.LargeBinaryArray, suffix: str) -> pyarrow.LargeBinaryArray:
    import pyarrow
    import pyarrow.compute

    stems = pyarrow.compute.replace_substring_regex(cells, IMAGE_ENDING, "")
    ended = pyarrow.compute.match_substring_regex(cells, f"(?i){re.escape(suffix)}$|^$")
    parts = [pyarrow.scalar(each, pyarrow.large_binary()) for each in (os.fsencode(suffix), b"")]
    return pyarrow.compute.if_else(ended, cells, pyarrow.compute.binary_join_element_wise(stems, *parts))


def _cleaned(cells: pyarrow.LargeBinaryArray) -> pyarrow.LargeBinaryArray:
    """Cells as paths with slashes, without what addresses add: `file://`, `%20`, `?d=`."""
    import pyarrow
    import pyarrow.compute

    cells = _tidy(cells)
    for pattern, instead in ((r"^.*\?d=", ""), (r"^file://", ""), (r"^(\./)+", "")):
        cells = pyarrow.compute.replace_substring_regex(cells, pattern, instead)
    if pyarrow.compute.any(pyarrow.compute.match_substring_regex(cells, "%[0-9A-Fa-f]{2}")).as_py():
        texts = (_PERCENT.sub(lambda found: bytes.fromhex(found[1].decode()), cell.as_py()) for cell in cells)
        cells = pyarrow.array(texts, pyarrow.large_binary())
    return cells


def _folded(names: pyarrow.LargeBinaryArray) -> pyarrow.LargeBinaryArray:
    """Names in one case and one spelling of Unicode, `.jpeg` as `.jpg`, without what Label Studio puts before them."""
    import pyarrow
    import pyarrow.compute

    plain = pyarrow.compute.match_substring_regex(names, r"^[\x00-\x7f]*$")
    # What is no UTF-8 is all right here: only letters of ASCII change.
    lower = pyarrow.compute.ascii_lower(names.cast(pyarrow.large_string(), safe=False)).cast(pyarrow.large_binary())
    if not pyarrow.compute.all(plain).as_py():
        others = names.filter(pyarrow.compute.invert(plain))
        texts = (unicodedata.normalize("NFC", os.fsdecode(each.as_py())).casefold() for each in others)
        spelled = pyarrow.array(map(os.fsencode, texts), pyarrow.large_binary())
        lower = pyarrow.compute.replace_with_mask(lower, pyarrow.compute.invert(plain), spelled)
    lower = pyarrow.compute.replace_substring_regex(lower, r"\.jpe?g$", ".jpg")
    return pyarrow.compute.replace_substring_regex(lower, r"(^|/)[0-9a-f]{8}-([^/]+)$", r"\1\2")


def _numbered(names: pyarrow.LargeBinaryArray) -> pyarrow.LargeBinaryArray:
    """Names that are numbers without leading zeros and without the point that a spreadsheet gives them."""
    import pyarrow.compute

    return pyarrow.compute.replace_substring_regex(names, _NUMBER, r"\1\2")


class TailIndex:
    """Paths of files by their tails: the last part, the last two, and so on; each length is made when it is asked for.

    `numbers`, int64 (F,), are what the files are called in answers.
    """

    def __init__(self, files: pyarrow.LargeBinaryArray, numbers: np.ndarray, key: Key | None) -> None:
        self.files = files if key is None else key(files)
        self.numbers = numbers
        self.key = key
        self._tails: dict[int, tuple[pyarrow.LargeBinaryArray, np.ndarray, np.ndarray]] = {}

    def match(self, cells: pyarrow.LargeBinaryArray) -> np.ndarray:
        """For each cell the file that shares the longest tail of its path, int64 (N,), _NONE or _SEVERAL."""
        import pyarrow.compute

        found = np.full(len(cells), _NONE, np.int64)
        if not len(self.files):
            return found
        cells = cells if self.key is None else self.key(cells)
        parts = pyarrow.compute.count_substring(cells, "/").to_numpy(zero_copy_only=False) + 1
        rows, length = np.arange(len(cells)), 1
        while len(rows):
            tails, many, of_tail = self._of_length(length)
            code = pyarrow.compute.index_in(_tails(cells.take(rows), length), value_set=tails).fill_null(-1).to_numpy()
            count = np.where(code >= 0, many[code], 0)
            found[rows[count == 1]] = of_tail[code[count == 1]]
            # A longer tail that no file has leaves those that share the shorter one.
            longer = parts[rows] > length
            found[rows[(count == 0) & (length > 1)]] = _SEVERAL
            found[rows[(count > 1) & ~longer]] = _SEVERAL
            rows, length = rows[(count > 1) & longer], length + 1
        return found

    def _of_length(self, length: int) -> tuple[pyarrow.LargeBinaryArray, np.ndarray, np.ndarray]:
        """The distinct tails, the number of files that have each, int64, and one of these, int64."""
        if length not in self._tails:
            encoded = _tails(self.files, length).dictionary_encode()
            codes = encoded.indices.to_numpy()
            of_tail = np.zeros(len(encoded.dictionary), np.int64)
            of_tail[codes] = self.numbers
            self._tails[length] = encoded.dictionary, np.bincount(codes, minlength=len(of_tail)), of_tail
        return self._tails[length]


def _tails(paths: pyarrow.LargeBinaryArray, length: int) -> pyarrow.LargeBinaryArray:
    """The last `length` parts of paths."""
    import pyarrow.compute

    return pyarrow.compute.replace_substring_regex(paths, rf"(?s)^.*/((?:[^/]*/){{{length - 1}}}[^/]*)$", r"\1")


def _lead_to_one_file(
    cells: pyarrow.LargeBinaryArray,
    paths: pyarrow.LargeBinaryArray,
    there: np.ndarray,
    wanted: np.ndarray,
    files: pyarrow.LargeBinaryArray,
    found: np.ndarray,
) -> np.ndarray:
    """Which of the wanted rows were led to a file that a cell with other text means as well, bool (W,)."""
    import pyarrow.compute

    cell = cells.take(wanted).dictionary_encode().indices.to_numpy().astype(np.int64)
    hit = np.flatnonzero(found >= 0)
    pairs = np.unique(found[hit] * (cell.max(initial=0) + 1) + cell[hit])
    owners = np.bincount(pairs // (cell.max(initial=0) + 1), minlength=len(files))
    if there.any():
        owned = pyarrow.compute.index_in(paths.filter(there), value_set=files).drop_null().to_numpy()
        owners[owned] += 1
    return (found >= 0) & (owners[np.maximum(found, 0)] > 1) if len(files) else np.zeros(len(found), bool)


def _as_written(root: Path, paths: pyarrow.LargeBinaryArray) -> tuple[pyarrow.LargeBinaryArray, np.ndarray]:
    """Paths as the files below `root` are spelled, and which of them exist, bool (N,).

    A path without a file is tried again as `graft.names` writes names that are not text, and then without surrounding
    spaces and with slashes in place of backslashes.
    """
    import pyarrow.compute

    there = _exist(root, paths)
    for respelled in (_restored, _tidy):
        missing = np.flatnonzero(~there)
        tried = respelled(paths.take(missing))
        differs = pyarrow.compute.not_equal(tried, paths.take(missing))
        missing, tried = missing[differs.to_numpy(zero_copy_only=False)], tried.filter(differs)
        if len(missing):
            found = _exist(root, tried)
            there[missing] = found
            mask = np.zeros(len(paths), bool)
            mask[missing[found]] = True
            paths = pyarrow.compute.replace_with_mask(paths, mask, tried.filter(found))
    return paths, there


def _restored(paths: pyarrow.LargeBinaryArray) -> pyarrow.LargeBinaryArray:
    import pyarrow
    import pyarrow.compute

    if not pyarrow.compute.any(pyarrow.compute.match_substring(paths, "\\x")).as_py():
        return paths
    names = (os.fsencode(restored(os.fsdecode(path.as_py()))) for path in paths)
    return pyarrow.array(names, pyarrow.large_binary())


def _tidy(paths: pyarrow.LargeBinaryArray) -> pyarrow.LargeBinaryArray:
    import pyarrow.compute

    slashes = pyarrow.compute.replace_substring(paths, "\\", "/")
    return pyarrow.compute.replace_substring_regex(slashes, r"^\s+|\s+$", "")


def below(folder: bytes, names: pyarrow.LargeBinaryArray) -> pyarrow.LargeBinaryArray:
    """Names with a folder, which ends in a slash, put before them."""
    import pyarrow
    import pyarrow.compute

    start, nothing = (pyarrow.scalar(text, pyarrow.large_binary()) for text in (folder, b""))
    return pyarrow.compute.binary_join_element_wise(start, names, nothing)


def _exist(root: Path, paths: pyarrow.LargeBinaryArray) -> np.ndarray:
    """Which paths below `root` exist, bool (N,)."""
    import pyarrow
    import pyarrow.compute

    # With os.path: as a Path, each of a million files would take three times as long.
    start = os.fsencode(root)
    folders = pyarrow.compute.replace_substring_regex(paths, "[^/]*$", "").dictionary_encode()
    of_row = folders.indices.to_numpy()
    counts = np.bincount(of_row, minlength=len(folders.dictionary))
    listed, exact = [pyarrow.array([], pyarrow.large_binary())], np.zeros(len(counts), bool)
    for number in np.flatnonzero(counts >= _WORTH_LISTING).tolist():
        folder = folders.dictionary[number].as_py()
        names, exact[number] = _list(os.path.join(start, folder))  # noqa: PTH118
        listed.append(below(folder, pyarrow.array(names, pyarrow.large_binary())))
    there = np.array(pyarrow.compute.is_in(paths, value_set=pyarrow.concat_arrays(listed)))
    for row in np.flatnonzero(~there & ~exact[of_row]).tolist():
        path = paths[row].as_py()
        there[row] = bool(path) and _is_there(os.path.join(start, path))  # noqa: PTH118
    return there


def _is_there(path: bytes) -> bool:
    # The name of a class may be that of its folder, which is no image.
    return os.path.exists(path) and not os.path.isdir(path)  # noqa: PTH110, PTH112


def _list(folder: bytes) -> tuple[list[bytes], bool]:
    """The names of files in a folder, and whether a file that is not among them certainly does not exist.

    It may exist if the folder cannot be listed, or if its disk ignores the case of names.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return [], True
    except (OSError, ValueError):
        return [], False
    other = next((name.swapcase() for name in names if name.swapcase() != name), None)
    return names, other is None or other in names or not os.path.exists(os.path.join(folder, other))  # noqa: PTH110, PTH118
