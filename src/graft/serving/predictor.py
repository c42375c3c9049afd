"""A saved classifier at work: images in, labelled probabilities out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from graft.data.dataset import Images
from graft.data.loading import Batch, batches
from graft.data.readers.folder import read_file
from graft.errors import GraftError, ImageError, InputError
from graft.export.running import is_exported
from graft.features.engine import Choice, Engine, choose, for_answers, open_engine, work_alone_when_forked
from graft.given import path, whole_number
from graft.html import table
from graft.images.rgb import to_rgb
from graft.serving.abstaining import NO_RULE, Rule, rule_for
from graft.serving.gathering import Entry
from graft.weights.calibration import Calibration
from graft.weights.saved import SavedModel, class_logits, load_model, model_folder

if TYPE_CHECKING:
    from torch import Tensor

    from graft.images.levels import Levels

AnImage = str | Path | bytes | np.ndarray | Image.Image
IMAGES = "a path, the bytes of a file, pixels uint8 (H, W, 3) or an image of PIL"

# Images looked at together: few at first, so that an answer comes soon, then enough to keep every core busy.
FIRST_GROUP, GROUP = 16, 512


@dataclass(frozen=True, repr=False)
class Prediction:
    """What an image was called. `top` holds the likeliest classes with their probabilities, likeliest first.

    For an image that could not be decoded, `error` says why and the rest is empty. Where the classifier does not
    answer, as it was asked to, `abstained` says why and there is no `label`, but still the `probability` of the
    likeliest class. `set` holds the classes of a conformal set, likeliest first, and `distance` how far off the
    training images are; None where they were not asked for.
    """

    path: str
    label: str | None
    probability: float | None
    top: tuple[tuple[str, float], ...]
    error: str | None = None
    abstained: str | None = None
    set: tuple[str, ...] | None = None
    distance: float | None = None

    def __repr__(self) -> str:
        if self.error is not None:
            return f"Prediction({self.path!r}, error={self.error!r})"
        if self.abstained is not None:
            return f"Prediction({self.path!r}, abstained={self.abstained!r})"
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
            **({} if self.abstained is None else {"abstained": self.abstained}),
            **({} if self.set is None else {"set": list(self.set)}),
            **({} if self.distance is None else {"distance": self.distance}),
        }


class Predictions(list[Prediction]):
    """A list of predictions, which notebooks show as a table."""

    def _repr_html_(self) -> str:
        rows = [
            (
                each.path,
                each.error or each.label or each.abstained,
                "" if each.probability is None else f"{each.probability:.1%}",
            )
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
        self._engines: dict[tuple[int, bool], Engine] = {}
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

    @property
    def calibration(self) -> Calibration | None:
        """What the classifier promises of its answers, by images that no weights saw; None where nothing was kept."""
        return self.saved.calibration

    def predict(
        self,
        images: Iterable[AnImage] | AnImage,
        top: int = 5,
        *,
        error_budget: float | str | None = None,
        sets: float | str | None = None,
        sets_per_class: bool = False,
        abstain: bool = False,
    ) -> Predictions:
        """A prediction for every image, in order.

        With an `error_budget`, such as 0.02 or "2%", answers are only given from a confidence on with which no more of
        them are wrong, with 95 % confidence. `sets` such as "90%" adds to each the classes among which the right one is
        with this chance, with `sets_per_class` in every class. With `abstain`, images unlike those trained on have no
        answer either. Raises InputError for a promise that the classifier cannot make.

        An image is a path, an encoded file as bytes, an image of PIL, or pixels uint8 (H, W), (H, W, 1) or (H, W, 3)
        in RGB; pixels (n, H, W, 1) or (n, H, W, 3) are n images.
        """
        several = isinstance(images, np.ndarray) and images.ndim == 4
        if isinstance(images, str | Path | bytes | Image.Image) or (isinstance(images, np.ndarray) and not several):
            images = [images]
        if not isinstance(images, Iterable):
            raise InputError(f"expected {IMAGES}, or several of these, got {_a(images)}: give one or several")
        asked = {"error_budget": error_budget, "sets": sets, "sets_per_class": sets_per_class, "abstain": abstain}
        return Predictions(self.stream(images, top, rule_for(self.calibration, **asked)))  # type: ignore[arg-type]

    def stream(self, images: Iterable[AnImage | Entry], top: int = 5, rule: Rule = NO_RULE) -> Iterator[Prediction]:
        """`predict` without an end in sight: takes images and gives predictions a group at a time, in order."""
        top = whole_number(top, "the classes to show", 1, sys.maxsize, "5 is usual")
        upcoming, size, seen = iter(images), FIRST_GROUP, 0
        while group := list(islice(upcoming, size)):
            yield from self._predict_group(Given(group, seen, self.levels), min(top, len(self.classes)), rule)
            seen, size = seen + len(group), GROUP

    def _predict_group(self, given: Given, top: int, rule: Rule) -> Iterator[Prediction]:
        work_alone_when_forked()
        process, engine = os.getpid(), self._engine(features=rule.domain is not None)
        images = Images(given, np.arange(len(given)), np.full(len(given), -1, dtype=np.int64))
        # Closed at once when the caller stops: the threads that decode end, and the engine has its requests back.
        with closing(batches(images, self.saved.preprocessing, 32)) as decoded, closing(engine.run(decoded)) as run:
            for batch, values in run:
                answers = self._answers(batch, values, given, top, rule)
                yield from (answers[index] for index in sorted(answers))
                if os.getpid() != process:
                    raise GraftError(
                        "expected a stream to go on in the process that it began in, got one that was forked from it: "
                        "begin another there"
                    )

    def _answers(self, batch: Batch, values: Tensor, given: Given, top: int, rule: Rule) -> dict[int, Prediction]:
        """The predictions for a batch by the index of the image, from logits (n, outputs).

        Where the rule has a domain, `values` are features (n, D) in their place, and the head follows here.
        """
        import torch

        distances: np.ndarray | None = None
        logits = values
        if rule.domain is not None:
            distances = rule.domain.distances(values.flatten(1).float().numpy())
            with torch.inference_mode():
                logits = self.saved.network.head(values.float())
        logits = class_logits(logits.double(), self.saved.outputs)
        probabilities = torch.softmax(logits / self.saved.temperature, 1)
        highest, indices = (part.tolist() for part in probabilities.topk(top, 1)) if len(logits) else ([], [])
        answers: dict[int, Prediction] = {}
        for row, index in enumerate(batch.indices.tolist()):
            likeliest = tuple((self.classes[i], p) for i, p in zip(indices[row], highest[row], strict=True))
            answer = Prediction(given.name(index), *likeliest[0], likeliest)
            distance = None if distances is None else float(distances[row])
            answers[index] = obeying(rule, answer, probabilities[row].numpy(), self.classes, distance)
        for index, reason in batch.failures.items():
            answers[index] = Prediction(given.name(index), None, None, (), reason)
        return answers

    def _engine(self, features: bool = False) -> Engine:
        """The engine of this process, opened once: for logits, or for the features that the head classifies."""
        process = os.getpid()
        with self._opening.setdefault(process, Lock()):
            if (process, features) not in self._engines:
                network = self.saved.network
                section, _ = network.split(network.cuts[-1])
                if features:
                    section = network.before_head(network.config.head)
                self._engines[process, features] = open_engine(self.choice, section, self.saved.preprocessing)
            return self._engines[process, features]


def obeying(
    rule: Rule,
    answer: Prediction,
    probabilities: np.ndarray,
    classes: tuple[str, ...],
    distance: float | None = None,
) -> Prediction:
    """An answer, or that there is none, and the set of classes, by probabilities (classes,)."""
    if rule is NO_RULE:
        return answer
    reason, members = rule.reason(float(probabilities.max()), distance), rule.members(probabilities)
    return replace(
        answer,
        label=answer.label if reason is None else None,
        abstained=reason,
        set=None if members is None else tuple(classes[index] for index in members),
        distance=distance,
    )


class Given:
    """Images as they were handed over: paths, encoded bytes, pixels, or entries of what holds many.

    `before` them came that many others. Images of PIL deeper than 8 bits are read by `levels`.
    """

    def __init__(self, images: list[Any], before: int, levels: Levels = ()) -> None:
        self.images = images
        self.before = before
        self.levels = levels
        # By image of PIL, which reads its file when it is first looked at: two threads at once would read it in pieces.
        self._loading: dict[int, Lock] = {}

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
        if isinstance(item, str) and not item:
            raise ImageError("expected the path of an image, got an empty text: name a file")
        if isinstance(item, str | Path):
            return read_file(Path(item))
        if isinstance(item, bytes | np.ndarray):
            return item
        if isinstance(item, Image.Image):
            try:
                with self._loading.setdefault(id(item), Lock()):
                    item.load()
                return to_rgb(ImageOps.exif_transpose(item), self.levels)
            except Exception as error:
                # Pillow has no one kind of error for a file that is broken, or was closed before it was read.
                raise ImageError(
                    f"expected an image of PIL that can be read, got {type(error).__name__}"
                    f"{f' ({error})' if str(error) else ''}: open it again, or give its path"
                ) from None
        raise ImageError(f"expected {IMAGES}, got {_a(item)}: give one of these")

    def stamp(self, row: int) -> str:
        return str(row)


def _a(thing: object) -> str:
    name = type(thing).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


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
