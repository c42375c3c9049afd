"""Class maps of images, each with a test of whether it tells anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from graft.data.dataset import Images
from graft.data.loading import batches
from graft.errors import InputError, did_you_mean
from graft.explanation.class_maps import ClassMap, Method, exact_maps, gradient_maps
from graft.explanation.faithfulness import Faithfulness, Hiding, in_cells
from graft.explanation.model import BATCH, Answers, Model, answers_of, class_scores
from graft.explanation.perturbation import MASKS, rise_map
from graft.explanation.randomisation import Sensitivity, cascade
from graft.progress import NOBODY, Reporter
from graft.words import first_few

METHODS = ("auto", *get_args(Method))
# RISE takes hundreds of answers each time, so its cascade has two steps with fewer masks.
MASKS_IN_CASCADE = MASKS // 2


@dataclass(frozen=True)
class MapOptions:
    """Which maps to make, and whether to test them.

    `method` is "exact", "grad-cam", "rise", or "auto": exact where the head allows it, else Grad-CAM, at `stage` if
    given. Maps explain the predicted class, or `of_class`. A map is tested by deletion and insertion against random
    orders and by the cascade of randomised weights, which takes about 160 answers per image.
    """

    method: str = "auto"
    stage: str | None = None
    of_class: str | None = None
    test: bool = True


AUTOMATIC = MapOptions()


@dataclass(frozen=True, repr=False)
class Explanation:
    """The prediction for an image, and where in it the evidence for the class `explained` lies.

    `pixels` are those that the network saw, uint8 (size, size, 3). `faithfulness` and `sensitivity` are None without a
    test.
    """

    path: str
    pixels: np.ndarray
    label: str
    probability: float
    explained: str
    map: ClassMap
    faithfulness: Faithfulness | None = None
    sensitivity: Sensitivity | None = None

    def __repr__(self) -> str:
        return f"Explanation({self.path!r}, {self.label!r}, {self.probability:.3f}, tells={self.tells})"

    @property
    def tells(self) -> bool | None:
        """Whether the map passed both tests; None if it was not tested."""
        if self.faithfulness is None or self.sensitivity is None:
            return None
        return self.faithfulness.passed and self.sensitivity.passed

    @property
    def verdict(self) -> str:
        """A sentence on whether the map can be trusted, which says nothing about whether the answer is right."""
        faithful, sensitive = self.faithfulness, self.sensitivity
        if faithful is None or sensitive is None:
            return "the map was not tested"
        if self.tells:
            return "the map passes its tests: what it marks is what this answer rests on, whether right or wrong"
        reasons = []
        if not faithful.passed:
            reasons.append(
                "the answer hardly depends on what it marks"
                if faithful.beaten == faithful.orders
                else f"random orders do as well ({faithful.orders - faithful.beaten} of {faithful.orders})"
            )
        if not sensitive.passed:
            reasons.append("it stays much the same when the weights are randomised")
        return f"the map fails its tests and says nothing about this answer: {' and '.join(reasons)}"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, with the map as it is and as means over `cells` of the image, from its top left."""
        faithful, sensitive = self.faithfulness, self.sensitivity
        return {
            "path": self.path,
            "label": self.label,
            "probability": self.probability,
            "explained": self.explained,
            "method": self.map.method,
            "stage": self.map.stage,
            "constant": self.map.constant,
            "map": self.map.values.tolist(),
            "cells": in_cells(self.map.values).tolist(),
            "tells": self.tells,
            "verdict": self.verdict,
            "faithfulness": faithful and {**vars(faithful), "passed": faithful.passed},
            "sensitivity": sensitive
            and {"cascade": dict(sensitive.cascade), "alike": sensitive.alike, "passed": sensitive.passed},
        }


@dataclass(frozen=True)
class Explained:
    """Explanations in the order of the images; `skipped` maps the names of undecodable images to the reason.

    `rows` are the indices of the images that were explained, int64 (n,).
    """

    explanations: tuple[Explanation, ...]
    rows: np.ndarray
    skipped: dict[str, str] = field(default_factory=dict)


