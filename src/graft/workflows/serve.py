"""A run over HTTP, with some of its own images to try on the page where that is asked for."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from graft.data.dataset import VAL
from graft.errors import DataError, ImageError, InputError
from graft.given import path
from graft.names import plain
from graft.serving.server import Example, Listening
from graft.serving.server import serve as listen
from graft.serving.settings import Access, Limits, Serving

EXAMPLES = 8
# The longer side of an example, px, and its quality as JPEG.
EXAMPLE_SIDE, EXAMPLE_QUALITY = 512, 90
# What a folder or file is called that says nothing of the model in it.
NAMELESS = ("model", "export")


@dataclass(frozen=True)
class ServeOptions:
    """How a model is served: under which name, by default its run's, and how it is computed.

    `max_wait` is in seconds; with `examples` the page offers some of the run's validation images.
    """

    name: str | None = None
    engine: str = "auto"
    precision: str = "float32"
    workers: int = 1
    max_batch: int = 32
    max_wait: float = 0.005
    examples: bool = False


def serve(
    run: str | Path,
    options: ServeOptions | None = None,
    access: Access | None = None,
    limits: Limits | None = None,
    *,
    started: Callable[[Listening], None] = lambda listening: None,
    quiet: bool = False,
) -> None:
    """Answer over HTTP with the classifier in `run`, a run folder, its `model/` or an exported file.

    Returns after SIGTERM or SIGINT, when what had come is answered. `started` is called once requests are answered.
    Raises InputError for what cannot be served, WeightsError for a model that does not fit, DataError where examples
    are asked for and none are there.
    """
    options, access, limits = options or ServeOptions(), access or Access(), limits or Limits()
    place = Path(path(run, "RUN")).expanduser().absolute()
    exported = place.suffix.lower() in (".onnx", ".xml")
    serving = Serving(
        str(place),
        options.name or name_of(place),
        options.engine,
        # An exported file has its own, which is float32.
        "auto" if exported and options.precision == "float32" else options.precision,
        options.workers,
        options.max_batch,
        options.max_wait,
        limits,
    )
    listen(serving, access, _examples(place, exported) if options.examples else (), started=started, quiet=quiet)


def name_of(place: Path) -> str:
    """What a model is called: as its run folder, or as its file."""
    while place.stem in NAMELESS and place.parent.name:
        place = place.parent
    return plain(place.stem if place.suffix in (".onnx", ".xml") else place.name) or "model"


def _examples(place: Path, exported: bool) -> tuple[Example, ...]:
    """Images of the run's val, of as many classes as there are, upright, small, and without what a camera wrote."""
    from graft.weights.saved import ARGUMENTS_FILE, model_folder
    from graft.workflows.arguments import read_arguments
    from graft.workflows.prepare import DataOptions, open_images
    from graft.workflows.run import SPLIT_FILE

    folder = place if exported else model_folder(place).parent
    if not (folder / ARGUMENTS_FILE).is_file():
        raise InputError(
            f"expected a run folder for --examples, got {str(place)!r}, which does not say what it was trained on: "
            "leave --examples out"
        )
    arguments = read_arguments(folder)
    try:
        dataset = open_images(DataOptions(arguments.data, arguments.group, folder / SPLIT_FILE, arguments.table))
    except InputError as error:
        raise DataError(f"expected the images of the run for --examples, got none ({error}): leave it out") from None
    images = dataset.splits[VAL]
    found = []
    for index in _of_many_classes(images.labels.tolist()):
        try:
            found.append(Example(dataset.classes[images.labels[index]], _small_jpeg(images.read(index))))
        except (ImageError, OSError):
            continue
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


def _small_jpeg(content: bytes | np.ndarray) -> bytes:
    from graft.images.decoding import decode

    pixels = decode(content) if isinstance(content, bytes) else content
    image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1:] == (1,) else pixels).convert("RGB")
    image.thumbnail((EXAMPLE_SIDE, EXAMPLE_SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=EXAMPLE_QUALITY)
    return file.getvalue()
