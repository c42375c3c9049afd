"""Findings about marks in one class: where they are, how many images have them, and what to do."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from graft.audit.findings import Finding, of_images
from graft.audit.looking import Looks, upright_rgb
from graft.audit.marks import FEWEST, MOST, Mark, Seen, chosen_for_marks, find_marks, laid_together, seen
from graft.data.dataset import Dataset, Images, together
from graft.data.loading import available_cores
from graft.errors import ImageError
from graft.files import keep, read_kept
from graft.images.levels import Levels
from graft.progress import Reporter

# Increased whenever the same images would get other marks.
NUMBERS = 3


def mark_findings(
    dataset: Dataset, looks: Looks, reporter: Reporter, levels: Levels = (), cache: Path | None = None
) -> Iterator[Finding]:
    """Yield classes in which many images have the same mark at the same place; copies of an image are looked at once.

    With `cache`, a folder, the marks of the same images under the same labels are kept.
    """
    whole = together(dataset.splits.values())
    rows = chosen_for_marks(whole.labels, whole.copies)
    rows = rows[looks.decoded[rows]]
    if cache is None:
        marks = _marks(whole, rows, looks.overlays, levels, reporter)
    else:
        named = (looks.digest[rows].tobytes(), whole.labels[rows].tobytes(), str((NUMBERS, *levels)).encode())
        path = cache / f"marks-{hashlib.blake2b(b''.join(named)).hexdigest()[:20]}"
        kept = read_kept(path, reporter)
        if kept is not None:
            marks = [_read_mark(each) for each in json.loads(bytes(kept.content))]
        else:
            marks = _marks(whole, rows, looks.overlays, levels, reporter)
            keep(path, json.dumps([{**asdict(mark), "rows": mark.rows.tolist()} for mark in marks]).encode(), reporter)
    for mark in marks:
        yield of_images("class_mark", "warning", _said(mark, dataset.classes[mark.label]), whole, rows[mark.rows])


def _read_mark(told: dict[str, Any]) -> Mark:
    return Mark(**{**told, "rows": np.array(told["rows"], dtype=np.int64), "area": tuple(told["area"])})


def _marks(
    whole: Images, rows: np.ndarray, prepared: Mapping[int, Seen], levels: Levels, reporter: Reporter
) -> list[Mark]:
    """Find the marks of the images at `rows`, reading those not `prepared`; a mark's own `rows` index into `rows`."""
    labels = whole.labels[rows]
    # Damaged images may leave a class too small.
    classes, counts = np.unique(labels, return_counts=True)
    classes = classes[counts >= FEWEST]
    marks = []
    # Laid over each other, the images of a thousand classes would fill memory.
    for some in np.array_split(classes, -(-len(classes) * FEWEST // MOST)) if len(classes) > 1 else ():
        places = np.flatnonzero(np.isin(labels, some))
        images = _read(whole, rows[places], prepared, levels, reporter)
        # Images may have changed or vanished since the look.
        there = np.array([image is not None for image in images], dtype=bool)
        if len(np.unique(labels[places[there]])) > 1:
            shown = laid_together([image for image in images if image is not None])
            found = find_marks(shown, labels[places[there]], among=len(classes))
            marks += [replace(mark, rows=places[there][mark.rows]) for mark in found]
    return marks


def _read(
    whole: Images, rows: np.ndarray, prepared: Mapping[int, Seen], levels: Levels, reporter: Reporter
) -> list[Seen | None]:
    def read(row: int) -> Seen | None:
        if row in prepared:
            return prepared[row]
        try:
            return seen(upright_rgb(whole.read(row), levels))
        except (ImageError, OSError):
            return None

    images: list[Seen | None] = []
    with ThreadPoolExecutor(available_cores(), thread_name_prefix="marks") as pool:
        for done, image in enumerate(pool.map(read, rows.tolist()), start=1):
            images.append(image)
            reporter.step("looking for marks", done, len(rows))
    return images


def _said(mark: Mark, name: str) -> str:
    others = f"as do {mark.others_with:,} of {mark.of_others:,} others" if mark.others_with else "but no others do"
    return (
        f"{mark.with_mark:,} of {mark.of_class:,} compared images of {name!r} have the same mark {_place(mark)}, "
        f"{others}: a classifier can recognise {name!r} by the mark alone and will miss images without it; crop or "
        "cover the mark, or add images of the class without it"
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
