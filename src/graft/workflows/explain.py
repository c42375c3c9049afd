"""Explain a classifier's answers: an evidence map for each image, tested, on one page."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice, repeat
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graft.data.dataset import Dataset, Images, together
from graft.data.handed_over import HandedOver
from graft.data.loading import Batch, load_image
from graft.data.readers.folder import folders_of
from graft.data.unlabelled import one_image
from graft.errors import DataError, GraftError, ImageError, InputError
from graft.explanation.channels import FeatureMaps, check_stage, feature_maps
from graft.explanation.explaining import AUTOMATIC, Explanation, MapOptions, as_rgb, decoded, explain_images
from graft.explanation.model import Answers
from graft.explanation.neighbours import Neighbour, nearest_training_images
from graft.explanation.overlay import as_png, overlay, thumbnail
from graft.explanation.page import Figure, explanation_section, maps_figure, render_page
from graft.features.engine import choose, for_answers, open_engine
from graft.files import write_aside, write_json
from graft.given import path, text, truth, whole_number, with_hints
from graft.progress import Reporter, reporting
from graft.seeding import check_seed
from graft.serving.gathering import STDIN, gather
from graft.serving.handed import one_by_one
from graft.torch_modes import in_own_modes
from graft.weights.model_files import is_on_hub, refuse_several_labels
from graft.weights.saved import ARGUMENTS_FILE, SavedModel, load_model, model_folder
from graft.words import counted
from graft.workflows.arguments import read_arguments
from graft.workflows.deciding import choice_of
from graft.workflows.own_images import trained_images
from graft.workflows.run import near

PAGE_FILE, VALUES_FILE = "index.html", "explanations.json"
# Each image takes about 60 KB of the page, and its tests a few seconds.
MOST_IMAGES = 200


@dataclass(frozen=True, repr=False)
class Explanations:
    """What was written to `folder`: for every image a map, whether it passes its tests, and what else was asked for."""

    run: Path
    folder: Path
    explanations: tuple[Explanation, ...]
    # For each image, the most similar training images; empty if not asked for or no longer there.
    nearest: tuple[tuple[Neighbour, ...], ...]
    # For each image, the maps of a stage's most active channels, if asked for.
    features: tuple[FeatureMaps, ...]
    skipped: dict[str, str]
    notes: tuple[str, ...]
    seconds: float

    def __repr__(self) -> str:
        return f"Explanations({near(self.folder)!r}, {counted(len(self.explanations), 'image')})"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that `graft explain --json` prints and that is written beside the page."""
        return {
            "run": near(self.run),
            "folder": near(self.folder),
            "images": [
                {**each.to_dict(), "nearest": [one.to_dict() for one in near_to_it]}
                for each, near_to_it in zip(self.explanations, self.nearest, strict=True)
            ],
            **({"features": [each.to_dict() for each in self.features]} if self.features else {}),
            "skipped": self.skipped,
            "notes": list(self.notes),
            "seconds": {"total": self.seconds},
        }


