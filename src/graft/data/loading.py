"""Load images as batches of pixels, decoded ahead by threads."""

from __future__ import annotations

import math
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from graft.data.content import unreadable
from graft.errors import ImageError
from graft.images.decoding import decode, decode_with_facts, reduction
from graft.images.squares import square

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController
    from torch import Tensor

    from graft.data.dataset import Images, Source
    from graft.images.augmenting import View
    from graft.images.levels import Levels
    from graft.images.preprocessing import Preprocessing


Given = TypeVar("Given")
Made = TypeVar("Made")

# Decoded images up to this total size stay in memory while several views of them are made.
DECODED_BYTES = 2**30
# Images per task: handing images to threads one by one costs a twentieth of the decoding.
TASK = 4


@dataclass(frozen=True)
class Squares:
    """Pixels, uint8 (n, C, size, size), of the images at `indices`, int64 (n,).

    `failures` maps the index of each image that could not be decoded, and is therefore not in `indices`, to the reason.
    """

    indices: np.ndarray
    pixels: np.ndarray
    failures: dict[int, str]


@dataclass(frozen=True)
class Batch:
    """`Squares` as a tensor."""

    indices: np.ndarray
    pixels: Tensor
    failures: dict[int, str]


# A large JPEG may be decoded at reduced scale as long as the side of the region cut from it is at least this many times
# the output's side. Measured with MobileNetV2 on ants and bees at 224 px, against the same region decoded in full: for
# images enlarged to 2,000 px, and mosaics of 1,500 px that keep their detail, pixels differ by 0.23 and 0.42 levels on
# average and features by a cosine of 0.0005 and 0.0007. A head on the features has a validation accuracy of 0.954
# either way. At 1.5 times, pixels differ by 0.5 to 1.2 levels; at 0.7 times, by 3 to 5.
SPARE = 2


def least_side(preprocessing: Preprocessing, view: View | None = None) -> int:
    """Return the smallest shorter side, px, at which the region cut from an image has `SPARE` times the output side."""
    share = preprocessing.crop_fraction if preprocessing.resize_mode == "crop" else 1.0
    if view is not None and view.augmentation.crop is not None and preprocessing.resize_mode == "crop":
        # The narrowest of the smallest random crops.
        share = math.sqrt(view.augmentation.crop) / view.augmentation.aspect
    return math.ceil(SPARE * preprocessing.size / share)


class DecodedOnce:
    """A source that caches decoded images, for data of which several views are made.

    Decoding a photograph takes three times as long as making a view of it. Images that no longer fit in `room`, in
    bytes, are decoded again each time. Threads may share a source.
    """

    def __init__(self, source: Source, room: int = DECODED_BYTES) -> None:
        self._source, self._room = source, room
        # The shorter side by row, None for images that are never reduced.
        self._sides: dict[int, int | None] = {}
        self._kept: dict[tuple[int, int, Levels], np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._source)

    def name(self, row: int) -> str:
        return self._source.name(row)

    def key(self, row: int) -> str:
        return self._source.key(row)

    def stamp(self, row: int) -> str:
        return self._source.stamp(row)

    def read(self, row: int) -> bytes | np.ndarray:
        return self._source.read(row)

    def decoded(self, row: int, at_least: int, levels: Levels = ()) -> np.ndarray:
        """Return the pixels of a row as `decode` does; do not modify them. Raises OSError, ImageError."""
        if row in self._sides:
            found = self._kept.get((row, self._reduction(row, at_least), levels))
            if found is not None:
                return found
        data = self._source.read(row)
        if not isinstance(data, bytes):
            return data
        pixels, facts = decode_with_facts(data, at_least, levels)
        self._sides[row] = min(facts.width, facts.height) if facts.format == "JPEG" else None
        if pixels.nbytes <= self._room:
            self._room -= pixels.nbytes
            pixels.flags.writeable = False
            self._kept[row, self._reduction(row, at_least), levels] = pixels
        return pixels

    def _reduction(self, row: int, at_least: int) -> int:
        side = self._sides[row]
        return 1 if side is None else reduction(side, at_least)


def decoded_once(images: Images) -> Images:
    """Return the same images with a source that caches decoded pixels for as long as it lives."""
    if isinstance(images.source, DecodedOnce):
        return images
    return replace(images, source=DecodedOnce(images.source))


def load_image(images: Images, index: int, preprocessing: Preprocessing, view: View | None = None) -> Tensor:
    """Return one image as the network expects it, uint8 (C, size, size), or a view of it. Raises ImageError."""
    import torch

    return torch.from_numpy(load_square(images, index, preprocessing, view))


