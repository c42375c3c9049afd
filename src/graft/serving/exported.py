"""A classifier from an exported file: the same answers, without the run that it was exported from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from graft.data.content import unreadable
from graft.data.loading import ahead, least_side
from graft.errors import ImageError, WeightsError
from graft.export.facts import Facts
from graft.export.running import Exported, open_exported
from graft.images.decoding import decode
from graft.images.levels import Levels
from graft.images.preprocessing import Preprocessing
from graft.serving.abstaining import Rule
from graft.serving.handed import Given
from graft.serving.prediction import Prediction, labelled, obeying
from graft.serving.predictor import Classifier
from graft.weights.calibration import Calibration


class ExportedClassifier(Classifier):
    """A classifier in an ONNX or OpenVINO file whose graph includes preprocessing.

    Used like any other `Classifier`; a copy opens the file again.
    """

    def __init__(self, path: Path) -> None:
        self._exported: Exported = open_exported(path)
        facts = self._exported.facts
        try:
            self._calibration = Calibration.from_dict(facts.calibration, len(facts.classes))
        except ValueError as error:
            raise WeightsError(
                f"expected the held-out results of a classifier in {path.name}, got {error}: export the run again"
            ) from None
        self._preprocessing = Preprocessing.from_dict(facts.preprocessing)

    def __reduce__(self) -> tuple[type[ExportedClassifier], tuple[Path]]:  # type: ignore[override]
        return ExportedClassifier, (self._exported.path,)

    def close(self) -> None:
        """Keep the file open: it could only be reopened by loading it again."""

    @property
    def facts(self) -> Facts:
        return self._exported.facts

    @property
    def lanes(self) -> int:
        return 0  # its runtime takes any number of images together

    @property
    def runtime(self) -> str:
        """The name of the runtime, for people."""
        return "onnxruntime" if self._exported.path.suffix.lower() == ".onnx" else "openvino"

    @property
    def arithmetic(self) -> str:
        return f"{self.runtime} float32 on cpu"

    @property
    def classes(self) -> tuple[str, ...]:
        return self.facts.classes

    @property
    def outputs(self) -> None:
        """None: where classes have several outputs of the network, the graph has already added them up."""

    @property
    def temperature(self) -> float:
        """The temperature within the graph."""
        return self.facts.temperature

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        return self.facts.thresholds

    @property
    def calibration(self) -> Calibration | None:
        return self._calibration

    @property
    def preprocessing(self) -> Preprocessing:
        return self._preprocessing

    def with_preprocessing(self, preprocessing: Preprocessing) -> Classifier:
        """Return this classifier unchanged: its preprocessing is part of its graph."""
        return self

    def _predict_group(self, given: Given, top: int, rule: Rule) -> Iterator[Prediction]:
        # Images in full are large: decoding all of them before the first is answered would fill memory.
        with closing(ahead(lambda row: _pixels(given, row, self.preprocessing), range(len(given)))) as decoded:
            for row, pixels in enumerate(decoded):
                if isinstance(pixels, ImageError):
                    yield Prediction(given.name(row), None, None, (), str(pixels))
                    continue
                probabilities = self._exported.run(pixels[None])[0]
                if self.thresholds is not None:
                    yield labelled(given.name(row), probabilities, self.classes, self.thresholds, top)
                    continue
                order = np.argsort(-probabilities, kind="stable")[:top]
                likeliest = tuple((self.classes[index], float(probabilities[index])) for index in order)
                yield obeying(rule, Prediction(given.name(row), *likeliest[0], likeliest), probabilities, self.classes)


def _pixels(given: Given, row: int, preprocessing: Preprocessing) -> np.ndarray | ImageError:
    """Return RGB pixels, uint8 (H, W, 3), or what is wrong with the image."""
    try:
        # A large JPEG is decoded at the scale at which the run decodes it: from its full pixels, a detailed one of a
        # network that crops got another label.
        return rgb_pixels(given.read(row), preprocessing.levels, least_side(preprocessing))
    except OSError as error:
        return unreadable(error)
    except ImageError as error:
        return error


def whole_pixels(data: bytes | np.ndarray, levels: Levels) -> np.ndarray:
    """Decode an image in full to uint8 (H, W, 3); `levels` maps deeper samples. Raises ImageError."""
    return rgb_pixels(data, levels)


def rgb_pixels(data: bytes | np.ndarray, levels: Levels, at_least: int | None = None) -> np.ndarray:
    """Return `whole_pixels`, or those of a large JPEG at the reduced scale that `decode` chooses for `at_least`."""
    pixels = decode(data, at_least, levels) if isinstance(data, bytes) else data
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
        raise ImageError(
            "expected an image as a uint8 array of shape (H, W, 3), (H, W, 1) or (H, W), "
            f"got {pixels.dtype} of shape {pixels.shape}: convert it first"
        )
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
