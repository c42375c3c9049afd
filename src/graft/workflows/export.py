"""From a run to a file that other programs run, checked on the user's own images before it is kept."""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from graft.data.content import unreadable
from graft.data.dataset import TRAIN, VAL, Dataset, Images
from graft.data.table_options import TableOptions
from graft.errors import DataError, GraftError, ImageError, InputError, did_you_mean
from graft.export.facts import Facts
from graft.export.gate import TOLERANCES, Agreement, check_accuracy, check_agreement
from graft.export.graph import FromPixels
from graft.export.precision import IN_FEWER_BITS, PRECISIONS, to_bfloat16, to_int8
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
from graft.weights.model_files import gives_several_labels, refuse_several_labels
from graft.weights.saved import ARGUMENTS_FILE, TENSORS_FILE, SavedModel, load_model, model_folder
from graft.words import counted
from graft.workflows.own_images import images_of_run
from graft.workflows.prepare import DataOptions, open_images
from graft.workflows.run import check_outside_images, near

# So many of the images tell whether an export answers as its run does.
MOST_IMAGES = 200
# So many training images tell the ranges of activations.
MOST_TO_QUANTISE = 300

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
    precision: str = "fp32"
    bytes_of_run: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As `graft export --json` prints it, and as it is written beside the file."""
        return {
            "run": near(self.run),
            "format": self.format,
            "precision": self.precision,
            "file": near(self.file),
            "bytes": self.bytes,
            "bytes_of_run": self.bytes_of_run,
            "classes": list(self.classes),
            "checked_on": self.checked_on,
            "agreement": self.agreement.to_dict(),
            "seconds": {"total": self.seconds},
        }


def export(
    run: str | Path,
    format: str = "onnx",
    *,
    precision: str = "fp32",
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
    those at `check`, and kept only where labels and probabilities are the run's in float32. `precision` is `fp32`, or
    for OpenVINO `bf16` (weights of half the size, computed in float32), whose probabilities may differ by 0.1, or
    `int8`, quantised with up to 300 of the run's training images, whose accuracy may be lower by a point. Raises
    InputError for a call that cannot be, DataError where no image is there to check on, GraftError for a file that
    answers otherwise.
    """
    started = time.perf_counter()
    if format not in WRITERS:
        raise InputError(
            f"expected {', '.join(WRITERS)} for --format, got {format!r}{did_you_mean(format, tuple(WRITERS))}: choose "
            "one of them"
        )
    if precision not in PRECISIONS:
        raise InputError(
            f"expected {', '.join(PRECISIONS)} for --precision, got {precision!r}"
            f"{did_you_mean(precision, PRECISIONS)}: choose one of them"
        )
    if precision != "fp32" and format not in IN_FEWER_BITS:
        raise InputError(
            f"expected --format {' or '.join(IN_FEWER_BITS)} for --precision {precision}, got {format}: choose it, or "
            "leave --precision out"
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
        if precision != "fp32":
            refuse_several_labels(saved.thresholds is not None, f"--precision {precision}")
        if saved.preprocessing.channels not in (1, 3):
            raise InputError(
                f"expected a network of grey or color images to export, got one of {saved.preprocessing.channels} "
                "channels: use it through graft"
            )
        checked_on, images = _to_check_on(folder, check, file, saved.classes)
        shown, labels = _decoded(images, saved.preprocessing.levels)
        told.note(f"checking on {counted(len(shown), 'image')} of {checked_on}")
        classifier = Classifier(saved, choose("torch", "float32"))
        expected, of_run = _timed(lambda pixels: _probabilities(classifier, pixels), shown, told, "run")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=f".{file.stem}.", suffix=".partial", dir=file.parent))
            try:
                change = _change(precision, folder, saved, told)
                exported = _written(saved, write, aside / file.name, change, precision)
                found, of_export = _timed(lambda pixels: exported.run(pixels[None])[0], shown, told, format)
                classes, seconds = (saved.classes, exported.facts.classes), (of_export, of_run)
                if precision == "int8":
                    agreement = check_accuracy(expected, found, labels, *classes, seconds)
                else:
                    agreement = check_agreement(expected, found, *classes, seconds, TOLERANCES[precision])
                size = sum(each.stat().st_size for each in aside.iterdir())
                # The file itself last: where it is, what belongs to it is there too.
                for each in sorted(aside.iterdir(), key=lambda each: each.name == file.name):
                    each.replace(file.with_name(each.name))
            finally:
                shutil.rmtree(aside, ignore_errors=True)
            made = Export(
                folder,
                format,
                file,
                size,
                saved.classes,
                checked_on,
                agreement,
                time.perf_counter() - started,
                precision,
                (model / TENSORS_FILE).stat().st_size,
            )
            write_json(file.with_name(f"{file.name}.json"), made.to_dict())
        except OSError as error:
            raise GraftError(
                f"expected to write {near(file)}, got {error.strerror or error}: free space there, let it be written "
                "to, or give another --out"
            ) from error
    return made


