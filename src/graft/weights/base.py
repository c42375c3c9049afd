"""A base: a network with weights, and what travels with them. `--base` is resolved here."""

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from graft.errors import InputError, WeightsError, did_you_mean
from graft.images.preprocessing import Preprocessing
from graft.models.catalog import CATALOG
from graft.models.network import Config, Network, PaddingRule
from graft.progress import NOBODY, Reporter
from graft.weights.architectures import build, default_config, family, input_size, is_timm
from graft.weights.download import fetch
from graft.weights.file import WeightFile, read_weights
from graft.weights.hub import fetch_from_hub
from graft.weights.layouts import Match, fill, known_architecture, match, recognise
from graft.weights.saved import CONFIG_FILE, Outputs, load_model, model_folder
from graft.weights.timm_catalog import published_settings, published_weights
from graft.weights.torchvision_catalog import TORCHVISION

BUNDLED = Path(__file__).resolve().parents[1] / "bundled"
BUNDLED_BASES = ("latin_letters",)

# Families whose published weights were trained on images from -1 to 1, even where their files do not say so.
ONE_TO_ONE = ("googlenet", "inception_v3", "inception_v4", "inception_resnet_v2", "xception")
# Crop and shorter side in pixels where torchvision's weights were measured, if not 0.875.
CROP_FRACTIONS = {
    "efficientnet_b1": 240 / 256,
    "efficientnet_b3": 300 / 320,
    "efficientnet_b4": 380 / 384,
    **{f"efficientnet_b{number}": 1.0 for number in (2, 5, 6, 7)},
}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# Below this side images are used whole: nobody crops a 32 px image.
SMALL = 64


@dataclass(frozen=True)
class Base:
    """A network to start from.

    `classes` are the names of its head's outputs, None where nobody says them; where several outputs count for one
    class, `outputs` lists them for every class. `has_head` is False for weights without a classifier; `pretrained` is
    False for a random start; `notes` say what was assumed rather than stated.
    """

    name: str
    network: Network
    preprocessing: Preprocessing
    classes: tuple[str, ...] | None
    has_head: bool
    pretrained: bool
    notes: tuple[str, ...] = ()
    outputs: Outputs | None = None


def load_base(
    base: str, *, architecture: str | None = None, classes_file: Path | None = None, reporter: Reporter = NOBODY
) -> Base:
    """The base that `base` names.

    A file of weights (`.safetensors`, `.pth`, `.pt`, `.th`), a run folder or its `model/`, `hf:owner/name`, a bundled
    base (`latin_letters`), an architecture whose weights are published, or `timm:NAME[.TAG]`. The architecture of a
    file is read from its metadata or recognised from its tensors; `architecture` says it outright. `reporter` is told
    how fetching goes. Raises WeightsError, FetchError, and InputError for names that are none.
    """
    if base.startswith("hf:"):
        return _from_hub(base, fetch_from_hub(base.removeprefix("hf:"), reporter), architecture, classes_file)
    if is_timm(base):
        return _from_timm(base, architecture or base, classes_file, reporter)
    if base in BUNDLED_BASES:
        return _from_file(read_weights(BUNDLED / f"{base}.safetensors"), base, BUNDLED, architecture, classes_file)
    if base in CATALOG and not Path(base).exists():
        if base not in TORCHVISION:
            raise WeightsError(
                f"expected a base with published weights, got {base!r}, which has none: give a file of its weights, or "
                "start at random with --level scratch"
            )
        path = fetch(TORCHVISION[base], reporter)
        return _from_file(read_weights(path), base, path.parent, architecture or base, classes_file)
    path = Path(base).expanduser()
    if path.is_dir():
        folder = model_folder(path)
        if _timm_metadata(_read_config(folder)):
            # A repository of timm's on the Hub, carried over by hand.
            return _from_hub(base, folder, architecture, classes_file)
        return _from_saved(folder, base)
    if not path.exists():
        known = [*BUNDLED_BASES, *CATALOG]
        raise WeightsError(
            f"expected a file of weights, a run folder, hf:owner/name or the name of a base, got {base!r}"
            f"{did_you_mean(base, known)}: `graft models` lists the names"
        )
    return _from_file(read_weights(path), base, path.parent, architecture, classes_file)


def untrained_base(base: str, *, architecture: str | None = None, seed: int = 0) -> Base:
    """The architecture of `base` with a random start; its weights are neither needed nor, for a name, fetched."""
    if architecture or is_timm(base) or (base in CATALOG and not Path(base).exists()):
        stated = architecture or base
        config = default_config(known_architecture(stated))
        preprocessing = default_preprocessing(config.architecture, _published_metadata(stated, config.channels))
    else:
        started = load_base(base)
        config, preprocessing = started.network.config, started.preprocessing
    torch.manual_seed(seed)
    return Base(base, build(config), preprocessing, None, has_head=False, pretrained=False)


