"""Export a run to a folder that timm and transformers open, kept if timm's network gives the run's logits."""

import shutil
import tempfile
import time
from pathlib import Path

from graft.errors import GraftError
from graft.export.answers import answering, labels_kept, timed
from graft.export.gate import check_logits
from graft.export.timm_folder import beside, check_free, name_for_timm, open_timm, put_in_place, write_timm
from graft.files import write_json
from graft.given import path
from graft.progress import Reporter
from graft.weights.saved import TENSORS_FILE, class_logits, load_model
from graft.words import counted
from graft.workflows.export_check import Export, decodable, images_to_check_on, note_levels
from graft.workflows.run import near

TIMM = "timm"


def export_timm(
    model: Path, folder: Path, out: str | Path | None, check: str | Path | None, overwrite: bool, reporter: Reporter
) -> Export:
    """Write the network of the model folder `model`, of the run in `folder`, as a timm folder.

    timm then loads it, and its logits, before the temperature, are compared with the run's on the same images as for
    any other export. Raises what `graft.export` raises.
    """
    started = time.perf_counter()
    place = folder / "export" / TIMM if out is None else Path(path(out, "--out")).expanduser().absolute()
    check_free(place, overwrite)
    saved = load_model(model)
    # Report what timm lacks before looking for images.
    name_for_timm(saved)
    checked_on, images = images_to_check_on(folder, check, place, saved.classes)
    shown = decodable(images, saved.preprocessing.levels)
    reporter.note(f"checking on {counted(len(shown), 'image')} of {checked_on}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".timm.", suffix=".partial", dir=place.parent))
        try:
            written = aside / TIMM
            written.mkdir()
            write_timm(written, saved)
            answer = answering(saved.network, saved.preprocessing)
            expected, seconds_run = timed(
                lambda pixels: class_logits(answer(pixels), saved.outputs).numpy()[0], shown, reporter, "run"
            )
            opened = open_timm(written)
            answer_there = answering(opened.network, saved.preprocessing)
            found, seconds = timed(lambda pixels: answer_there(pixels).numpy()[0], shown, reporter, TIMM)
            agreement = check_logits(expected, found, saved.classes, opened.classes, (seconds, seconds_run))
            same = labels_kept(opened, expected, shown)
            reporter.note(
                f"resized by timm's own transform, {same:,} of {counted(len(shown), 'image')} keep their label"
            )
            size = sum(each.stat().st_size for each in written.iterdir())
            put_in_place(written, place, aside)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        seconds_all, of_run = time.perf_counter() - started, (model / TENSORS_FILE).stat().st_size
        made = Export(
            folder,
            TIMM,
            place,
            size,
            saved.classes,
            checked_on,
            agreement,
            seconds_all,
            bytes_of_run=of_run,
            levels=saved.preprocessing.levels,
        )
        write_json(beside(place), made.to_dict())
    except OSError as error:
        raise GraftError(
            f"expected to write {near(place)}, got {error.strerror or error}: free space there, make it writable, or "
            "give another --out"
        ) from error
    note_levels(saved.preprocessing.levels, reporter)
    if saved.temperature != 1:
        reporter.note(
            f"the logits are the network's own: divided by the temperature, {saved.temperature:.4g}, they give its "
            "probabilities"
        )
    return made