def _written(
    saved: SavedModel,
    write: Callable[[FromPixels, Facts, Path], None],
    file: Path,
    change: Callable[[Path], None],
    precision: str,
) -> Exported:
    from graft import __version__

    write(FromPixels(saved), replace(Facts.of(saved, __version__), precision=precision), file)
    change(file)
    return open_torch(file) if file.suffix.lower() == ".pt2" else open_exported(file)


def _change(precision: str, folder: Path, saved: SavedModel, reporter: Reporter) -> Callable[[Path], None]:
    """What is done to a file of float32 for another precision."""
    if precision == "fp32":
        return lambda file: None
    if precision == "bf16":
        return to_bfloat16
    _, dataset, _ = images_of_run(folder, "to quantise with", "leave --precision int8 out")
    images = sample(dataset.splits[TRAIN], 0, MOST_TO_QUANTISE)
    readable = [index for index in range(len(images)) if _pixels(images, index, saved.preprocessing.levels) is not None]
    if not readable:
        raise DataError("expected training images to quantise with, got none that can be decoded: leave int8 out")

    def pixels(number: int) -> np.ndarray:
        found = _pixels(images, readable[number], saved.preprocessing.levels)
        return np.zeros((1, 1, 3), np.uint8) if found is None else found

    def told(number: int) -> None:
        reporter.step("ranges of activations", min(number, len(readable)), len(readable))

    return lambda file: to_int8(file, len(readable), pixels, told)


def _pixels(images: Images, index: int, levels: Levels) -> np.ndarray | None:
    try:
        return whole_pixels(images.read(index), levels)
    except (ImageError, OSError):
        return None


def _to_check_on(folder: Path, check: str | Path | None, file: Path, classes: tuple[str, ...]) -> tuple[str, Images]:
    """Where the images are that the file is checked on, and some of them, with labels that index `classes`.

    Among them is no place for the file.
    """
    if check is not None:
        given = path(check, "--check")
        several = TableOptions(multi_label=gives_several_labels(folder))
        dataset = open_images(DataOptions(given, table=several))
        check_outside_images(file.parent, Path(given), dataset)
        images = max(dataset.splits.values(), key=len)
        return str(given), sample(_named(images, dataset, classes), 0, MOST_IMAGES)
    source, dataset, images = images_of_run(folder, "to check the export on", "give some with --check")
    check_outside_images(file.parent, Path(source), dataset)
    return f"{source}, {VAL}", sample(_named(images, dataset, classes), 0, MOST_IMAGES)


def _named(images: Images, dataset: Dataset, classes: tuple[str, ...]) -> Images:
    """With labels that index `classes` rather than those of the dataset; -1 for what is none of them, or several."""
    if dataset.label_sets is not None:
        return replace(images, labels=np.full(len(images), -1))
    numbers = {name: number for number, name in enumerate(classes)}
    table = np.array([*(numbers.get(name, -1) for name in dataset.classes), -1], dtype=np.int64)
    return replace(images, labels=table[images.labels])


def _decoded(images: Images, levels: Levels) -> tuple[list[np.ndarray], np.ndarray]:
    """The images that can be decoded, in full, uint8 (H, W, 3) each, and their labels, int64 (n,)."""
    found, labels, reason = [], [], ""
    for index in range(len(images)):
        try:
            found.append(whole_pixels(images.read(index), levels))
            labels.append(int(images.labels[index]))
        except ImageError as error:
            reason = str(error)
        except OSError as error:
            reason = str(unreadable(error))
    if not found:
        raise DataError(f"expected images to check the export on, got none that can be decoded ({reason}): give others")
    return found, np.array(labels)


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
