"""Activations kept in memory per image, so that subsets of the same images need no second pass of the trunk.

An entry on disk belongs to a whole list of images; folds and searches request hundreds of lists of the same images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from graft.data.dataset import Images
from graft.features.cache import Activations

# The most memory that kept rows take, in bytes.
ROOM = 2**30


class KeptRows:
    """Rows of activations by section and image; the oldest are dropped to make room. Threads may share it."""

    def __init__(self, room: int = ROOM) -> None:
        self.room = room
        self.computed = 0
        # By section and image: the row, or the reason why the image cannot be decoded.
        self._rows: dict[tuple[str, str], Tensor | str] = {}
        self._used = 0
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[KeptRows], tuple[int]]:
        return KeptRows, (self.room,)

    def completed(
        self, section: str, images: Images, stamps: Sequence[str], compute: Callable[[Images], Activations]
    ) -> Activations:
        """Return the activations of all images, identified by `stamps`; `compute` makes those that are not kept."""
        keys = [(section, stamp) for stamp in stamps]
        with self._lock:
            known = {key: self._rows[key] for key in keys if key in self._rows}
        missing = [index for index, key in enumerate(keys) if key not in known]
        # Called for an empty list, too: only `compute` knows the shape.
        if missing or not keys:
            found = compute(images.take(np.array(missing, np.int64)))
            self.computed += len(missing)
            made: dict[int, Tensor | str] = dict(found.failures.items())
            made |= {int(index): found.values[row].clone() for row, index in enumerate(found.indices)}
            known |= {keys[missing[index]]: each for index, each in made.items()}
            self._keep({keys[missing[index]]: each for index, each in made.items()})
            if not keys:
                return found
        rows = [(index, known[key]) for index, key in enumerate(keys)]
        values = [(index, each) for index, each in rows if isinstance(each, Tensor)]
        failures = {index: each for index, each in rows if isinstance(each, str)}
        if not values:
            return Activations(torch.empty(0), np.empty(0, np.int64), failures, cached=not missing)
        indices = np.array([index for index, _ in values], np.int64)
        return Activations(torch.stack([each for _, each in values]), indices, failures, cached=not missing)

    def _keep(self, rows: dict[tuple[str, str], Tensor | str]) -> None:
        with self._lock:
            for key, each in rows.items():
                self._used += _size(each) - _size(self._rows.get(key, ""))
                self._rows[key] = each
            while self._used > self.room and self._rows:
                self._used -= _size(self._rows.pop(next(iter(self._rows))))


def _size(row: Tensor | str) -> int:
    return row.nbytes if isinstance(row, Tensor) else 0


_KEPT: ContextVar[KeptRows | None] = ContextVar("kept rows of activations", default=None)


def kept_rows() -> KeptRows | None:
    """Return the rows that the enclosing `keeping_rows` block keeps, or None."""
    return _KEPT.get()


@contextmanager
def keeping_rows(rows: KeptRows) -> Iterator[None]:
    """Keep activations of images without augmentation in `rows`, and take them from it, while the block runs."""
    before = _KEPT.set(rows)
    try:
        yield
    finally:
        _KEPT.reset(before)
