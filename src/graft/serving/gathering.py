"""Gather the images to classify from what a user names on the command line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import IO

import numpy as np

from graft.data.dataset import Images
from graft.data.handed_over import HandedOver
from graft.data.readers.folder import Files
from graft.data.readers.hub_dataset import PREFIX
from graft.data.readers.remote import is_address
from graft.data.unlabelled import one_image, open_images
from graft.endings import IMAGE_ENDING
from graft.errors import ImageError, InputError
from graft.given import expanded
from graft.images.containers import JPEG, PNG
from graft.progress import NOBODY, Reporter
from graft.words import counted

# Bytes of stdin read at a time.
BLOCK = 2**16
# The first bytes of JPEG, PNG, GIF and WebP; a NUL follows soon after, which no name contains.
_IMAGES = (JPEG, PNG[:4], b"GIF8", b"RIFF")
STDIN = "-"


@dataclass(frozen=True)
class Entry:
    """One image of a source: a file, a member of an archive, a row of a table."""

    images: Images
    index: int

    @property
    def path(self) -> str:
        """The path or URL as it was given, or the path within the archive or the manifest."""
        return self.images.source.key(int(self.images.rows[self.index]))

    def read(self) -> bytes | np.ndarray:
        """Read the encoded image or its pixels. Raises OSError."""
        return self.images.read(self.index)


@dataclass(frozen=True)
class Gathered:
    """Images in the order in which they were named: known images, or lines that each name one."""

    parts: Sequence[Images | Iterable[str]]

    @property
    def count(self) -> int | None:
        """The number of images; None where some are named in lines."""
        known = [len(part) for part in self.parts if isinstance(part, Images)]
        return sum(known) if len(known) == len(self.parts) else None

    def __iter__(self) -> Iterator[Entry]:
        for part in self.parts:
            for images in [part] if isinstance(part, Images) else map(_of_line, part):
                yield from (Entry(images, index) for index in range(len(images)))


class _Refused(HandedOver):
    """The name of an image that nothing here reads, for example a URL of an unknown scheme, and the error for it."""

    def __init__(self, named: str, error: ImageError) -> None:
        super().__init__([error])
        self._named = named

    def name(self, row: int) -> str:
        return self._named

    key = name


def _of_line(line: str) -> Images:
    """Return the image that a line names; one that cannot be read is reported in its place."""
    try:
        return one_image(line)
    except InputError as error:
        refused = _Refused(line, ImageError(str(error)))
        return Images(refused, np.zeros(1, np.int64), np.full(1, -1, np.int64))


def gather(
    arguments: Sequence[str], lines: Iterable[str] = (), reporter: Reporter = NOBODY, *, some_missing: bool = False
) -> Gathered:
    """Return the images that the arguments name, each treated according to its kind.

    An argument is an image, a folder (at any depth), a pattern like `*.jpg`, a URL, anything else that `open_images`
    knows, or `-` for paths and URLs in `lines`. Raises InputError for a path that does not exist, a pattern without
    matches, and what cannot be read; in `lines`, such errors are reported in place of the image. With `some_missing`,
    an argument named as an image that does not exist is reported in its place, too, unless all are missing. `reporter`
    receives the files in folders that are skipped because their names are not those of images, and how many rows of a
    table repeat others, which count once.
    """
    missing = [argument for argument in arguments if some_missing and _is_missing_image(argument)]
    forgiven = frozenset(missing) if len(missing) < len(arguments) else frozenset()
    parts: list[Images | Iterable[str]] = []
    for argument in arguments:
        if argument == STDIN:
            parts.append(lines)
        elif argument in forgiven:
            parts.append(one_image(expanded(argument)))
        else:
            parts += [_each_once(open_images(each, reporter), each, reporter) for each in _matches(argument)]
    return Gathered(parts)


def _is_missing_image(argument: str) -> bool:
    """Whether an argument can only be meant as an image, by the ending of its name, and there is none."""
    named_as_such = re.search(IMAGE_ENDING, argument) is not None and not _is_pattern(argument)
    return named_as_such and not _is_remote(argument) and not os.path.lexists(expanded(argument))


def _each_once(images: Images, place: str, reporter: Reporter) -> Images:
    """Return the images that a place names, each once: a table may have a row for each box or each annotator."""
    if not isinstance(images.source, Files) or len(images) < 2:
        return images
    paths = images.source.paths.take(images.rows)
    number = paths.dictionary_encode().indices.to_numpy()
    first = np.zeros(len(images), bool)
    first[np.unique(number, return_index=True)[1]] = True
    # Rows without a path repeat nothing.
    kept = first | np.array([not path for path in paths.to_pylist()])
    repeating = int((~kept).sum())
    if not repeating:
        return images
    one, many = f"row of {place} repeats another and counts", f"rows of {place} repeat others and count"
    reporter.note(f"{counted(repeating, one, many)} once")
    return images.take(np.flatnonzero(kept))


def read_names(file: IO[bytes], null: bool = False) -> Iterator[str]:
    """Yield the names in a file, one per line or, with `null`, each terminated by NUL, as `find -print0` writes them.

    Empty names are skipped. Raises InputError for a file that cannot be read, or that is itself an image.
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
    # A name may end in blanks, but a Windows line ends in two characters.
    return filter(None, names if null else (name.rstrip(b"\r") for name in names))


def _is_remote(argument: str) -> bool:
    return is_address(argument) or argument.startswith(PREFIX)


def _is_pattern(argument: str) -> bool:
    return any(character in argument for character in "*?[")


def _matches(argument: str) -> list[str]:
    """Return the places that an argument stands for: itself, or the matches of its pattern."""
    if _is_remote(argument):
        return [argument]
    path = argument
    # `~nobody` has no home folder and may well be a file of that name.
    with suppress(RuntimeError):
        path = str(Path(argument).expanduser())
    if os.path.lexists(path):
        return [path]
    if not _is_pattern(argument):
        raise InputError(
            f"expected an image, a folder, an archive, a manifest, an address or - for names on stdin, got "
            f"{argument!r}, which does not exist: check the path"
        )
    found = sorted(match for match in glob(path, recursive=True) if Path(match).is_file())  # noqa: PTH207
    if not found:
        raise InputError(f"expected files that match the pattern {argument!r}, got none: check the pattern")
    return found
