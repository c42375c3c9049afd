"""From a run to a file that other programs run, checked on the user's own images before it is kept."""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from graft.data.content import unreadable
from graft.data.dataset import VAL, Images
from graft.errors import DataError, GraftError, ImageError, InputError, did_you_mean
from graft.export.facts import Facts
from graft.export.gate import Agreement, check_agreement
from graft.export.graph import FromPixels
from graft.export.recording import WEIGHTS_BESIDE, WRITERS
from graft.export.running import Exported, open_exported, open_torch
from graft.features.engine import choose
from graft.files import write_json
from graft.given import path
from graft.images.levels import Levels
from graft.progress import Reporter, reporting
from graft.serving.exported import whole_pixels
from graft.serving.predictor import Classifier
from graft.training.task import sample
from graft.weights.saved import ARGUMENTS_FILE, SavedModel, load_model, model_folder
from graft.words import counted
from graft.workflows.own_images import images_of_run
from graft.workflows.prepare import DataOptions, open_images
from graft.workflows.run import check_outside_images, near

# So many of the images tell whether an export answers as its run does.
MOST_IMAGES = 200

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Export:
    """A file that was exported and kept: `agreement` with its run on the images of `checked_on`."""

    run: Path
    format: str
    file: Path
    bytes: int
    classes: tuple[str, ...]
    checked_on: str
    agreement: Agreement
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As `graft export --json` prints it, and as it is written beside the file."""
        return {
            "run": near(self.run),
            "format": self.format,
            "file": near(self.file),
            "bytes": self.bytes,
            "classes": list(self.classes),
            "checked_on": self.checked_on,
            "agreement": self.agreement.to_dict(),
            "seconds": {"total": self.seconds},
        }


def export(
    run: str | Path,
    format: str = "onnx",
    *,
    out: str | Path | None = None,
    check: str | Path | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
    quiet: bool = False,
) -> Export:
    """Write the classifier in `run`, a run folder or its `model/`, as one graph from pixels to probabilities.

    `format` is `onnx`, `openvino` or `torch` (an archive of `torch.export`). The graph takes decoded images, uint8
    (N, H, W, 3) in RGB of any size, and holds resizing, normalisation, network, temperature and softmax. `out` is the
    file, by default `export/model` in the run folder. What was written is run on up to 200 images of the run's val, or
    those at `check`, and kept only where labels and probabilities are the run's in float32. Raises InputError for a
    call that cannot be, DataError where no image is there to check on, GraftError for a file that answers otherwise.
    """
    started = time.perf_counter()
    if format not in WRITERS:
        raise InputError(
            f"expected {', '.join(WRITERS)} for --format, got {format!r}{did_you_mean(format, tuple(WRITERS))}: choose "
            "one of them"
        )
    ending, write = WRITERS[format]
    model = model_folder(Path(path(run, "RUN")).expanduser()).absolute()
    folder = model.parent if (model.parent / ARGUMENTS_FILE).is_file() else model
    file = folder / "export" / f"model{ending}" if out is None else Path(path(out, "--out")).expanduser().absolute()
    if file.suffix.lower() != ending:
        raise InputError(f"expected a name that ends in {ending} for --format {format}, got {file.name}: rename it")
    for each in (file, file.with_suffix(WEIGHTS_BESIDE)) if format == "openvino" else (file,):
        if each.exists() and not overwrite:
            raise InputError(f"expected a new file, got {near(each)}, which exists: give another --out, or --overwrite")
    with reporting(reporter, quiet) as told:
        saved = load_model(model)
        if saved.preprocessing.channels not in (1, 3):
            raise InputError(
                f"expected a network of grey or color images to export, got one of {saved.preprocessing.channels} "
                "channels: use it through graft"
            )
        checked_on, images = _to_check_on(folder, check, file)
        shown = _decoded(images, saved.preprocessing.levels)
        told.note(f"checking on {counted(len(shown), 'image')} of {checked_on}")
        classifier = Classifier(saved, choose("torch", "float32"))
        expected, of_run = _timed(lambda pixels: _probabilities(classifier, pixels), shown, told, "run")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=f".{file.stem}.", suffix=".partial", dir=file.parent))
            try:
                exported = _written(saved, write, aside / file.name)
                found, of_export = _timed(lambda pixels: exported.run(pixels[None])[0], shown, told, format)
                agreement = check_agreement(expected, found, saved.classes, exported.facts.classes, (of_export, of_run))
                size = sum(each.stat().st_size for each in aside.iterdir())
                # The file itself last: where it is, what belongs to it is there too.
                for each in sorted(aside.iterdir(), key=lambda each: each.name == file.name):
                    each.replace(file.with_name(each.name))
            finally:
                shutil.rmtree(aside, ignore_errors=True)
            made = Export(
                folder, format, file, size, saved.classes, checked_on, agreement, time.perf_counter() - started
            )
            write_json(file.with_name(f"{file.name}.json"), made.to_dict())
        except OSError as error:
            raise GraftError(
                f"expected to write {near(file)}, got {error.strerror or error}: free space there, let it be written "
                "to, or give another --out"
            ) from error
    return made


def _written(saved: SavedModel, write: Callable[[FromPixels, Facts, Path], None], file: Path) -> Exported:
    from graft import __version__

    write(FromPixels(saved), Facts.of(saved, __version__), file)
    return open_torch(file) if file.suffix.lower() == ".pt2" else open_exported(file)


def _to_check_on(folder: Path, check: str | Path | None, file: Path) -> tuple[str, Images]:
    """Where the images are that the file is checked on, and some of them; among them is no place for the file."""
    if check is not None:
        given = path(check, "--check")
        dataset = open_images(DataOptions(given))
        check_outside_images(file.parent, Path(given), dataset)
        splits = dataset.splits
        return str(given), sample(max(splits.values(), key=len), 0, MOST_IMAGES)
    source, dataset, images = images_of_run(folder, "to check the export on", "give some with --check")
    check_outside_images(file.parent, Path(source), dataset)
    return f"{source}, {VAL}", sample(images, 0, MOST_IMAGES)


def _decoded(images: Images, levels: Levels) -> list[np.ndarray]:
    """The images that can be decoded, in full, uint8 (H, W, 3) each."""
    found, reason = [], ""
    for index in range(len(images)):
        try:
            found.append(whole_pixels(images.read(index), levels))
        except ImageError as error:
            reason = str(error)
        except OSError as error:
            reason = str(unreadable(error))
    if not found:
        raise DataError(f"expected images to check the export on, got none that can be decoded ({reason}): give others")
    return found


def _timed(
    answer: Callable[[np.ndarray], np.ndarray], images: Sequence[np.ndarray], reporter: Reporter, step: str
) -> tuple[np.ndarray, float]:
    """Probabilities (n, classes) of all images, one at a time, and the median seconds that one takes."""
    answers, seconds = [], []
    for number, pixels in enumerate(images, start=1):
        began = time.perf_counter()
        answers.append(answer(pixels))
        seconds.append(time.perf_counter() - began)
        reporter.step(f"answers of the {step}", number, len(images))
    return np.stack(answers), statistics.median(seconds)


def _probabilities(classifier: Classifier, pixels: np.ndarray) -> np.ndarray:
    (prediction,) = classifier.predict(pixels, top=len(classifier.classes))
    of_class = dict(prediction.top)
    return np.array([of_class[name] for name in classifier.classes])