@with_hints(MapOptions)
@in_own_modes
def explain(
    run: str | PathLike[str],
    images: Any,
    *,
    out: str | Path | None = None,
    maps: MapOptions = AUTOMATIC,
    nearest: int = 5,
    features: str | None = None,
    engine: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    reporter: Reporter | None = None,
    quiet: bool = False,
) -> Explanations:
    """Show where in each image the evidence for its class lies, and whether the map passes its tests.

    `run` is a run folder or its `model/`; `images` are files, folders, patterns, addresses or archives, or what
    `Classifier.predict` takes besides: PIL images, arrays, tensors, a `graft.Dataset`.

    The page shows beside each image its `nearest` training images, if the data of the run are still there, and the maps
    of the most active channels of the stage `features`. `out` is a new folder, by default `explanations/1` in the run,
    then `explanations/2` and so on; nothing is written among the images. Raises InputError for an invalid call,
    DataError if no image can be read.
    """
    started = time.perf_counter()
    seed, maps = check_seed(seed), _checked(maps)
    nearest = whole_number(nearest, "--nearest", 0, 50, "5 is usual")
    home, model = home_of(path(run, "RUN"))
    given = images_named(images)
    folder = place_for(home, out, given)
    with reporting(reporter, quiet) as told:
        saved = load_model(model)
        refuse_several_labels(saved.thresholds is not None, "an explanation")
        if features is not None:
            check_stage(saved.network, text(features, "--features"))
        found = explain_images(
            saved,
            given,
            maps,
            answers=answers_on(saved, engine, precision),
            seed=seed,
            reporter=told,
        )
        if not found.explanations:
            name, reason = next(iter(found.skipped.items()))
            raise DataError(
                f"expected images to explain, got {counted(len(given), 'file')}, none of which could be decoded "
                f"({name}: {reason}): give others"
            )
        training, notes = _training(home, saved, nearest)
        alike: list[tuple[Neighbour, ...]] = [()] * len(found.explanations)
        if training:
            choice = choice_of(read_arguments(home)) if engine == precision == "auto" else choose(engine, precision)
            shown = given.take(found.rows)
            alike = nearest_training_images(saved, shown, training, choice, count=nearest, reporter=told)
        seen: list[FeatureMaps] = []
        if features is not None:
            seen = feature_maps(saved, decoded(saved, given.take(found.rows))[0], features)
        seconds = time.perf_counter() - started
        made = Explanations(home, folder, found.explanations, tuple(alike), tuple(seen), found.skipped, notes, seconds)
        try:
            _write(made, saved, training)
        except OSError as error:
            raise GraftError(
                f"expected to write the explanations to {near(folder)}, got {error.strerror or error}: free space "
                "there, make it writable, or give another --out"
            ) from error
    return made


def _checked(maps: MapOptions) -> MapOptions:
    """Return the options in plain Python values. Raises InputError for values of the wrong type."""
    if not isinstance(maps, MapOptions):
        raise InputError(
            f"expected graft.MapOptions for maps, got {type(maps).__name__}: leave it out, or give graft.MapOptions"
        )
    return MapOptions(
        text(maps.method, "--method"),
        None if maps.stage is None else text(maps.stage, "--stage"),
        None if maps.of_class is None else text(maps.of_class, "--class"),
        truth(maps.test, "--test"),
    )


def images_named(named: Any) -> Images:
    """Return the images that one or more names stand for, or that were handed over as `Classifier.predict` takes them.

    Raises InputError for none, or too many to look at.
    """
    if not _are_names(named):
        return _few_enough(_handed_over(named))
    several = [named] if isinstance(named, str | Path) else list(named)
    names = [path(each, "the images") for each in several]
    if STDIN in names:
        raise InputError(
            "expected the names of images to explain, got - for a list on stdin: give the names themselves"
        )
    parts = gather(names).parts
    known = [part if isinstance(part, Images) else together(map(one_image, part)) for part in parts]
    if not sum(map(len, known)):
        raise InputError(f"expected images to explain, got {', '.join(names)[:200]} without any: name others")
    return _few_enough(together(known))


def _are_names(named: Any) -> bool:
    several = named if isinstance(named, list | tuple) else [named]
    return bool(several) and all(isinstance(each, str | Path) for each in several)


def _handed_over(given: Any) -> Images:
    """Return images that are values, or paths among such; the stamps of values tell by their pixels which they are."""
    if isinstance(given, Dataset) and given.splits:
        return together(given.splits.values())
    # One more than may be explained tells that there are too many, even of an endless iterator.
    things = [*islice(one_by_one(given), MOST_IMAGES + 1)]
    if not things:
        raise InputError("expected images to explain, got none: name one or more")
    source = HandedOver(things)
    return Images(source, np.arange(len(things)), np.full(len(things), -1, np.int64))


def _few_enough(found: Images) -> Images:
    if len(found) > MOST_IMAGES:
        # What was handed over is not gone through further than this, so how many there are is not known.
        count = "more" if isinstance(found.source, HandedOver) else f"{len(found):,}"
        raise InputError(f"expected at most {MOST_IMAGES} images to explain, got {count}: name those that matter")
    return found


