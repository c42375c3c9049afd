"""What the page of a run shows beside an image: where the evidence for its answer lies, and similar training images."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from graft.data.dataset import TRAIN, VAL, Dataset, Images, relabel
from graft.errors import GraftError
from graft.explanation.class_maps import exact_maps, gradient_maps
from graft.explanation.explaining import as_rgb, decoded
from graft.explanation.model import Model
from graft.explanation.neighbours import Neighbour, nearest_training_images
from graft.explanation.overlay import overlay, thumbnail
from graft.features.engine import Choice, Precision, processor_has_bfloat16
from graft.features.extraction import is_kept

# Training images beside each image, and how many candidates are compared when their features are not cached.
NEAREST, MOST_COMPARED = 3, 500
# The most multiply-adds for all maps of a page, about two seconds on a core or two; this many images get a map at any
# cost.
MOST_MACS, FEWEST_MAPS = 1e11, 4
# Maps computed at a time: the maps of all stages of one image take 10 MiB and more.
AT_ONCE = 4


@dataclass(frozen=True)
class Classifier:
    """The classifier of a run, as saved, and the engine that the run was asked for.

    `refitted` says that the final classifier was trained on val as well. `until` is the deadline for all this, on the
    clock of time.perf_counter; None for no limit.
    """

    model: Model
    choice: Choice
    refitted: bool
    # Multiply-adds per image, 0 if unknown.
    macs: float = 0.0
    until: float | None = None

    def has(self, seconds: float) -> bool:
        """Whether there is time for something that takes this many seconds."""
        return self.until is None or time.perf_counter() + seconds <= self.until


@dataclass(frozen=True)
class Evidence:
    """By index in the split: maps laid over images as the network sees them, uint8 (side, side, 3), and neighbours.

    A neighbour's `index` counts through its split as the dataset has it.
    """

    maps: Mapping[int, np.ndarray] = field(default_factory=dict)
    nearest: Mapping[int, tuple[Neighbour, ...]] = field(default_factory=dict)
    note: str | None = None


def macs_of(plan: Mapping[str, Any]) -> float:
    """Return the multiply-adds per image from the plan of a run; 0 if it does not say."""
    stages = (plan.get("outlook") or {}).get("stages") or ()
    return float(sum(row.get("macs") or 0 for row in stages))


def evidence_of(
    classifier: Classifier | None, dataset: Dataset | None, split: str, answers: Mapping[int, int]
) -> Evidence:
    """Return maps and nearest training images for some images of a split, in the order of `answers`.

    `answers` maps an image's index in the split to the class that its map explains. The result is empty when the images
    are missing, or when the classifier cannot be looked into.
    """
    if classifier is None or dataset is None or split not in dataset.splits or not answers:
        return Evidence()
    try:
        return _evidence(classifier, dataset, dataset.splits[split], answers)
    except (GraftError, OSError) as error:
        # A page without maps is better than no page.
        return Evidence(note=f"There are no maps and no nearest training images: {error}.")


def _evidence(classifier: Classifier, dataset: Dataset, images: Images, answers: Mapping[int, int]) -> Evidence:
    model, indices = classifier.model, list(answers)
    affordable = len(indices) if not classifier.macs else max(FEWEST_MAPS, int(MOST_MACS / classifier.macs))
    maps, seconds_each = _maps(classifier, images, dict(list(answers.items())[:affordable]))
    names, splits = (TRAIN, VAL) if classifier.refitted else (TRAIN,), relabel(dataset, model.classes).splits
    training = {name: splits[name] for name in names if name in splits and len(splits[name])}
    kept = {name: _is_kept(classifier, images) for name, images in training.items()}
    rows = {name: _compared(images, kept[name]) for name, images in training.items()}
    to_compute = sum(len(rows[name]) for name in training if not kept[name])
    if not classifier.has(seconds_each * to_compute):
        return Evidence(
            maps, note="There was no time for all maps and the nearest training images: `graft report` adds them."
        )
    compared = {name: images.take(rows[name]) for name, images in training.items()}
    rows_shown = np.array(indices, dtype=np.int64)
    nearest = nearest_training_images(model, images, compared, classifier.choice, rows=rows_shown, count=NEAREST)
    number, among = sum(map(len, training.values())), sum(map(len, compared.values()))
    return Evidence(
        maps,
        {
            indices[at]: tuple(replace(each, index=int(rows[each.split][each.index])) for each in found)
            for at, found in enumerate(nearest)
        },
        None
        if among == number
        else f"The nearest were looked for among {among:,} training images, drawn from {number:,}.",
    )


def _maps(classifier: Classifier, images: Images, answers: Mapping[int, int]) -> tuple[dict[int, np.ndarray], float]:
    """Return, by index, the map of each answer laid over the image: exact where the head allows it, else Grad-CAM.

    Makes as many as time allows, assuming each takes as long as those before, and returns the seconds per map as well.
    """
    model, took = classifier.model, 0.0
    indices, found = np.array(list(answers)), dict[int, np.ndarray]()
    if not classifier.has(took):
        return found, took
    precision: Precision = "bfloat16" if processor_has_bfloat16() else "float32"
    pixels, rows, _ = decoded(model, images.take(indices))
    for start in range(0, len(pixels), AT_ONCE):
        if not classifier.has(took):
            break
        began = time.perf_counter()
        part, own = pixels[start : start + AT_ONCE], indices[rows[start : start + AT_ONCE]].tolist()
        of = [answers[index] for index in own]
        maps = exact_maps(model, part, of, precision) or gradient_maps(model, part, of)
        for index, each, seen in zip(own, maps, as_rgb(part), strict=True):
            found[index] = thumbnail(overlay(seen, each))
        # The last batch may be smaller.
        took = (time.perf_counter() - began) * AT_ONCE / len(own)
    return found, took / AT_ONCE


def _is_kept(classifier: Classifier, images: Images) -> bool:
    """Whether the features of the training images are cached, so that none are computed."""
    model = classifier.model
    section = model.network.before_head(model.network.config.head)
    return is_kept(section, images, model.preprocessing, classifier.choice)


def _compared(images: Images, kept: bool) -> np.ndarray:
    """Return which training images are compared, int64 (n,): all if their features are cached, else a random sample."""
    every = np.arange(len(images))
    if kept or len(images) <= MOST_COMPARED:
        return every
    return np.sort(np.random.default_rng(0).permutation(every)[:MOST_COMPARED])
