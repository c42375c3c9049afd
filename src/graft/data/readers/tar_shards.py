"""WebDataset shards: tar files in which files with the same key are adjacent, `000123.jpg` and `000123.cls`.

The key is the path up to the first dot of the file name (https://github.com/webdataset/webdataset). Headers are read
once, in order, and images at their offsets; compressed shards are first expanded into the cache. The label of a sample
is its `.cls`, or `label`, `class` or `cls` in its `.json`, or its `.txt`. A number is an index into a list of classes
beside the shards, if there is one; otherwise the labels themselves are the names.
"""

from __future__ import annotations

import os
from array import array
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from graft.archive_paths import Texts, name_without_ending, visible_path
from graft.bombs import bomb_limit
from graft.data.dataset import WHOLE, Dataset
from graft.data.readers.columns import arrange_rows
from graft.data.readers.split_names import SPLIT_FOLDERS, split_in_name
from graft.errors import DataError
from graft.expanding import Contents, open_content
from graft.on_disk import file_stamp
from graft.sample_labels import LABELS, label_of, names_of
from graft.tar_members import FILE, FOLDER, BrokenTarError, members_of
from graft.words import counted, first_few

if TYPE_CHECKING:
    import pyarrow

_SHARDS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_IMAGES = frozenset(b"jpg jpeg jpe jfif png gif webp avif tif tiff jp2 bmp ppm pgm pbm pnm img image".split())
# How much is examined to recognise a folder of shards.
_FIRST_FILES, _FIRST_SHARDS, _FIRST_MEMBERS = 1000, 3, 32


class Shards:
    """Images in tar files: their paths, large_binary (N,), and the file, offset and size of each, int64 (N, 3)."""

    def __init__(
        self, names: list[str], contents: Contents, paths: pyarrow.LargeBinaryArray, places: np.ndarray
    ) -> None:
        self.names = names
        self.contents = contents
        self.paths = paths
        self.places = places
        self._stamps = [file_stamp(path) for path in contents.paths]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, row: int) -> str:
        return f"{self.names[self.places[row, 0]]}/{os.fsdecode(self.paths[row].as_py())}"

    key = name

    def read(self, row: int) -> bytes:
        return self.contents.read(*self.places[row].tolist())

    def stamp(self, row: int) -> str:
        return f"{self._stamps[self.places[row, 0]]}:{os.fsdecode(self.paths[row].as_py())}"


def is_tar_shards(path: Path) -> bool:
    """Whether `path` is a tar file, or a folder of them, in which an image lies next to its label."""
    return any(_has_labelled_image(shard) for shard in _shards(path)[:_FIRST_SHARDS])


def read_tar_shards(path: Path) -> Dataset:
    """Read a Dataset from one shard or a folder of them, named by split: `train-000000.tar`, or `train/000000.tar`.

    Of truncated shards, the samples before the cut are used. Raises DataError if no sample has an image and a label,
    and if some shards are named after a split and others are not.
    """
    import pyarrow

    files = _shards(path)
    root = path if path.is_dir() else path.parent
    names = [file.relative_to(root).as_posix() for file in files]
    splits = [split_in_name(name) for name in names]
    if len(set(splits)) > 1 and WHOLE in splits:
        alone = [name for name, split in zip(names, splits, strict=True) if split == WHOLE]
        raise DataError(
            f"expected every shard in {path} to be named after its split, got {first_few(alone)}: rename or move it"
        )
    contents, found = Contents(files), _Found()
    for number, name in enumerate(names):
        with contents.open(number) as opened:
            _index(opened, number, name, found)
    if not len(found.paths):
        reasons = first_few(sorted(set(found.left_out.values())))
        raise DataError(
            f"expected images beside their labels in {path}, such as 0001.jpg and 0001.cls, got none in "
            f"{counted(len(files), 'shard')}{reasons and f' ({reasons})'}: pack them again"
        )
    words, classes, notes = names_of(list(found.words), root)
    places = np.frombuffer(found.places, np.int64).reshape(-1, 3)
    label = pyarrow.array(words, pyarrow.large_string()).take(pyarrow.array(found.labels))
    split = pyarrow.array(splits, pyarrow.large_string()).take(pyarrow.array(places[:, 0]))
    return arrange_rows(
        path.name if path.is_dir() else name_without_ending(path),
        Shards(names, contents, found.paths.column(), places),
        pyarrow.table({"label": label, "split": split}),
        classes=classes,
        notes=[*found.notes(), *notes],
        left_out=found.left_out,
    )