def default_preprocessing(architecture: str, metadata: dict[str, str], channels: int | None = None) -> Preprocessing:
    """What the weights say of their input; for what they leave out, the custom of their architecture.

    The custom is ImageNet's mean and deviation for colour (CIFAR checkpoints use them too), 0.5 for grey and for the
    Inception networks, and a crop of 0.875 of the shorter side but for images of 64 px and less and EfficientNets.
    """
    usual_channels, *_, usual_side = input_size(architecture)
    channels = channels or usual_channels
    half = (0.5,) * channels
    by_halves = channels != 3 or family(architecture) in ONE_TO_ONE
    try:
        size = int(metadata.get("input_size", usual_side))
        fraction = 1.0 if size <= SMALL else CROP_FRACTIONS.get(architecture, 0.875)
        values: dict[str, Any] = {
            "size": size,
            "mean": _numbers(metadata.get("mean")) or (half if by_halves else IMAGENET_MEAN),
            "std": _numbers(metadata.get("std")) or (half if by_halves else IMAGENET_STD),
            "resize_mode": metadata.get("resize_mode", metadata.get("fit", "crop")),
            "crop_fraction": float(metadata.get("crop_fraction", fraction)),
        }
    except ValueError as error:
        raise WeightsError(
            f"expected numbers for input_size, mean, std and crop_fraction in the metadata ({error}): mend them"
        ) from None
    preprocessing = Preprocessing.from_dict(values)
    if preprocessing.channels != channels:
        raise WeightsError(
            f"expected a mean for each of the network's {channels} input channel(s), got {preprocessing.channels} in "
            "the weights' metadata: mend it"
        )
    return preprocessing


def _from_file(file: WeightFile, name: str, folder: Path, architecture: str | None, classes_file: Path | None) -> Base:
    stated = architecture or file.metadata.get("architecture")
    if stated:
        found = match(file.tensors, default_config(_stated_architecture(stated, file.metadata)))
    else:
        found = recognise(file.tensors, file.source)
    found = replace(found, config=_with_rules(found.config, file.metadata))
    network = build(found.config)
    fill(network, file.tensors, found, file.source)
    notes: tuple[str, ...] = ()
    classes = _read_classes(classes_file) if classes_file else _stated_classes(file.metadata, folder)
    if not found.has_head:
        classes = None
    elif classes is None:
        classes, notes = _assumed_classes(found, file.source)
    if classes is not None and len(classes) != found.config.classes:
        raise WeightsError(
            f"expected a name for each of the {found.config.classes} outputs of {file.source}, got {len(classes)}: "
            "give the right list with --classes"
        )
    metadata = {**_published_metadata(stated or "", found.config.channels), **file.metadata}
    preprocessing = default_preprocessing(found.config.architecture, metadata, found.config.channels)
    if family(found.config.architecture) in ONE_TO_ONE and "mean" not in metadata:
        notes = (*notes, f"{file.source} does not say its mean; images from -1 to 1 were assumed, as is usual for it")
    return Base(name, network.eval(), preprocessing, classes, found.has_head, True, notes)


def _from_saved(path: Path, name: str) -> Base:
    saved = load_model(model_folder(path))
    return Base(name, saved.network, saved.preprocessing, saved.classes, True, True, outputs=saved.outputs)


def _from_hub(name: str, folder: Path, architecture: str | None, classes_file: Path | None) -> Base:
    """A model that graft saved, or a checkpoint of timm's with its `config.json`."""
    config = _read_config(folder)
    if "graft" in config:
        return _from_saved(folder, name)
    file = read_weights(folder / "model.safetensors")
    metadata = _timm_metadata(config)
    if metadata and architecture is None:
        architecture = _ours_or_timms(config, file)
    metadata = {**file.metadata, **metadata}
    base = _from_file(replace(file, metadata=metadata), name, folder, architecture, classes_file)
    if metadata.get("interpolation", "bilinear") == "bilinear":
        return base
    note = f"{name} was trained on images resized by {metadata['interpolation']} interpolation; graft's is bilinear"
    return replace(base, notes=(*base.notes, note))


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _from_timm(name: str, architecture: str, classes_file: Path | None, reporter: Reporter) -> Base:
    """Weights that timm publishes, fetched and read as any others are: nothing of them is unpickled."""
    source = published_weights(name)
    if isinstance(source, str):
        return _from_hub(name, fetch_from_hub(source, reporter), architecture, classes_file)
    path = fetch(source, reporter)
    return _from_file(read_weights(path), name, path.parent, architecture, classes_file)


def _ours_or_timms(config: dict[str, Any], file: WeightFile) -> str:
    """The catalogue's name for an architecture of timm whose tensors fit there, else timm's."""
    name = config["architecture"]
    with suppress(InputError):
        ours = known_architecture(name)
        if match(file.tensors, default_config(ours)).exact:
            return ours
    if config.get("model_args"):
        raise WeightsError(
            f"expected timm's {name} as it is, got one changed by {config['model_args']} in {CONFIG_FILE}: choose a "
            "model without model_args"
        )
    return f"timm:{name}"


