"""A saved classifier at work: images in, labelled probabilities out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.data.dataset import Images
from graft.data.loading import Batch, batches
from graft.errors import GraftError, ImageError, InputError
from graft.export.running import is_exported
from graft.features.engine import Choice, Engine, choose, for_answers, open_engine, work_alone_when_forked
from graft.given import path, whole_number
from graft.html import Shown, gallery, table
from graft.images.thumbnails import thumbnail
from graft.serving.handed import Given, one_by_one
from graft.weights.saved import SavedModel, class_logits, load_model, model_folder

if TYPE_CHECKING:
    from torch import Tensor

    from graft.images.levels import Levels

# Images looked at together: few at first, so that an answer comes soon, then enough to keep every core busy.
FIRST_GROUP, GROUP = 16, 512


@dataclass(frozen=True, repr=False)
class Prediction:
    """What an image was called. `top` holds the likeliest classes with their probabilities, likeliest first.

    For an image that could not be decoded, `error` says why and the rest is empty.
    """

    path: str
    label: str | None
    probability: float | None
    top: tuple[tuple[str, float], ...]
    error: str | None = None

    def __repr__(self) -> str:
        if self.error is not None:
            return f"Prediction({self.path!r}, error={self.error!r})"
        return f"Prediction({self.path!r}, {self.label!r}, {self.probability or 0.0:.3f})"

    def to_dict(self) -> dict[str, Any]:
        """A line of `graft predict --format jsonl`."""
        if self.error is not None:
            return {"path": self.path, "error": self.error}
        return {
            "path": self.path,
            "label": self.label,
            "probability": self.probability,
            "top": [[name, probability] for name, probability in self.top],
        }


class Predictions(list[Prediction]):
    """A list of predictions, which notebooks show as a table."""

    def _repr_html_(self) -> str:
        rows = [
            (each.path, each.error or each.label, "" if each.probability is None else f"{each.probability:.1%}")
            for each in self
        ]
        return table(("image", "label", "probability"), rows)


class Classifier:
    """A trained network with its classes and preprocessing; the engine is opened at the first prediction.

    Any number of threads and streams may use one at the same time, and each gets the answers that it would get alone.
    A copy, by `copy` or by pickle, opens an engine of its own, and so does a forked process; it raises GraftError
    where the process that it was forked from has computed with OpenVINO.
    """

    # What scores it on labelled images, where `graft.load` knows the run that it is from: a workflow, above this room.
    scored_by: Callable[..., Any] | None = None

    def __init__(self, saved: SavedModel, choice: Choice) -> None:
        self.saved = saved
        self.choice = choice
        # By process: what a forked one inherits, a lock that is held or an engine whose threads are gone, is of no use
        # to it, and an engine of its parent cannot even be taken apart there.
        self._engines: dict[int, Engine] = {}
        self._opening: dict[int, Lock] = {}

    def __reduce__(self) -> tuple[type[Classifier], tuple[SavedModel, Choice]]:
        return Classifier, (self.saved, self.choice)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.saved.classes

    @property
    def levels(self) -> Levels:
        """What is black and white in images deeper than 8 bits."""
        return self.saved.preprocessing.levels

    def predict(self, images: Any, top: int = 5) -> Predictions:
        """A prediction for every image, in order; what cannot be read has an error in its place.

        An image is a path, an address, an encoded file as bytes, an open file, an image of PIL, pixels (H, W),
        (H, W, 3) or (H, W, 4) in RGB, or a tensor (3, H, W), of uint8 or of floats from 0 to 1. `images` is one of
        these or several, pixels (n, H, W), (n, H, W, 3) or (n, 3, H, W) that are n images, a folder with all images at
        any depth, or a `graft.Dataset`. Raises InputError for anything else.
        """
        return Predictions(self.stream(images, top))

    def predict_proba(self, images: Any) -> np.ndarray:
        """Probabilities, float64 (N, classes), of the N images that `predict` takes, in the order of `classes`.

        Raises ImageError that names the first image that cannot be read.
        """
        found = np.empty((0, len(self.classes)))
        rows: list[list[float]] = []
        place = {name: number for number, name in enumerate(self.classes)}
        for number, each in enumerate(self.stream(images, len(self.classes))):
            if each.error is not None:
                raise ImageError(f"image {number} ({each.path}): {each.error}")
            row = [0.0] * len(place)
            for name, probability in each.top:
                row[place[name]] = probability
            rows.append(row)
        return np.array(rows, np.float64) if rows else found

    def close(self) -> None:
        """Give the memory of the engine back; the next prediction opens it again."""
        self._engines.clear()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def show(self, images: Any, top: int = 1) -> Shown:
        """Small images with their likeliest classes, for a notebook; `images` are as `predict` takes them.

        Open files and generators are gone through once.
        """
        given = [*one_by_one(images)]
        source, found = Given(given, 0), self.predict(given, top)
        return Shown(gallery(map(_shown, range(len(given)), [source] * len(given), found)), repr(found))

    def evaluate(self, data: Any, **options: Any) -> Any:
        """How well it does on labelled images: `graft.evaluate` of the run that it was loaded from, with its options.

        Raises InputError for a classifier that `graft.load` did not load from a run folder.
        """
        if self.scored_by is None:
            raise InputError(
                "expected a classifier that graft.load gave for a run folder, got another: load it so, or compare "
                "predict_proba with the labels"
            )
        return self.scored_by(data, **options)

    def stream(self, images: Any, top: int = 5) -> Iterator[Prediction]:
        """`predict` without an end in sight: takes images and gives predictions a group at a time, in order."""
        top = whole_number(top, "the classes to show", 1, sys.maxsize, "5 is usual")
        return self._stream(one_by_one(images), top)

    def _stream(self, upcoming: Iterator[Any], top: int) -> Iterator[Prediction]:
        size, seen = FIRST_GROUP, 0
        while group := list(islice(upcoming, size)):
            yield from self._predict_group(Given(group, seen), min(top, len(self.classes)))
            seen, size = seen + len(group), GROUP

    def _predict_group(self, given: Given, top: int) -> Iterator[Prediction]:
        work_alone_when_forked()
        process, engine = os.getpid(), self._engine()
        images = Images(given, np.arange(len(given)), np.full(len(given), -1, dtype=np.int64))
        # Closed at once when the caller stops: the threads that decode end, and the engine has its requests back.
        with closing(batches(images, self.saved.preprocessing, 32)) as decoded, closing(engine.run(decoded)) as run:
            for batch, logits in run:
                answers = self._answers(batch, logits, given, top)
                yield from (answers[index] for index in sorted(answers))
                if os.getpid() != process:
                    raise GraftError(
                        "expected a stream to go on in the process that it began in, got one that was forked from it: "
                        "begin another there"
                    )

    def _answers(self, batch: Batch, logits: Tensor, given: Given, top: int) -> dict[int, Prediction]:
        """The predictions for a batch by the index of the image, from logits (n, outputs)."""
        import torch

        logits = class_logits(logits.double(), self.saved.outputs)
        probabilities = torch.softmax(logits / self.saved.temperature, 1)
        values, indices = (part.tolist() for part in probabilities.topk(top, 1)) if len(logits) else ([], [])
        answers: dict[int, Prediction] = {}
        for row, index in enumerate(batch.indices.tolist()):
            likeliest = tuple((self.classes[i], p) for i, p in zip(indices[row], values[row], strict=True))
            answers[index] = Prediction(given.name(index), *likeliest[0], likeliest)
        for index, reason in batch.failures.items():
            answers[index] = Prediction(given.name(index), None, None, (), reason)
        return answers

    def _engine(self) -> Engine:
        """The engine of this process, opened once."""
        process = os.getpid()
        with self._opening.setdefault(process, Lock()):
            if process not in self._engines:
                network = self.saved.network
                whole, _ = network.split(network.cuts[-1])
                self._engines[process] = open_engine(self.choice, whole, self.saved.preprocessing)
            return self._engines[process]


def _shown(row: int, source: Given, found: Prediction) -> tuple[bytes | None, str]:
    """A small image, and what it was called."""
    if found.error is not None:
        return None, f"{found.path}: {found.error}"
    return thumbnail(source.read(row)), ", ".join(f"{name} {probability:.0%}" for name, probability in found.top)


def load(run: str | Path, *, engine: str = "auto", precision: str = "auto", singles: bool = False) -> Classifier:
    """The classifier in a run folder or its `model/`, or in a file that was exported from one (.onnx, .xml).

    `singles` says that images will come one at a time rather than many together: each then has its answer sooner, and
    the first one later. Raises InputError and WeightsError for what is not one. An exported file has an engine and
    precision of its own.
    """
    work_alone_when_forked()
    place = Path(path(run, "RUN")).expanduser()
    if is_exported(place):
        from graft.serving.exported import ExportedClassifier

        if (engine, precision) != ("auto", "auto"):
            raise InputError(
                f"expected no engine and no precision for {place.name}, which has its own, got --engine {engine} "
                f"--precision {precision}: leave them out"
            )
        return ExportedClassifier(place)
    saved = load_model(model_folder(place))
    choice = for_answers(choose(engine, precision), saved.network, precision)
    return Classifier(saved, replace(choice, singles=singles))
