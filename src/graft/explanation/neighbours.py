"""The training images nearest to an image, in the features that the head classifies, with their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from graft.data.content import content_digest
from graft.data.dataset import Images
from graft.explanation.model import Model
from graft.features.engine import Choice
from graft.features.extraction import extract, is_kept
from graft.models.network import Section
from graft.progress import NOBODY, Reporter

# Training images compared at a time.
TOGETHER = 2**14
# The least similarity of an image to itself: its features may have been computed twice, in other precisions.
ALIKE = 0.99


@dataclass(frozen=True)
class Neighbour:
    """A training image: its name, its label or None, its split and index there, and its similarity, -1 to 1."""

    path: str
    label: str | None
    split: str
    index: int
    likeness: float

    def to_dict(self) -> dict[str, str | float | None]:
        """Return the JSON form."""
        return {"path": self.path, "label": self.label, "likeness": self.likeness}


def nearest_training_images(
    model: Model,
    images: Images,
    training: Mapping[str, Images],
    choice: Choice,
    *,
    rows: np.ndarray | None = None,
    count: int = 5,
    reporter: Reporter = NOBODY,
) -> list[tuple[Neighbour, ...]]:
    """Return the `count` most similar `training` images, in order, for each of `images` or those at `rows`, int64 (n,).

    `training` maps the names of splits to the images that the model was trained on, with labels that index its classes.
    Similarity is the cosine of the vectors that the head classifies; for a head over all stages, the mean cosine over
    the means and maxima of every stage. An image that is itself among the training images is not its own neighbour;
    copies of it, which are other images there, are. Features of training images come from the activation cache when
    `choice` is that of the training run; so do those of `images` when all of them are cached. An image that cannot be
    decoded has no neighbours and is nobody's neighbour.
    """
    section = model.network.before_head(model.network.config.head)
    blocks = model.network.head_blocks(model.network.config.head)
    rows = np.arange(len(images)) if rows is None else rows
    asked_about, own = _own(section, model, images, rows, choice)
    found = extract(
        section, training, model.preprocessing, choice, step="features of training images", reporter=reporter
    )
    asked = _directions(own, blocks)
    best: list[list[Neighbour]] = [[] for _ in asked_about]
    for split, activations in found.items():
        for start in range(0, len(activations.indices), TOGETHER):
            likeness = asked @ _directions(activations.values[start : start + TOGETHER], blocks).T
            # One more than asked for, since one may be the image itself.
            values, places = likeness.topk(min(count + 1, likeness.shape[1]), 1)
            for number, (alike, where) in enumerate(zip(values.tolist(), places.tolist(), strict=True)):
                indices = activations.indices[start + np.array(where, dtype=np.int64)].tolist()
                best[number] += [
                    _neighbour(model, split, training[split], index, each)
                    for index, each in zip(indices, alike, strict=True)
                ]
                best[number] = sorted(best[number], key=lambda each: -each.likeness)[: count + 1]
    nearest: list[tuple[Neighbour, ...]] = [()] * len(rows)
    for number, each in zip(asked_about, best, strict=True):
        nearest[number] = _without_itself(images, int(rows[number]), each, training)[:count]
    return nearest


def _without_itself(
    images: Images, row: int, found: list[Neighbour], training: Mapping[str, Images]
) -> tuple[Neighbour, ...]:
    itself = next((each for each in found if _is_same(images, row, each, training[each.split])), None)
    return tuple(each for each in found if each is not itself)


def _is_same(images: Images, row: int, other: Neighbour, training: Images) -> bool:
    """Whether a neighbour is the image itself: of one source the same row, of two sources the same content."""
    if images.source is training.source:
        return bool(images.rows[row] == training.rows[other.index])
    if other.likeness < ALIKE:
        return False
    try:
        one, same = (content_digest(source.read(at)) for source, at in ((images, row), (training, other.index)))
    except OSError:
        return False
    return bool((one == same).all())


def _own(section: Section, model: Model, images: Images, rows: np.ndarray, choice: Choice) -> tuple[list[int], Tensor]:
    """Return which of `rows` could be decoded, as indices into them, and their features, float32 (n, D)."""
    # A head is evaluated on the features of its answers, which may be more precise than those it is solved on.
    for kept in (choice, replace(choice, precision="float32")):
        if is_kept(section, images, model.preprocessing, kept):
            whole = extract(section, {"": images}, model.preprocessing, kept)[""]
            place = {index: at for at, index in enumerate(whole.indices.tolist())}
            known = [number for number, row in enumerate(rows.tolist()) if row in place]
            return known, whole.values[[place[row] for row in rows[known].tolist()]].float()
    own = extract(section, {"": images.take(rows)}, model.preprocessing, choice, use_cache=False)[""]
    return own.indices.tolist(), own.values.float()


def _directions(features: Tensor, blocks: Sequence[int]) -> Tensor:
    """Scale features (n, D) so that their products are the mean cosine over blocks of the given sizes."""
    bounds = np.cumsum([0, *blocks]).tolist()
    parts = [F.normalize(features[:, start:end].float(), dim=1) for start, end in pairwise(bounds)]
    return torch.cat(parts, 1) / len(blocks) ** 0.5


def _neighbour(model: Model, split: str, training: Images, index: int, likeness: float) -> Neighbour:
    label = int(training.labels[index])
    return Neighbour(training.name(index), model.classes[label] if label >= 0 else None, split, index, likeness)
