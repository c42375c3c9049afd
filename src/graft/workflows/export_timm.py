"""From a run to a folder that timm and transformers open, kept if timm's network gives the run's logits."""

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from graft.errors import GraftError, InputError
from graft.export.gate import check_logits
from graft.export.timm_folder import FILES, TimmModel, open_timm, timm_transform, write_timm
from graft.files import write_json
from graft.given import path
from graft.images.preprocessing import Preprocessing, normalise
from graft.images.resizing import to_square
from graft.progress import Reporter
from graft.weights.saved import TENSORS_FILE, class_logits, load_model
from graft.words import counted
from graft.workflows.export_check import Export, decoded, images_to_check_on, timed
from graft.workflows.run import near

TIMM = "timm"


def export_timm(
    model: Path, folder: Path, out: str | Path | None, check: str | Path | None, overwrite: bool, reporter: Reporter
) -> Export:
    """Write the network of the model folder `model`, of the run in `folder`, as a folder of timm's.

    timm opens it again, and its logits are compared with the run's, before the temperature, on the images that any
    export is checked on. Raises what `graft.export` raises.
    """
    started = time.perf_counter()
    place = folder / "export" / TIMM if out is None else Path(path(out, "--out")).expanduser().absolute()
    _check_free(place, overwrite)
    saved = load_model(model)
    checked_on, images = images_to_check_on(folder, check, place, saved.classes)
    shown, _ = decoded(images, saved.preprocessing.levels)
    reporter.note(f"checking on {counted(len(shown), 'image')} of {checked_on}")

    def of_run(logits: torch.Tensor) -> np.ndarray:
        return class_logits(logits, saved.outputs).numpy()

    answer = _answering(saved.network, saved.preprocessing)
    expected, seconds_run = timed(lambda pixels: of_run(answer(pixels))[0], shown, reporter, "run")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".timm.", suffix=".partial", dir=place.parent))
        try:
            written = aside / TIMM
            written.mkdir()
            write_timm(written, saved)
            opened = open_timm(written)
            answer_there = _answering(opened.network, saved.preprocessing)
            found, seconds = timed(lambda pixels: answer_there(pixels).numpy()[0], shown, reporter, TIMM)
            agreement = check_logits(expected, found, saved.classes, opened.classes, (seconds, seconds_run))
            _tell_of_images(opened, expected, shown, reporter)
            size = sum(each.stat().st_size for each in written.iterdir())
            _put_in_place(written, place, aside)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        made = Export(
            folder,
            TIMM,
            place,
            size,
            saved.classes,
            checked_on,
            agreement,
            time.perf_counter() - started,
            bytes_of_run=(model / TENSORS_FILE).stat().st_size,
        )
        write_json(place.with_name(f"{place.name}.json"), made.to_dict())
    except OSError as error:
        raise GraftError(
            f"expected to write {near(place)}, got {error.strerror or error}: free space there, let it be written to, "
            "or give another --out"
        ) from error
    if saved.temperature != 1:
        reporter.note(
            f"the logits are the network's own: divided by the temperature, {saved.temperature:.4g}, they give its "
            "probabilities"
        )
    return made


def _check_free(place: Path, overwrite: bool) -> None:
    """Refuse a place that is taken, and to replace a folder that holds anything but an export."""
    if not place.exists():
        return
    if not place.is_dir() or any(each.name not in FILES for each in place.iterdir()):
        raise InputError(
            f"expected a new folder for --format timm, got {near(place)}, which holds something else: give another "
            "--out"
        )
    if not overwrite and any(place.iterdir()):
        raise InputError(f"expected a new folder, got {near(place)}, which exists: give another --out, or --overwrite")


def _put_in_place(written: Path, place: Path, aside: Path) -> None:
    if place.exists():
        place.rename(aside / "replaced")
    written.rename(place)


def _answering(network: nn.Module, preprocessing: Preprocessing) -> Callable[[np.ndarray], torch.Tensor]:
    """From an image, uint8 (H, W, 3), to the network's logits, float32 (1, outputs)."""

    def answer(pixels: np.ndarray) -> torch.Tensor:
        with torch.no_grad():
            logits: torch.Tensor = network(normalise(to_square(pixels, preprocessing)[None], preprocessing))
        return logits

    return answer


def _tell_of_images(opened: TimmModel, expected: np.ndarray, shown: list[np.ndarray], reporter: Reporter) -> None:
    """How many images are still given the run's label where timm's own resizing takes the place of graft's."""
    transform, mode = timm_transform(opened), "L" if opened.settings["input_size"][0] == 1 else "RGB"
    with torch.no_grad():
        same = [
            int(opened.network(transform(Image.fromarray(pixels).convert(mode))[None]).argmax()) == int(row.argmax())
            for pixels, row in zip(shown, expected, strict=True)
        ]
    reporter.note(f"resized by timm's own transform, {sum(same):,} of {counted(len(same), 'image')} keep their label")
