"""The parts into which evaluated images are sliced: by size, brightness, blur, source folder and group."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from graft.audit.looking import Looks, look
from graft.audit.measuring import LUMA
from graft.data.dataset import Images
from graft.evaluation.slices import Parts, Slice, compare_slices, ends_of, parts_by
from graft.images.levels import Levels
from graft.progress import Reporter

# For each measurement, what it is about, and what images at its low and high ends are called.
WORDS = {
    "luminance": ("brightness", ("darkest", "lightest")),
    "sharpness": ("sharpness", ("most blurred", "sharpest")),
    "side": ("size", ("smallest", "largest")),
    "saturation": ("colour", ("least coloured", "most coloured")),
}


def slices_of(
    images: Images, right: np.ndarray, levels: Levels, reporter: Reporter, group_names: Sequence[str] = ()
) -> tuple[Slice, ...]:
    """Compare the answers, bool (n,), between parts of the n images.

    Folders and groups are those of the images; see `parts_of`.
    """
    looks = look(images, reporter=reporter, levels=levels)
    keys = [images.key(index) for index in range(len(images))]
    measures = measures_of(looks, np.arange(len(images)))
    parts = parts_of(measures, keys, images.labels, images.groups, dict(enumerate(group_names)))
    return compare_slices(right, images.labels, parts, images.groups)


def measures_of(looks: Looks, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the measurements of the images in some rows, float32 (n,) each, by the names of `WORDS`."""
    return {
        "luminance": looks.colour[rows] @ LUMA,
        "sharpness": looks.sharpness[rows],
        "side": np.minimum(looks.width, looks.height)[rows].astype(np.float32),
        "saturation": looks.saturation[rows],
    }


def parts_of(
    measures: Mapping[str, np.ndarray],
    keys: Sequence[str],
    labels: np.ndarray,
    groups: np.ndarray | None,
    group_names: Mapping[int, str],
) -> Parts:
    """Return the parts of n images: the ends of their `measures`, folders by their `keys`, and `groups`.

    Folders are left out where each holds only one class, since classes say the same. A group without a name is called
    by its number.
    """
    parts: Parts = {}
    for name, values in measures.items():
        if name in WORDS:
            parts |= ends_of(*WORDS[name], values.astype(np.float64))
    folders = [str(PurePosixPath(key).parent) for key in keys]
    if len(set(zip(folders, labels.tolist(), strict=True))) > len(set(folders)) > 1:
        parts |= parts_by("folder", folders)
    if groups is not None:
        parts |= parts_by("group", [group_names.get(group) or str(group) for group in groups.tolist()])
    return parts
