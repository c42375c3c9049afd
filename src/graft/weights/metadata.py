"""Parse a weight file's metadata, text by name, into values.

architecture, width          a name that `resolve` takes, and the width multiplier that it leaves out
library, model_args          "timm" where the architecture has timm's name, and the arguments that were changed
padding, bn_eps              the network's numbers (`Config`)
input_size, mean, std, resize_mode, crop_fraction    the images it expects (`Preprocessing`)
graft.levels                 black and white of its deep images, in JSON (`Preprocessing.levels`)
interpolation                how its images were resized in training
classes                      a JSON list of names in the order of the outputs, or the name of a file beside the weights
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from graft.class_lists import in_order, read_list
from graft.errors import InputError, WeightsError
from graft.images.preprocessing import Preprocessing
from graft.models.network import Config, PaddingRule

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Up to this side, in pixels, images are used whole: nobody crops a 32 px image.
SMALL = 64
# What states a value of a file: its metadata, or the script that wrote it.
BY_METADATA, BY_SCRIPT = "metadata", "script"


def with_numbers(config: Config, metadata: dict[str, str]) -> Config:
    """Return `config` with the padding and batch-norm epsilon that the weights were trained with, if they state them.

    Raises WeightsError for an invalid epsilon.
    """
    padding, eps = config.padding, config.batch_norm_eps
    if "padding" in metadata:
        padding = _padding_rule(metadata["padding"])
    if "bn_eps" in metadata:
        eps = _epsilon(metadata["bn_eps"])
    return replace(config, padding=padding, batch_norm_eps=eps)


def _padding_rule(text: str) -> PaddingRule:
    return "tensorflow" if text.lower().startswith(("same", "tensorflow")) else "torch"


def _epsilon(text: str) -> float:
    try:
        eps = float(text)
        if not 0 < eps < 1:
            raise ValueError
    except ValueError:
        raise WeightsError(
            f"expected a number between 0 and 1 for bn_eps in the weights' metadata, got {text!r}: correct it there"
        ) from None
    return eps


def with_preprocessing(usual: Preprocessing, metadata: dict[str, str], channels: int) -> Preprocessing:
    """Return the preprocessing of weights for `channels` channels: what they state, else that of `usual`.

    If `usual` is for another number of channels, the mean and deviation are ImageNet's for color, which CIFAR
    checkpoints use too, and 0.5 for gray. Raises WeightsError for metadata that is no preprocessing of such images.
    """
    if usual.channels != channels:
        half = (0.5,) * channels
        in_color = channels == 3
        usual = replace(usual, mean=IMAGENET_MEAN if in_color else half, std=IMAGENET_STD if in_color else half)
    try:
        size = int(metadata.get("input_size", usual.size))
        values: dict[str, Any] = {
            "size": size,
            "mean": _numbers(metadata["mean"]) if metadata.get("mean") else usual.mean,
            "std": _numbers(metadata["std"]) if metadata.get("std") else usual.std,
            # Earlier versions wrote `resize_mode` as `fit`.
            "resize_mode": metadata.get("resize_mode", metadata.get("fit", usual.resize_mode)),
            "crop_fraction": float(
                metadata.get("crop_fraction", 1.0 if size <= SMALL < usual.size else usual.crop_fraction)
            ),
            "levels": json.loads(metadata.get("graft.levels", "{}")),
        }
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"expected numbers for input_size, mean, std and crop_fraction in the weights' metadata, got something "
            f"else ({error}): correct it there"
        ) from None
    preprocessing = Preprocessing.from_dict(values)
    if preprocessing.channels != channels:
        raise WeightsError(
            f"expected one mean per input channel in the weights' metadata, {channels} in all, got "
            f"{preprocessing.channels}: correct it there"
        )
    return preprocessing


def notes_on_images(
    source: str,
    used: Preprocessing,
    metadata: Mapping[str, str],
    by_script: Mapping[str, str],
    stated: frozenset[str],
) -> list[str]:
    """Return what to say about the images of a weight file: what its script stated, and what had to be assumed.

    `metadata` is all that the file states, `by_script` the part of it that a training script wrote, `stated` what the
    user states. Nothing is assumed of a file whose metadata give its mean.
    """
    notes = []
    mean, std = (" ".join(f"{number:.4g}" for number in numbers) for numbers in (used.mean, used.std))
    scaling, side = f"mean {mean}, std {std}", f"{used.size} px"
    read = {"mean": scaling, "input_size": side}
    listed = [what for name, what in read.items() if name in by_script and name not in stated]
    if listed:
        notes.append(f"{source} states how its images were prepared, and this is used: {', '.join(listed)}")
    if "mean" in metadata or "mean" in stated:
        return notes
    sized = "input_size" in metadata or "input_size" in stated
    what, options, assumed = "scaling of its images", "--mean and --std", scaling
    if not sized:
        what, options = "scaling and size of its images", "--mean, --std and --image-size"
        assumed += f", resize {round(used.size / used.crop_fraction)}, crop {used.size}"
    usual = (
        "those of ImageNet were assumed"
        if used.mean == IMAGENET_MEAN
        else "images from -1 to 1 were assumed, as is usual for its family"
    )
    notes.append(
        f"{source} does not state the {what}; {usual} ({assumed}); if it was trained differently, state that with "
        f"{options}"
    )
    return notes


def note_on_preparation(
    used: Preprocessing, origins: Mapping[str, str], stated: frozenset[str], resize_stated: bool
) -> str | None:
    """Return how images are made the input of a weight file's network, and where each number is from.

    `used` is the preprocessing after the user's choices, `origins` says of each value of the file whether its metadata
    or a script states it, `stated` which of "mean" and "input_size" the user states. None where `notes_on_images` has
    said it all.
    """
    told = {"mean", "input_size"}.isdisjoint(origins.keys() | stated) and "crop_fraction" not in origins
    if told and used.resize_mode == "crop":
        return None

    def origin(name: str) -> str:
        return "as stated" if name in stated else "of the file" if name in origins else "assumed"

    size, why = f"{used.size} px", f"size {origin('input_size')}"
    if used.resize_mode == "crop":
        resized = round(used.size / used.crop_fraction)
        size = f"resized to {resized} px on the shorter side and cropped to {size}"
        why += f", crop {used.crop_fraction:.4g} {origin('crop_fraction')}"
    else:
        how = "as stated" if resize_stated else origin("resize_mode")
        size, why = f"resized to {size} by {used.resize_mode}", f"{why}, {used.resize_mode} {how}"
    note = f"images are {size} ({why})"
    # What a script states of the scaling, and what is assumed of it, has been noted.
    if "mean" not in stated and origins.get("mean") != BY_METADATA:
        return note
    mean, std = (" ".join(f"{number:.4g}" for number in numbers) for numbers in (used.mean, used.std))
    return f"{note}; mean {mean} and std {std} are {origin('mean')}"


def stated_temperature(metadata: dict[str, str]) -> float:
    """Return the divisor of the head's logits, 1 if the weights do not state it. Raises WeightsError."""
    text = metadata.get("graft.temperature", "1.0")
    try:
        temperature = float(text)
        if not 1e-6 < temperature < 1e6:
            raise ValueError
    except ValueError:
        raise WeightsError(
            f"expected a number above zero for graft.temperature in the weights' metadata, got {text[:100]!r}: correct "
            "it there"
        ) from None
    return temperature


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.strip("[]() ").split(","))


