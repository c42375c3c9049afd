"""Write a classifier as a timm folder: `config.json` and `model.safetensors`.

`timm.create_model("local-dir:FOLDER", pretrained=True)` and transformers' `AutoModelForImageClassification` open it.
The layouts by which graft reads timm's weights also map our tensors to timm's, so one table serves both directions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graft.errors import GraftError, InputError
from graft.files import write_aside, write_json
from graft.images.preprocessing import Preprocessing
from graft.models.cuts import LAST, said_of_head
from graft.models.network import Config, Network
from graft.weights.architectures import TIMM_NAMES, is_timm, resolve
from graft.weights.layouts import Rename
from graft.weights.matching import match
from graft.weights.saved import CONFIG_FILE, TENSORS_FILE, SavedModel
from graft.weights.tensor_file import DIGEST, tensors_digest, write_tensors
from graft.weights.timm_catalog import PREFIX, installed_timm, naming_rules

FILES = (CONFIG_FILE, TENSORS_FILE)
# Our architecture names that differ in timm.
NAMES = {ours: theirs for theirs, ours in TIMM_NAMES.items()}
# Families whose timm networks accept a padding and an epsilon from the caller.
STATES_ITS_NUMBERS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3", "efficientnet")
USUAL_EPSILON = 1e-5
# timm's names for the values of `Preprocessing.resize_mode`.
CROP_MODES = {"crop": "center", "squash": "squash", "letterbox": "border"}
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
# What a user can do about a network that timm does not have.
INSTEAD = "choose --format onnx, openvino or torch"


@dataclass(frozen=True)
class TimmModel:
    """A timm network in evaluation mode, images (N, C, H, W) to logits (N, classes), with its timm settings."""

    network: nn.Module
    classes: tuple[str, ...]
    settings: dict[str, Any]


def name_for_timm(saved: SavedModel) -> tuple[str, dict[str, Any]]:
    """Return timm's name for the network of `saved`, and the other arguments that build it.

    Computes nothing. Raises InputError for a network that timm cannot build.
    """
    network = saved.network
    if saved.thresholds is not None:
        # timm has no place for thresholds, and users of its networks apply a softmax.
        raise InputError(
            "expected a run that gives each image one label for --format timm, got one that gives several, of which "
            f"timm would keep one: {INSTEAD}"
        )
    if network.config.head != LAST:
        raise InputError(
            f"expected a head over the last stage for --format timm, got one over {said_of_head(network.config.head)}, "
            f"which timm does not have: train a run with --head last or --level head, or {INSTEAD}"
        )
    if network.config.channels not in (1, 3):
        raise InputError(
            f"expected a network for grey or color images to export, got one for {network.config.channels} channels: "
            "use it through graft"
        )
    if any(len(of_class) > 1 for of_class in saved.outputs or ()):
        raise InputError(
            "expected one output of the network for each class for --format timm, got classes that several outputs "
            f"count for: {INSTEAD}"
        )
    return _called(network.config)


def write_timm(folder: Path, saved: SavedModel) -> None:
    """Write the two files of `saved` into `folder`. Raises InputError for a network that timm cannot build."""
    network, (name, arguments) = saved.network, name_for_timm(saved)
    ours = _tensors(saved)
    # The rows of our head decide how many outputs timm's network gets.
    classes = len(ours[f"{network.head_name}.weight"])
    if network.config.channels != 3:
        arguments["in_chans"] = network.config.channels
    with torch.device("meta"):
        # Built only for its names, shapes and epsilons.
        theirs = installed_timm(name).create_model(name, num_classes=classes, **arguments)
    tensors = _renamed(ours, network, theirs)
    metadata = {
        "format": "pt",
        DIGEST: tensors_digest(tensors),
        "resize_mode": saved.preprocessing.resize_mode,
        "graft.levels": json.dumps(saved.preprocessing.to_dict().get("levels", {})),
        "graft.temperature": repr(float(saved.temperature)),
    }
    config = {
        "architecture": name,
        "num_classes": classes,
        "num_features": int(theirs.num_features),
        "label_names": list(saved.classes),
        **({"model_args": arguments} if arguments else {}),
        "pretrained_cfg": _settings(theirs.pretrained_cfg, saved.preprocessing, classes),
    }
    write_aside(folder / TENSORS_FILE, lambda file: write_tensors(file, tensors, metadata))
    write_json(folder / CONFIG_FILE, config)


def open_timm(folder: Path) -> TimmModel:
    """Open the folder the way timm itself does."""
    network = installed_timm(str(folder)).create_model(f"local-dir:{folder}", pretrained=True).eval()
    settings = dict(network.pretrained_cfg)
    return TimmModel(network, tuple(settings.get("label_names") or ()), settings)


def timm_transform(model: TimmModel) -> Any:
    """Return timm's transform for this network: a function from a Pillow image to float32 (C, H, W)."""
    from timm.data import create_transform, resolve_data_config

    return create_transform(**resolve_data_config({}, pretrained_cfg=model.settings))


def beside(place: Path) -> Path:
    """Return the path of the file that records what the export at `place` was checked on."""
    return place.with_name(f"{place.name}.json")


