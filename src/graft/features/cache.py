"""Activations in the cache, so that a frozen layer is computed once.

An entry is a file named by a digest of all that decides its numbers: the images (names, sizes, times), the
preprocessing, the section (layers and weights) and the precision. `graft.files` writes it whole or not at all, guards
its content by a digest, and removes the entries used longest ago where the budget ends.
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
# Raised when the same images, layers and weights come to give other numbers: another decoder, resize or forward pass.
NUMBERS = 5


@dataclass(frozen=True)
class Activations:
    """What a section makes of some images: `values` (n, …), one row for each image at `indices`, int64 (n,).

    `failures` maps the index of an image that could not be decoded to the reason. `cached` says that nothing was
    computed. Values may be mapped from a file, so they are only read.
    """

    values: Tensor
    indices: np.ndarray
    failures: dict[int, str]
    cached: bool


def section_digest(section: nn.Module, preprocessing: Preprocessing, precision: str, engine: str) -> str:
    """A digest of everything but the images that decides what a section computes."""
    # The printed layers tell strides, paddings and epsilons, which no tensor shows.
    layers = nn.Module.__repr__(section)
    digest = xxh3_128(repr((NUMBERS, layers, preprocessing, precision, engine)).encode())
    for name, tensor in sorted(section.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(as_bytes(tensor.detach().cpu()))
    return digest.hexdigest()


def entry_path(section: str, images: Images) -> Path:
    """Where the activations of `images` under the section with this digest are kept."""
    digest = hashlib.blake2b(section.encode(), digest_size=20)
    for stamp in images.stamps():
        digest.update(stamp.encode("utf-8", "surrogatepass") + b"\n")
    return cache_folder() / ACTIVATIONS / digest.hexdigest()


def as_bytes(values: Tensor) -> memoryview:
    """The bytes of a tensor on the CPU, copied only where it is not contiguous."""
    return values.contiguous().reshape(-1).view(torch.uint8).numpy().data


def entry_facts(shape: tuple[int, ...], precision: str, failures: dict[int, str]) -> dict[str, Any]:
    """What an entry says of values of this shape; `read_entry` takes it back."""
    return {"shape": shape, "dtype": precision, "failures": failures}


def read_entry(path: Path, reporter: Reporter) -> Activations | None:
    """The entry at `path`, its values mapped from disk; None where there is none or, as `reporter` is told, a damaged
    one."""
    kept = read_kept(path, reporter)
    if kept is None:
        return None
    shape, dtype = kept.facts["shape"], DTYPES[kept.facts["dtype"]]
    failures = {int(index): reason for index, reason in kept.facts["failures"].items()}
    indices = np.setdiff1d(np.arange(shape[0] + len(failures)), np.array([*failures], dtype=np.int64))
    if not kept.content:
        return Activations(torch.empty(shape, dtype=dtype), indices, failures, cached=True)
    with warnings.catch_warnings():
        # That the memory is not to be written to.
        warnings.simplefilter("ignore", UserWarning)
        values = torch.frombuffer(kept.content, dtype=dtype)
    return Activations(values.view(shape), indices, failures, cached=True)
