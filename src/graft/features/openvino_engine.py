"""Frozen trunks on OpenVINO, with asynchronous requests and the throughput hint."""

from collections.abc import Generator, Iterable
from contextlib import closing

import torch
from torch import Tensor

from graft.data.loading import Batch
from graft.features.engine import Precision
from graft.features.openvino_compiling import compile_section, images_per_request
from graft.features.openvino_requests import BATCH, Requests, options_for
from graft.images.preprocessing import Preprocessing
from graft.models.network import Section
from graft.progress import NOBODY, Reporter


class OpenVINOEngine(Requests):
    """A compiled section that takes and returns tensors."""

    def __init__(
        self,
        section: Section,
        preprocessing: Preprocessing,
        precision: Precision,
        reporter: Reporter = NOBODY,
        threads: int | None = None,
        singles: bool = False,
    ) -> None:
        """Compile a section to run with `threads` threads on one request at a time, or as OpenVINO finds best.

        With `singles`, it is also compiled for single images, unless requests have one image anyway: a lone image then
        takes an eighth of the time. That section may sum in another order than the one for eight, which shows in the
        last bits of float32.
        """
        self._bfloat16 = precision == "bfloat16"
        options = options_for(precision, threads)
        # The cache keys of the compiled sections, by images per request.
        self.keys: dict[int, str] = {}
        compiled = {}
        most = images_per_request(section, preprocessing) if precision == "float32" and threads is None else BATCH
        for size in sorted({most, 1} if singles else {most}, reverse=True):
            self.keys[size], compiled[size] = compile_section(
                section, preprocessing, precision, size, options, reporter
            )
        super().__init__(compiled)

    def run(self, batches: Iterable[Batch]) -> Generator[tuple[Batch, Tensor], None, None]:
        with closing(self.compute(batches)) as computed:
            for batch, values in computed:
                activations = torch.from_numpy(values)
                yield batch, activations.bfloat16() if self._bfloat16 else activations
