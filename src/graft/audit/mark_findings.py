"""What is told of marks in one class: where they are, how many images have them, and what to do."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from graft.audit.findings import Finding, of_images
from graft.audit.looking import Looks, upright_rgb
from graft.audit.marks import FEWEST, Mark, chosen_for_marks, find_marks, views_of
from graft.data.dataset import Dataset, Images, together
from graft.data.loading import available_cores
from graft.errors import ImageError
from graft.images.levels import Levels
from graft.progress import Reporter


def mark_findings(dataset: Dataset, looks: Looks, reporter: Reporter, levels: Levels = ()) -> Iterator[Finding]:
    """Classes of which many images have the same at the same place; of images that are copies one is looked at."""
    whole = together(dataset.splits.values())
    labels = np.where(looks.decoded, whole.labels, -1)
    copies = np.arange(len(whole)) if whole.copies is None else whole.copies
    once = np.unique(copies, return_index=True)[1]
    rows = once[chosen_for_marks(labels[once])]
    images = _read(whole, rows, levels, reporter)
    known = np.array([image is not None for image in images], dtype=bool)
    rows, seen = rows[known], [image for image in images if image is not None]
    # What has been changed or removed since it was looked at may leave a class too small.
    if len(rows) < FEWEST or len(np.unique(labels[rows])) < 2:
        return
    for mark in find_marks(views_of(seen), labels[rows]):
        yield of_images("class_mark", "warning", _said(mark, dataset.classes[mark.label]), whole, rows[mark.rows])


def _read(whole: Images, rows: np.ndarray, levels: Levels, reporter: Reporter) -> list[np.ndarray | None]:
    def read(row: int) -> np.ndarray | None:
        try:
            return upright_rgb(whole.read(row), levels)
        except (ImageError, OSError):
            return None

    images = []
    with ThreadPoolExecutor(available_cores(), thread_name_prefix="marks") as pool:
        for done, image in enumerate(pool.map(read, rows.tolist()), start=1):
            images.append(image)
            reporter.step("looking for marks", done, len(rows))
    return images


def _said(mark: Mark, name: str) -> str:
    others = f"and {mark.others_with:,} of {mark.of_others:,} others" if mark.others_with else "and no others"
    return (
        f"{mark.with_mark:,} of {mark.of_class:,} images of {name!r} that were compared have the same mark "
        f"{_place(mark)}, {others}: a classifier can tell {name!r} by that alone and will miss images without "
        "it; crop or cover it, or add images of the class that are without"
    )


def _place(mark: Mark) -> str:
    if mark.place:
        return f"in the {mark.place} corner"
    top, left, bottom, right = mark.area
    if bottom - top > 0.7 and right - left > 0.7:
        return "along the border"
    vertical = "top" if bottom < 0.45 else "bottom" if top > 0.55 else ""
    horizontal = "left" if right < 0.45 else "right" if left > 0.55 else ""
    return f"at the {f'{vertical} {horizontal}'.strip() or 'centre'}"
