"""The images an export is checked on, and the record of an export that was kept."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from graft.data.content import unreadable
from graft.data.dataset import VAL, WHOLE, Dataset, Images
from graft.data.table_options import TableOptions
from graft.data.unlabelled import open_images as unlabelled_images
from graft.errors import DataError, ImageError
from graft.export.gate import Agreement
from graft.export.running import as_openvino_chooses
from graft.given import path
from graft.images.levels import Levels, described
from graft.progress import Reporter
from graft.serving.exported import whole_pixels
from graft.training.task import sample
from graft.weights.model_files import gives_several_labels
from graft.words import counted
from graft.workflows.own_images import images_of_run
from graft.workflows.prepare import DataOptions, open_images
from graft.workflows.run import near
from graft.workflows.run_folder import check_outside_images

# This many images decide whether an export answers as its run does.
MOST_IMAGES = 200
# This many show what another number format does to the answers.
MOST_IN_USUAL_PRECISION = 50


@dataclass(frozen=True, repr=False)
class Export:
    """An exported file that was kept, and its `agreement` with its run on the images of `checked_on`."""

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
    # Black and white levels of images deeper than 8 bits: the file takes 8 bits, so its callers must convert.
    levels: Levels = ()

    def __repr__(self) -> str:
        return f"Export({near(self.file)!r}, {self.format!r}, {counted(self.bytes, 'byte')})"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that `graft export --json` prints and that is written beside the file."""
        return {
            "run": near(self.run),
            "format": self.format,
            "precision": self.precision,
            "file": near(self.file),
            "bytes": self.bytes,
            "bytes_of_run": self.bytes_of_run,
            "classes": list(self.classes),
            **({"levels": {kind: [low, high] for kind, low, high in self.levels}} if self.levels else {}),
            "checked_on": self.checked_on,
            "agreement": self.agreement.to_dict(),
            "seconds": {"total": self.seconds},
        }


def note_levels(levels: Levels, reporter: Reporter) -> None:
    """Note, for an exported run of deep images, what the file leaves to its callers."""
    if levels:
        reporter.note(
            "the file takes 8 bits per sample: to run it without graft, first convert deeper samples, "
            f"{described(levels)} (docs/deploy.md, Without graft)"
        )


def note_usual_precision(file: Path, expected: np.ndarray, shown: Sequence[np.ndarray], reporter: Reporter) -> None:
    """Note how an OpenVINO file answers where nobody tells OpenVINO to compute in float32, if it then does not.

    `expected` (n, classes) are the run's probabilities on the images of `shown`.
    """
    advice = 'compile it with {"INFERENCE_PRECISION_HINT": "f32"}'
    count = min(len(shown), MOST_IN_USUAL_PRECISION)
    try:
        format, run = as_openvino_chooses(file)
        if format == "float32":
            return
        found = np.concatenate([run(shown[number][None]) for number in range(count)])
    except RuntimeError as error:
        # OpenVINO asks the processor what it can do, and its kernels may have been told to do less.
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        reporter.note(f"unless told otherwise, OpenVINO cannot run the file on this processor ({reason[0]}): {advice}")
        return
    expected = expected[:count]
    same = int((found.argmax(1) == expected.argmax(1)).sum())
    reporter.note(
        f"unless told otherwise, OpenVINO computes the file in {format} on this processor: {same:,} of "
        f"{counted(count, 'label')} as the run gives them, probabilities within {np.abs(found - expected).max():.1e}; "
        f"to answer as the run does, {advice}"
    )


def images_to_check_on(
    folder: Path, check: str | Path | None, file: Path, classes: tuple[str, ...]
) -> tuple[str, Images]:
    """Return the source of the images to check on, and a sample of them with labels that index `classes`.

    Refuses a `file` that would be written among these images.
    """
    if check is not None:
        given = path(check, "--check")
        dataset = _given(given, gives_several_labels(folder))
        check_outside_images(file.parent, Path(given), dataset)
        images = max(dataset.splits.values(), key=len)
        return str(given), sample(_named(images, dataset, classes), 0, MOST_IMAGES)
    source, dataset, images = images_of_run(folder, "to check the export on", "give some with --check")
    check_outside_images(file.parent, Path(source), dataset)
    return f"{source}, {VAL}", sample(_named(images, dataset, classes), 0, MOST_IMAGES)


def _given(place: str | Path, several_labels: bool) -> Dataset:
    """Open images with their labels, or those of a folder where hardly any has one: answers are compared without."""
    try:
        dataset = open_images(DataOptions(place, table=TableOptions(multi_label=several_labels)))
    except DataError:
        if not Path(place).expanduser().is_dir():
            raise
        dataset = Dataset("", (), {})
    if not Path(place).expanduser().is_dir():
        return dataset
    every = unlabelled_images(Path(place).expanduser())
    return dataset if 2 * len(dataset) >= len(every) else Dataset(str(place), (), {WHOLE: every})


def _named(images: Images, dataset: Dataset, classes: tuple[str, ...]) -> Images:
    """Relabel images to index `classes` instead of the dataset's; -1 marks an unknown class or several labels."""
    if dataset.label_sets is not None:
        return replace(images, labels=np.full(len(images), -1))
    numbers = {name: number for number, name in enumerate(classes)}
    table = np.array([*(numbers.get(name, -1) for name in dataset.classes), -1], dtype=np.int64)
    return replace(images, labels=table[images.labels])


@dataclass(frozen=True)
class InFull(Sequence[np.ndarray]):
    """Images at full size, uint8 (H, W, 3) each, decoded when they are asked for: together they would fill memory."""

    images: Images
    levels: Levels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        return whole_pixels(self.images.read(range(len(self))[index]), self.levels)


def decodable(images: Images, levels: Levels) -> InFull:
    """Return the images that can be decoded. Raises DataError if there are none."""
    found, reason, every = [], "", InFull(images, levels)
    for index in range(len(images)):
        try:
            every[index]
            found.append(index)
        except ImageError as error:
            reason = str(error)
        except OSError as error:
            reason = str(unreadable(error))
    if not found:
        raise DataError(f"expected images to check the export on, got none that can be decoded ({reason}): give others")
    return InFull(images.take(np.array(found)), levels)
