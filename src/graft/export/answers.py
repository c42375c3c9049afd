"""The answers of a run and of its export to the images that they are compared on, one image at a time."""

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import nn

from graft.export.timm_folder import TimmModel, timm_transform
from graft.images.preprocessing import Preprocessing, normalise
from graft.images.resizing import to_square
from graft.progress import Reporter


def timed(
    answer: Callable[[np.ndarray], np.ndarray], images: Sequence[np.ndarray], reporter: Reporter, step: str
) -> tuple[np.ndarray, float]:
    """Return the answers (n, classes) to all images, one at a time, and the median seconds per image."""
    answers, seconds = [], []
    for number, pixels in enumerate(images, start=1):
        began = time.perf_counter()
        answers.append(answer(pixels))
        seconds.append(time.perf_counter() - began)
        reporter.step(f"answers of the {step}", number, len(images))
    return np.stack(answers), statistics.median(seconds)


def answering(network: nn.Module, preprocessing: Preprocessing) -> Callable[[np.ndarray], torch.Tensor]:
    """Return a function from an image, uint8 (H, W, 3), to the network's logits, float32 (1, outputs)."""

    def answer(pixels: np.ndarray) -> torch.Tensor:
        with torch.no_grad():
            logits: torch.Tensor = network(normalise(to_square(pixels, preprocessing)[None], preprocessing))
        return logits

    return answer


def labels_kept(opened: TimmModel, expected: np.ndarray, images: Sequence[np.ndarray]) -> int:
    """Count the images that keep their label with timm's own transform in place of graft's resizing.

    The labels are those of the logits `expected` (n, classes).
    """
    transform, mode = timm_transform(opened), "L" if opened.settings["input_size"][0] == 1 else "RGB"
    with torch.no_grad():
        return sum(
            int(opened.network(transform(Image.fromarray(pixels).convert(mode))[None]).argmax()) == int(row.argmax())
            for pixels, row in zip(images, expected, strict=True)
        )
