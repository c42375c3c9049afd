"""Run compiled sections on OpenVINO: asynchronous requests, in any number of concurrent runs. Imports no PyTorch."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

import numpy as np

from graft.features.openvino_import import check_not_forked, core, forked, keep_when_forked, openvino
from graft.files import COMPILED, cache_folder, read_kept
from graft.progress import Reporter

# Images per request, at most. One size is compiled, so that shapes are static, and a smaller last batch is padded.
# Eight was as fast as sixteen, and faster than a dynamic size by a fifth (MobileNetV2 at 224 px, two cores with AMX).
BATCH = 8
# Depthwise convolutions are limited by memory, not arithmetic: in float32, their requests have so few images that the
# largest map of all of them takes at most this many bytes, and stays in a core's caches. Images/s with 1, 2, 4 and 8
# images per request, on two cores with AVX2: MobileNetV2 at 224 px (4.8 MB an image) 128, 118, 109, 100; at 160 px 228,
# 259, 236, 227; at 96 px 362, 497, 596, 627; EfficientNet-Lite0 at 224 px 106, 97, 86, 78; MobileNet 0.25 at 224 px
# 691, 700, 766, 727; ResNet-50, which has no depthwise convolutions, 13.2, 13.0, 12.7, 13.6.
MOST_MAP_BYTES = 8_000_000
# Up to this many leftover images of a batch go one by one if the engine has a section for single images: a padded
# request takes as long as a full one, and so do six single ones (MobileNetV2 at 224 px, two cores, float32).
FEW = 4
TYPES = {"float32": openvino.Type.f32, "bfloat16": openvino.Type.bf16}


class Pixels(Protocol):
    """A batch with pixels, uint8 (n, C, size, size), as an array or a CPU tensor."""

    @property
    def indices(self) -> np.ndarray: ...

    @property
    def pixels(self) -> Any: ...


ABatch = TypeVar("ABatch", bound=Pixels)


def options_for(precision: str, threads: int | None = None) -> dict[str, Any]:
    """Return the CPU device options to run with `threads` on one request at a time, or as OpenVINO finds best."""
    how: dict[str, Any] = {"PERFORMANCE_HINT": "THROUGHPUT"}
    if threads is not None:
        how = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads}
    return how | {"INFERENCE_PRECISION_HINT": TYPES[precision]}


def read_compiled(key: str, options: dict[str, Any], reporter: Reporter) -> openvino.CompiledModel | None:
    """Read the section kept under `key`; None if there is none, or if it was compiled for something else.

    `reporter` receives a note on a damaged one, which OpenVINO itself would accept, and compute wrong numbers with.
    Raises GraftError in a forked process.
    """
    kept = read_kept(cache_folder() / COMPILED / key, reporter)
    if kept is None:
        return None
    try:
        return core().import_model(bytes(kept.content), "CPU", options)
    except RuntimeError:
        # It was compiled by another build or for another processor.
        return None


class Requests:
    """A section compiled for up to BATCH images per request, and optionally also for one.

    Any number of runs may be active at once, in one thread or in many: each borrows its own requests, at most as many
    as OpenVINO finds best.
    """

    def __init__(self, compiled: dict[int, openvino.CompiledModel]) -> None:
        # By images per request; most requests have the largest number.
        self._compiled, self._most = compiled, max(compiled)
        self.output_shape = tuple(int(size) for size in compiled[self._most].output(0).shape)[1:]
        self._in_flight = int(compiled[self._most].get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        # How many single images are computed in parallel; 0 without a section for single images.
        self.lanes = int(compiled[1].get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) if 1 in compiled else 0
        # Not a list with a lock: the garbage collector may end an abandoned run, which returns its requests, in the
        # middle of any other call on the same thread, and a lock held by that call would never be released.
        self._idle: dict[int, SimpleQueue[openvino.InferRequest]] = {size: SimpleQueue() for size in compiled}
        keep_when_forked(self)

    def compute(self, batches: Iterable[ABatch]) -> Generator[tuple[ABatch, np.ndarray], None, None]:
        """Yield each batch with its activations, float32 (n, …), in the order given."""
        busy: deque[tuple[openvino.InferRequest, int, list[np.ndarray]]] = deque()
        waiting: deque[tuple[ABatch, list[np.ndarray], int]] = deque()

        def collect() -> None:
            """Wait for the oldest request, add its output to the parts of its batch, and return it to the idle ones."""
            check_not_forked()
            request, size, parts = busy.popleft()
            request.wait()
            parts.append(request.get_output_tensor(0).data.copy())
            self._idle[size].put(request)

        try:
            for batch in batches:
                pixels, parts = np.asarray(batch.pixels), list[np.ndarray]()
                pieces = self._pieces(len(pixels))
                waiting.append((batch, parts, len(pieces)))
                for start, size in pieces:
                    if len(busy) == self._in_flight:
                        collect()
                    request = self._borrowed(size)
                    request.start_async({0: _filled_up(pixels[start : start + size], size)})
                    busy.append((request, size, parts))
                while waiting and len(waiting[0][1]) == waiting[0][2]:
                    yield self._finished(waiting.popleft())
            while waiting:
                while len(waiting[0][1]) < waiting[0][2]:
                    collect()
                yield self._finished(waiting.popleft())
        finally:
            # A caller that stops early must not leave requests running on memory it will reuse.
            for request, size, _ in busy:
                if not forked():
                    request.wait()
                self._idle[size].put(request)

    def _pieces(self, count: int) -> list[tuple[int, int]]:
        """Return the start of each request for `count` images, and the number of images that it takes."""
        whole = count - count % self._most
        pieces = [(start, self._most) for start in range(0, whole, self._most)]
        if 1 in self._compiled and count - whole <= FEW:
            return pieces + [(start, 1) for start in range(whole, count)]
        return pieces + [(whole, self._most)] * (whole < count)

    def _borrowed(self, size: int) -> openvino.InferRequest:
        check_not_forked()
        try:
            return self._idle[size].get_nowait()
        except Empty:
            return self._compiled[size].create_infer_request()

    def _finished(self, entry: tuple[ABatch, list[np.ndarray], int]) -> tuple[ABatch, np.ndarray]:
        batch, parts, _ = entry
        empty = np.empty((0, *self.output_shape), np.float32)
        return batch, np.concatenate(parts)[: len(batch.indices)] if parts else empty


def _filled_up(pixels: np.ndarray, size: int) -> np.ndarray:
    if len(pixels) == size:
        return pixels
    return np.concatenate([pixels, np.zeros((size - len(pixels), *pixels.shape[1:]), pixels.dtype)])
