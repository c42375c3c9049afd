"""Show what a network has learned, on one page: first filters, stages compared with another's, what channels respond
to.
"""

import time
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from graft.accounting.counting import account
from graft.data.dataset import Images, together
from graft.errors import CutError, GraftError, InputError
from graft.explanation.channels import Favourites, check_stage, favourites, filters_moved, first_filters, stage_section
from graft.explanation.class_maps import stages_with_maps
from graft.explanation.page import (
    Section,
    favourites_section,
    filters_section,
    render_page,
    similarity_section,
)
from graft.explanation.similarity import FEWEST, Similarity, compare_stages
from graft.files import write_aside, write_json
from graft.given import path, text, whole_number
from graft.progress import Reporter, reporting
from graft.seeding import check_seed
from graft.torch_modes import in_own_modes
from graft.training.task import sample
from graft.weights.base import Base
from graft.weights.model_files import refuse_several_labels
from graft.weights.saved import SavedModel, load_model
from graft.words import counted
from graft.workflows.arguments import base_of, read_arguments
from graft.workflows.explain import PAGE_FILE, VALUES_FILE, home_of, place_for
from graft.workflows.own_images import trained_images
from graft.workflows.prepare import load_start
from graft.workflows.run import near

# This many images of the run show what its network sees; more change little and take proportionally longer.
MOST_IMAGES = 256


@dataclass(frozen=True, repr=False)
class NetworkExplanation:
    """What was written to `folder`; the notes say what could not be made, and why.

    `filters_moved` is how far training moved the first layer's filters, relative to their length. `similarity` compares
    the stages, one by one, with those of `other`.
    """

    run: Path
    folder: Path
    filters_moved: float | None
    other: str | None
    similarity: Similarity | None
    favourites: tuple[Favourites, ...]
    notes: tuple[str, ...]
    seconds: float

    def __repr__(self) -> str:
        moved = None if self.filters_moved is None else round(self.filters_moved, 3)
        return f"NetworkExplanation({near(self.folder)!r}, filters_moved={moved}, other={self.other!r})"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that `graft explain --json` prints and that is written beside the page."""
        return {
            "run": near(self.run),
            "folder": near(self.folder),
            "filters_moved": self.filters_moved,
            "other": self.other,
            "similarity": self.similarity and self.similarity.to_dict(),
            "favourites": [each.to_dict() for each in self.favourites],
            "notes": list(self.notes),
            "seconds": {"total": self.seconds},
        }


@in_own_modes
def explain_network(
    run: str | PathLike[str],
    *,
    out: str | Path | None = None,
    features: str | None = None,
    channels: list[int] | tuple[int, ...] | None = None,
    against: str | Path | None = None,
    seed: int = 0,
    reporter: Reporter | None = None,
    quiet: bool = False,
) -> NetworkExplanation:
    """Show what the network in `run`, a run folder or its `model/`, has learned.

    The page shows the filters of its first layer before and after training; how similarly its stages and those of
    `against` (a base or a run, by default its own base) see the images of the run; and which of these images excite
    `channels` of the stage `features` (by default the last with maps) most. Anything that needs a missing base or
    missing images is left out, with a note. `out` is as for `explain`. Raises InputError and its subclasses for an
    invalid call.
    """
    started = time.perf_counter()
    seed = check_seed(seed)
    home, model = home_of(path(run, "RUN"))
    with reporting(reporter, quiet) as told:
        saved = load_model(model)
        refuse_several_labels(saved.thresholds is not None, "an explanation")
        stage = stages_with_maps(saved.network)[-1] if features is None else text(features, "--features")
        check_stage(saved.network, stage)
        if channels is not None:
            channels = _checked(channels, saved, stage)
        images, notes = _images(home, saved, seed)
        folder = place_for(home, out, images)
        base, more = _base(home, saved)
        notes += more
        other = base
        if against is not None:
            other = load_start(path(against, "--against"), reporter=told)
        before, after = None if base is None else first_filters(base.network), first_filters(saved.network)
        similarity, liked = None, []
        if images is not None:
            if other is not None and len(images) >= FEWEST:
                similarity = compare_stages(saved, other, images, told)
            seen = account(stage_section(saved.network, stage), _shape(saved)).outputs[""].receptive_field
            liked = favourites(saved, images, stage, seen, channels=channels, reporter=told)
        name = None if similarity is None or other is None else Path(other.name).name
        seconds = time.perf_counter() - started
        made = NetworkExplanation(
            home, folder, filters_moved(before, after), name, similarity, tuple(liked), notes, seconds
        )
        sections = [
            filters_section(before, after),
            *([] if similarity is None else [similarity_section(similarity, name or "the other")]),
            *map(favourites_section, liked),
        ]
        try:
            _write(made, sections, saved, images)
        except OSError as error:
            raise GraftError(
                f"expected to write the explanation to {near(folder)}, got {error.strerror or error}: free space "
                "there, make it writable, or give another --out"
            ) from error
    return made


def _images(home: Path, saved: SavedModel, seed: int) -> tuple[Images | None, tuple[str, ...]]:
    try:
        found = trained_images(home, saved.classes, "to see what the network does with", "use the run that it is from")
    except InputError as error:
        return None, (f"only the filters are shown: {error}",)
    return sample(together(found.values()), seed, MOST_IMAGES), ()


def _base(home: Path, saved: SavedModel) -> tuple[Base | None, tuple[str, ...]]:
    """Return the network as it was before training, with its current preprocessing."""
    try:
        arguments = read_arguments(home)
        options = base_of(arguments, saved.preprocessing.size)
        return load_start(options, scratch=arguments.level == "scratch", seed=arguments.seed), ()
    except GraftError as error:
        return None, (f"the network before training is not shown: {error}",)


def _checked(channels: list[int] | tuple[int, ...], saved: SavedModel, stage: str) -> tuple[int, ...]:
    width = next(each.channels for each in saved.network.stages if each.name == stage)
    given = tuple(whole_number(each, "--channels", 0, width - 1, f"{stage} has {width:,}") for each in channels)
    if not given:
        raise CutError(f"expected channels of {stage}, got none: name one or more, or leave --channels out")
    return given


def _shape(saved: SavedModel) -> tuple[int, int, int]:
    side = saved.preprocessing.size
    return saved.preprocessing.channels, side, side


def _write(made: NetworkExplanation, sections: list[Section], saved: SavedModel, images: Images | None) -> None:
    made.folder.mkdir(parents=True, exist_ok=True)
    write_json(made.folder / VALUES_FILE, made.to_dict())
    shown = () if images is None else (f"on {counted(len(images), 'image')} that it was trained on",)
    summary = (f"{saved.network.config.architecture}, {counted(len(saved.classes), 'class', 'classes')}", *shown)
    page = render_page(f"What {made.run.name} has learned", (*summary, *made.notes), sections)
    write_aside(made.folder / PAGE_FILE, lambda file: file.write(page))
