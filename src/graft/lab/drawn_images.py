"""Images that graft draws for the experiments, so that they run anywhere: typed letters, and scenes unlike letters."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from graft.lab.digits import BACKGROUND, INK

LETTERS = "letters that graft draws, distorted, from the twelve DejaVu fonts"
SCENES = "patches of noise and stripes that graft draws"
SIDE = 28
# Every tenth of a scene's classes has another grain and direction.
SCENE_CLASSES = 10


@lru_cache(maxsize=64)
def letters(alphabet: tuple[str, ...], per_letter: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 28, 28), light ink of 1.175 on -0.1, and classes int64 (N,), class by class."""
    from graft.images.letters import dejavu_fonts, render_letters

    images, labels = render_letters(alphabet, dejavu_fonts(), per_letter, seed)
    grey = 255 - torch.from_numpy(np.ascontiguousarray(images[:, 2:-2, 2:-2, 0])).unsqueeze(1)
    return grey.float() / 255 * (INK - BACKGROUND) + BACKGROUND, torch.from_numpy(labels)


@lru_cache(maxsize=16)
def scenes(per_class: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise stretched along a direction, with the spectrum 1 / f of photographs: images and classes as of `letters`.

    Five directions, each with a finer and a coarser grain, are the ten classes.
    """
    random = np.random.default_rng(seed)
    rows, columns = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE), indexing="ij")
    images = []
    for label in range(SCENE_CLASSES):
        for _ in range(per_class):
            angle = np.pi * (label % 5) / 5 + random.normal(0, 0.15)
            along = rows * np.cos(angle) + columns * np.sin(angle)
            across = columns * np.cos(angle) - rows * np.sin(angle)
            distance = np.sqrt(along**2 + (2.0 * across) ** 2) + 1 / SIDE
            power = 1.0 if label < 5 else 1.7
            spectrum = np.fft.fft2(random.standard_normal((SIDE, SIDE))) / distance**power
            image = np.real(np.fft.ifft2(spectrum))
            images.append((image - image.mean()) / image.std() * 0.35 + 0.3 + random.normal(0, 0.1))
    pixels = torch.from_numpy(np.clip(np.stack(images), BACKGROUND, INK)).float().unsqueeze(1)
    return pixels, torch.arange(SCENE_CLASSES).repeat_interleave(per_class)
