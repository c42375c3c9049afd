"""Tensors from a file, without running anything in it.

The format is recognized by content. safetensors files are read as such; whatever torch saved (`.pth`, `.pt`, `.th`)
goes through its weights-only unpickler, with inert stand-ins for all that is no tensor (`graft.weights.inert`).
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from graft.errors import WeightsError
from graft.weights.inert import first_line, load_inert
from graft.weights.tensor_file import DIGEST, tensors_digest
from graft.weights.unwrapping import unwrap, without_wrappers


@dataclass(frozen=True)
class WeightFile:
    """Tensors by name, and the text metadata beside them; `source` is what messages call the file.

    `notes` say what of the file was chosen where it holds more than one set of weights.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    source: str
    notes: tuple[str, ...] = ()


def read_weights(path: Path) -> WeightFile:
    """The tensors of a checkpoint, on the CPU, without wrappers' prefixes. Raises WeightsError for any other file."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise WeightsError(f"expected a file of weights, got {str(path)!r} ({reason}): check the path") from None
    if not start:
        raise WeightsError(f"expected a file of weights, got {path.name} with no bytes in it: fetch it again")
    if len(start) > 8 and start[8:9] == b"{":
        tensors, metadata = _read_safetensors(path)
        unwrapped = without_wrappers(tensors)
    elif start.startswith((b"PK", b"\x80")):
        # A zip archive or a pickle. The unpickler would take anything else for instructions.
        unwrapped, metadata = unwrap(load_inert(path), path.name), {}
    else:
        raise WeightsError(
            f"expected a torch checkpoint or a safetensors file, got {path.name}, which begins with {start!r}: "
            "fetch it again"
        )
    _check_tensors(unwrapped.tensors, path)
    return WeightFile(unwrapped.tensors, metadata, path.name, unwrapped.notes)


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
    """Refuse a file without tensors, or with any that is no ordinary array of numbers. Raises WeightsError."""
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
            # One number repeated a billion times takes no room in a file, but it would in a network.
            raise WeightsError(
                f"expected every element to be stored, got {name!r} in {path.name}, which repeats some: call "
                ".contiguous() before saving it"
            )
