"""Paths matched by their last parts, whichever machine wrote them: `C:\\data\\Cats\\1.jpg` matches `cats/1.jpg`."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from graft.on_disk import tidy

if TYPE_CHECKING:
    import pyarrow

# In place of a file's number: no file matches, or several do.
NONE, SEVERAL = -1, -2
# A number as a name; leading zeros and a trailing `.0` are not part of it.
NUMBER = r"(^|/)0*([0-9]+)(\.0)?$"
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
# Maps names to the spelling by which they are compared.
Key = Callable[["pyarrow.LargeBinaryArray"], "pyarrow.LargeBinaryArray"]


def cleaned(cells: pyarrow.LargeBinaryArray) -> pyarrow.LargeBinaryArray:
    """Return cells as paths with slashes, without URL parts: `file://`, `%20`, `?d=`."""
    import pyarrow
    import pyarrow.compute

    cells = tidy(cells)
    for pattern, instead in ((r"^.*\?d=", ""), (r"^file://", ""), (r"^(\./)+", "")):
        cells = pyarrow.compute.replace_substring_regex(cells, pattern, instead)
    if pyarrow.compute.any(pyarrow.compute.match_substring_regex(cells, "%[0-9A-Fa-f]{2}")).as_py():
        texts = (_PERCENT.sub(lambda found: bytes.fromhex(found[1].decode()), cell.as_py()) for cell in cells)
        cells = pyarrow.array(texts, pyarrow.large_binary())
    return cells


def folded(names: pyarrow.LargeBinaryArray) -> pyarrow.LargeBinaryArray:
    """Return names in one case and Unicode normal form, `.jpeg` as `.jpg`, without Label Studio's prefix."""
    import pyarrow
    import pyarrow.compute

    plain = pyarrow.compute.match_substring_regex(names, r"^[\x00-\x7f]*$")
    # Bytes that are not UTF-8 do no harm: only ASCII letters change.
    lower = pyarrow.compute.ascii_lower(names.cast(pyarrow.large_string(), safe=False)).cast(pyarrow.large_binary())
    if not pyarrow.compute.all(plain).as_py():
        others = names.filter(pyarrow.compute.invert(plain))
        texts = (unicodedata.normalize("NFC", os.fsdecode(each.as_py())).casefold() for each in others)
        spelled = pyarrow.array(map(os.fsencode, texts), pyarrow.large_binary())
        lower = pyarrow.compute.replace_with_mask(lower, pyarrow.compute.invert(plain), spelled)
    lower = pyarrow.compute.replace_substring_regex(lower, r"\.jpe?g$", ".jpg")
    return pyarrow.compute.replace_substring_regex(lower, r"(^|/)[0-9a-f]{8}-([^/]+)$", r"\1\2")


def numbered(names: pyarrow.LargeBinaryArray) -> pyarrow.LargeBinaryArray:
    """Return names, numeric ones without leading zeros and without the decimal point that a spreadsheet adds."""
    import pyarrow.compute

    return pyarrow.compute.replace_substring_regex(names, NUMBER, r"\1\2")


class TailIndex:
    """File paths indexed by their tails: the last part, the last two, and so on; each length is indexed on demand.

    `numbers`, int64 (F,), are the numbers that answers use for the files.
    """

    def __init__(self, files: pyarrow.LargeBinaryArray, numbers: np.ndarray, key: Key | None) -> None:
        self.files = files if key is None else key(files)
        self.numbers = numbers
        self.key = key
        self._tails: dict[int, tuple[pyarrow.LargeBinaryArray, np.ndarray, np.ndarray]] = {}

    def match(self, cells: pyarrow.LargeBinaryArray) -> np.ndarray:
        """Return for each cell the file that shares the longest tail with it, int64 (N,), or NONE or SEVERAL."""
        import pyarrow.compute

        found = np.full(len(cells), NONE, np.int64)
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
            # Where no file has the longer tail, the matches for the shorter one stand.
            longer = parts[rows] > length
            found[rows[(count == 0) & (length > 1)]] = SEVERAL
            found[rows[(count > 1) & ~longer]] = SEVERAL
            rows, length = rows[(count > 1) & longer], length + 1
        return found

    def _of_length(self, length: int) -> tuple[pyarrow.LargeBinaryArray, np.ndarray, np.ndarray]:
        """Return the distinct tails, the number of files with each, int64, and one of those files, int64."""
        if length not in self._tails:
            encoded = _tails(self.files, length).dictionary_encode()
            codes = encoded.indices.to_numpy()
            of_tail = np.zeros(len(encoded.dictionary), np.int64)
            of_tail[codes] = self.numbers
            self._tails[length] = encoded.dictionary, np.bincount(codes, minlength=len(of_tail)), of_tail
        return self._tails[length]


def _tails(paths: pyarrow.LargeBinaryArray, length: int) -> pyarrow.LargeBinaryArray:
    """Return the last `length` parts of paths. Works on bytes: a regular expression takes ten times as long."""
    import pyarrow

    if not len(paths) or paths.buffers()[2] is None:
        return paths
    ends = np.frombuffer(paths.buffers()[1], np.int64)[paths.offset : paths.offset + len(paths) + 1]
    text = np.frombuffer(paths.buffers()[2], np.uint8)[ends[0] : ends[-1]]
    ends = ends - ends[0]
    slashes = np.flatnonzero(text == ord("/"))
    before = np.searchsorted(slashes, ends)
    last = before[1:] - length
    start = np.where(last >= before[:-1], np.append(slashes, -1)[np.maximum(last, 0)] + 1, ends[:-1])
    filled = start < ends[1:]
    change = np.zeros(len(text) + 1, np.int8)
    change[start[filled]] = 1
    change[ends[1:][filled]] -= 1
    kept = np.cumsum(change[:-1], dtype=np.int8).astype(bool)
    lengths = np.concatenate([[0], np.cumsum(ends[1:] - start)])
    buffers = [None, pyarrow.py_buffer(lengths), pyarrow.py_buffer(text[kept])]
    return pyarrow.LargeBinaryArray.from_buffers(pyarrow.large_binary(), len(paths), buffers)
