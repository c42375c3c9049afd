"""Export a run to a file that other programs can run, checked on the user's own images before it is kept."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np

from graft.data.dataset import TRAIN, Images
from graft.errors import DataError, GraftError, ImageError, InputError, did_you_mean
from graft.export.answers import timed
from graft.export.facts import Facts
from graft.export.gate import TOLERANCES, check_accuracy, check_agreement
from graft.export.graph import FromPixels
from graft.export.openvino_pair import WEIGHTS_BESIDE
from graft.export.precision import IN_FEWER_BITS, PRECISIONS, to_bfloat16, to_int8
from graft.export.recording import WRITERS
from graft.export.running import Exported, open_exported, open_torch
from graft.features.engine import choose
from graft.files import write_json
from graft.given import path, with_hints
from graft.images.levels import Levels
from graft.progress import Reporter, reporting
from graft.serving.exported import whole_pixels
from graft.serving.predictor import Classifier
from graft.torch_modes import in_own_modes
from graft.training.task import sample
from graft.weights.model_files import is_on_hub, refuse_several_labels
from graft.weights.saved import ARGUMENTS_FILE, TENSORS_FILE, SavedModel, load_model, model_folder
from graft.words import counted
from graft.workflows.export_check import Export, decodable, images_to_check_on, note_levels, note_usual_precision
from graft.workflows.export_timm import TIMM, export_timm
from graft.workflows.own_images import images_of_run
from graft.workflows.run import near

FORMATS = (*WRITERS, TIMM)
# The number of training images from which the ranges of activations are measured.
MOST_TO_QUANTISE = 300


@with_hints()
@in_own_modes
def export(
    run: str | PathLike[str],
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

    `format` is `onnx`, `openvino`, `torch` (an archive of `torch.export`) or `timm`, which writes a folder with the
    network alone that timm and transformers can open (`graft.workflows.export_timm`). The graph takes decoded images,
    uint8 (N, H, W, 3) in RGB of any size, and contains resizing, normalisation, network, temperature and softmax. `out`
    is the file, by default `export/model` in the run folder.

    The export is run on up to 200 images of the run's val, or those at `check`, and kept only if its labels and
    probabilities match the run's in float32. `precision` is `fp32`; for OpenVINO `bf16` (weights of half the size,
    computed in float32), whose probabilities may differ by 0.1; or for OpenVINO and ONNX `int8`, quantised with up to
    300 of the run's training images, whose accuracy may be one point lower.

    Raises InputError for an invalid call, DataError if there are no images to check on, GraftError if the export
    answers differently.
    """
    started = time.perf_counter()
    _check_format(format, precision)
    given = Path(path(run, "RUN")).expanduser()
    if is_on_hub(given) and out is None:
        raise InputError(f"expected --out for the export of {given}, got none: name the file to write")
    model = model_folder(given).absolute()
    folder = model.parent if (model.parent / ARGUMENTS_FILE).is_file() else model
    if format == TIMM:
        with reporting(reporter, quiet) as told:
            return export_timm(model, folder, out, check, overwrite, told)
    file = _new_file(folder, format, out, overwrite)
    with reporting(reporter, quiet) as told:
        saved = load_model(model)
        _check_model(saved, precision)
        with _folder_aside(file):
            pass  # a place that cannot be written is told of now, not once all images have been run
        checked_on, images = images_to_check_on(folder, check, file, saved.classes)
        shown = decodable(images, saved.preprocessing.levels)
        told.note(f"checking on {counted(len(shown), 'image')} of {checked_on}")
        classifier = Classifier(saved, choose("torch", "float32"))
        expected, of_run = timed(lambda pixels: _probabilities(classifier, pixels), shown, told, "run")
        with _folder_aside(file) as aside:
            exported = _written(saved, format, aside / file.name, _change(precision, folder, saved, told), precision)
            found, of_export = timed(lambda pixels: exported.run(pixels[None])[0], shown, told, format)
            classes, seconds = (saved.classes, exported.facts.classes), (of_export, of_run)
            if precision == "int8":
                agreement = check_accuracy(expected, found, shown.images.labels, *classes, seconds)
            else:
                within = TOLERANCES[precision]
                agreement = check_agreement(expected, found, *classes, seconds, within, saved.thresholds)
            made = Export(
                folder,
                format,
                file,
                sum(each.stat().st_size for each in aside.iterdir()),
                saved.classes,
                checked_on,
                agreement,
                time.perf_counter() - started,
                precision,
                (model / TENSORS_FILE).stat().st_size,
                saved.preprocessing.levels,
            )
            if format == "openvino":
                note_usual_precision(exported.path, expected, shown, told)
            _put_in_place(aside, file, made)
        note_levels(saved.preprocessing.levels, told)
    return made


