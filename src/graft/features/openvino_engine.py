"""Frozen trunks on OpenVINO: asynchronous requests, throughput hint, compiled models kept on disk."""

import hashlib
from collections import deque
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np
import torch
from torch import Tensor

from graft.data.loading import Batch
from graft.features.cache import section_digest
from graft.features.engine import Precision
from graft.features.openvino_graph import to_openvino
from graft.features.openvino_import import check_not_forked, core, forked, keep_when_forked, openvino
from graft.files import cache_budget, cache_folder, make_room, write_aside
from graft.images.preprocessing import Preprocessing
from graft.models.network import Section

# Images per request. One size is compiled, so that shapes are static and a smaller last batch is filled up; eight
# was as fast as sixteen, and faster than a dynamic size by a fifth (MobileNetV2 at 224 px, two cores with AMX).
BATCH = 8
CHECKSUM_BYTES = 16


class OpenVINOEngine:
    """A compiled section. Any number of runs may be under way at once, in one thread or in many: each borrows requests
    of its own, at most as many as OpenVINO finds best."""

    def __init__(self, section: Section, preprocessing: Preprocessing, precision: Precision) -> None:
        self._bfloat16 = precision == "bfloat16"
        self._compiled = _compile(section, preprocessing, precision)
        self.output_shape = tuple(int(size) for size in self._compiled.output(0).shape)[1:]
        self._in_flight = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        # Not a list behind a lock: the garbage collector may end a forgotten run, which gives its requests back, in the
        # middle of any other call of the same thread, and a lock that the call holds would never be free.
        self._idle: SimpleQueue[openvino.InferRequest] = SimpleQueue()
        keep_when_forked(self)

    def run(self, batches: Iterable[Batch]) -> Generator[tuple[Batch, Tensor], None, None]:
        busy: deque[tuple[openvino.InferRequest, list[Tensor]]] = deque()
        waiting: deque[tuple[Batch, list[Tensor], int]] = deque()

        def collect() -> openvino.InferRequest:
            """Wait for the oldest request, add its output to the parts of its batch, and return it to be used again."""
            check_not_forked()
            request, parts = busy.popleft()
            request.wait()
            parts.append(torch.from_numpy(request.get_output_tensor(0).data.copy()))
            return request

        try:
            for batch in batches:
                pixels, parts = batch.pixels.numpy(), list[Tensor]()
                starts = range(0, len(pixels), BATCH)
                waiting.append((batch, parts, len(starts)))
                for start in starts:
                    request = collect() if len(busy) == self._in_flight else self._borrowed()
                    request.start_async({0: _filled_up(pixels[start : start + BATCH])})
                    busy.append((request, parts))
                while waiting and len(waiting[0][1]) == waiting[0][2]:
                    yield self._finished(waiting.popleft())
            while waiting:
                while len(waiting[0][1]) < waiting[0][2]:
                    self._idle.put(collect())
                yield self._finished(waiting.popleft())
        finally:
            # A caller that stops early must not leave requests running on memory it will reuse.
            for request, _ in busy:
                if not forked():
                    request.wait()
                self._idle.put(request)

    def _borrowed(self) -> openvino.InferRequest:
        check_not_forked()
        try:
            return self._idle.get_nowait()
        except Empty:
            return self._compiled.create_infer_request()

    def _finished(self, entry: tuple[Batch, list[Tensor], int]) -> tuple[Batch, Tensor]:
        batch, parts, _ = entry
        activations = torch.cat(parts)[: len(batch.indices)] if parts else torch.empty((0, *self.output_shape))
        return batch, activations.bfloat16() if self._bfloat16 else activations


def _filled_up(pixels: np.ndarray) -> np.ndarray:
    if len(pixels) == BATCH:
        return pixels
    return np.concatenate([pixels, np.zeros((BATCH - len(pixels), *pixels.shape[1:]), pixels.dtype)])


def _compile(section: Section, preprocessing: Preprocessing, precision: Precision) -> openvino.CompiledModel:
    """The compiled section, from disk where this one was compiled before."""
    hint = openvino.Type.bf16 if precision == "bfloat16" else openvino.Type.f32
    options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": hint}
    # How an image is cropped is no part of the graph: one compiled section serves all views.
    in_graph = replace(preprocessing, resize_mode="squash", crop_fraction=1.0)
    key = section_digest(section, in_graph, precision, f"openvino {openvino.__version__} batch {BATCH}")
    path = cache_folder() / "compiled" / f"{key}.blob"
    blob = _kept(path)
    if blob is not None:
        try:
            return core().import_model(blob, "CPU", options)
        except RuntimeError:
            # Compiled by another build or for another processor: compile again over it.
            pass
    compiled = core().compile_model(to_openvino(section.eval(), preprocessing, BATCH), "CPU", options)
    _keep(path, compiled)
    return compiled


def _kept(path: Path) -> bytes | None:
    """The compiled section kept at `path`, None where there is none or its bytes are not those that were written.

    OpenVINO takes a damaged one as it is, and computes other numbers.
    """
    try:
        data = path.read_bytes()
        checksum, blob = data[:CHECKSUM_BYTES], data[CHECKSUM_BYTES:]
        if _checksum(blob) != checksum:
            return None
        with suppress(OSError):
            path.touch()
        return blob
    except OSError:
        return None


def _keep(path: Path, compiled: openvino.CompiledModel) -> None:
    try:
        exported = compiled.export_model()
        blob = exported if isinstance(exported, bytes) else exported.getvalue()
        if len(blob) > cache_budget():
            return
        make_room(len(blob))
        write_aside(path, lambda file: file.write(_checksum(blob) + blob))
    except (OSError, RuntimeError):
        # Keeping it only saves time; a full disk or a plugin that cannot export is no reason to stop.
        return


def _checksum(blob: bytes) -> bytes:
    return hashlib.blake2b(blob, digest_size=CHECKSUM_BYTES).digest()
