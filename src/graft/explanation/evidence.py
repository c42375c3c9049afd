"""What stands beside an image on the page of a run: where the evidence for its answer lies, and what it is like."""

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

# Training images beside each image, and of how many they are the nearest where their features are not kept.
NEAREST, MOST_COMPARED = 3, 500
# Multiply-adds of all maps of a page, some two seconds of a core or two; so many images have one whatever it costs.
MOST_MACS, FEWEST_MAPS = 1e11, 4
# Images whose maps are made at a time: those of all stages of one take ten MiB and more.
AT_ONCE = 4


@dataclass(frozen=True)
class Classifier:
    """The classifier of a run, as it is saved, and the engine that the run was asked for.

    `refitted` says that it was trained on val as well in the end. `until` is by when, on the clock of
    time.perf_counter, looking into it has to end; None where there is time for all.
    """

    model: Model
    choice: Choice
    refitted: bool
    # Multiply-adds of one image, 0 where they are not known.
    macs: float = 0.0
    until: float | None = None

    def has(self, seconds: float) -> bool:
        """Whether there is time for what takes so many seconds."""
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
    """Multiply-adds of one image, as the plan of a run says; 0 where it does not."""
    stages = (plan.get("outlook") or {}).get("stages") or ()
    return float(sum(row.get("macs") or 0 for row in stages))


def evidence_of(
    classifier: Classifier | None, dataset: Dataset | None, split: str, answers: Mapping[int, int]
) -> Evidence:
    """Maps and nearest training images of some images of a split, those first that are named first.

    `answers` has the class of each, by its index in the split, that its map explains. Nothing where the images are not
    there, nor for a classifier that cannot be looked into.
    """
    if classifier is None or dataset is None or split not in dataset.splits or not answers:
        return Evidence()
    try:
        return _evidence(classifier, dataset, dataset.splits[split], answers)
    except (GraftError, OSError) as error:
        # A page without them is better than none.
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
            maps, note="There was no time for all maps and the nearest training images: `graft report` makes them."
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
        None if among == number else f"The nearest are those of {among:,} training images, drawn of {number:,}.",
    )


def _maps(classifier: Classifier, images: Images, answers: Mapping[int, int]) -> tuple[dict[int, np.ndarray], float]:
    """By index, the map of each answer laid over the image: exact where the head allows it, else Grad-CAM.

    As many as there is time for, where as many take as long as those before; beside them the seconds of each.
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
        took = time.perf_counter() - began
    return found, took / AT_ONCE


def _is_kept(classifier: Classifier, images: Images) -> bool:
    """Whether the features of training images are in the cache, so that none are computed."""
    model = classifier.model
    section = model.network.before_head(model.network.config.head)
    return is_kept(section, images, model.preprocessing, classifier.choice)


def _compared(images: Images, kept: bool) -> np.ndarray:
    """Which of the training images are compared, int64 (n,): all whose features are kept, else some that are drawn."""
    every = np.arange(len(images))
    if kept or len(images) <= MOST_COMPARED:
        return every
    return np.sort(np.random.default_rng(0).permutation(every)[:MOST_COMPARED])
