"""Write and read the model folder: a trained network with everything needed to use it."""

import json
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from graft.errors import CutError, GraftError, WeightsError
from graft.files import write_aside, write_json
from graft.images.preprocessing import MOST_CHANNELS, Preprocessing
from graft.models.catalog import CATALOG
from graft.models.cuts import LAST, cut_before, said_of_head
from graft.models.network import Config, Network, PaddingRule
from graft.weights.architectures import is_timm, resolve
from graft.weights.calibration import Calibration
from graft.weights.card import model_card
from graft.weights.file import read_weights
from graft.weights.filling import fill, unfilled
from graft.weights.matching import match
from graft.weights.model_files import (
    ARGUMENTS_FILE,
    CALIBRATION_FILE,
    CARD_FILE,
    CONFIG_FILE,
    DOMAIN_FILE,
    LABELS_FILE,
    PREPROCESSING_FILE,
    TENSORS_FILE,
    model_folder,
    replaced,
)
from graft.weights.tensor_file import DIGEST, tensors_digest, write_tensors

__all__ = [
    "ARGUMENTS_FILE",
    "CONFIG_FILE",
    "TENSORS_FILE",
    "Outputs",
    "SavedModel",
    "class_logits",
    "load_model",
    "model_folder",
    "save_model",
]
# The metadata key for the probability from which each label is given; it also marks a multi-label model.
THRESHOLDS = "graft.thresholds"
# The file that states each value which the metadata of the tensors repeats.
STATED_IN = {
    **dict.fromkeys(("architecture", "padding", "bn_eps", "graft.network", "graft.outputs", "format"), CONFIG_FILE),
    **dict.fromkeys(("input_size", "mean", "std", "resize_mode", "crop_fraction", "graft.levels"), PREPROCESSING_FILE),
    **dict.fromkeys(("classes", "graft.classes"), LABELS_FILE),
    "graft.temperature": CALIBRATION_FILE,
    THRESHOLDS: CALIBRATION_FILE,
}
# Raised when an older reader could misread what a newer writer saves.
FORMAT = 1
# The format of multi-label models: earlier versions would take their logits for those of a single label.
FORMAT_OF_SEVERAL = 2

# For every class, the network outputs that count for it; no output counts for two, and some may count for none.
Outputs = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class SavedModel:
    """A trained network with everything needed to use it; `facts` is for the card (base, level, scores).

    Without `outputs`, the network has one output per class, in class order. `calibration` holds the promises about its
    answers; None if an earlier version saved the model.
    """

    network: Network
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    temperature: float = 1.0
    facts: dict[str, Any] = field(default_factory=dict)
    outputs: Outputs | None = None
    calibration: Calibration | None = None
    # Name, images, recall and precision of each class, for the card only.
    by_class: tuple[tuple[str, int, float | None, float | None], ...] = ()
    # For a multi-label model: the probability from which each label is given. Probabilities are then per label, each
    # the sigmoid of its logit.
    thresholds: tuple[float, ...] | None = None


def class_logits(logits: Tensor, outputs: Outputs | None) -> Tensor:
    """Return logits (n, classes) from a network's own (n, outputs): the log-sum-exp over the outputs of each class.

    Their softmax is the sum of the network's probabilities over the outputs of a class, divided by the sum over the
    outputs of all classes. Without `outputs`, the logits are returned unchanged.
    """
    if outputs is None:
        return logits
    logits = logits.double()
    return torch.stack([logits[:, list(of_class)].logsumexp(1) for of_class in outputs], 1)