def check_free(place: Path, overwrite: bool) -> None:
    """Refuse a place that is taken, unless `overwrite`; never replace a folder that holds anything but an export."""
    told = beside(place)
    if told.exists() and not overwrite:
        raise InputError(f"expected a new file, got {str(told)!r}, which exists: give another --out, or --overwrite")
    if not place.exists():
        return
    if not place.is_dir() or any(each.name not in FILES for each in place.iterdir()):
        raise InputError(
            f"expected a new folder for --format timm, got {str(place)!r}, which holds something else: give another "
            "--out"
        )
    if not overwrite and any(place.iterdir()):
        raise InputError(f"expected a new folder, got {str(place)!r}, which exists: give another --out, or --overwrite")


def put_in_place(written: Path, place: Path, aside: Path) -> None:
    """Move the folder `written` to `place`; an existing one moves into `aside`, which the caller removes."""
    if place.exists():
        place.rename(aside / "replaced")
    written.rename(place)


def _called(config: Config) -> tuple[str, dict[str, Any]]:
    """Return timm's name for the network and its other arguments. Raises InputError where timm lacks it."""
    if is_timm(config.architecture):
        return config.architecture.removeprefix(PREFIX), {}
    timm = installed_timm(config.architecture)
    known, family = set(timm.list_models()), resolve(config.architecture).family
    name = NAMES.get(config.architecture, config.architecture)
    if name not in known:
        raise InputError(
            f"expected a network that timm has for --format timm, got {config.architecture}, which it lacks: {INSTEAD}"
        )
    if config.early_stride:
        raise InputError(
            f"expected a network that timm has for --format timm, got {config.architecture} that halves the map in the "
            f"first 1 x 1 convolution of a bottleneck, where timm's does so in the 3 x 3: {INSTEAD}"
        )
    padded = config.padding == "tensorflow"
    rules = naming_rules(f"tf_{name}")
    if padded and f"tf_{name}" in known and config.batch_norm_eps == float(rules["bn_eps"]):
        return f"tf_{name}", {}
    if family not in STATES_ITS_NUMBERS:
        if padded:
            raise InputError(
                f"expected torch's padding for --format timm, got {config.architecture} with TensorFlow's, which it "
                f"lacks in timm: {INSTEAD}"
            )
        # A different epsilon is folded into the variances, as timm's networks of other families do not accept one.
        return name, {}
    arguments: dict[str, Any] = {"pad_type": "same"} if padded else {}
    return name, arguments | ({} if config.batch_norm_eps == USUAL_EPSILON else {"bn_eps": config.batch_norm_eps})


def _tensors(saved: SavedModel) -> dict[str, Tensor]:
    """Return the network's tensors in float32; those of the head have one row per class."""
    network = saved.network
    tensors = {
        name: tensor.detach().cpu().float() if tensor.is_floating_point() else tensor.detach().cpu()
        for name, tensor in network.state_dict().items()
    }
    if saved.outputs is not None:
        rows = [output for (output,) in saved.outputs]
        for name in (f"{network.head_name}.weight", f"{network.head_name}.bias"):
            if name in tensors:
                tensors[name] = tensors[name][rows]
    return tensors


def _renamed(ours: dict[str, Tensor], network: Network, theirs: nn.Module) -> dict[str, Tensor]:
    """Return our tensors under timm's names, in timm's shapes. Raises InputError where timm's network differs."""
    shapes, rename = theirs.state_dict(), _renaming(network.config, theirs)
    tensors: dict[str, Tensor] = {}
    for name, wanted in shapes.items():
        found = ours.get(rename(name))
        if found is None or found.numel() != wanted.numel():
            raise InputError(
                f"expected {network.config.architecture} with timm's tensors for --format timm, got none for {name!r}: "
                f"install timm 1.0 or newer, or {INSTEAD}"
            )
        tensors[name] = found.reshape(wanted.shape).contiguous()
    for path, norm in theirs.named_modules():
        if isinstance(norm, NORMS) and norm.running_var is not None:
            variance = f"{path}.running_var"
            own: Any = network.get_submodule(rename(variance).removesuffix(".running_var"))
            # A norm divides by the root of variance plus epsilon, so a difference in epsilon can move into the
            # variance.
            tensors[variance] = tensors[variance] + (own.eps - norm.eps)
    return tensors


def _renaming(config: Config, theirs: nn.Module) -> Rename:
    """Return the renaming from timm's tensor names to ours."""
    if is_timm(config.architecture):
        return str
    architecture = resolve(config.architecture)
    found = match(theirs.state_dict(), architecture, architecture.config)
    if not (found.exact and found.has_head):
        raise GraftError(
            f"expected timm's {config.architecture} to have graft's tensors, got {found.fitting} of {found.expected}: "
            f"install another version of timm, or {INSTEAD}"
        )
    return found.rename


def _settings(usual: dict[str, Any], preprocessing: Preprocessing, classes: int) -> dict[str, Any]:
    """Return timm's `pretrained_cfg`: the network's `usual` settings, with the run's preprocessing and classes."""
    kept = ("fixed_input_size", "first_conv", "classifier")
    crops = preprocessing.resize_mode == "crop"
    return {
        "tag": "graft",
        "custom_load": False,
        "num_classes": classes,
        "input_size": [preprocessing.channels, preprocessing.size, preprocessing.size],
        "interpolation": "bilinear",
        "crop_pct": preprocessing.crop_fraction if crops else 1.0,
        "crop_mode": CROP_MODES[preprocessing.resize_mode],
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        **{name: usual[name] for name in kept if usual.get(name) is not None},
    }