def _check_format(format: str, precision: str) -> None:
    """Raise InputError for a format or a precision that does not exist, and for two that do not go together."""
    if format not in FORMATS:
        raise InputError(
            f"expected {', '.join(FORMATS)} for --format, got {format!r}{did_you_mean(format, FORMATS)}: choose one of "
            "them"
        )
    if precision not in PRECISIONS:
        raise InputError(
            f"expected {', '.join(PRECISIONS)} for --precision, got {precision!r}"
            f"{did_you_mean(precision, PRECISIONS)}: choose one of them"
        )
    if precision != "fp32" and format not in IN_FEWER_BITS[precision]:
        able = " or ".join(IN_FEWER_BITS[precision])
        raise InputError(
            f"expected --format {able} for --precision {precision}, got {format}: choose it, or leave --precision out"
        )


def _new_file(folder: Path, format: str, out: str | Path | None, overwrite: bool) -> Path:
    """Return the file to write. Raises InputError for another ending, and for a file that must not be replaced."""
    ending, _ = WRITERS[format]
    file = folder / "export" / f"model{ending}" if out is None else Path(path(out, "--out")).expanduser().absolute()
    if file.suffix.lower() != ending:
        raise InputError(f"expected a name that ends in {ending} for --format {format}, got {file.name}: rename it")
    for each in (file, _facts_of(file), *([file.with_suffix(WEIGHTS_BESIDE)] if format == "openvino" else [])):
        if each.exists() and not overwrite:
            raise InputError(f"expected a new file, got {near(each)}, which exists: give another --out, or --overwrite")
    return file


def _check_model(saved: SavedModel, precision: str) -> None:
    """Raise InputError for a model that a graph cannot hold, or not in this precision."""
    if precision != "fp32":
        refuse_several_labels(saved.thresholds is not None, f"--precision {precision}")
    if saved.preprocessing.channels not in (1, 3):
        raise InputError(
            f"expected a network for grey or color images to export, got one for {saved.preprocessing.channels} "
            "channels: use it through graft"
        )


@contextmanager
def _folder_aside(file: Path) -> Iterator[Path]:
    """A folder beside the file, on the same disk, gone afterwards. Raises GraftError if it cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{file.stem}.", suffix=".partial", dir=file.parent))
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise GraftError(
            f"expected to write {near(file)}, got {error.strerror or error}: free space there, make it writable, or "
            "give another --out"
        ) from error


def _put_in_place(aside: Path, file: Path, made: Export) -> None:
    """Move what was written aside to its place, and write the facts about it.

    The facts about a previous file are removed first. The new file comes last: once it exists, so does everything that
    belongs to it.
    """
    _facts_of(file).unlink(missing_ok=True)
    for each in sorted(aside.iterdir(), key=lambda each: each.name == file.name):
        each.replace(file.with_name(each.name))
    write_json(_facts_of(file), made.to_dict())


def _facts_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.json")


def _written(saved: SavedModel, format: str, file: Path, change: Callable[[Path], None], precision: str) -> Exported:
    from graft import __version__

    _, write = WRITERS[format]
    write(FromPixels(saved), replace(Facts.of(saved, __version__), precision=precision), file)
    change(file)
    return open_torch(file) if file.suffix.lower() == ".pt2" else open_exported(file)


def _change(precision: str, folder: Path, saved: SavedModel, reporter: Reporter) -> Callable[[Path], None]:
    """Return the step that converts a float32 file to another precision."""
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


def _probabilities(classifier: Classifier, pixels: np.ndarray) -> np.ndarray:
    (prediction,) = classifier.predict(pixels, top=len(classifier.classes))
    of_class = dict(prediction.top)
    return np.array([of_class[name] for name in classifier.classes])