def load_square(images: Images, index: int, preprocessing: Preprocessing, view: View | None = None) -> np.ndarray:
    """Return the result of `load_image` as an array."""
    at_least = least_side(preprocessing, view)
    try:
        if isinstance(images.source, DecodedOnce):
            pixels = images.source.decoded(int(images.rows[index]), at_least, preprocessing.levels)
        else:
            data = images.read(index)
            pixels = decode(data, at_least, preprocessing.levels) if isinstance(data, bytes) else data
    except OSError as error:
        raise unreadable(error) from None
    return square(pixels, preprocessing) if view is None else view.of(pixels, index, preprocessing).numpy()


def batches(
    images: Images,
    preprocessing: Preprocessing,
    batch_size: int,
    *,
    order: Sequence[int] | np.ndarray | None = None,
    view: View | None = None,
    threads: int | None = None,
) -> Generator[Batch, None, None]:
    """Yield all images, or those at `order`, in order and `batch_size` at a time, decoded ahead of their use.

    A `view` augments them. An image that cannot be decoded is listed in the failures of its batch, which is then
    smaller by one.
    """
    import torch

    decoded = squares(images, preprocessing, batch_size, order=order, view=view, threads=threads)
    with closing(decoded):
        for each in decoded:
            yield Batch(each.indices, torch.from_numpy(each.pixels), each.failures)


def squares(
    images: Images,
    preprocessing: Preprocessing,
    batch_size: int,
    *,
    order: Sequence[int] | np.ndarray | None = None,
    view: View | None = None,
    threads: int | None = None,
) -> Generator[Squares, None, None]:
    """Yield the `batches` as arrays; this needs PyTorch only with a view."""
    if view is not None:
        from graft.images.augmenting import import_functional

        # Before any thread starts, for the reason given in that function.
        import_functional(view.augmentation)
    indices = np.arange(len(images)) if order is None else np.asarray(order, dtype=np.int64)
    threads = threads or available_cores()
    groups = [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode", initializer=_work_alone)
    # Two batches ahead, and at least four images per thread, keep all threads busy and memory bounded.
    ahead = max(2, -(-4 * threads // batch_size))
    queue: deque[tuple[np.ndarray, np.ndarray, list[Future[dict[int, str]]]]] = deque()
    upcoming = iter(groups)
    size = (preprocessing.channels, preprocessing.size, preprocessing.size)

    def load_rows(rows: range, group: np.ndarray, pixels: np.ndarray) -> dict[int, str]:
        """Fill in `rows` of `pixels`, uint8 (n, C, size, size); return the rows that failed, with the reasons."""
        failures = {}
        for row in rows:
            try:
                pixels[row] = load_square(images, int(group[row]), preprocessing, view)
            except ImageError as error:
                failures[row] = str(error)
        return failures

    try:
        while True:
            while len(queue) <= ahead and (group := next(upcoming, None)) is not None:
                pixels = np.empty((len(group), *size), np.uint8)
                tasks = [range(len(group))[start : start + TASK] for start in range(0, len(group), TASK)]
                queue.append((group, pixels, [pool.submit(load_rows, rows, group, pixels) for rows in tasks]))
            if not queue:
                return
            group, pixels, futures = queue.popleft()
            failed = {row: reason for future in futures for row, reason in future.result().items()}
            kept = np.ones(len(group), dtype=bool)
            kept[list(failed)] = False
            if failed:
                pixels = pixels[kept]
            yield Squares(group[kept], pixels, {int(group[row]): reason for row, reason in failed.items()})
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def ahead(function: Callable[[Given], Made], given: Iterable[Given]) -> Generator[Made, None, None]:
    """Yield `function` of everything given, in order, computed by threads a few ahead of the use of the results."""
    threads, waiting = available_cores(), deque[Future[Made]]()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    try:
        for each in given:
            waiting.append(pool.submit(function, each))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _work_alone() -> None:
    """Keep OpenMP from starting threads in this one: an image is work for one thread; the others fill the cores."""
    if "torch" not in sys.modules:
        # Only PyTorch computes with OpenMP here.
        return
    import torch

    # Query first: PyTorch sets the number itself on its first call in a thread.
    torch.get_num_threads()
    _libraries().limit(limits=1, user_api="openmp")


@cache
def _libraries() -> ThreadpoolController:
    """Return the threading libraries of this process; finding them takes longer than decoding a few images."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
