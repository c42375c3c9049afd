"""A table of images found beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.data.dataset import WHOLE
from graft.errors import InputError

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True)
class Found:
    """A table with paths relative to the place, and which rows have a file, bool (N,); from several files if joined.

    Without a `label` column it is a list that says which images are in a split. `beside` says that no images lie in its
    folder, `error` why a table has no labels.
    """

    files: tuple[Path, ...]
    table: pyarrow.Table
    there: np.ndarray
    notes: tuple[str, ...]
    split: str = WHOLE
    beside: bool = False
    error: InputError | None = None

    @property
    def name(self) -> str:
        return ", ".join(file.name for file in self.files)

    @property
    def labelled(self) -> bool:
        return "label" in self.table.column_names

    def labels(self) -> set[str]:
        """The distinct labels of images that exist."""
        return set(self.table["label"].combine_chunks().filter(self.there).unique().to_pylist()) - {""}
