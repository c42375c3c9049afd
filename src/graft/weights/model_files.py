"""The model folder: everything that deployment needs.

config.json          architecture and its numbers, what it was trained from, the outputs of classes that have several
model.safetensors    every tensor, float32
labels.json          class names in the order of the outputs, or of the lists of outputs in config.json
preprocessing.json   from an image to the network's input
calibration.json     the temperature of the logits; what held-out images tell about answers and unfamiliar images
domain.safetensors   features of images like those the network was trained on, if they were kept
README.md            a card for people

This module reads no tensors and does not import torch.
"""

import json
import mmap
import shlex
from collections.abc import Iterable
from contextlib import suppress
from os import PathLike
from pathlib import Path

from xxhash import xxh3_128

from graft.errors import InputError, WeightsError

CONFIG_FILE = "config.json"
TENSORS_FILE = "model.safetensors"
LABELS_FILE = "labels.json"
PREPROCESSING_FILE = "preprocessing.json"
CALIBRATION_FILE = "calibration.json"
DOMAIN_FILE = "domain.safetensors"
CARD_FILE = "README.md"
# The files that decide a model's answers, and all that are written in its folder.
DECIDING_FILES = (CONFIG_FILE, TENSORS_FILE, LABELS_FILE, PREPROCESSING_FILE, CALIBRATION_FILE, DOMAIN_FILE)
MODEL_FILES = (*DECIDING_FILES, CARD_FILE)
# The prefix of a repository on the Hub.
HUB = "hf:"
# Lies beside the model folder of a run, from before its training on.
ARGUMENTS_FILE = "args.yaml"
# The extensions of the files that `graft export` writes.
EXPORTED = (".onnx", ".xml", ".pt2")
# The extensions of files that hold the weights of a network alone.
WEIGHTS = (".safetensors", ".pth", ".pt", ".th", ".bin", ".ckpt", ".keras", ".h5")


def files_digest(files: Iterable[Path]) -> str:
    """Return a hexadecimal digest of the names and bytes of those files that exist. Raises WeightsError."""
    digest = xxh3_128()
    for file in files:
        try:
            if file.is_file():
                digest.update(f"{file.name} {file.stat().st_size} ".encode())
                with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    digest.update(content)
        except ValueError:
            # An empty file cannot be mapped.
            continue
        except OSError as error:
            raise WeightsError(f"expected {file} to be readable ({error.strerror}): restore the model folder") from None
    return digest.hexdigest()


def folder_digest(folder: Path) -> str:
    """Return a digest of everything in a model folder that decides its answers. Raises WeightsError."""
    return files_digest(folder / name for name in DECIDING_FILES)


def digest_of(place: Path) -> str:
    """Return a digest of what decides the answers of a run, a model on the Hub, or an exported file.

    Raises WeightsError, and what `model_folder` raises.
    """
    if place.is_dir() or is_on_hub(place):
        return folder_digest(model_folder(place))
    return files_digest((place, place.with_suffix(".bin")))


def replaced(folder: Path) -> Path:
    """Return where a model folder lies for the moment in which another takes its place."""
    whole = folder.absolute()
    return whole.with_name(f".{whole.name}.old") if whole.name else whole


def is_on_hub(path: Path) -> bool:
    """Whether a run names one on the Hub; an existing folder of that name takes precedence."""
    return str(path).startswith(HUB) and not path.exists()


def gives_several_labels(run: str | PathLike[str]) -> bool:
    """Whether a run folder, or its model folder, holds a multi-label classifier."""
    for candidate in (Path(run).expanduser(), Path(run).expanduser() / "model"):
        with suppress(OSError, ValueError, AttributeError, RecursionError):
            return json.loads((candidate / CONFIG_FILE).read_text(encoding="utf-8")).get("multi_label") is True
    return False


def refuse_several_labels(several: bool, what: str) -> None:
    """Raise InputError for a multi-label classifier where `what` supports only single-label ones."""
    if several:
        raise InputError(
            f"expected a classifier of one label for {what}, got one that gives an image several: `graft predict`, "
            "`graft evaluate`, `graft report` and `graft export` support these"
        )


def refuse_weights(path: Path, expected: str, then: str) -> None:
    """Raise InputError, which says how to make a run of it, if a path is a file of weights where a run is wanted."""
    if path.suffix.lower() in WEIGHTS and path.is_file():
        raise InputError(
            f"expected {expected}, got {str(path)!r}, a file of weights: `graft train DATA --base "
            f"{shlex.quote(str(path))} --level as-is` makes a run of it{then}"
        )


def model_folder(path: Path) -> Path:
    """Return the model folder of a run folder, or the folder itself; fetch that of `hf:owner/name` from the Hub.

    Raises InputError for any other path, and what `graft.weights.hub.fetch_from_hub` raises.
    """
    named = str(path)
    if is_on_hub(path):
        from graft.weights.hub import fetch_from_hub

        path = fetch_from_hub(str(path).removeprefix(HUB))
    for candidate in (path, path / "model"):
        if replaced(candidate).is_dir() and not candidate.exists():
            # A process was killed while it replaced this model by a new one.
            replaced(candidate).rename(candidate)
        if (candidate / CONFIG_FILE).is_file() and (candidate / TENSORS_FILE).is_file():
            return candidate
    if (path / ARGUMENTS_FILE).is_file():
        raise InputError(
            f"expected a finished run, got {str(path)!r}, which was interrupted before its model was saved: `graft "
            f"train --resume {shlex.quote(str(path))}` continues it"
        )
    if path.suffix.lower() in EXPORTED and path.is_file():
        able = (
            "only torch.export.load opens" if path.suffix.lower() == ".pt2" else "`graft predict` and `graft serve` run"
        )
        raise InputError(
            f"expected a run folder or its model folder, got {str(path)!r}, an exported file, which {able}: name "
            "the run that it was exported from"
        )
    refuse_weights(path, "a run folder or its model folder", ", with images to measure it on")
    what = "which does not exist" if not path.exists() else f"which holds no {CONFIG_FILE} and {TENSORS_FILE}"
    advice = "push a run there, or train with it as the base (--base)" if named.startswith(HUB) else "check the path"
    raise InputError(f"expected a run folder or its model folder, got {named!r}, {what}: {advice}")
