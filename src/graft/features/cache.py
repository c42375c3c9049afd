"""Activations in the cache, so that a frozen layer is computed once.

An entry is a file named by a digest of everything that decides its numbers: the images (names, sizes, times), the
preprocessing, the section (layers and weights) and the precision. `graft.files` writes it atomically, protects its
content with a digest, and removes the least recently used entries to stay within the budget.
"""

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from xxhash import xxh3_128

from graft.data.dataset import Images
from graft.files import ACTIVATIONS, cache_folder, read_kept
from graft.images.preprocessing import Preprocessing
from graft.progress import Reporter

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Increment when the same images, layers and weights give other numbers: a new decoder, resize or forward pass.
NUMBERS = 6


@dataclass(frozen=True)
class Activations:
    """The output of a section for some images: `values` (n, …), one row for each image at `indices`, int64 (n,).

    `failures` maps the index of each image that could not be decoded to the reason. `cached` means that nothing was
    computed. Values may be mapped from a file, so treat them as read-only.
    """

    values: Tensor
    indices: np.ndarray
    failures: dict[int, str]
    cached: bool


def section_digest(section: nn.Module, preprocessing: Preprocessing, precision: str, engine: str) -> str:
    """Return a digest of everything except the images that decides what a section computes."""
    # The repr of the layers includes strides, paddings and epsilons, which no tensor shows.
    layers = nn.Module.__repr__(section)
    digest = xxh3_128(repr((NUMBERS, layers, preprocessing, precision, engine)).encode())
    for name, tensor in sorted(section.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(as_bytes(tensor.detach().cpu()))
    return digest.hexdigest()


def entry_path(section: str, images: Images) -> Path:
    """Return the path of the activations of `images` for the section with this digest."""
    digest = hashlib.blake2b(section.encode(), digest_size=20)
    for stamp in images.stamps():
        digest.update(stamp.encode("utf-8", "surrogatepass") + b"\n")
    return cache_folder() / ACTIVATIONS / digest.hexdigest()


def as_bytes(values: Tensor) -> memoryview:
    """Return the bytes of a CPU tensor, copied only if it is not contiguous."""
    return values.contiguous().reshape(-1).view(torch.uint8).numpy().data


def entry_facts(shape: tuple[int, ...], precision: str, failures: dict[int, str]) -> dict[str, Any]:
    """Return the facts to store with values of this shape, for `read_entry`."""
    return {"shape": shape, "dtype": precision, "failures": failures}


def read_entry(path: Path, reporter: Reporter) -> Activations | None:
    """Read the entry at `path`, its values mapped from disk; None if there is none or it is damaged, which `reporter`
    is told."""
    kept = read_kept(path, reporter)
    if kept is None:
        return None
    shape, dtype = kept.facts["shape"], DTYPES[kept.facts["dtype"]]
    failures = {int(index): reason for index, reason in kept.facts["failures"].items()}
    indices = np.setdiff1d(np.arange(shape[0] + len(failures)), np.array([*failures], dtype=np.int64))
    if not kept.content:
        return Activations(torch.empty(shape, dtype=dtype), indices, failures, cached=True)
    with warnings.catch_warnings():
        # The warning is that the memory is read-only.
        warnings.simplefilter("ignore", UserWarning)
        values = torch.frombuffer(kept.content, dtype=dtype)
    return Activations(values.view(shape), indices, failures, cached=True)
