"""Why a classifier answers as it does: maps of images, tested, on one page."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graft.data.dataset import Images, together
from graft.data.loading import Batch
from graft.data.readers.folder import folders_of
from graft.data.unlabelled import one_image
from graft.errors import DataError, GraftError, InputError
from graft.explanation.explaining import Explanation, explain_images
from graft.explanation.model import Answers
from graft.explanation.overlay import as_png, overlay
from graft.explanation.page import explanation_section, render_page
from graft.features.engine import choose, for_answers, open_engine
from graft.files import write_aside, write_json
from graft.given import path, text, truth
from graft.progress import Reporter, reporting
from graft.seeding import check_seed
from graft.serving.gathering import gather
from graft.weights.saved import ARGUMENTS_FILE, SavedModel, load_model, model_folder
from graft.words import counted
from graft.workflows.run import near

PAGE_FILE, VALUES_FILE = "index.html", "explanations.json"
# Each image on the page takes some 50 KB, and its tests some seconds.
MOST_IMAGES = 200


@dataclass(frozen=True)
class Explanations:
    """What was written into `folder`: for every image a map, whether it tells, and what else was asked for."""

    run: Path
    folder: Path
    explanations: tuple[Explanation, ...]
    skipped: dict[str, str]
    notes: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As `graft explain --json` prints it, and as it is written beside the page."""
        return {
            "run": near(self.run),
            "folder": near(self.folder),
            "images": [each.to_dict() for each in self.explanations],
            "skipped": self.skipped,
            "notes": list(self.notes),
            "seconds": {"total": self.seconds},
        }


def explain(
    run: str | Path,
    images: str | Path | list[str] | list[Path],
    *,
    out: str | Path | None = None,
    method: str = "auto",
    stage: str | None = None,
    of_class: str | None = None,
    test: bool = True,
    engine: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    reporter: Reporter | None = None,
    quiet: bool = False,
) -> Explanations:
    """Show where in each image the evidence for its class lies, and whether the map tells anything.

    `run` is a run folder or its `model/`; `images` are files, folders, patterns, addresses or archives. `method` is
    `exact` (where the head allows it), `grad-cam` at `stage`, `rise`, or `auto`. Maps are of the class that the model
    names, or `of_class`. `out` is a new folder, by default `explanations/1` in the run and so on; nothing is written
    among the images. Raises InputError for a call that cannot be, DataError where no image can be read.
    """
    started = time.perf_counter()
    seed, test = check_seed(seed), truth(test, "--test")
    of_class = None if of_class is None else text(of_class, "--class")
    stage = None if stage is None else text(stage, "--stage")
    model = model_folder(Path(path(run, "RUN")).expanduser()).absolute()
    home = model.parent if (model.parent / ARGUMENTS_FILE).is_file() else model
    given = images_named(images)
    folder = _place(home, out, given)
    with reporting(reporter, quiet) as told:
        saved = load_model(model)
        found = explain_images(
            saved,
            given,
            method=method,
            stage=stage,
            of_class=of_class,
            test=test,
            answers=_answers(saved, engine, precision),
            seed=seed,
            reporter=told,
        )
        if not found.explanations:
            name, reason = next(iter(found.skipped.items()))
            raise DataError(
                f"expected images to explain, got {counted(len(given), 'file')} of which none could be decoded "
                f"({name}: {reason}): give others"
            )
        made = Explanations(home, folder, found.explanations, found.skipped, (), time.perf_counter() - started)
        try:
            _write(made)
        except OSError as error:
            raise GraftError(
                f"expected to write the explanations to {near(folder)}, got {error.strerror or error}: free space "
                "there, let it be written to, or give another --out"
            ) from error
    return made


def images_named(named: str | Path | list[str] | list[Path]) -> Images:
    """The images that one or several names stand for. Raises InputError for none of them, or too many to look at."""
    several = [named] if isinstance(named, str | Path) else list(named)
    if not several:
        raise InputError("expected images to explain, got none: name one or several")
    parts = gather([path(each, "the images") for each in several]).parts
    known = [part if isinstance(part, Images) else together(map(one_image, part)) for part in parts]
    found = together(known)
    if len(found) > MOST_IMAGES:
        raise InputError(
            f"expected at most {MOST_IMAGES} images to explain, got {len(found):,}: name those that matter"
        )
    return found


def _place(home: Path, out: str | Path | None, images: Images) -> Path:
    """An empty or new folder to write to. Raises InputError for one that holds something, or lies among the images."""
    if out is None:
        taken = home / "explanations"
        return next(each for number in range(1, 10**6) if not (each := taken / str(number)).exists())
    wanted = Path(path(out, "--out")).expanduser().absolute()
    if wanted.exists() and (not wanted.is_dir() or any(wanted.iterdir())):
        raise InputError(
            f"expected a new or empty folder for --out, got {near(wanted)}, which holds something: give another"
        )
    holding = folders_of([images.source])
    inside = next((each for each in map(str, (wanted, *wanted.parents)) if each in holding), None)
    if inside is not None:
        raise InputError(
            f"expected a place outside the images, got {near(wanted)}, inside {inside}: give another --out, or leave "
            "it out"
        )
    return wanted


def _answers(saved: SavedModel, engine: str, precision: str) -> Answers:
    """The logits of the whole network on the engine of choice."""
    network = saved.network
    whole, _ = network.split(network.cuts[-1])
    running = open_engine(for_answers(choose(engine, precision), network, precision), whole, saved.preprocessing)

    def answer(pixels: Tensor) -> Tensor:
        parts = (Batch(np.arange(len(part)), part, {}) for part in pixels.split(32))
        return torch.cat([logits.float() for _, logits in running.run(parts)])

    return answer


def _write(made: Explanations) -> None:
    made.folder.mkdir(parents=True, exist_ok=True)
    for number, each in enumerate(made.explanations, start=1):
        png = as_png(overlay(each.pixels, each.map))
        write_aside(made.folder / f"{number:03}.png", lambda file, png=png: file.write(png))  # type: ignore[misc]
    write_json(made.folder / VALUES_FILE, made.to_dict())
    telling = sum(each.tells is True for each in made.explanations)
    tested = sum(each.tells is not None for each in made.explanations)
    page = render_page(
        f"Explanations of {made.run.name}",
        (
            f"{counted(len(made.explanations), 'image')}"
            + (f"; {telling} of {counted(tested, 'map tells', 'maps tell')}" if tested else "; maps were not tested"),
            *made.notes,
            *(f"skipped {name}: {reason}" for name, reason in made.skipped.items()),
        ),
        [explanation_section(each) for each in made.explanations],
    )
    # The page last: where it is, all that it speaks of is there too.
    write_aside(made.folder / PAGE_FILE, lambda file: file.write(page))
