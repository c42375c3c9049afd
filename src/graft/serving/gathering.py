"""What a user names on the command line, as images to classify."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import IO

import numpy as np

from graft.data.dataset import Images
from graft.data.handed_over import HandedOver
from graft.data.readers.hub_dataset import PREFIX
from graft.data.readers.remote import is_address
from graft.data.unlabelled import one_image, open_images
from graft.errors import ImageError, InputError
from graft.images.containers import JPEG, PNG
from graft.progress import NOBODY, Reporter

# Bytes of stdin that are looked at together.
BLOCK = 2**16
# What JPEG, PNG, GIF and WebP begin with; a NUL is soon after, which no name has.
_IMAGES = (JPEG, PNG[:4], b"GIF8", b"RIFF")
STDIN = "-"


@dataclass(frozen=True)
class Entry:
    """One of some images: a file, a member of an archive, a row of a table."""

    images: Images
    index: int

    @property
    def path(self) -> str:
        """The path of a file or an address as it was given, or the path within the archive or the manifest."""
        return self.images.source.key(int(self.images.rows[self.index]))

    def read(self) -> bytes | np.ndarray:
        """The encoded image or its pixels. Raises OSError."""
        return self.images.read(self.index)


@dataclass(frozen=True)
class Gathered:
    """Images in the order that they were named in: some that are known, or lines that each name one."""

    parts: Sequence[Images | Iterable[str]]

    @property
    def count(self) -> int | None:
        """How many there are; None where some are named in lines."""
        known = [len(part) for part in self.parts if isinstance(part, Images)]
        return sum(known) if len(known) == len(self.parts) else None

    def __iter__(self) -> Iterator[Entry]:
        for part in self.parts:
            for images in [part] if isinstance(part, Images) else map(_of_line, part):
                yield from (Entry(images, index) for index in range(len(images)))


class _Refused(HandedOver):
    """A name of an image that nothing here reads, such as an address of an unknown kind, and what is said of it."""

    def __init__(self, named: str, error: ImageError) -> None:
        super().__init__([error])
        self._named = named

    def name(self, row: int) -> str:
        return self._named

    key = name


def _of_line(line: str) -> Images:
    """The image that a line names; one that cannot be read is told of in its place."""
    try:
        return one_image(line)
    except InputError as error:
        refused = _Refused(line, ImageError(str(error)))
        return Images(refused, np.zeros(1, np.int64), np.full(1, -1, np.int64))


def gather(arguments: Sequence[str], lines: Iterable[str] = (), reporter: Reporter = NOBODY) -> Gathered:
    """The images that arguments name, each taken as what it is.

    An argument is an image, a folder (at any depth), a pattern such as `*.jpg`, an address, anything else that
    `open_images` knows, or `-` for paths and addresses in `lines`. Raises InputError for a path that does not exist, a
    pattern that nothing matches, and what cannot be read; what does not exist or cannot be read in `lines` is left to
    be told of in its place. `reporter` is told of files in folders that are passed over since their names are not those
    of images.
    """
    parts: list[Images | Iterable[str]] = []
    for argument in arguments:
        parts += [lines] if argument == STDIN else [open_images(each, reporter) for each in _matches(argument)]
    return Gathered(parts)


def read_names(file: IO[bytes], null: bool = False) -> Iterator[str]:
    """Names in a file, one per line, or with `null` each up to a NUL, as `find -print0` writes them.

    Empty ones are passed over. Raises InputError for a file that cannot be read, or that is an image itself.
    """
    separator, rest = b"\0" if null else b"\n", b""
    begun = False
    try:
        while block := file.read1(BLOCK):  # type: ignore[attr-defined]
            if not (begun or null) and block.startswith(_IMAGES) and b"\0" in block[:64]:
                raise InputError(
                    "expected the names of images on stdin, got an image itself: write it to a file, and name that"
                )
            begun = True
            *names, rest = (rest + block).split(separator)
            yield from (os.fsdecode(name) for name in _without_ends(names, null))
    except OSError as error:
        raise InputError(
            f"expected the names of images on stdin, got {error.strerror or error}: pipe them into graft, or name "
            "the images"
        ) from None
    yield from (os.fsdecode(name) for name in _without_ends([rest], null))


def _without_ends(names: Iterable[bytes], null: bool) -> Iterator[bytes]:
    # A name may end in blanks, but a line of Windows ends in two letters.
    return filter(None, names if null else (name.rstrip(b"\r") for name in names))


def _matches(argument: str) -> list[str]:
    """The places that an argument stands for: itself, or what matches it as a pattern."""
    if is_address(argument) or argument.startswith(PREFIX):
        return [argument]
    path = argument
    # `~nobody` has no home and may well be a file of that name.
    with suppress(RuntimeError):
        path = str(Path(argument).expanduser())
    if os.path.lexists(path):
        return [path]
    if not any(character in argument for character in "*?["):
        raise InputError(
            f"expected an image, a folder, an archive, a manifest, an address or - for names on stdin, got "
            f"{argument!r}, which does not exist: check the path"
        )
    found = sorted(match for match in glob(path, recursive=True) if Path(match).is_file())  # noqa: PTH207
    if not found:
        raise InputError(f"expected files that match the pattern {argument!r}, got none: check the pattern")
    return found
