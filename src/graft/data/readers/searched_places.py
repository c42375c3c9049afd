"""Where the files that a table's cells name are searched: the folders of one split, all images, and all files."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from graft.data.dataset import TEST, TRAIN, VAL, WHOLE
from graft.data.readers.split_names import split_in_name
from graft.endings import IMAGE_ENDING
from graft.path_tails import Key, TailIndex

if TYPE_CHECKING:
    import pyarrow

# Folders of files about images: of two files with the same name, the one outside these folders is meant.
ABOUT_IMAGES = (
    r"(?i)(^|/)([^/]*(mask|trimap|segment|annotation|ground[ _-]?truth|thumb|overlay|heat[ _-]?map)[^/]*"
    r"|labels?|segs?|gt|truth|contours?|bbox(es)?)/"
)
SPLITS = (TRAIN, VAL, TEST)
# The folders of one split, all images, and all files; each with the split whose files are meant.
OWN, IMAGES, ALL = "own", "images", "all"
Where = tuple[str, str]


class SearchedFiles:
    """Files below a folder, large_binary (F,), divided into the places where they are searched."""

    def __init__(self, files: pyarrow.LargeBinaryArray) -> None:
        self.files = files
        self._indices: dict[tuple[Where, Key | None, bool], TailIndex] = {}

    @cached_property
    def places(self) -> dict[Where, np.ndarray]:
        """The files in each place, bool (F,); those of a split do without the files of others."""
        import pyarrow.compute

        about = pyarrow.compute.match_substring_regex(self.files, ABOUT_IMAGES).to_numpy(zero_copy_only=False)
        above = splits_above(self.files)
        places = {(IMAGES, WHOLE): ~about, (ALL, WHOLE): np.ones(len(self.files), bool)}
        for split in SPLITS:
            others = of_others(above, split)
            places |= {
                (OWN, split): ~about & above[split],
                (IMAGES, split): ~about & ~others,
                (ALL, split): ~others,
            }
        return places

    def index(self, place: Where, key: Key | None, stems: bool = False) -> TailIndex:
        """Index the files in a place by their paths; with `stems`, only images, without their endings."""
        import pyarrow.compute

        name = (place, key, stems)
        if name not in self._indices:
            rows = self.places[place]
            if stems:
                rows = rows & pyarrow.compute.match_substring_regex(self.files, IMAGE_ENDING).to_numpy(
                    zero_copy_only=False
                )
            self._indices[name] = self.index_of(rows, key, stems)
        return self._indices[name]

    def index_of(self, rows: np.ndarray, key: Key | None, stems: bool) -> TailIndex:
        """Index some of the files, bool (F,)."""
        import pyarrow.compute

        numbers = np.flatnonzero(rows)
        files = self.files.take(numbers)
        files = pyarrow.compute.replace_substring_regex(files, IMAGE_ENDING, "") if stems else files
        return TailIndex(files, numbers, key)


def everywhere(split: str) -> list[Where]:
    """Where to search after the folders of a split, the likeliest place first."""
    return [(IMAGES, split), (ALL, split)]


def splits_above(paths: pyarrow.LargeBinaryArray) -> dict[str, np.ndarray]:
    """For each split, which paths have a folder named after it, bool (N,)."""
    import pyarrow.compute

    above = pyarrow.compute.replace_substring_regex(paths, "[^/]*$", "").dictionary_encode()
    named = [{split_in_name(part) for part in os.fsdecode(each.as_py()).split("/")} for each in above.dictionary]
    return {split: np.array([*(split in each for each in named), False])[above.indices.to_numpy()] for split in SPLITS}


def of_others(above: dict[str, np.ndarray], split: str) -> np.ndarray:
    """Which paths have folders of other splits and none of this one, bool (N,)."""
    return np.any([above[other] for other in SPLITS if other != split], axis=0) & ~above[split]
