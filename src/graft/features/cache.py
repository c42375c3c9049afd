"""Activations on disk, so that a frozen layer is computed once.

An entry is a folder named by a digest of all that decides its numbers: the images (names, sizes, times), the
preprocessing, the section (layers and weights) and the precision. It is written under another name and renamed when
complete, so a reader sees a whole entry or none. Beyond the budget the entries used longest ago go first.

Compiled sections (`openvino_engine`) and what was seen of images (`data.looking`) lie beside the entries and count in
the same budget.

The folder is `GRAFT_CACHE`, else `graft` in `XDG_CACHE_HOME` or `~/.cache`; the budget is `GRAFT_CACHE_BYTES`, else
20 GiB or a fifth of the disk, whichever is less.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor, nn

from graft.data.dataset import Images
from graft.files import cache_folder, flush, make_room, remove
from graft.images.preprocessing import Preprocessing

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Raised when the same images, layers and weights come to give other numbers: another decoder, resize or forward pass.
NUMBERS = 2


@dataclass(frozen=True)
class Activations:
    """What a section makes of some images: `values` (n, …), one row for each image at `indices`, int64 (n,).

    `failures` maps the index of an image that could not be decoded to the reason. `cached` says that nothing was
    computed.
    """

    values: Tensor
    indices: np.ndarray
    failures: dict[int, str]
    cached: bool


def section_digest(section: nn.Module, preprocessing: Preprocessing, precision: str, engine: str) -> str:
    """A digest of everything but the images that decides what a section computes."""
    digest = hashlib.blake2b(digest_size=20)
    # The printed layers tell strides, paddings and epsilons, which no tensor shows.
    layers = nn.Module.__repr__(section)
    digest.update(repr((NUMBERS, layers, preprocessing, precision, engine)).encode())
    for name, tensor in sorted(section.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def entry_path(section: str, images: Images) -> Path:
    """Where the activations of `images` under the section with this digest are kept."""
    digest = hashlib.blake2b(section.encode(), digest_size=20)
    for stamp in images.stamps():
        digest.update(stamp.encode("utf-8", "surrogatepass") + b"\n")
    return cache_folder() / "activations" / digest.hexdigest()


def read_entry(path: Path) -> Activations | None:
    """The entry at `path`, its values mapped from disk; None when there is none or it is damaged."""
    try:
        facts = json.loads((path / "entry.json").read_text(encoding="utf-8"))
        shape, dtype = tuple(facts["shape"]), DTYPES[facts["dtype"]]
        count = int(np.prod(shape))
        if (path / "values.bin").stat().st_size != count * dtype.itemsize:
            raise ValueError("cut off")
        flat = (
            torch.from_file(str(path / "values.bin"), size=count, dtype=dtype) if count else torch.empty(0, dtype=dtype)
        )
        failures = {int(index): str(reason) for index, reason in facts["failures"].items()}
        indices = np.setdiff1d(np.arange(shape[0] + len(failures)), np.array(list(failures), dtype=np.int64))
        if len(indices) != shape[0]:
            raise ValueError("failures that are not among the images")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):
        remove(path)
        return None
    # Used now, so removed late; a cache that only others may write to is as good to read.
    with suppress(OSError):
        os.utime(path / "entry.json")
    return Activations(flat.view(shape), indices, failures, cached=True)


class EntryWriter:
    """An entry being written: `append` rows in order, then `finish`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] = (folder / "values.bin").open("wb")
        self._rows = 0

    def append(self, values: Tensor) -> None:
        self._rows += len(values)
        self._file.write(values.contiguous().reshape(-1).view(torch.uint8).numpy().data)

    def finish(self, row_shape: tuple[int, ...], dtype: str, failures: dict[int, str]) -> None:
        flush(self._file)
        facts = {"shape": [self._rows, *row_shape], "dtype": dtype, "failures": failures}
        with (self._folder / "entry.json").open("w", encoding="utf-8") as file:
            json.dump(facts, file)
            flush(file)

    def close(self) -> None:
        self._file.close()


@contextmanager
def new_entry(path: Path, expected_bytes: int) -> Iterator[EntryWriter]:
    """Write an entry aside; it appears at `path` when the block ends well and leaves nothing when it does not."""
    make_room(expected_bytes)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    aside.mkdir(parents=True)
    try:
        writer = EntryWriter(aside)
        try:
            yield writer
        finally:
            writer.close()
        try:
            aside.rename(path)
        except OSError:
            # Another process finished the same entry first, and the numbers are the same; or what is there is damaged.
            if read_entry(path) is None:
                remove(path)
                aside.rename(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
