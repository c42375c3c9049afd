"""Tensors from a file, without running anything in it.

The format is recognized by content. safetensors files are read as such; whatever torch saved (`.pth`, `.pt`, `.th`)
goes through its weights-only unpickler, which builds tensors and containers and refuses everything else.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graft.errors import WeightsError
from graft.weights.tensor_file import DIGEST, tensors_digest

# The entry of a checkpoint under which training scripts put the weights, averaged ones first.
WRAPPINGS = (
    "state_dict_ema",
    "model_ema",
    "ema",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "weights",
)
# What a wrapper (DataParallel, torch.compile, Lightning) puts before every tensor name.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")


@dataclass(frozen=True)
class WeightFile:
    """Tensors by name, as stored, and the text metadata beside them; `source` is what messages call the file."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    source: str


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
    elif start.startswith((b"PK", b"\x80")):
        # A zip archive or a pickle. The unpickler would take anything else for instructions.
        tensors, metadata = _unwrap(_read_torch(path), path), {}
    else:
        raise WeightsError(
            f"expected a torch checkpoint or a safetensors file, got {path.name}, which begins with {start!r}: "
            "fetch it again"
        )
    _check_tensors(tensors, path)
    return WeightFile(_without_prefixes(tensors), metadata, path.name)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            # Read now, so that a truncated file with a valid header fails here and not when a tensor is first used.
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"expected a complete safetensors file, got {path.name} ({_first_line(error)}): fetch it again"
        ) from None
    if DIGEST in metadata and metadata[DIGEST] != tensors_digest(tensors):
        raise WeightsError(
            f"expected the tensors that {path.name} was saved with, got others: it is damaged, so restore it or train "
            "again"
        )
    return tensors, metadata


def _read_torch(path: Path) -> Any:
    try:
        # Opened here, because torch goes by the suffix of a path.
        with path.open("rb") as file, warnings.catch_warnings():
            # The warnings are about how the file was written, which its reader cannot change.
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        # A hostile or truncated file can make the unpickler raise anything.
        if "weights_only" in str(error).lower() or "unsupported" in str(error).lower():
            raise WeightsError(
                f"expected nothing but tensors, got {path.name}, which needs pickle to run code ({_culprit(error)}) "
                "and was refused: save its state_dict() again, preferably as .safetensors"
            ) from None
        raise WeightsError(
            f"expected a torch checkpoint or a safetensors file, got {path.name} ({_first_line(error)}): check that it "
            "is complete and of that kind"
        ) from None


def _unwrap(value: Any, path: Path) -> dict[str, Tensor]:
    """The dictionary of tensors inside the usual wrappings. Raises WeightsError where there is none."""
    for _ in range(4):
        if not isinstance(value, dict):
            break
        tensors = {str(name): item for name, item in value.items() if isinstance(item, Tensor)}
        if tensors and len(tensors) >= len(value) / 2:
            return tensors
        inner = next((value[name] for name in WRAPPINGS if isinstance(value.get(name), dict)), None)
        if inner is None:
            break
        value = inner
    what = (
        f"a dictionary of {', '.join(map(repr, list(value)[:6])) or 'nothing'}"
        if isinstance(value, dict)
        else type(value).__name__
    )
    raise WeightsError(
        f"expected a dictionary of tensors, bare or under {', '.join(map(repr, WRAPPINGS[3:6]))}, got {what} in "
        f"{path.name}: save the network's state_dict()"
    )


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


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for _ in range(3):
        prefix = next((p for p in PREFIXES if tensors and all(name.startswith(p) for name in tensors)), None)
        if prefix is None:
            break
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:")[:160] if lines else type(error).__name__


def _culprit(error: Exception) -> str:
    text = str(error)
    marker = "GLOBAL "
    return f"it names {text.split(marker, 1)[1].split()[0]}" if marker in text else "it holds more than tensors"
