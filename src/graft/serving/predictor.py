"""A saved classifier in use: images in, labelled probabilities out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import islice, tee
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from graft.data.dataset import Images
from graft.data.loading import batches
from graft.errors import GraftError, ImageError, InputError
from graft.export.running import is_exported
from graft.features.engine import Choice, Engine, choose, for_answers, open_engine
from graft.forking import work_alone_when_forked
from graft.given import path, whole_number
from graft.html import Shown, gallery
from graft.images.thumbnails import thumbnail
from graft.serving.abstaining import NO_RULE, Rule, rule_for
from graft.serving.handed import Given, one_by_one
from graft.serving.prediction import Prediction, Predictions, labelled, obeying
from graft.torch_modes import in_own_modes
from graft.weights.model_files import model_folder
from graft.words import counted, first_few

if TYPE_CHECKING:
    from graft.export.facts import Facts
    from graft.images.levels import Levels
    from graft.images.preprocessing import Preprocessing
    from graft.weights.calibration import Calibration, Domain
    from graft.weights.saved import Outputs, SavedModel

# Images per group: few at first, so that an answer comes soon, then enough to keep every core busy.
FIRST_GROUP, GROUP = 16, 512


class Computed(Protocol):
    """A batch in which some images were computed and others could not be decoded."""

    @property
    def indices(self) -> np.ndarray: ...

    @property
    def failures(self) -> dict[int, str]: ...


class Classifier:
    """A trained network with its classes and preprocessing; the engine is opened at the first prediction.

    Any number of threads and streams may use one classifier at the same time; each gets the answers that it would get
    alone. A copy, by `copy` or by pickle, opens an engine of its own, and so does a forked process, which raises
    GraftError if the process that it was forked from has computed with OpenVINO.
    """

    # Scores it on labelled images, when `graft.load` knows its run: a workflow, from a higher room.
    scored_by: Callable[..., Any] | None = None

    def __init__(
        self, saved: SavedModel, choice: Choice, opened: Callable[[Classifier, Engine], None] | None = None
    ) -> None:
        """`opened` is called with an engine once it has been opened."""
        self.saved = saved
        self.choice = choice
        self._opened = opened
        # Keyed by process: a forked process cannot use what it inherits, a held lock or an engine whose threads are
        # gone, and cannot even destroy an engine of its parent.
        self._engines: dict[tuple[int, bool], Engine] = {}
        self._opening: dict[int, Lock] = {}

    def __reduce__(self) -> tuple[type[Classifier], tuple[SavedModel, Choice]]:
        return Classifier, (self.saved, self.choice)

    def __repr__(self) -> str:
        shown = first_few(map(repr, self.classes))
        return f"{type(self).__name__}({counted(len(self.classes), 'class', 'classes')}: {shown})"

    @property
    def classes(self) -> tuple[str, ...]:
        return self.saved.classes

    @property
    def preprocessing(self) -> Preprocessing:
        return self.saved.preprocessing

    @property
    def outputs(self) -> Outputs | None:
        return self.saved.outputs

    @property
    def temperature(self) -> float:
        return self.saved.temperature

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """The probability from which each label is given, for a multi-label classifier; None for a single-label one."""
        return self.saved.thresholds

    @property
    def multi_label(self) -> bool:
        """Whether an image may get several labels, or none."""
        return self.thresholds is not None

    @property
    def facts(self) -> Facts:
        """The facts that an export would carry."""
        from graft.export.facts import Facts

        return Facts.of(self.saved, "")

    @property
    def levels(self) -> Levels:
        """Which sample values are black and white in images deeper than 8 bits."""
        return self.preprocessing.levels

    @property
    def arithmetic(self) -> str:
        """The engine, precision and device, for people."""
        return f"{self.choice.engine} {self.choice.precision} on {self.choice.device}"

    @property
    def lanes(self) -> int:
        """How many single images the engine computes side by side; 0 when images gain from being batched."""
        return getattr(self._engine(), "lanes", 0)  # only OpenVINO's engine has lanes

    def with_preprocessing(self, preprocessing: Preprocessing) -> Classifier:
        """Return a classifier that cuts images out differently, to the same size, with the same engine."""
        other = Classifier(replace(self.saved, preprocessing=preprocessing), self.choice)
        other._engines, other._opening = self._engines, self._opening
        return other

    @property
    def calibration(self) -> Calibration | None:
        """The promises about its answers, measured on images that no weights saw; None where none were saved."""
        return self.saved.calibration

    @in_own_modes
    def predict(
        self,
        images: Any,
        top: int = 5,
        *,
        error_budget: float | str | None = None,
        sets: float | str | None = None,
        sets_per_class: bool = False,
        abstain: bool = False,
        recall: Mapping[str, float | str] | str | None = None,
    ) -> Predictions:
        """Return a prediction for every image, in order; an unreadable image gets an error in its place.

        An image is a path, a URL, an encoded file as bytes, an open file, a PIL image, pixels (H, W), (H, W, 3) or
        (H, W, 4) in RGB, or a tensor (3, H, W), of uint8 or of floats from 0 to 1. `images` is one or several of these,
        pixels (n, H, W), (n, H, W, 3) or (n, 3, H, W) as n images, a folder with all images at any depth, a
        `graft.Dataset`, or a data frame with a column `path`.

        With an `error_budget`, for example 0.02 or "2%", answers below a confidence threshold are withheld, so that at
        most that share of the given ones is wrong, with 95 % confidence. `sets`, for example "90%", adds to each
        prediction a set of classes that contains the right one with this probability; with `sets_per_class`, this holds
        within every class. With `abstain`, images unlike the training images get no answer either. `recall`, for
        example {"defect": 0.95} or "defect=95%", answers with that class from the probability on at which such a share
        of its images is found, whatever the likeliest class. A multi-label classifier makes none of these promises, and
        gives all `labels` of an image. Raises InputError for what is not an image, and for a promise that the
        classifier cannot make.
        """
        rule = self.rule(
            error_budget=error_budget, sets=sets, sets_per_class=sets_per_class, abstain=abstain, recall=recall
        )
        return Predictions(self.stream(images, top, rule))

    def rule(self, **asked: Any) -> Rule:
        """Return the rule that `rule_for` makes of what is asked. Raises InputError for what it cannot promise."""
        if self.multi_label and any(value not in (None, False) for value in asked.values()):
            raise InputError(
                "expected a classifier that gives one label for --error-budget, --sets, --recall and --abstain, got "
                "one that gives several, which cannot promise these: leave them out; each label has a threshold of "
                "its own"
            )
        return rule_for(self.calibration, classes=self.classes, **asked)

    @in_own_modes
    def predict_proba(self, images: Any) -> np.ndarray:
        """Return probabilities, float64 (N, classes), for the N images that `predict` takes, in the order of `classes`.

        Those of a multi-label classifier are independent and do not sum to one. Raises ImageError that names the first
        image that cannot be read.
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
        """Free the engine's memory; the next prediction opens it again."""
        self._engines.clear()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def show(self, images: Any, top: int = 1) -> Shown:
        """Return small images with their likeliest classes, for a notebook; `images` is as `predict` takes it.

        Open files and generators are consumed once.
        """
        given = [*one_by_one(images)]
        source, found = Given(given, 0), self.predict(given, top)
        return Shown(gallery(map(_shown, range(len(given)), [source] * len(given), found)), repr(found))

    def evaluate(self, data: Any, **options: Any) -> Any:
        """Score it on labelled images: `graft.evaluate` of the run that it was loaded from, with the same options.

        Raises InputError for a classifier that `graft.load` did not load from a run folder.
        """
        if self.scored_by is None:
            raise InputError(
                "expected a classifier that graft.load opened from a run folder, got another: load it that way, or "
                "compare predict_proba with the labels"
            )
        return self.scored_by(data, **options)

    def stream(self, images: Any, top: int = 5, rule: Rule = NO_RULE) -> Iterator[Prediction]:
        """Run `predict` on an endless stream: take images and yield predictions one group at a time, in order."""
        top = whole_number(top, "the classes to show", 1, sys.maxsize, "5 is usual")
        return self._stream(one_by_one(images), top, rule)

    def _stream(self, upcoming: Iterator[Any], top: int, rule: Rule) -> Iterator[Prediction]:
        size, seen = FIRST_GROUP, 0
        while group := list(islice(upcoming, size)):
            yield from self._predict_group(Given(group, seen), min(top, len(self.classes)), rule)
            seen, size = seen + len(group), GROUP

    def _predict_group(self, given: Given, top: int, rule: Rule) -> Iterator[Prediction]:
        work_alone_when_forked()
        process = os.getpid()
        images = Images(given, np.arange(len(given)), np.full(len(given), -1, dtype=np.int64))
        # Closed at once when the caller stops, so that decoding threads end and the engine gets its requests back.
        with closing(self._computed(images, rule.domain)) as run:
            for batch, logits, distances in run:
                answers = self._answers(batch, logits, distances, given, top, rule)
                yield from (answers[index] for index in sorted(answers))
                if os.getpid() != process:
                    raise GraftError(
                        "expected a stream to continue in the process that it began in, got one forked from it: "
                        "start a new stream there"
                    )

    def _computed(
        self, images: Images, domain: Domain | None
    ) -> Generator[tuple[Computed, np.ndarray, np.ndarray | None], None, None]:
        """Yield batches of images with their logits, float64 (n, outputs), and their distances to the domain, (n,)."""
        with ExitStack() as opened:
            decoded = opened.enter_context(closing(batches(images, self.preprocessing, 32)))
            # Logits stay identical to those without a domain, to the last bit; features are computed beside them.
            first, second = tee(decoded)
            run = opened.enter_context(closing(self._engine().run(first)))
            if domain is None:
                for batch, logits in run:
                    yield batch, logits.double().numpy(), None
                return
            beside = opened.enter_context(closing(self._engine(features=True).run(second)))
            for (batch, logits), (_, features) in zip(run, beside, strict=True):
                yield batch, logits.double().numpy(), domain.distances(features.flatten(1).float().numpy())

    def _answers(
        self, batch: Computed, logits: np.ndarray, distances: np.ndarray | None, given: Given, top: int, rule: Rule
    ) -> dict[int, Prediction]:
        """Return the predictions for a batch, keyed by the index of the image, from logits (n, outputs)."""
        answers: dict[int, Prediction] = {}
        if len(logits) and self.thresholds is not None:
            likely = label_probabilities(logits)
            for row, index in enumerate(batch.indices.tolist()):
                answers[index] = labelled(given.name(index), likely[row], self.classes, self.thresholds, top)
        elif len(logits):
            probabilities = class_probabilities(logits, self.outputs, self.temperature)
            order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
            values = np.take_along_axis(probabilities, order, 1).tolist()
            for row, (index, numbers) in enumerate(zip(batch.indices.tolist(), order.tolist(), strict=True)):
                likeliest = tuple((self.classes[i], p) for i, p in zip(numbers, values[row], strict=True))
                answer = Prediction(given.name(index), *likeliest[0], likeliest)
                distance = None if distances is None else float(distances[row])
                answers[index] = obeying(rule, answer, probabilities[row], self.classes, distance)
        for index, reason in batch.failures.items():
            answers[index] = Prediction(given.name(index), None, None, (), reason)
        return answers

    def _engine(self, features: bool = False) -> Engine:
        """Return this process's engine, opened once: for logits, or for the features that the head classifies."""
        process = os.getpid()
        with self._opening.setdefault(process, Lock()):
            if (process, features) not in self._engines:
                network = self.saved.network
                section, _ = network.split(network.cuts[-1])
                if features:
                    section = network.before_head(network.config.head)
                opened = open_engine(self.choice, section, self.saved.preprocessing)
                self._engines[process, features] = opened
                if self._opened is not None and not features:
                    self._opened(self, opened)
            return self._engines[process, features]