def _published_metadata(architecture: str, channels: int) -> dict[str, str]:
    """What timm says of the input of its own weights, for those of it that do not say it themselves."""
    if not is_timm(architecture):
        return {}
    metadata = _timm_metadata({"architecture": architecture, "pretrained_cfg": published_settings(architecture)})
    other = channels != input_size(architecture)[0]
    return {name: value for name, value in metadata.items() if not (other and name in ("mean", "std"))}


def _timm_metadata(config: dict[str, Any]) -> dict[str, str]:
    """timm's `config.json` in the words of our metadata."""
    facts = config.get("pretrained_cfg")
    if not isinstance(facts, dict) or not isinstance(config.get("architecture"), str):
        return {}
    metadata = {"architecture": config["architecture"]}
    if metadata["architecture"].startswith("tf_"):
        metadata |= {"padding": "tensorflow", "bn_eps": "1e-3"}
    for theirs, ours in (("mean", "mean"), ("std", "std"), ("crop_pct", "crop_fraction")):
        value = facts.get(theirs)
        if value is not None:
            metadata[ours] = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    if isinstance(facts.get("input_size"), list | tuple) and facts["input_size"]:
        metadata["input_size"] = str(facts["input_size"][-1])
    if facts.get("crop_mode") == "squash":
        metadata["resize_mode"] = "squash"
    if isinstance(facts.get("interpolation"), str):
        metadata["interpolation"] = facts["interpolation"]
    if isinstance(config.get("label_names"), list):
        metadata["classes"] = json.dumps(config["label_names"])
    return metadata


def _stated_architecture(name: str, metadata: dict[str, str]) -> str:
    """The catalogue's name for a stated architecture and width."""
    if "width" in metadata:
        try:
            scaled = f"{name}_{round(100 * float(metadata['width'])):03d}"
        except (ValueError, OverflowError):
            scaled = name
        if scaled in CATALOG:
            return scaled
    return known_architecture(name)


def _with_rules(config: Config, metadata: dict[str, str]) -> Config:
    """Padding and batch-norm epsilon as the weights were trained with."""
    stated = metadata.get("padding", "torch").lower()
    padding: PaddingRule = "tensorflow" if stated.startswith(("same", "tensorflow")) else "torch"
    try:
        eps = float(metadata.get("bn_eps", config.batch_norm_eps))
        if not 0 < eps < 1:
            raise ValueError
    except ValueError:
        raise WeightsError(
            f"expected a number between 0 and 1 for bn_eps in the metadata, got {metadata['bn_eps']!r}: mend it"
        ) from None
    return replace(config, padding=padding, batch_norm_eps=eps)


def _stated_classes(metadata: dict[str, str], folder: Path) -> tuple[str, ...] | None:
    """Class names from the metadata: a JSON list, or the name of a file beside the weights that holds one."""
    stated = metadata.get("classes", "")
    if stated.startswith("["):
        try:
            return _names(json.loads(stated), "the weights' metadata")
        except (ValueError, RecursionError):
            return None
    if stated.endswith(".json") and Path(stated).name == stated and (folder / stated).is_file():
        return _read_classes(folder / stated)
    return None


def _assumed_classes(found: Match, source: str) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """The names that a head of this size has by custom, and the note that says so."""
    outputs, architecture = found.config.classes, found.config.architecture
    if outputs == 1000:
        return _read_classes(BUNDLED / "imagenet_classes.json"), ()
    if outputs == 10 and input_size(architecture) == (3, 32, 32):
        note = f"{source} names no classes; those of CIFAR-10 in their usual order were assumed"
        return CIFAR10_CLASSES, (note,)
    return None, ()


def _read_classes(path: Path) -> tuple[str, ...]:
    try:
        return _names(json.loads(path.read_text(encoding="utf-8")), path.name)
    except OSError as error:
        raise InputError(f"expected a JSON list of class names in {path} ({error.strerror}): check the path") from None
    except (ValueError, RecursionError):
        raise InputError(f"expected a JSON list of class names, got something else in {path.name}: mend it") from None


def _names(value: Any, source: str) -> tuple[str, ...]:
    """Class names in order; one that occurs again (ImageNet has two kinds of crane) gets its position behind it."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise WeightsError(f"expected a list of class names in {source}, got something else: mend it")
    first = {name: index for index, name in reversed(list(enumerate(value)))}
    return tuple(name if first[name] == index else f"{name} ({index})" for index, name in enumerate(value))


def _numbers(text: str | None) -> tuple[float, ...] | None:
    return tuple(float(number) for number in text.strip("[]() ").split(",")) if text else None
