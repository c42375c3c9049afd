"""Frozen trunks on OpenVINO: asynchronous requests and the throughput hint."""

from collections import deque
from collections.abc import Generator, Iterable
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graft.data.loading import Batch
from graft.features.engine import Precision
from graft.features.openvino_compiling import compile_section
from graft.features.openvino_import import check_not_forked, forked, keep_when_forked, openvino
from graft.images.preprocessing import Preprocessing
from graft.models.network import Section
from graft.progress import NOBODY, Reporter

# Images per request. One size is compiled, so that shapes are static and a smaller last batch is filled up; eight
# was as fast as sixteen, and faster than a dynamic size by a fifth (MobileNetV2 at 224 px, two cores with AMX).
BATCH = 8
# Up to so many images that are left of a batch go one by one where the engine has a section for that: a request that is
# filled up takes as long as a full one, as do six single ones (MobileNetV2 at 224 px, two cores, float32).
FEW = 4


class OpenVINOEngine:
    """A compiled section. Any number of runs may be under way at once, in one thread or in many: each borrows requests
    of its own, at most as many as OpenVINO finds best."""

    def __init__(
        self,
        section: Section,
        preprocessing: Preprocessing,
        precision: Precision,
        reporter: Reporter = NOBODY,
        threads: int | None = None,
        singles: bool = False,
    ) -> None:
        """Compute with `threads` together on one request at a time, or as OpenVINO finds best.

        With `singles`, a section for single images is compiled as well, with which an image alone takes an eighth of
        the time. It may add up in another order than that for eight, which shows in the last bits of float32.
        """
        self._bfloat16 = precision == "bfloat16"
        options: dict[str, Any] = {"PERFORMANCE_HINT": "THROUGHPUT"}
        if threads is not None:
            options = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads}
        # By images per request.
        self._compiled = {
            size: compile_section(section, preprocessing, precision, size, options, reporter)
            for size in ((BATCH, 1) if singles else (BATCH,))
        }
        self.output_shape = tuple(int(size) for size in self._compiled[BATCH].output(0).shape)[1:]
        self._in_flight = int(self._compiled[BATCH].get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        # Not a list behind a lock: the garbage collector may end a forgotten run, which gives its requests back, in the
        # middle of any other call of the same thread, and a lock that the call holds would never be free.
        self._idle: dict[int, SimpleQueue[openvino.InferRequest]] = {size: SimpleQueue() for size in self._compiled}
        keep_when_forked(self)

    def run(self, batches: Iterable[Batch]) -> Generator[tuple[Batch, Tensor], None, None]:
        busy: deque[tuple[openvino.InferRequest, int, list[Tensor]]] = deque()
        waiting: deque[tuple[Batch, list[Tensor], int]] = deque()

        def collect() -> None:
            """Wait for the oldest request, add its output to the parts of its batch, and give it back."""
            check_not_forked()
            request, size, parts = busy.popleft()
            request.wait()
            parts.append(torch.from_numpy(request.get_output_tensor(0).data.copy()))
            self._idle[size].put(request)

        try:
            for batch in batches:
                pixels, parts = batch.pixels.numpy(), list[Tensor]()
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
        """Where the requests for so many images start, and the images that each takes."""
        whole = count - count % BATCH
        pieces = [(start, BATCH) for start in range(0, whole, BATCH)]
        if 1 in self._compiled and count - whole <= FEW:
            return pieces + [(start, 1) for start in range(whole, count)]
        return pieces + [(whole, BATCH)] * (whole < count)

    def _borrowed(self, size: int) -> openvino.InferRequest:
        check_not_forked()
        try:
            return self._idle[size].get_nowait()
        except Empty:
            return self._compiled[size].create_infer_request()

    def _finished(self, entry: tuple[Batch, list[Tensor], int]) -> tuple[Batch, Tensor]:
        batch, parts, _ = entry
        activations = torch.cat(parts)[: len(batch.indices)] if parts else torch.empty((0, *self.output_shape))
        return batch, activations.bfloat16() if self._bfloat16 else activations


def _filled_up(pixels: np.ndarray, size: int) -> np.ndarray:
    if len(pixels) == size:
        return pixels
    return np.concatenate([pixels, np.zeros((size - len(pixels), *pixels.shape[1:]), pixels.dtype)])