def label_probabilities(logits: np.ndarray) -> np.ndarray:
    """Return label probabilities, float64 (n, classes), from logits float64 (n, classes); each is independent."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))


def class_probabilities(logits: np.ndarray, outputs: Outputs | None, temperature: float) -> np.ndarray:
    """Return class probabilities, float64 (n, classes), from logits float64 (n, outputs), see `class_logits`."""
    if outputs is not None:
        logits = np.stack([np.logaddexp.reduce(logits[:, list(of_class)], axis=1) for of_class in outputs], 1)
    scaled = logits / temperature
    likely = np.exp(scaled - scaled.max(1, keepdims=True))
    return likely / likely.sum(1, keepdims=True)


def _shown(row: int, source: Given, found: Prediction) -> tuple[bytes | None, str]:
    """Return a thumbnail of the image, and its prediction."""
    if found.error is not None:
        return None, f"{found.path}: {found.error}"
    return thumbnail(source.read(row)), ", ".join(f"{name} {probability:.0%}" for name, probability in found.top)


def load(
    run: str | PathLike[str], *, engine: str = "auto", precision: str = "auto", singles: bool = False
) -> Classifier:
    """Load the classifier in a run folder or its `model/`, or in a file exported from one (.onnx, .xml).

    `singles` says that images will arrive one at a time rather than many together: each answer then comes sooner, and
    the first one later. Raises InputError and WeightsError for anything that is not a classifier. An exported file has
    an engine and precision of its own.
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
    from graft.serving.ready import Asked, keep_ready, open_ready

    asked = Asked(model_folder(place), engine, precision, singles)
    # Where PyTorch is there already, it costs nothing.
    ready = open_ready(asked) if "torch" not in sys.modules else None
    if ready is not None:
        return ready
    from graft.weights.saved import load_model

    made_of = asked.place()
    saved = load_model(asked.folder)
    choice = for_answers(choose(engine, precision), saved.network, precision)
    return Classifier(
        saved,
        replace(choice, singles=singles),
        lambda classifier, opened: keep_ready(asked, made_of, classifier, opened),
    )