def home_of(run: str) -> tuple[Path, Path]:
    """Return the run folder, or the model folder if no run surrounds it, and the model folder, both absolute.

    A model from the Hub lies in a cache, where nothing is written, so the working directory replaces its run folder.
    """
    model = model_folder(Path(run).expanduser()).absolute()
    if is_on_hub(Path(run)):
        return Path.cwd(), model
    return model.parent if (model.parent / ARGUMENTS_FILE).is_file() else model, model


def place_for(home: Path, out: str | Path | None, images: Images | None) -> Path:
    """Return a new or empty folder to write to. Raises InputError if `out` is not empty or lies among the images."""
    if out is None:
        taken = home / "explanations"
        return next(each for number in range(1, 10**6) if not (each := taken / str(number)).exists())
    wanted = Path(path(out, "--out")).expanduser().absolute()
    if wanted.exists() and (not wanted.is_dir() or any(wanted.iterdir())):
        raise InputError(
            f"expected a new or empty folder for --out, got {near(wanted)}, which is not empty: give another"
        )
    holding = folders_of([] if images is None else [images.source])
    inside = next((each for each in map(str, (wanted, *wanted.parents)) if each in holding), None)
    if inside is not None:
        raise InputError(
            f"expected a place outside the images, got {near(wanted)}, inside {inside}: give another --out, or leave "
            "it out"
        )
    return wanted


def answers_on(saved: SavedModel, engine: str, precision: str) -> Answers:
    """Return a function that computes the logits of the whole network on the chosen engine."""
    network = saved.network
    whole, _ = network.split(network.cuts[-1])
    running = open_engine(for_answers(choose(engine, precision), network, precision), whole, saved.preprocessing)

    def answer(pixels: Tensor) -> Tensor:
        parts = (Batch(np.arange(len(part)), part, {}) for part in pixels.split(32))
        return torch.cat([logits.float() for _, logits in running.run(parts)])

    return answer


def _training(home: Path, saved: SavedModel, count: int) -> tuple[dict[str, Images], tuple[str, ...]]:
    """Return the classifier's training images by split, or a note that says why they are missing."""
    if not count:
        return {}, ()
    try:
        return trained_images(home, saved.classes, "to find the nearest in", "leave them out with --nearest 0"), ()
    except InputError as error:
        return {}, (f"nearest training images are not shown: {error}",)


def _figures(
    nearest: tuple[Neighbour, ...], saved: SavedModel, training: Mapping[str, Images], folder: Path
) -> list[Figure]:
    """Return training images as the network sees them, each with its label and, if it is a file, a link."""
    found = []
    for each in nearest:
        images = training[each.split]
        try:
            square = load_image(images, each.index, saved.preprocessing)
        except ImageError:
            pixels = None
        else:
            pixels = thumbnail(as_rgb(square[None])[0])
        caption = f"training image, {each.label or 'no label'}, likeness {each.likeness:.2f}"
        found.append(
            Figure(pixels, each.path, caption, _link(images.source.name(int(images.rows[each.index])), folder))
        )
    return found


def _link(name: str, folder: Path) -> str | None:
    """Return the relative link from the page in `folder` to a file; it reveals nothing about this machine."""
    if not Path(name).is_file():
        return None
    from_here = PurePosixPath("/", os.path.relpath(Path(name).absolute(), folder))
    # Percent-encoded like any address.
    return f"./{from_here.as_uri().removeprefix('file:///')}"


def _write(made: Explanations, saved: SavedModel, training: Mapping[str, Images]) -> None:
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
            + (
                f"; {telling} of {counted(tested, 'map passes its', 'maps pass their')} tests: what they mark is what "
                "the answers rest on, whether right or wrong"
                if tested
                else "; maps were not tested"
            ),
            *made.notes,
            *(f"skipped {name}: {reason}" for name, reason in made.skipped.items()),
        ),
        [
            explanation_section(each, [*map(maps_figure, seen), *_figures(alike, saved, training, made.folder)])
            for each, seen, alike in zip(
                made.explanations, [[one] for one in made.features] or repeat([]), made.nearest, strict=False
            )
        ],
    )
    # The page is written last: once it exists, so does everything it refers to.
    write_aside(made.folder / PAGE_FILE, lambda file: file.write(page))
