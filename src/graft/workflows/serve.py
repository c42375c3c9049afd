"""A run over HTTP, with some of its own images to try on the page where that is asked for."""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from graft.errors import ImageError
from graft.given import path
from graft.names import plain
from graft.serving.server import Example, Listening
from graft.serving.server import serve as listen
from graft.serving.settings import Access, Serving
from graft.weights.model_files import is_on_hub, model_folder

# How exported files end: `graft.export.running` knows it too, but brings torch, which this process does without.
EXPORTED = (".onnx", ".xml")
EXAMPLES = 8
# The longer side of an example, px, and its quality as JPEG.
EXAMPLE_SIDE, EXAMPLE_QUALITY = 512, 90
# What a folder or file is called that says nothing of the model in it.
NAMELESS = ("model", "export")


def serve(
    serving: Serving,
    access: Access | None = None,
    *,
    examples: bool = False,
    started: Callable[[Listening], None] = lambda listening: None,
    quiet: bool = False,
) -> None:
    """Answer over HTTP with the classifier in `serving.run`, a run folder, its `model/` or an exported file.

    Without a name it is called as its run. With `examples` the page offers some of the run's validation images.
    Returns after SIGTERM or SIGINT, when what had come is answered. `started` is called once requests are answered.
    Raises InputError for what cannot be served, WeightsError for a model that does not fit, DataError where examples
    are asked for and none are there.
    """
    place = Path(path(serving.run, "RUN")).expanduser()
    if is_on_hub(place):
        # Fetched once, and not by every worker. Called as it is there.
        serving = replace(serving, name=serving.name or plain(place.name.partition("@")[0]))
        place = model_folder(place)
    place = place.absolute()
    serving = replace(serving, run=str(place), name=serving.name or name_of(place))
    exported = place.suffix.lower() in EXPORTED
    if exported and serving.precision == "float32":
        # An exported file has a precision of its own, which is this one.
        serving = replace(serving, precision="auto")
    offered = _examples(place, exported) if examples else ()
    listen(serving, access or Access(), offered, started=started, quiet=quiet)


def name_of(place: Path) -> str:
    """What a model is called: as its run folder, or as its file."""
    while place.stem in NAMELESS and place.parent.name:
        place = place.parent
    return plain(place.stem if place.suffix in EXPORTED else place.name) or "model"


def _examples(place: Path, exported: bool) -> tuple[Example, ...]:
    """Images of the run's val, of as many classes as there are, upright, small, and without what a camera wrote."""
    # Torch comes with these, and only examples need it in this process.
    from graft.serving.exported import whole_pixels
    from graft.weights.saved import load_model
    from graft.workflows.own_images import images_of_run

    folder = place if exported else model_folder(place).parent
    _, dataset, images = images_of_run(folder, "to show", "leave --examples out")
    levels = load_model(model_folder(place)).preprocessing.levels
    found = []
    for index in _of_many_classes(images.labels.tolist()):
        try:
            pixels = whole_pixels(images.read(index), levels)
        except (ImageError, OSError):
            continue
        found.append(Example(dataset.classes[images.labels[index]], _small_jpeg(pixels)))
        if len(found) == EXAMPLES:
            break
    return tuple(found)


def _of_many_classes(labels: list[int]) -> Iterator[int]:
    """Places of labels: the first of every class, then the second of every class, and so on."""
    seen: dict[int, int] = {}
    ranks = []
    for label in labels:
        seen[label] = seen.get(label, -1) + 1
        ranks.append(seen[label])
    yield from sorted(range(len(labels)), key=lambda place: (ranks[place], place))


def _small_jpeg(pixels: np.ndarray) -> bytes:
    image = Image.fromarray(pixels)
    image.thumbnail((EXAMPLE_SIDE, EXAMPLE_SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=EXAMPLE_QUALITY)
    return file.getvalue()
