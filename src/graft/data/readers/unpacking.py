"""A folder or archive as a place for images and tables; archives in it are unpacked if no image lies beside them.

A zip or tar file inside acts as a folder of its name: `train.zip` and `test.zip`, one for each class, or the zips that
Kaggle packs once more. Archives beside images are where the images came from, and are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from graft.archive_paths import name_without_ending
from graft.arrow import as_numpy
from graft.data.dataset import Several, Source
from graft.data.readers.archive import Members, is_archive, list_archive
from graft.data.readers.folder import Files, list_folder
from graft.data.readers.folder_tree import are_no_images
from graft.data.readers.place import Chosen, Place
from graft.data.readers.tree import Listing
from graft.errors import DataError, InputError
from graft.expanding import copy_of, keep_copy
from graft.on_disk import below

if TYPE_CHECKING:
    pass

_ARCHIVE = r"(?i)\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz))$"
# Nested archives are unpacked to this depth.
_DEPTH = 2


@contextmanager
def open_place(path: Path, encoding: str | None = None) -> Iterator[Place]:
    """Open a folder or an archive; `encoding` is that of names in zips. Raises DataError for anything else."""
    if not path.is_dir() and not is_archive(path):
        raise DataError(
            f"expected a folder, an archive or a table of images with --label-from, got {path}: give one of these, or "
            "leave it out"
        )
    listing: Listing
    source: Source
    if path.is_dir():
        listing = list_folder(path)
        source = Files(path, listing.files)
    else:
        listing, source = list_archive(path, encoding)
    whole, unpacked = _unpacked(path, listing, source, encoding, _DEPTH)
    if path.is_dir() and unpacked is source:
        yield Place(path, listing, source)
        return
    with TemporaryDirectory(prefix="graft-") as scratch:
        try:
            yield Place(Path(scratch), whole, unpacked, packed=True)
        except InputError as error:
            # The user knows only the archive.
            raise type(error)(str(error).replace(f"{scratch}/", f"{path.name}/").replace(scratch, path.name)) from None


def _unpacked(path: Path, listing: Listing, source: Source, encoding: str | None, depth: int) -> tuple[Listing, Source]:
    """The same with its archives as folders, if there are archives and no images."""
    import pyarrow
    import pyarrow.compute

    files = listing.files
    packed = np.flatnonzero(as_numpy(pyarrow.compute.match_substring_regex(files, _ARCHIVE)))
    if not depth or not len(packed) or not are_no_images(files).all():
        return listing, source
    sources, paths, listings = [source], [files], [listing]
    gone = np.zeros(len(files), bool)
    for row in packed.tolist():
        name = os.fsdecode(files[row].as_py())
        archive = path / name if isinstance(source, Files) else _copy(path, source, row, name)
        if not is_archive(archive):
            continue
        inner, members = list_archive(archive, encoding)
        members.archive = Path(name)
        if isinstance(source, Members):
            # Copies the archive again if the cache has dropped it to make room for others.
            members.ensure = partial(_copy, path, source, row, name)
        inner, within = _unpacked(archive, inner, members, encoding, depth - 1)
        outer = Path(name).with_name(name_without_ending(Path(name)))
        sources.append(within)
        paths.append(below(os.fsencode(outer) + b"/", inner.files))
        folders = frozenset((*outer.parts, *each) for each in inner.folders)
        listings.append(replace(inner, folders=folders))
        gone[row] = True
    kept = np.concatenate([~gone, np.ones(sum(map(len, paths[1:])), bool)])
    column = pyarrow.concat_arrays(paths).filter(pyarrow.array(kept))
    whole = Listing(
        listing.name,
        column,
        frozenset().union(*(each.folders for each in listings)),
        tuple(note for each in listings for note in each.notes),
        {name: reason for each in listings for name, reason in each.left_out.items()},
    )
    return whole, Chosen(Several(sources), np.flatnonzero(kept), column)


def _copy(path: Path, source: Source, row: int, name: str) -> Path:
    """Copy an archive inside another into the cache and return its path there."""
    assert isinstance(source, Members)
    copy = copy_of(path, name)
    with suppress(FileNotFoundError):
        os.utime(copy)
        return copy
    keep_copy(path, copy, source.blocks(row))
    return copy
