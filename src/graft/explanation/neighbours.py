"""The training images nearest to an image in the features that the head classifies, with their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from graft.data.dataset import Images
from graft.explanation.model import Model
from graft.features.engine import Choice
from graft.features.extraction import extract
from graft.progress import NOBODY, Reporter

# Training images compared at a time.
TOGETHER = 2**14


@dataclass(frozen=True)
class Neighbour:
    """A training image: its name, its label or None, the split and the index in it, and how alike it is, -1 to 1."""

    path: str
    label: str | None
    split: str
    index: int
    likeness: float

    def to_dict(self) -> dict[str, str | float | None]:
        """For JSON."""
        return {"path": self.path, "label": self.label, "likeness": self.likeness}


def nearest_training_images(
    model: Model,
    images: Images,
    training: Mapping[str, Images],
    choice: Choice,
    *,
    count: int = 5,
    reporter: Reporter = NOBODY,
) -> list[tuple[Neighbour, ...]]:
    """For each of `images`, the `count` images of `training` that are most alike to it, most alike first.

    `training` has the images that the model was trained on, by the name of their split, with labels that index the
    model's classes. Likeness is the cosine of the vectors that the head classifies; over all stages, the mean of those
    of every stage's means and maxima. Features of training images are those of the activation cache where `choice` is
    that of the training. An image that cannot be decoded has no neighbours, and is nobody's.
    """
    section = model.network.before_head(model.network.config.head)
    blocks = model.network.head_blocks(model.network.config.head)
    own = extract(section, {"": images}, model.preprocessing, choice, use_cache=False)[""]
    found = extract(
        section, training, model.preprocessing, choice, step="features of training images", reporter=reporter
    )
    asked = _directions(own.values, blocks)
    best: list[list[Neighbour]] = [[] for _ in own.indices]
    for split, activations in found.items():
        for start in range(0, len(activations.indices), TOGETHER):
            likeness = asked @ _directions(activations.values[start : start + TOGETHER], blocks).T
            values, places = likeness.topk(min(count, likeness.shape[1]), 1)
            for number, (alike, where) in enumerate(zip(values.tolist(), places.tolist(), strict=True)):
                indices = activations.indices[start + np.array(where, dtype=np.int64)].tolist()
                best[number] += [
                    _neighbour(model, split, training[split], index, each)
                    for index, each in zip(indices, alike, strict=True)
                ]
                best[number] = sorted(best[number], key=lambda each: -each.likeness)[:count]
    nearest: list[tuple[Neighbour, ...]] = [()] * len(images)
    for index, each in zip(own.indices.tolist(), best, strict=True):
        nearest[index] = tuple(each)
    return nearest


def _directions(features: Tensor, blocks: Sequence[int]) -> Tensor:
    """Features (n, D) so that their products are the mean cosine over blocks of so many."""
    bounds = np.cumsum([0, *blocks]).tolist()
    parts = [F.normalize(features[:, start:end].float(), dim=1) for start, end in pairwise(bounds)]
    return torch.cat(parts, 1) / len(blocks) ** 0.5


def _neighbour(model: Model, split: str, training: Images, index: int, likeness: float) -> Neighbour:
    label = int(training.labels[index])
    return Neighbour(training.name(index), model.classes[label] if label >= 0 else None, split, index, likeness)