def save_model(folder: Path, model: SavedModel) -> None:
    """Write the model folder aside, then put it in place in one step; an older one there is replaced.

    Raises GraftError for a network that is not finite, and when the folder cannot be written.
    """
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        _write_files(aside, model)
        _put_in_place(aside, folder)
    except OSError as error:
        raise GraftError(
            f"expected to write the model to {folder}, got {error.strerror or error} for "
            f"{Path(error.filename or folder).name}: free space there or make it writable, and save it again"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_files(folder: Path, model: SavedModel) -> None:
    config = {"graft": FORMAT, "network": _numbers(model.network.config), **model.facts}
    if model.outputs is not None:
        config["outputs"] = model.outputs
    if model.thresholds is not None:
        config |= {"graft": FORMAT_OF_SEVERAL, "multi_label": True}
    tensors = {
        name: tensor.float().contiguous() if tensor.is_floating_point() else tensor.contiguous()
        for name, tensor in model.network.state_dict().items()
    }
    _refuse_what_is_not_finite(tensors)
    metadata = {**_metadata(model), DIGEST: tensors_digest(tensors)}
    write_aside(folder / TENSORS_FILE, lambda file: write_tensors(file, tensors, metadata))
    write_json(folder / CONFIG_FILE, config)
    write_json(folder / LABELS_FILE, list(model.classes))
    write_json(folder / PREPROCESSING_FILE, model.preprocessing.to_dict())
    promised = {} if model.calibration is None else model.calibration.to_dict()
    if model.thresholds is not None:
        promised["thresholds"] = list(model.thresholds)
    write_json(folder / CALIBRATION_FILE, {"temperature": model.temperature, **promised})
    if model.calibration is not None and model.calibration.domain is not None:
        bank = {"bank": torch.from_numpy(model.calibration.domain.bank)}
        write_aside(folder / DOMAIN_FILE, lambda file: write_tensors(file, bank, {DIGEST: tensors_digest(bank)}))
    write_aside(folder / CARD_FILE, lambda file: file.write(model_card(model).encode()))


def _numbers(config: Config) -> dict[str, Any]:
    """Return the numbers that build the network, without the usual ones, as in files that earlier versions saved."""
    usual = (("head", "last"), ("early_stride", False))
    return {name: value for name, value in asdict(config).items() if (name, value) not in usual}


def _put_in_place(aside: Path, folder: Path) -> None:
    old = replaced(folder)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    aside.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _refuse_what_is_not_finite(tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise GraftError(
                f"expected a network of finite numbers to save, got {name!r} with NaN or infinity in it: lower --lr, "
                "or try --precision float32"
            )


def load_model(folder: Path) -> SavedModel:
    """Load the network, in evaluation mode, and what travels with it.

    Raises WeightsError for an inconsistent folder.
    """
    config = _read(folder / CONFIG_FILE, dict)
    if "graft" not in config:
        raise WeightsError(
            f"expected a model that graft saved, got one of another tool in {folder}: train with it as the base "
            "(`graft train DATA --base`), and use that run"
        )
    if config.get("graft") not in (FORMAT, FORMAT_OF_SEVERAL):
        raise WeightsError(
            f"expected a model saved in format {FORMAT} or {FORMAT_OF_SEVERAL}, got {config.get('graft')!r} in "
            f"{folder}: "
            "use the version of graft that saved it, or save it again"
        )
    labels = _read(folder / LABELS_FILE, list)
    preprocessing = Preprocessing.from_dict(_read(folder / PREPROCESSING_FILE, dict))
    network_config = _network_config(config.get("network"), folder)
    if preprocessing.channels != network_config.channels:
        raise WeightsError(
            f"expected a mean for each of {network_config.channels} channels in {folder / PREPROCESSING_FILE}, got "
            f"{preprocessing.channels}: restore the file that was saved with the model"
        )
    outputs = _outputs(config.get("outputs"), network_config.classes, folder)
    expected = network_config.classes if outputs is None else len(outputs)
    named = all(isinstance(label, str) and label for label in labels) and len(set(labels)) == len(labels)
    if len(labels) != expected or not named:
        raise WeightsError(
            f"expected {expected} class names in {folder / LABELS_FILE}, got {len(labels)} (none may be "
            "empty or occur twice): restore the file that was saved with the model"
        )
    architecture = resolve(network_config.architecture)
    try:
        network = unfilled(architecture, network_config)
    except CutError as error:
        raise WeightsError(
            f"expected a valid network under 'network' in {folder / CONFIG_FILE} ({error}), got another: restore the "
            "file that was saved with the model"
        ) from None
    file = read_weights(folder / TENSORS_FILE)
    found = match(file.tensors, architecture, network_config)
    if not found.has_head or found.config.classes != network_config.classes:
        raise WeightsError(
            f"expected a head of {network_config.classes} outputs in {folder / TENSORS_FILE}, got "
            f"{found.config.classes if found.has_head else 'none'}: restore the file that was saved with the model"
        )
    if found.config.head != network_config.head:
        raise WeightsError(
            f"expected a head over {said_of_head(network_config.head)} in {folder / TENSORS_FILE}, got one over "
            f"{said_of_head(found.config.head)}: restore the file that was saved with the model"
        )
    if found.config.channels != network_config.channels:
        raise WeightsError(
            f"expected weights for {network_config.channels} input channels in {folder / TENSORS_FILE}, got those for "
            f"{found.config.channels}: restore the file that was saved with the model"
        )
    fill(network, file.tensors, found, str(folder / TENSORS_FILE))
    own = ("graft", "network", "outputs", "multi_label")
    facts = {name: value for name, value in config.items() if name not in own}
    thresholds = _thresholds(folder, file.metadata, config.get("multi_label", False), len(labels))
    temperature, calibration = _temperature(folder, file.metadata), read_calibration(folder, len(labels))
    model = SavedModel(
        network.eval(), preprocessing, tuple(labels), temperature, facts, outputs, calibration, (), thresholds
    )
    _check_against(file.metadata, model, folder)
    return model


def _check_against(metadata: dict[str, str], model: SavedModel, folder: Path) -> None:
    """Refuse files beside the tensors that contradict their metadata. Raises WeightsError that names the file.

    Tensors saved by an earlier version state less; what they do not state is not compared.
    """
    for name, value in _metadata(model).items():
        if name in metadata and not _same(metadata[name], value):
            what = name.removeprefix("graft.")
            raise WeightsError(
                f"expected in {folder / STATED_IN[name]} the {what} that {TENSORS_FILE} was saved with, "
                f"{metadata[name][:200]}, got {value[:200]}: restore the file that was saved with the model"
            )


def _same(one: str, other: str) -> bool:
    """Whether two texts are equal, or are the same JSON value, since JSON can escape a character in several ways."""
    if one == other:
        return True
    try:
        return bool(json.loads(one) == json.loads(other))
    except (ValueError, RecursionError):
        return False


def _metadata(model: SavedModel) -> dict[str, str]:
    """Return what `--base` needs when the tensors come without their folder, and everything that decides answers."""
    config, preprocessing = model.network.config, model.preprocessing
    # Names of classes that have several outputs are not names of outputs.
    names = {"classes": json.dumps(model.classes)} if model.outputs is None else {}
    return {
        "format": "pt",
        "architecture": config.architecture,
        "padding": config.padding,
        "bn_eps": repr(config.batch_norm_eps),
        "input_size": str(preprocessing.size),
        "mean": ",".join(map(repr, preprocessing.mean)),
        "std": ",".join(map(repr, preprocessing.std)),
        "resize_mode": preprocessing.resize_mode,
        "crop_fraction": repr(preprocessing.crop_fraction),
        "graft.levels": json.dumps(preprocessing.to_dict().get("levels", {})),
        **names,
        "graft.classes": json.dumps(model.classes),
        "graft.network": json.dumps(_numbers(config)),
        "graft.outputs": json.dumps(model.outputs),
        "graft.temperature": repr(float(model.temperature)),
        **({} if model.thresholds is None else {THRESHOLDS: json.dumps(model.thresholds)}),
    }


def _network_config(values: Any, folder: Path) -> Config:
    try:
        config = Config(**values)
        # JSON's 3.0 and true equal 3 and 1, but torch does not accept them as a number of channels.
        whole = type(config.classes) is int and type(config.channels) is int
        if not whole or config.classes < 1 or not 1 <= config.channels <= MOST_CHANNELS:
            raise ValueError
        known = config.architecture in CATALOG or is_timm(str(config.architecture))
        # Whether its cut is one of the network's shows when the network is built.
        head = isinstance(config.head, str) and (config.head == LAST or cut_before(config.head))
        if not known or config.padding not in get_args(PaddingRule) or not head:
            raise ValueError
        if type(config.early_stride) is not bool:
            raise ValueError
        if not isinstance(config.batch_norm_eps, float) or not 0 < config.batch_norm_eps < 1:
            raise ValueError
    except (TypeError, ValueError):
        raise WeightsError(
            f"expected architecture, classes, channels, padding and batch_norm_eps of a network that this version of "
            f"graft has under 'network' in {folder / CONFIG_FILE}, got {str(values)[:300]}: restore the file that was "
            "saved with the model"
        ) from None
    return config


def _outputs(value: Any, of_network: int, folder: Path) -> Outputs | None:
    if value is None:
        return None
    try:
        flat = [output for of_class in value for output in of_class]
        # JSON's 3.0 and true equal 3 and 1, but torch does not accept them as an index.
        known = all(type(output) is int and 0 <= output < of_network for output in flat)
        if not value or not all(value) or not known or len(set(flat)) < len(flat):
            raise ValueError
        return tuple(tuple(of_class) for of_class in value)
    except (TypeError, ValueError):
        raise WeightsError(
            f"expected under 'outputs' in {folder / CONFIG_FILE} a list of numbers from 0 to {of_network - 1} for each "
            f"class, none of them twice, got {str(value)[:100]}: restore the file that was saved with the model"
        ) from None


def _temperature(folder: Path, metadata: dict[str, str]) -> float:
    """Return the temperature in `calibration.json`, else in the tensors; one for models of an earlier version."""
    if (folder / CALIBRATION_FILE).exists():
        value = _read(folder / CALIBRATION_FILE, dict).get("temperature", 1.0)
    else:
        value = metadata.get("graft.temperature", "1.0")
        with suppress(ValueError):
            value = float(value)
    # The bounds refuse NaN, infinities and what overflows on conversion to float; fitted values lie far within.
    if not isinstance(value, int | float) or isinstance(value, bool) or not 1e-6 < value < 1e6:
        raise WeightsError(
            f"expected a temperature above zero, got {str(value)[:100]} in {folder / CALIBRATION_FILE}: restore the "
            "file that was saved with the model"
        )
    return float(value)


def _thresholds(folder: Path, metadata: dict[str, str], multi_label: object, labels: int) -> tuple[float, ...] | None:
    """Return the probability from which each label is given; None for a single-label model.

    Raises WeightsError where the files disagree on which of the two it is.
    """
    if multi_label is not (THRESHOLDS in metadata):
        raise WeightsError(
            f"expected in {folder / CONFIG_FILE} the multi_label that {TENSORS_FILE} was saved with, got "
            f"{str(multi_label)[:40]}: restore the file that was saved with the model"
        )
    if not multi_label:
        return None
    found = thresholds_in(metadata, labels)
    if (folder / CALIBRATION_FILE).exists():
        found = checked_thresholds(_read(folder / CALIBRATION_FILE, dict).get("thresholds"), labels)
    if found is None:
        raise WeightsError(
            f"expected a threshold from 0 to 1 for each of {labels} labels in {folder / CALIBRATION_FILE}, got "
            "something else: restore the file that was saved with the model"
        )
    return found


def thresholds_in(metadata: dict[str, str], labels: int) -> tuple[float, ...] | None:
    """Return the thresholds in the metadata of tensors, None if there are none."""
    with suppress(ValueError):
        return checked_thresholds(json.loads(metadata.get(THRESHOLDS, "null")), labels)
    return None


def checked_thresholds(values: Any, labels: int) -> tuple[float, ...] | None:
    """Return the values if they are one number from 0 to 1 per label, else None."""
    numbers = isinstance(values, list) and all(type(each) in (int, float) and 0 <= each <= 1 for each in values)
    return tuple(map(float, values)) if numbers and len(values) == labels else None


def read_calibration(folder: Path, classes: int) -> Calibration | None:
    """Return what a model folder stores besides the temperature; None if an earlier version saved it.

    Raises WeightsError for what does not fit.
    """
    said = _read(folder / CALIBRATION_FILE, dict) if (folder / CALIBRATION_FILE).exists() else {}
    bank = None
    if "domain" in said and (folder / DOMAIN_FILE).exists():
        bank = read_weights(folder / DOMAIN_FILE).tensors.get("bank")
    try:
        return Calibration.from_dict(said, classes, None if bank is None else bank.numpy())
    except ValueError as error:
        raise WeightsError(
            f"expected the held-out results of the classifier in {folder / CALIBRATION_FILE}, got {error}: restore "
            "the file that was saved with the model"
        ) from None


def _read(path: Path, kind: type) -> Any:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"expected {path} to be readable ({error.strerror}): restore the model folder") from None
    except (ValueError, RecursionError):
        raise WeightsError(f"expected JSON, got something else in {path}: restore the model folder") from None
    if not isinstance(value, kind):
        raise WeightsError(
            f"expected a {kind.__name__}, got a {type(value).__name__} in {path}: restore the model folder"
        )
    return value
