"""Serve a run over HTTP, optionally with some of its own images to try on the page."""

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
from graft.weights.model_files import gives_several_labels, is_on_hub, model_folder, refuse_several_labels

# Suffixes of exported files. `graft.export.running` has them too, but imports torch, which this process avoids.
EXPORTED = (".onnx", ".xml")
EXAMPLES = 8
# The longer side of an example in px, and its JPEG quality.
EXAMPLE_SIDE, EXAMPLE_QUALITY = 512, 90
# Names of folders or files that say nothing about the model in them.
NAMELESS = ("model", "export")


def serve(
    serving: Serving,
    access: Access | None = None,
    *,
    examples: bool = False,
    started: Callable[[Listening], None] = lambda listening: None,
    quiet: bool = False,
) -> None:
    """Serve the classifier in `serving.run`, a run folder, its `model/` or an exported file, over HTTP.

    Without a name, the model is named after its run. With `examples`, the page offers some of the run's validation
    images. `started` is called once requests are answered. Returns after SIGTERM or SIGINT, when all requests received
    are answered. Raises InputError for a run that cannot be served, WeightsError for a model that does not fit,
    DataError if examples are asked for but not available.
    """
    place = Path(path(serving.run, "RUN")).expanduser()
    if is_on_hub(place):
        # Fetched once, rather than by every worker, and named as on the Hub.
        serving = replace(serving, name=serving.name or plain(place.name.partition("@")[0]))
        place = model_folder(place)
    # Before its images are looked for; the worker asks an exported file.
    refuse_several_labels(gives_several_labels(place), "the service")
    place = place.absolute()
    serving = replace(serving, run=str(place), name=serving.name or name_of(place))
    exported = place.suffix.lower() in EXPORTED
    if exported and serving.precision == "float32":
        # An exported file has a fixed precision, which is this one.
        serving = replace(serving, precision="auto")
    offered = _examples(place, exported) if examples else ()
    listen(serving, access or Access(), offered, started=started, quiet=quiet)


def name_of(place: Path) -> str:
    """Return the name of a model: that of its run folder or of its file."""
    while place.stem in NAMELESS and place.parent.name:
        place = place.parent
    return plain(place.stem if place.suffix in EXPORTED else place.name).strip() or "model"


def _examples(place: Path, exported: bool) -> tuple[Example, ...]:
    """Return images of the run's val, from as many classes as possible: upright, small, and without camera metadata."""
    # These import torch, which this process needs only for examples.
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
        found.append(Example(dataset.label_name(int(images.labels[index])), _small_jpeg(pixels)))
        if len(found) == EXAMPLES:
            break
    return tuple(found)


def _of_many_classes(labels: list[int]) -> Iterator[int]:
    """Yield positions in `labels`: the first of every class, then the second of every class, and so on."""
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
