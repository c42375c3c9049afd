"""The parts of evaluated images that are looked at: by size, brightness, blur, source folder and group."""

from pathlib import PurePosixPath

import numpy as np

from graft.audit.looking import look
from graft.data.dataset import Images
from graft.evaluation.slices import Slice, compare_slices, parts_by, quarters
from graft.images.levels import Levels
from graft.progress import Reporter


def slices_of(images: Images, right: np.ndarray, levels: Levels, reporter: Reporter) -> tuple[Slice, ...]:
    """How the answers, bool (n,), differ between parts of the n images.

    Folders are not looked at where each holds one class alone, as the classes say the same.
    """
    looks = look(images, reporter=reporter, levels=levels)
    parts = {
        **quarters("size", ("small", "large"), np.sqrt(looks.width.astype(float) * looks.height)),
        **quarters("brightness", ("dark", "light"), looks.thumbnail.mean((1, 2))),
        **quarters("sharpness", ("blurred", "sharp"), looks.sharpness.astype(float)),
    }
    folders = [str(PurePosixPath(images.key(index)).parent) for index in range(len(images))]
    if len(set(zip(folders, images.labels.tolist(), strict=True))) > len(set(folders)) > 1:
        parts |= parts_by("folder", folders)
    if images.groups is not None:
        parts |= parts_by("group", [str(group) for group in images.groups.tolist()])
    return compare_slices(right, parts)
