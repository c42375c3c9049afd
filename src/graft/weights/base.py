"""Bases: a network with weights, and what travels with them. `--base` is resolved here."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from graft.errors import InputError, WeightsError, did_you_mean
from graft.images.preprocessing import Preprocessing
from graft.models.catalog import CATALOG
from graft.models.cuts import LAST
from graft.models.network import Network
from graft.progress import NOBODY, Reporter
from graft.seeding import seeded
from graft.weights.architectures import Architecture, is_timm, resolve
from graft.weights.calibration import Calibration
from graft.weights.download import Download, fetch
from graft.weights.file import WeightFile, read_weights
from graft.weights.filling import fill, unfilled
from graft.weights.foreign import foreign_folder
from graft.weights.hub import fetch_from_hub
from graft.weights.identifying import identify
from graft.weights.matching import Match
from graft.weights.metadata import (
    BY_METADATA,
    BY_SCRIPT,
    named_by_script,
    notes_on_images,
    read_classes,
    stated_classes,
    stated_temperature,
    with_numbers,
    with_preprocessing,
)
from graft.weights.packaged import Packaged, find_packaged
from graft.weights.published_folder import folder_metadata, weights_of_folder
from graft.weights.saved import ARGUMENTS_FILE, Outputs, load_model, model_folder, thresholds_in
from graft.words import counted, first_few

BUNDLED = Path(__file__).resolve().parents[1] / "bundled"
BUNDLED_BASES = ("latin_letters",)
WEIGHT_ENDINGS = (".safetensors", ".pth", ".pt", ".th")
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Base:
    """A network to start from, in evaluation mode, and the preprocessing that its weights expect.

    `classes` names the outputs of its head, None if unknown; when several outputs count for one class, `outputs` lists
    them for every class. `has_head` is False for weights without a classifier, `pretrained` is False for a random
    start. `notes` say what was assumed because the weights do not state it. `temperature` divides the logits of a
    calibrated classifier.
    """

    name: str
    network: Network
    preprocessing: Preprocessing
    classes: tuple[str, ...] | None
    has_head: bool
    pretrained: bool
    notes: tuple[str, ...] = ()
    outputs: Outputs | None = None
    temperature: float = 1.0
    # For a multi-label classifier: the probability from which each label is given.
    thresholds: tuple[float, ...] | None = None
    # What held-out images told of a classifier that graft saved, which holds for its own classes.
    calibration: Calibration | None = None
    # For a file of weights: which values of its preprocessing it states, and whether its metadata or a script does.
    origins: Mapping[str, str] | None = None
    # The names of the tensors of a head that is no linear layer, and so was left out.
    other_head: tuple[str, ...] = ()

    @property
    def without_classifier(self) -> str:
        """What keeps a base without a head, or without names for its classes, from answering, in words."""
        if self.has_head:
            return "no names for its classes"
        if not self.other_head:
            return "no classifier"
        return f"a head that is not one linear layer on its features and is left out ({first_few(self.other_head)})"


def load_base(
    base: str,
    *,
    architecture: Architecture | str | None = None,
    classes_file: Path | None = None,
    stated: frozenset[str] = frozenset(),
    reporter: Reporter = NOBODY,
) -> Base:
    """Return the base that `base` names.

    base: a weight file (`.safetensors`, `.pth`, `.pt`, `.th`), a run folder or its `model/`, `hf:owner/name`, a
        bundled base (`latin_letters`), an architecture whose weights are published, or `timm:NAME[.TAG]`.
    architecture: the architecture of the weights, resolved or as a name that `resolve` takes; by default it is read
        from the weights' metadata or recognized from their tensors.
    classes_file: a JSON list of names for the outputs, instead of the names that come with the weights.
    stated: which of "mean" and "input_size" the caller sets himself, so that no note says what is assumed.
    reporter: receives the number of bytes downloaded.

    Raises InputError for an unknown architecture name, WeightsError for weights that are absent, damaged or of another
    architecture, FetchError for what cannot be downloaded.
    """
    wanted = resolve(architecture) if isinstance(architecture, str) else architecture
    path, named = _locate(base, reporter)
    if path.is_dir():
        saved = _from_saved(path, base)
        _refuse_stated(saved, wanted, classes_file)
        return saved
    file = _read_file(path, named)
    found = identify(file, wanted or named)
    classes = read_classes(classes_file) if classes_file else stated_classes(file.metadata, path.parent)
    if classes is None and found.has_head:
        classes = named_by_script(file.script_classes, found.config.classes)
        if classes is not None:
            file = replace(file, notes=(*file.notes, _note_on_classes(classes, file.source)))
    return _from_file(base, file, found, classes, published=named is not None, stated=stated)


def _note_on_classes(classes: tuple[str, ...], source: str) -> str:
    shown = ", ".join([*classes[:4], *(["…"] if len(classes) > 4 else [])])
    return f"the names of the {counted(len(classes), 'class', 'classes')} ({shown}) were taken from {source}"


def _refuse_stated(saved: Base, stated: Architecture | None, classes_file: Path | None) -> None:
    """Raise InputError where the architecture or the names of classes are stated for a run, which has its own."""
    if classes_file is not None:
        raise InputError(
            f"expected no --classes for the run {saved.name}, which names its classes, got {classes_file}: leave it out"
        )
    own = saved.network.config.architecture
    if stated is not None and stated.name != own:
        raise InputError(f"expected no --arch for the run {saved.name}, of {own}, got {stated.name}: leave it out")


def untrained_base(base: str, *, architecture: str | None = None, seed: int = 0) -> Base:
    """Return the architecture of `base` with a random start drawn from `seed`.

    `base` and `architecture` are as for `load_base`. For a name, nothing is fetched; a file or a folder is read for its
    numbers and its preprocessing. Raises what `load_base` raises.
    """
    known = resolve(architecture) if architecture else _named(base)
    if known is not None:
        config, preprocessing = known.config, known.preprocessing
    else:
        with seeded(seed):
            started = load_base(base)
        config, preprocessing = replace(started.network.config, head="last"), started.preprocessing
        known = resolve(config.architecture)
    with seeded(seed):
        network = known.build(config)
    return Base(base, network, preprocessing, None, has_head=False, pretrained=False)


def with_usual_head(base: Base) -> Base:
    """Return the base as levels that cut between stages need it.

    A head over all stages is replaced, in place, by a usual one with a random start. Any other base is returned
    unchanged.
    """
    if base.network.config.head == LAST:
        return base
    with seeded(0):
        base.network.new_head(base.network.config.classes)
    return replace(base, classes=None, outputs=None, has_head=False)


def _named(base: str) -> Architecture | None:
    """Return the architecture that `base` names, unless there is a file of that name."""
    if is_timm(base) or (base in CATALOG and not Path(base).exists()):
        return resolve(base)
    return None


def _locate(base: str, reporter: Reporter) -> tuple[Path, Architecture | None]:
    """Return the location of `base` on this machine, fetched if needed: a graft model folder, or a weight file.

    Also returns the architecture, if `base` names one.
    """
    if base.startswith("hf:"):
        return _fetch(base.removeprefix("hf:"), reporter), None
    if base in BUNDLED_BASES:
        return BUNDLED / f"{base}.safetensors", None
    named = _named(base)
    if named is not None:
        if named.published is None:
            raise WeightsError(
                f"expected an architecture with published weights, got {base!r}, for which no file with a known digest "
                f"is published: give a file of its weights with --base FILE --arch {named.name}, or start at random "
                "with --level scratch"
            )
        return _fetch(named.published, reporter), named
    path = Path(base).expanduser()
    if path.is_dir():
        return weights_of_folder(path) or _model_folder(path), None
    if not path.exists():
        what = f"expected a file of weights, a run folder, hf:owner/name or the name of a base, got {base!r}"
        if path.name != base or path.suffix in WEIGHT_ENDINGS:
            raise WeightsError(f"{what}, which does not exist: check the path")
        near = did_you_mean(base, [*BUNDLED_BASES, *CATALOG])
        raise WeightsError(
            f"{what}, which is no known name and does not exist{near}: check the path; `graft models` lists the names"
        )
    return path, None


def _model_folder(path: Path) -> Path:
    try:
        return model_folder(path)
    except InputError:
        what = None if (path / ARGUMENTS_FILE).is_file() else foreign_folder(path)
        if what is None:
            raise
    raise WeightsError(f"expected a run folder, or one of weights, got {str(path)!r}, which is {what}")


def _fetch(source: Packaged | Download | str, reporter: Reporter) -> Path:
    """Return a package's file, a downloaded file, or a Hub repository's content.

    For a repository, that is the model folder that graft saved, else its weights.
    """
    if isinstance(source, Packaged):
        return find_packaged(source)
    if isinstance(source, Download):
        return fetch(source, reporter)
    folder = fetch_from_hub(source, reporter)
    return weights_of_folder(folder) or folder


def _read_file(path: Path, named: Architecture | None) -> WeightFile:
    """Read a weight file, with what is known of a packaged one or what a published `config.json` beside it says."""
    file = read_weights(path)
    if named is not None and isinstance(named.published, Packaged):
        return replace(file, metadata=named.published.metadata)
    return replace(file, metadata={**file.metadata, **folder_metadata(path)})


def _from_saved(folder: Path, name: str) -> Base:
    saved = load_model(folder)
    base = Base(name, saved.network, saved.preprocessing, saved.classes, has_head=True, pretrained=True)
    base = replace(base, outputs=saved.outputs, temperature=saved.temperature, thresholds=saved.thresholds)
    return replace(base, calibration=saved.calibration)


def _from_file(
    name: str,
    file: WeightFile,
    found: Match,
    classes: tuple[str, ...] | None,
    *,
    published: bool,
    stated: frozenset[str],
) -> Base:
    architecture, metadata = found.architecture, file.metadata
    config = with_numbers(found.config, metadata)
    by_script = {} if published else file.script_images.metadata(config.channels)
    metadata = {**by_script, **metadata}
    network = unfilled(architecture, config)
    fill(network, found.tensors, found, file.source)
    notes = [*file.notes, *found.notes]
    if not found.has_head:
        classes = None
    elif classes is None:
        classes = _usual_classes(architecture, config.classes)
        if classes is CIFAR10_CLASSES:
            notes.append(f"{file.source} names no classes; those of CIFAR-10, in their usual order, were assumed")
        elif classes is not None and not published:
            notes.append(
                f"{file.source} names no classes; its 1,000 outputs were taken for ImageNet's classes in their usual "
                "order"
            )
    if classes is not None and len(classes) != config.classes:
        raise WeightsError(
            f"expected a name for each of the {config.classes} outputs of {file.source}, got {len(classes)}: "
            "give the right list with --classes"
        )
    if config.channels not in (1, 3):
        notes.append(
            f"{file.source} is for images of {config.channels} channels; graft gives it color in the first three and "
            "a middle gray in the rest"
            if config.channels > 3
            else f"{file.source} is for images of 2 channels; graft gives it the gray image in both"
        )
    if metadata.get("interpolation", "bilinear") != "bilinear":
        notes.append(
            f"{name} was trained on images resized by {metadata['interpolation']} interpolation; graft's is bilinear"
        )
    preprocessing = with_preprocessing(architecture.preprocessing, metadata, config.channels)
    if not published:
        notes += notes_on_images(file.source, preprocessing, metadata, by_script, stated)
    temperature = stated_temperature(metadata) if found.has_head else 1.0
    base = Base(name, network.eval(), preprocessing, classes, found.has_head, True, tuple(notes))
    # For graft's own bases and published ones, it is known how images are prepared.
    origins = None
    if not published and name not in BUNDLED_BASES:
        origins = {key: BY_SCRIPT if key in by_script else BY_METADATA for key in metadata}
    thresholds = thresholds_in(metadata, config.classes)
    base = replace(base, temperature=temperature, thresholds=thresholds)
    return replace(base, origins=origins, other_head=found.other_head)


def _usual_classes(architecture: Architecture, outputs: int) -> tuple[str, ...] | None:
    """Return the usual class names of a head with this many outputs, None if there is no such convention."""
    if outputs == 1000:
        return read_classes(BUNDLED / "imagenet_classes.json")
    if outputs == 10 and architecture.input_size == (3, 32, 32):
        return CIFAR10_CLASSES
    return None