def explain_images(
    model: Model,
    images: Images,
    options: MapOptions = AUTOMATIC,
    *,
    answers: Answers | None = None,
    seed: int = 0,
    reporter: Reporter = NOBODY,
) -> Explained:
    """Return a class map of every image, and whether it tells anything.

    `model` is a saved model, as `graft.weights.saved.load_model` returns it; it may be frozen and is not changed.
    `answers` computes the network's logits when something faster than PyTorch can. Raises InputError for an unknown
    method, stage or class.
    """
    index = _check(model, options)
    answers = answers or answers_of(model)
    pixels, rows, skipped = decoded(model, images)
    if not len(pixels):
        return Explained((), rows, skipped)
    scores = class_scores(model, torch.cat([answers(part) for part in pixels.split(BATCH)]).float())
    probabilities = torch.softmax(scores, 1)
    named = probabilities.argmax(1).tolist()
    explained = named if index is None else [index] * len(pixels)

    def again(changed: Model) -> list[ClassMap]:
        return make(changed, pixels, explained, answers_of(changed), MASKS_IN_CASCADE)

    make = _maker(model, options, pixels, explained, seed)
    reporter.step("class maps", 0, len(pixels))
    maps = make(model, pixels, explained, answers, MASKS)
    reporter.step("class maps", len(pixels), len(pixels))
    faithful: list[Faithfulness | None] = [None] * len(maps)
    sensitive: Sequence[Sensitivity | None] = [None] * len(maps)
    if options.test:
        stages = model.network.stages
        sensitive = cascade(
            model, maps, again, (stages[0].name, stages[-1].name) if options.method == "rise" else None, seed
        )
        for number, (own, of, found) in enumerate(zip(pixels, explained, maps, strict=True)):
            faithful[number] = Hiding(model, own, of, answers, seed).test(found.values)
            reporter.step("tests of maps", number + 1, len(maps))
    shown = as_rgb(pixels)
    return Explained(
        tuple(
            Explanation(
                images.name(int(row)),
                shown[number],
                model.classes[named[number]],
                float(probabilities[number, named[number]]),
                model.classes[explained[number]],
                maps[number],
                faithful[number],
                sensitive[number],
            )
            for number, row in enumerate(rows)
        ),
        rows,
        skipped,
    )


# (model, pixels, classes, answers, masks) -> maps
_Maker = Callable[[Model, Tensor, Sequence[int], Answers, int], list[ClassMap]]


def _maker(model: Model, options: MapOptions, pixels: Tensor, classes: Sequence[int], seed: int) -> _Maker:
    """Return the function that makes the maps of all images; the method is decided on the first of them."""
    method, stage = options.method, options.stage
    if method == "rise":
        return lambda model, pixels, classes, answers, masks: [
            rise_map(model, own, of, answers, seed, masks) for own, of in zip(pixels, classes, strict=True)
        ]
    if method == "exact" or (method == "auto" and stage is None):
        if exact_maps(model, pixels[:BATCH], classes[:BATCH]) is not None:
            return lambda model, pixels, classes, answers, masks: _in_parts(
                lambda part, of: exact_maps(model, part, of) or gradient_maps(model, part, of), pixels, classes
            )
        if method == "exact":
            raise InputError(
                f"expected a network whose head classifies means over a map of some positions for --method exact, got "
                f"{model.network.config.architecture}: leave --method out, or give grad-cam or rise"
            )
    return lambda model, pixels, classes, answers, masks: _in_parts(
        lambda part, of: gradient_maps(model, part, of, stage), pixels, classes
    )


def _in_parts(
    make: Callable[[Tensor, Sequence[int]], list[ClassMap]], pixels: Tensor, classes: Sequence[int]
) -> list[ClassMap]:
    starts = range(0, len(pixels), BATCH)
    return [each for start in starts for each in make(pixels[start : start + BATCH], classes[start : start + BATCH])]


def _check(model: Model, options: MapOptions) -> int | None:
    """Return the index of the class asked for, if any."""
    method, stage, of_class = options.method, options.stage, options.of_class
    if method not in METHODS:
        raise InputError(
            f"expected {', '.join(METHODS)} for --method, got {method!r}{did_you_mean(method, METHODS)}: choose one of "
            "them"
        )
    if stage is not None and method not in ("auto", "grad-cam"):
        raise InputError(
            f"expected --stage with --method grad-cam, got it with {method}, which looks at no single stage: leave one "
            "of them out"
        )
    if of_class is None:
        return None
    if of_class not in model.classes:
        few = first_few(map(repr, model.classes), 6)
        raise InputError(
            f"expected a class of the model ({few}) for --class, got {of_class!r}"
            f"{did_you_mean(of_class, model.classes)}: choose one of them"
        )
    return model.classes.index(of_class)


def decoded(model: Model, images: Images) -> tuple[Tensor, np.ndarray, dict[str, str]]:
    """Decode images: return pixels uint8 (n, C, size, size), their rows, and what cannot be decoded."""
    side = model.preprocessing.size
    skipped: dict[str, str] = {}
    parts, rows = [torch.empty((0, model.preprocessing.channels, side, side), dtype=torch.uint8)], []
    for batch in batches(images, model.preprocessing, BATCH):
        parts.append(batch.pixels)
        rows.append(batch.indices)
        skipped |= {images.name(row): reason for row, reason in batch.failures.items()}
    return torch.cat(parts), np.concatenate([np.empty(0, np.int64), *rows]), skipped


def as_rgb(pixels: Tensor) -> np.ndarray:
    """Convert uint8 (n, C, H, W) to viewable (n, H, W, 3): the first three channels, or the first alone in grey."""
    shown = pixels[:, :3] if pixels.shape[1] >= 3 else pixels[:, :1].expand(-1, 3, -1, -1)
    return shown.permute(0, 2, 3, 1).numpy()  # (n, 3, H, W) -> (n, H, W, 3)
