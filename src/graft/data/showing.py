"""The notebook view of a dataset: its splits and classes, and thumbnails of each class in turn."""

import numpy as np

from graft.data.dataset import Dataset, Images, together
from graft.data.understood import understood
from graft.errors import ImageError, InputError, did_you_mean
from graft.given import whole_number
from graft.html import Shown, escaped, gallery
from graft.images.thumbnails import thumbnail


def show(dataset: Dataset, images: int, split: str | None, seed: int) -> Shown:
    """See `Dataset.show`."""
    images = whole_number(images, "the images to show", 1, 10_000, "12 is usual")
    if split is not None and split not in dataset.splits:
        raise InputError(
            f"expected one of the splits {', '.join(dataset.splits)}, got {split!r}"
            f"{did_you_mean(str(split), dataset.splits)}: choose one of them"
        )
    parts = dataset.splits.values() if split is None else [dataset.splits[split]]
    lines = understood(dataset)
    shown = []
    if any(len(part) for part in parts):
        whole = together(parts)
        for index in _in_turn(whole.labels, images, seed):
            label = int(whole.labels[index])
            shown.append((_small(whole, index), dataset.label_name(label) if label >= 0 else whole.name(index)))
    text = "".join(f"<p>{escaped(line)}</p>" for line in (*lines, *dataset.notes))
    return Shown(f"{text}{gallery(shown)}", "\n".join(lines))


def _in_turn(labels: np.ndarray, most: int, seed: int) -> list[int]:
    """Return the indices of up to `most` images: one of every class, then another of every class, and so on."""
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    sizes = np.unique(labels, return_counts=True)[1]
    rank = np.empty(len(labels), np.int64)
    rank[by_class] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.lexsort((labels, rank))[:most].tolist()


def _small(images: Images, index: int) -> bytes | None:
    try:
        return thumbnail(images.read(index))
    except (OSError, ImageError):
        return None
