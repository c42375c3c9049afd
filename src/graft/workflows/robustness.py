"""Measure how a classifier holds up on corrupted images: twelve kinds, five severities, within a time budget.

A network that does not see colours is spared the cast of one.
"""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from graft.data.dataset import Images
from graft.data.loading import Batch, batches
from graft.errors import DataError
from graft.evaluation.calibration import softmax
from graft.evaluation.intervals import Interval, accuracy_interval
from graft.evaluation.reliability import expected_calibration_error
from graft.explanation.model import Model
from graft.features.engine import Choice, Engine, open_engine
from graft.given import seconds
from graft.images.corrupting import CORRUPTIONS, SEVERITIES, corrupt
from graft.progress import Reporter, reporting
from graft.training.task import sample
from graft.weights.base import Base
from graft.weights.model_files import refuse_several_labels
from graft.weights.saved import class_logits
from graft.workflows.evaluate import Evaluation

# The fewest images on which a figure is meaningful, and the most that are corrupted.
FEWEST_IMAGES, MOST_IMAGES = 20, 500


_Classifier = Base | Model


@dataclass(frozen=True)
class Corrupted:
    """Accuracy and calibration error under one corruption at one severity; the interval counts groups, if any."""

    corruption: str
    severity: int
    top1: float
    top1_ci95: Interval
    calibration_error: float
    mean_confidence: float

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "top1_ci95": list(self.top1_ci95)}


@dataclass(frozen=True)
class Robustness:
    """Accuracy `clean` on `n` images, and on the same images under every corruption at every severity."""

    n: int
    clean: float
    rows: tuple[Corrupted, ...]

    @property
    def mean(self) -> float:
        """The mean accuracy over all corruptions and severities."""
        return float(np.mean([row.top1 for row in self.rows]))

    def by_corruption(self) -> dict[str, float]:
        """Return the mean accuracy over severities by corruption, worst first."""
        names = dict.fromkeys(row.corruption for row in self.rows)
        means = {name: float(np.mean([row.top1 for row in self.rows if row.corruption == name])) for name in names}
        return dict(sorted(means.items(), key=lambda item: item[1]))

    def to_dict(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "clean": self.clean,
            "mean": self.mean,
            "by_corruption": self.by_corruption(),
            "rows": [row.to_dict() for row in self.rows],
        }


def evaluate_robustness(
    found: Evaluation, *, time_limit: float | str = 60.0, reporter: Reporter | None = None, quiet: bool = False
) -> Robustness:
    """Measure how the classifier of `found` does on the same images, corrupted in twelve ways at five severities.

    As many images that it was not trained on are used as `time_limit`, like "2m" or a number of seconds, allows. Raises
    InputError for an invalid time and a multi-label classifier, DataError if it was trained on all of them.
    """
    answered = found.answered
    limit = check_robustness(answered.base.thresholds is not None, time_limit)
    if answered.seen.all():
        raise DataError(
            f"expected images that {found.model} was not trained on, got none in {found.split}: give others"
        )
    unseen = answered.images.take(np.flatnonzero(~answered.seen))
    with reporting(reporter, quiet) as told:
        return robustness(answered.base, unseen, answered.choice, limit, told)


def check_robustness(several: bool, time_limit: float | str) -> float:
    """Return the limit in seconds. Raises InputError for an invalid one, and for a classifier of `several` labels."""
    limit = seconds(time_limit, "--robustness-time")
    refuse_several_labels(several, "--robustness")
    return limit


def robustness(base: _Classifier, images: Images, choice: Choice, limit: float, reporter: Reporter) -> Robustness:
    """Measure on as many evenly drawn images as `limit` seconds allow at the pace of the first, but at least 20.

    Images are corrupted as the network sees them, after resizing.
    """
    started = time.perf_counter()
    names = [name for name in CORRUPTIONS if base.preprocessing.channels == 3 or name != "colour_cast"]
    section, _ = base.network.split(base.network.cuts[-1])
    engine = open_engine(choice, section, base.preprocessing, reporter)
    first = _Images.read(sample(images, 0, FEWEST_IMAGES), base)
    began = time.perf_counter()
    for name in names:
        first.answers(engine, base, name, 3)
    per_image = (time.perf_counter() - began) / (len(names) * max(len(first.labels), 1))
    left = max(limit - (time.perf_counter() - started), 0.0)
    affordable = int(left / (per_image * (len(names) * len(SEVERITIES) + 1)))
    chosen = _Images.read(sample(images, 0, max(FEWEST_IMAGES, min(affordable, MOST_IMAGES))), base)
    clean = chosen.answers(engine, base)
    rows = []
    for name in names:
        for severity in SEVERITIES:
            probabilities = chosen.answers(engine, base, name, severity)
            right = probabilities.argmax(1) == chosen.labels
            rows.append(
                Corrupted(
                    name,
                    severity,
                    float(right.mean()),
                    accuracy_interval(right, chosen.groups),
                    expected_calibration_error(probabilities, chosen.labels),
                    float(probabilities.max(1).mean()),
                )
            )
            reporter.step("corruptions", len(rows), len(names) * len(SEVERITIES))
    return Robustness(len(chosen.labels), float((clean.argmax(1) == chosen.labels).mean()), tuple(rows))


@dataclass(frozen=True)
class _Images:
    """Decoded images in batches, and their labels and groups in the same order."""

    batches: tuple[Batch, ...]
    labels: np.ndarray
    groups: np.ndarray | None

    @classmethod
    def read(cls, images: Images, base: _Classifier) -> "_Images":
        with closing(batches(images, base.preprocessing, 32)) as decoded:
            found = tuple(decoded)
        rows = np.concatenate([batch.indices for batch in found])
        return cls(found, images.labels[rows], None if images.groups is None else images.groups[rows])

    def answers(self, engine: Engine, base: _Classifier, name: str | None = None, severity: int = 0) -> np.ndarray:
        """Return the probabilities (n, classes) for the images as they are, or corrupted."""
        with closing(engine.run(self._corrupted(name, severity))) as run:
            logits = torch.cat([values.float() for _, values in run])
        return softmax(class_logits(logits, base.outputs).numpy(), base.temperature)

    def _corrupted(self, name: str | None, severity: int) -> Iterator[Batch]:
        for batch in self.batches:
            if name is None or not len(batch.indices):
                yield batch
                continue
            rows = zip(batch.pixels.permute(0, 2, 3, 1).numpy(), batch.indices.tolist(), strict=True)
            changed = np.stack([corrupt(pixels, name, severity, seed=index) for pixels, index in rows])
            yield replace(batch, pixels=torch.from_numpy(changed).permute(0, 3, 1, 2).contiguous())
