"""Read tensors from a file without running anything in it.

The format is recognized by content. safetensors files are read as such; whatever torch saved (`.pth`, `.pt`, `.th`)
goes through its weights-only unpickler, with inert stand-ins for everything that is not a tensor
(`graft.weights.inert`).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graft.class_lists import in_order, list_in
from graft.errors import WeightsError
from graft.weights.foreign import foreign_file
from graft.weights.inert import first_line, load_inert
from graft.weights.keras_file import is_keras, read_keras
from graft.weights.script_images import ScriptImages, script_images
from graft.weights.tensor_file import DIGEST, tensors_digest
from graft.weights.unwrapping import Unwrapped, unwrap, without_wrappers

INDEX_ENDING = ".index.json"
# Where the metadata of a checkpoint of torch's say which network the script that wrote it was told to train.
ARCH = "arch"
# The keys under which training scripts write the names of their classes.
NAMED_BY = ("classes", "class_names", "class_to_idx", "idx_to_class", "id2label", "labels", "names", "CLASSES")


@dataclass(frozen=True)
class WeightFile:
    """Tensors by name, with their text metadata; `source` is the name of the file in messages.

    `notes` say which weights were chosen when the file holds more than one set. `script_classes` are the class names
    that a training script wrote beside the tensors, which may be those of something else; `script_images` is what it
    wrote about its images.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    source: str
    notes: tuple[str, ...] = ()
    script_classes: tuple[str, ...] = ()
    script_images: ScriptImages = field(default_factory=ScriptImages)


def read_weights(path: Path) -> WeightFile:
    """Read a checkpoint's tensors, on the CPU, without wrappers' prefixes. Raises WeightsError for any other file."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise WeightsError(f"expected a file of weights, got {str(path)!r} ({reason}): check the path") from None
    if not start:
        raise WeightsError(f"expected a file of weights, got {path.name} with no bytes in it: fetch it again")
    what = foreign_file(path, start)
    if what is not None:
        raise WeightsError(f"expected a torch checkpoint or a safetensors file, got {path.name}, which is {what}")
    classes: tuple[str, ...] = ()
    images = ScriptImages()
    if is_keras(path, start):
        tensors, metadata, notes = read_keras(path)
        unwrapped = Unwrapped(tensors, tuple(f"{path.name} is from Keras; {note}" for note in notes))
    elif path.name.endswith(INDEX_ENDING):
        tensors, metadata = _read_shards(path)
        unwrapped = without_wrappers(tensors)
    elif len(start) > 8 and start[8:9] == b"{":
        tensors, metadata = _read_safetensors(path)
        unwrapped = without_wrappers(tensors)
    elif start.startswith((b"PK", b"\x80")):
        # A zip archive or a pickle. The unpickler would run anything else as instructions.
        value = load_inert(path)
        unwrapped, metadata = unwrap(value, path.name), _hint(value)
        classes, images = _script_classes(value), script_images(value)
    else:
        raise WeightsError(
            f"expected a torch checkpoint or a safetensors file, got {path.name}, which begins with {start[:16]!r}: "
            "fetch it again"
        )
    _check_tensors(unwrapped.tensors, path)
    return WeightFile(unwrapped.tensors, metadata, path.name, unwrapped.notes, classes, images)


def _hint(value: Any) -> dict[str, str]:
    """Return the architecture that a training script wrote beside the tensors, as metadata."""
    named = value.get("arch") if isinstance(value, dict) else None
    return {ARCH: named} if isinstance(named, str) else {}


def _script_classes(value: Any) -> tuple[str, ...]:
    """Return the class names that a training script wrote beside the tensors; empty if it wrote none."""
    places = _places(value) if isinstance(value, dict) else ()
    found = (_names(place.get(key)) for place in places for key in NAMED_BY)
    return tuple(next((names for names in found if names), ()))


def _places(value: dict[Any, Any]) -> Iterator[dict[Any, Any]]:
    """Yield the dictionaries of a checkpoint in which Lightning, MMPretrain and scripts name classes."""
    yield value
    for key in ("hyper_parameters", "meta"):
        inner = value.get(key)
        if isinstance(inner, dict):
            yield inner
            if isinstance(inner.get("dataset_meta"), dict):
                yield inner["dataset_meta"]


def _names(value: Any) -> list[str]:
    """Return the names in a list, or in a dictionary from or to numbers; empty for anything else."""
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    # Nothing nested: a hostile file can hold the same dictionary in itself, many times over.
    return in_order(list_in(value)) if entries and all(isinstance(entry, str | int) for entry in entries) else []


def _read_shards(index: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors of the files beside an index, which maps every name to its file."""
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(places.values()))
        # A file in any other folder is not opened.
        if not names or any(Path(name).name != name or name.endswith(INDEX_ENDING) for name in names):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise WeightsError(
            "expected an index of weights with an object 'weight_map' from names to files beside it, got something "
            f"else in {index.name}: fetch it again"
        ) from None
    tensors: dict[str, Tensor] = {}
    for name in names:
        if not (index.parent / name).is_file():
            raise WeightsError(
                f"expected {len(names)} files of weights beside {index.name}, got none named {name}: fetch it as well"
            )
        shard, _ = _read_safetensors(index.parent / name) if name.endswith(".safetensors") else ({}, {})
        tensors |= shard or unwrap(load_inert(index.parent / name), name).tensors
    missing = [name for name in places if name not in tensors]
    if missing:
        raise WeightsError(
            f"expected {len(places)} tensors in the files that {index.name} lists, got all but {len(missing)} "
            f"({missing[0]}): fetch them again"
        )
    return tensors, {}


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            # Read now, so that a truncated file with a valid header fails here and not when a tensor is first used.
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"expected a complete safetensors file, got {path.name} ({first_line(error)}): fetch it again"
        ) from None
    if DIGEST in metadata and metadata[DIGEST] != tensors_digest(tensors):
        raise WeightsError(
            f"expected the tensors that {path.name} was saved with, got others: it is damaged, so restore it or train "
            "again"
        )
    return tensors, metadata


def _check_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Refuse a file without tensors, or with one that is not an ordinary array of numbers. Raises WeightsError."""
    if not tensors:
        raise WeightsError(f"expected tensors, got none in {path.name}: save the network's state_dict()")
    for name, tensor in tensors.items():
        ordinary = tensor.device.type == "cpu" and tensor.layout == torch.strided
        if not ordinary or tensor.is_quantized or tensor.is_complex():
            raise WeightsError(
                f"expected tensors of real numbers, got {name!r} in {path.name}, which is {tensor.dtype} "
                f"{tensor.layout} on {tensor.device.type}: save it as dense float32"
            )
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            # One number repeated a billion times takes no room in a file, but would in a network.
            raise WeightsError(
                f"expected every element to be stored, got {name!r} in {path.name}, which repeats some: call "
                ".contiguous() before saving it"
            )