def stated_classes(metadata: dict[str, str], folder: Path) -> tuple[str, ...] | None:
    """Return the class names that the weights state, in the metadata or in a file in `folder`, beside the weights.

    A file anywhere else is not opened. Returns None if no names are stated. Raises WeightsError for a list of anything
    but names.
    """
    stated = metadata.get("classes", "")
    if stated.startswith("["):
        try:
            return _class_names(json.loads(stated), "the weights' metadata")
        except (ValueError, RecursionError):
            return None
    if stated.endswith(".json") and Path(stated).name == stated and (folder / stated).is_file():
        return read_classes(folder / stated)
    return None


def named_by_script(names: tuple[str, ...], outputs: int) -> tuple[str, ...] | None:
    """Return the class names that a training script wrote beside the weights; None if not one for each output."""
    return _class_names(list(names), "the checkpoint") if names and len(names) == outputs else None


def read_classes(path: Path) -> tuple[str, ...]:
    """Return the class names in a file, in the order of the outputs; see `read_list`.

    Raises InputError and WeightsError.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"expected a list of class names in {path} ({error.strerror}): check the path") from None
    listed = in_order(read_list(path))
    if not listed:
        raise InputError(
            f"expected a list of class names in {path.name}, a name for each output from 0 on, got something else: "
            "correct the file"
        )
    return _class_names(listed, path.name)


def _class_names(value: Any, source: str) -> tuple[str, ...]:
    """Return class names in order; a repeated one (ImageNet has two kinds of crane) gets its position appended."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise WeightsError(f"expected a list of class names in {source}, got something else: correct it there")
    first = {name: index for index, name in reversed(list(enumerate(value)))}
    return tuple(name if first[name] == index else f"{name} ({index})" for index, name in enumerate(value))
