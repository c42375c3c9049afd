"""A two-line summary of how the data were understood, for the user to read before anything is done with them."""

from __future__ import annotations

from graft.data.dataset import WHOLE, Dataset, counts
from graft.words import counted

_SHOWN = 10


def understood(dataset: Dataset) -> tuple[str, str]:
    """Return one line on splits and their image counts, and one on classes and theirs, naming the first ten."""
    parts = [
        f"{counted(len(images), 'image')} {'in no split' if split == WHOLE else f'in {split}'}"
        for split, images in dataset.splits.items()
    ]
    left_out = f"; {counted(len(dataset.left_out), 'file')} left out" if dataset.left_out else ""
    parts_counted = [counts(images, dataset.classes, dataset.label_sets) for images in dataset.splits.values()]
    sizes = {name: sum(each[name] for each in parts_counted) for name in dataset.classes}
    shown = [f"{name} {size:,}" for name, size in list(sizes.items())[:_SHOWN]]
    several = "" if dataset.label_sets is None else " in several at once"
    more = len(dataset.classes) - _SHOWN
    return (
        f"{dataset.name}: {', '.join(parts) or 'no images'}{left_out}",
        f"{counted(len(dataset.classes), 'class', 'classes')}{several}: {', '.join(shown)}"
        f"{f', and {more:,} more' if more > 0 else ''}",
    )
