"""Test-time augmentation: classify several views of an image and average their probabilities.

`flip` adds the mirrored image. `crops` classifies five regions instead of one. Where images are cropped, these are
squares of the usual crop size at the centre and the four corners (Krizhevsky et al. 2012, section 4.1); where they are
not, the whole image and corner regions with seven eighths of its sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from threading import Lock

import numpy as np

from graft.data.content import unreadable
from graft.data.loading import least_side
from graft.errors import ImageError, InputError, did_you_mean
from graft.images.decoding import decode
from graft.images.preprocessing import Preprocessing
from graft.serving.exported import ExportedClassifier
from graft.serving.gathering import Entry
from graft.serving.prediction import Prediction, labelled
from graft.serving.predictor import Classifier

FLIP, CROPS = "flip", "crops"
# The share of each side that a region takes when images are not cropped otherwise.
SHARE = 0.875
# Where a region lies within the remaining margin, down and right.
PLACES = ((0.5, 0.5), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))


@dataclass(frozen=True)
class Views:
    """Which views of an image are classified."""

    flip: bool = False
    crops: bool = False

    @classmethod
    def named(cls, text: str | None) -> Views:
        """Parse a text like `flip` or `flip,crops`. Raises InputError."""
        names = [] if text is None else [name.strip() for name in text.split(",")]
        for name in names:
            if name not in (FLIP, CROPS):
                raise InputError(
                    f"expected flip, crops or flip,crops for --tta, got {text!r}{did_you_mean(name, (FLIP, CROPS))}: "
                    "choose one of them"
                )
        return cls(FLIP in names, CROPS in names)

    def __str__(self) -> str:
        return ",".join([FLIP] * self.flip + [CROPS] * self.crops)

    def __len__(self) -> int:
        return (1 + self.flip) * (len(PLACES) if self.crops else 1)

    def of(self, pixels: np.ndarray, preprocessing: Preprocessing) -> Iterator[np.ndarray]:
        """Yield the views of an image, uint8 (H, W, 3), for the preprocessing that `adapted` returns."""
        for place in PLACES if self.crops else (None,):
            region = pixels if place is None else _region(pixels, preprocessing, place)
            yield region
            if self.flip:
                yield region[:, ::-1]

    def adapted(self, preprocessing: Preprocessing) -> Preprocessing:
        """Return the preprocessing that a view still needs: a region that was cut out is not cropped again."""
        cropped = self.crops and preprocessing.resize_mode == "crop"
        return replace(preprocessing, crop_fraction=1.0) if cropped else preprocessing


def _region(pixels: np.ndarray, preprocessing: Preprocessing, place: tuple[float, float]) -> np.ndarray:
    height, width = pixels.shape[:2]
    if preprocessing.resize_mode == "crop":
        rows = columns = max(1, round(preprocessing.crop_fraction * min(height, width)))
    elif place == PLACES[0]:
        return pixels
    else:
        rows, columns = (max(1, round(SHARE * side)) for side in (height, width))
    top, left = int((height - rows) * place[0]), int((width - columns) * place[1])
    return pixels[top : top + rows, left : left + columns]


def predict_in_views(classifier: Classifier, entries: Iterable[Entry], views: Views, top: int) -> Iterator[Prediction]:
    """Yield one prediction per entry, in order, from the mean of the probabilities of its views.

    Raises InputError for crops of an exported file, whose graph already crops.
    """
    if views.crops and isinstance(classifier, ExportedClassifier):
        raise InputError(
            "expected --tta flip for an exported file, which crops in its graph, got --tta crops: give the run itself"
        )
    preprocessing = classifier.preprocessing
    every = classifier.with_preprocessing(views.adapted(preprocessing))

    def exploded() -> Iterator[Entry]:
        for entry in entries:
            whole = _Whole(entry, views, preprocessing)
            yield from (_View(entry.images, entry.index, whole, number) for number in range(len(views)))

    answers: list[Prediction] = []
    for answer in every.stream(exploded(), len(classifier.classes)):
        answers.append(answer)
        if len(answers) == len(views):
            yield _mean(answers, classifier, top)
            answers = []


def _mean(answers: list[Prediction], classifier: Classifier, top: int) -> Prediction:
    failed = next((answer for answer in answers if answer.error is not None), None)
    if failed is not None:
        return failed
    classes, of_views = classifier.classes, [dict(answer.top) for answer in answers]
    means = np.array([[probabilities[name] for name in classes] for probabilities in of_views]).mean(0)
    if classifier.thresholds is not None:
        return labelled(answers[0].path, means, classes, classifier.thresholds, top)
    likeliest = tuple((classes[index], float(means[index])) for index in np.argsort(-means, kind="stable")[:top])
    return replace(answers[0], label=likeliest[0][0], probability=likeliest[0][1], top=likeliest)


class _Whole:
    """An image that is decoded once for all its views, then dropped."""

    def __init__(self, entry: Entry, views: Views, preprocessing: Preprocessing) -> None:
        self._entry, self._views, self._preprocessing = entry, views, preprocessing
        self._lock, self._left = Lock(), len(views)
        self._found: list[np.ndarray] | ImageError | None = None

    def view(self, number: int) -> np.ndarray:
        with self._lock:
            if self._found is None:
                self._found = self._decoded()
            found, self._left = self._found, self._left - 1
            if not self._left:
                self._found = None
        if isinstance(found, ImageError):
            raise found
        return found[number]

    def _decoded(self) -> list[np.ndarray] | ImageError:
        try:
            data = self._entry.read()
            preprocessing = self._preprocessing
            if isinstance(data, bytes):
                data = decode(data, least_side(preprocessing), preprocessing.levels)
            return list(self._views.of(data, preprocessing))
        except OSError as error:
            return unreadable(error)
        except ImageError as error:
            return error


@dataclass(frozen=True)
class _View(Entry):
    whole: _Whole
    number: int

    def read(self) -> np.ndarray:
        return self.whole.view(self.number)
