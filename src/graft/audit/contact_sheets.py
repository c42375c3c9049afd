"""The page of an audit: thumbnails of some images of each finding."""

import numpy as np
from PIL import Image

from graft.audit.auditing import Audit
from graft.audit.findings import Finding
from graft.audit.page import Sheet, Tile, render_page
from graft.data.dataset import Dataset, together
from graft.errors import ImageError
from graft.images.decoding import decode
from graft.images.levels import Levels
from graft.words import counted

# The most images shown per finding and per group, and the longer side of each in px.
MOST_SHOWN, MOST_OF_GROUP, SIDE = 24, 6, 128


def audit_page(audit: Audit) -> bytes:
    """Return a self-contained HTML page with a contact sheet for each finding."""
    album = _Album(audit.dataset, audit.levels)
    return render_page(
        f"Audit of {audit.dataset.name}",
        (
            f"{counted(len(audit.dataset), 'image')}, {counted(len(audit.dataset.classes), 'class', 'classes')}",
            *audit.notes,
        ),
        [_sheet(finding, album) for finding in audit.findings],
    )


class _Album:
    """Thumbnails by image number through all splits, captioned with split and label."""

    def __init__(self, dataset: Dataset, levels: Levels) -> None:
        self._levels = levels
        self._whole = together(dataset.splits.values())
        self._classes = dataset.classes
        self._ends = np.cumsum([len(images) for images in dataset.splits.values()])
        self._splits = list(dataset.splits)

    def tile(self, number: int, remark: str = "") -> Tile:
        split = self._splits[int(np.searchsorted(self._ends, number, side="right"))]
        label = int(self._whole.labels[number])
        stands = f"{split}: {self._classes[label] if label >= 0 else 'no label'}"
        return Tile(self._small(number), self._whole.name(number), remark or stands)

    def _small(self, number: int) -> np.ndarray | None:
        try:
            data = self._whole.read(number)
            pixels = decode(data, levels=self._levels) if isinstance(data, bytes) else data
        except (ImageError, OSError):
            return None
        image = Image.fromarray(pixels.squeeze()).convert("RGB")
        image.thumbnail((SIDE, SIDE), reducing_gap=2.0)
        return np.asarray(image)


def _sheet(finding: Finding, album: _Album) -> Sheet:
    remarks = finding.remarks or ("",) * len(finding.paths)
    rows: list[tuple[Tile, ...]] = []
    for group in finding.groups or [(position,) for position in range(len(finding.paths))]:
        if sum(map(len, rows)) >= MOST_SHOWN:
            break
        shown = group[:MOST_OF_GROUP]
        if finding.images:
            rows.append(tuple(album.tile(finding.images[place], remarks[place]) for place in shown))
        else:
            rows.append(tuple(Tile(None, finding.paths[place], remarks[place]) for place in shown))
    return Sheet(finding.kind, finding.severity, finding.message, tuple(rows), len(finding.paths))