@dataclass
class _Found:
    """The labelled images found in the shards so far, and everything else found."""

    paths: Texts = field(default_factory=Texts)
    places: array[int] = field(default_factory=lambda: array("q"))
    labels: array[int] = field(default_factory=lambda: array("q"))
    # Each distinct label once, with the number that stands for it in `labels`.
    words: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    crowded: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        notes = [*self.broken]
        if self.left_out:
            reasons = "; ".join(sorted(set(self.left_out.values()))[:3])
            notes.append(
                f"{counted(len(self.left_out), 'file')} in shards left out ({reasons}): "
                f"{first_few(list(self.left_out))}"
            )
        if self.crowded:
            notes.append(
                f"{counted(len(self.crowded), 'sample has', 'samples have')} several images, of which the first by "
                f"name is used: {first_few(self.crowded)}"
            )
        return notes


@dataclass
class _Sample:
    """The files with one key so far: images with their positions, and labels as written by their whole ending."""

    key: bytes
    first: bytes = b""
    images: dict[bytes, tuple[int, ...]] = field(default_factory=dict)
    labels: dict[bytes, bytes] = field(default_factory=dict)


def _index(file: IO[bytes], number: int, shard: str, found: _Found) -> None:
    """Add the samples of one shard."""
    before, sample = len(found.paths), _Sample(b"")
    try:
        for member in members_of(file, wanted=lambda name: _key_and_ending(name)[1] in LABELS):
            path = visible_path(member.name, shard)
            if path is None or member.kind == FOLDER:
                continue
            key, ending = _key_and_ending(path)
            if member.kind != FILE or not key:
                reason = "its name has no extension, so it belongs to no sample"
                found.left_out[_told_name(shard, path)] = reason if member.kind == FILE else f"it is a {member.kind}"
                continue
            if key != sample.key:
                _add(sample, number, shard, found)
                sample = _Sample(key, path)
            if ending in _IMAGES:
                sample.images[path] = member.place
            elif ending in LABELS:
                sample.labels[path.rpartition(b"/")[2].partition(b".")[2].lower()] = member.content
        _add(sample, number, shard, found)
    except BrokenTarError as error:
        _add(sample, number, shard, found)
        used = counted(len(found.paths) - before, "whole sample before that is", "whole samples before that are")
        found.broken.append(error.note(shard, f"{used} used"))
        if error.member is not None or len(found.paths) == before:
            found.left_out[_told_name(shard, error.member or b"")] = f"the shard is not whole: {error.reason}"


def _add(sample: _Sample, number: int, shard: str, found: _Found) -> None:
    """Add a sample that has an image and a label; leave out any other by name."""
    if not sample.key:
        return
    path = min(sample.images, default=sample.first)
    label, reason = label_of(sample.labels, f"{os.fsdecode(sample.key)!r} in {shard}")
    if not sample.images or not label:
        found.left_out[_told_name(shard, path)] = reason if sample.images else "there is no image with this key"
        return
    if len(sample.images) > 1:
        found.crowded.append(_told_name(shard, path))
    found.paths.append(path)
    found.places.extend((number, *sample.images[path]))
    found.labels.append(found.words.setdefault(label, len(found.words)))


def _key_and_ending(path: bytes) -> tuple[bytes, bytes]:
    """`a/0001` and `png` of `a/0001.left.PNG`; both empty for a name without an ending, which is in no sample."""
    folder, slash, name = path.rpartition(b"/")
    stem, dot, endings = name.partition(b".")
    if not dot or name.startswith(b"__"):
        return b"", b""
    return folder + slash + stem, endings.rpartition(b".")[2].lower()


def _shards(path: Path) -> list[Path]:
    """The tar files at `path`, in order: itself, or those in it and in its folders of splits.

    Empty if its folders of splits hold anything else.
    """
    if not path.is_dir():
        return [path] if path.name.lower().endswith(_SHARDS) else []
    with os.scandir(path) as entries:
        first = [Path(entry.path) for entry in islice(entries, _FIRST_FILES)]
    folders = [child for child in first if child.name.lower() in SPLIT_FOLDERS and child.is_dir()]
    inner = [shard for folder in folders for shard in _shards_in(folder)]
    return sorted([*_shards_in(path), *inner]) if inner or not folders else []


def _shards_in(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        if not any(_is_shard(entry.name) for entry in islice(entries, _FIRST_FILES)):
            return []
    return [child for child in folder.iterdir() if _is_shard(child.name) and child.is_file()]


def _is_shard(name: str) -> bool:
    return name.lower().endswith(_SHARDS) and not name.startswith(".")


def _has_labelled_image(shard: Path) -> bool:
    images, labels = set(), set()
    # Anything wrong with it shows up when it is read.
    with open_content(shard) as opened, suppress(BrokenTarError, DataError):
        for member in islice(members_of(opened, most=bomb_limit(shard)), _FIRST_MEMBERS):
            path = visible_path(member.name, shard.name)
            key, ending = _key_and_ending(path) if path else (b"", b"")
            if ending in _IMAGES:
                images.add(key)
            elif ending in LABELS:
                labels.add(key)
    return bool(images & labels)


def _told_name(shard: str, path: bytes) -> str:
    return f"{shard}/{os.fsdecode(path)}".removesuffix("/")
