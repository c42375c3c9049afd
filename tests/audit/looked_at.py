"""Looks at images that are like any photograph, but for the columns that a test states."""

from typing import Any

import numpy as np

from graft.audit.looking import Looks
from graft.audit.measuring import THUMBNAIL
from graft.data.dataset import Dataset, Images


class Named:
    """A source of names without images."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def name(self, row: int) -> str:
        return f"{row}.jpg"

    key = stamp = name

    def read(self, row: int) -> bytes:
        raise OSError("there is no image")


def images(labels: list[int]) -> Images:
    return Images(Named(len(labels)), np.arange(len(labels)), np.array(labels))


def dataset(**labels: list[int]) -> Dataset:
    """Splits by name with the labels of their images, of classes a, b, c, …; rows go on from split to split."""
    whole = images([label for each in labels.values() for label in each])
    bounds = np.cumsum([0, *map(len, labels.values())])
    splits = {
        name: whole.take(np.arange(start, start + len(each)))
        for start, (name, each) in zip(bounds, labels.items(), strict=False)
    }
    return Dataset("data", tuple("abcdefgh"[: int(whole.labels.max()) + 1]), splits)


def looks(count: int, reasons: dict[int, str] | None = None, **columns: Any) -> Looks:
    """`count` photographs that vary a little; a column is given whole, or as a dict from row to value."""
    wave = np.sin(np.arange(count) * 1.7)
    usual: dict[str, np.ndarray] = {
        "digest": np.stack([np.arange(count), np.ones(count)], 1).astype(np.uint64),
        "size": np.full(count, 50_000),
        "width": np.full(count, 500, np.int32),
        "height": np.full(count, 375, np.int32),
        "format": np.zeros(count, np.uint8),
        "wrong_suffix": np.zeros(count, bool),
        "frames": np.ones(count, np.int32),
        "orientation": np.ones(count, np.uint8),
        "bright": 0.15 + 0.05 * wave,
        "dark": 0.9 + 0.05 * wave,
        "entropy": 7.2 + 0.3 * wave,
        "sharpness": np.exp(-1 + 0.5 * wave),
        "saturation": 0.2 + 0.1 * wave,
        "colours": np.full(count, 257, np.int32),
        "colour": np.full((count, 3), 0.5, np.float32),
        "thumbnail": np.zeros((count, THUMBNAIL, THUMBNAIL), np.uint8),
    }
    for name, values in columns.items():
        if isinstance(values, dict):
            for row, value in values.items():
                usual[name][row] = value
        else:
            usual[name] = np.asarray(values)
    return Looks(**usual, reasons=reasons or {})
