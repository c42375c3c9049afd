"""A saved classifier at work: images in, labelled probabilities out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.data.dataset import Images
from graft.data.loading import Batch, batches
from graft.data.readers.folder import read_file
from graft.errors import GraftError, InputError
from graft.features.engine import Choice, Engine, choose, open_engine, work_alone_when_forked
from graft.html import table
from graft.serving.gathering import Entry
from graft.weights.saved import SavedModel, class_logits, load_model, model_folder

if TYPE_CHECKING:
    from torch import Tensor

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

    def predict(
        self, images: Iterable[str | Path | bytes | np.ndarray] | str | Path | bytes | np.ndarray, top: int = 5
    ) -> Predictions:
        """A prediction for every image, in order.

        An image is a path, an encoded file as bytes, or pixels uint8 (H, W), (H, W, 1) or (H, W, 3) in RGB.
        """
        if isinstance(images, str | Path | bytes | np.ndarray):
            images = [images]
        return Predictions(self.stream(images, top))

    def stream(self, images: Iterable[str | Path | bytes | np.ndarray | Entry], top: int = 5) -> Iterator[Prediction]:
        """`predict` without an end in sight: takes images and gives predictions a group at a time, in order."""
        if top < 1:
            raise InputError(f"expected 1 or more classes to show, got {top}: raise it")
        upcoming, size, seen = iter(images), FIRST_GROUP, 0
        while group := list(islice(upcoming, size)):
            yield from self._predict_group(_Given(group, seen), min(top, len(self.classes)))
            seen, size = seen + len(group), GROUP

    def _predict_group(self, given: _Given, top: int) -> Iterator[Prediction]:
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

    def _answers(self, batch: Batch, logits: Tensor, given: _Given, top: int) -> dict[int, Prediction]:
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


class _Given:
    """Images as they were handed over: paths, encoded bytes, pixels, or entries of what holds many.

    `before` them came that many others.
    """

    def __init__(self, images: list[Any], before: int) -> None:
        self.images = images
        self.before = before

    def __len__(self) -> int:
        return len(self.images)

    def name(self, row: int) -> str:
        item = self.images[row]
        if isinstance(item, Entry):
            return item.path
        return str(item) if isinstance(item, str | Path) else f"image {self.before + row}"

    key = name

    def read(self, row: int) -> bytes | np.ndarray:
        item = self.images[row]
        if isinstance(item, Entry):
            return item.read()
        return read_file(Path(item)) if isinstance(item, str | Path) else item

    def stamp(self, row: int) -> str:
        return str(row)


def load(run: str | Path, *, engine: str = "auto", precision: str = "auto") -> Classifier:
    """The classifier in a run folder or its `model/`. Raises InputError and WeightsError for what is not one."""
    work_alone_when_forked()
    return Classifier(load_model(model_folder(Path(run).expanduser())), choose(engine, precision))
