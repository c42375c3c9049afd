"""Digits to learn from: MNIST if the user names its files, otherwise digits that graft draws itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from graft.errors import InputError

DIGITS = tuple("0123456789")
DRAWN = "digits that graft draws, distorted, from the twelve DejaVu fonts"
# The paper's scale: -0.1 for the background and 1.175 for the ink, so that the mean is near 0 and the variance near 1.
BACKGROUND, INK = -0.1, 1.175


@dataclass(frozen=True)
class Digits:
    """Images (N, 1, 28, 28), ink of 1.175 on -0.1, float32, and classes, int64 (N,); `source` names their origin."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    source: str


def drawn_digits(per_digit: int, test_per_digit: int, seed: int) -> Digits:
    """Draw this many of each digit; images of different seeds share fonts but no distortion."""
    train, labels = _drawn(per_digit, 2 * seed)
    test, test_labels = _drawn(test_per_digit, 2 * seed + 1)
    return Digits(train, labels, test, test_labels, DRAWN)


def mnist(folder: Path) -> Digits:
    """Read the digits in a folder of IDX files. Raises InputError for a folder without a training and a test set."""
    from graft.data.opening import open_dataset
    from graft.data.readers.idx import Pixels

    splits = open_dataset(folder).splits
    read: list[Tensor] = []
    for name in ("train", "test"):
        source = splits[name].source if name in splits else None
        if not isinstance(source, Pixels) or source.array.shape[1:] != (28, 28):
            raise InputError(
                f"expected the IDX files of MNIST (train and t10k, 28 x 28 px) for --data, got {folder}: name their "
                "folder, or leave --data out for digits that graft draws"
            )
        grey = torch.from_numpy(source.array[splits[name].rows].copy()).unsqueeze(1)
        read += [_scaled(grey), torch.from_numpy(splits[name].labels.copy())]
    train, labels, test, test_labels = read
    source_told = f"MNIST, {len(labels):,} images to train on and {len(test_labels):,} to test on"
    return Digits(train, labels, test, test_labels, source_told)


@lru_cache(maxsize=16)
def _drawn(per_digit: int, seed: int) -> tuple[Tensor, Tensor]:
    from graft.images.letters import dejavu_fonts, render_letters

    images, labels = render_letters(DIGITS, dejavu_fonts(), per_digit, seed)
    # Light ink on dark, and the central 28 px, as in MNIST.
    grey = 255 - torch.from_numpy(np.ascontiguousarray(images[:, 2:-2, 2:-2, 0])).unsqueeze(1)
    return _scaled(grey), torch.from_numpy(labels)


def _scaled(grey: Tensor) -> Tensor:
    return grey.float() / 255 * (INK - BACKGROUND) + BACKGROUND
