"""What to keep of a base for these pictures, before anything is trained."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from graft.data.dataset import TRAIN, Pictures, counts
from graft.data.loading import batches
from graft.data.opening import open_dataset
from graft.data.splitting import with_validation
from graft.errors import DataError, WeightsError
from graft.features.extraction import check_input_size
from graft.images.preprocessing import Preprocessing, normalise
from graft.transfer.advisor import Advice
from graft.transfer.advisor import advise as decide
from graft.transfer.evidence import measure
from graft.weights.base import load_base

# Pictures that are measured: enough to order domains and stages.
SAMPLE = 256
BATCH = 32


def advise(
    data: str | Path,
    base: str = "mobilenet_v2",
    *,
    arch: str | None = None,
    seed: int = 0,
    progress: bool = False,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> Advice:
    """Measure some training pictures of `data` on `base` and say which level suits them. Nothing is kept or trained.

    `told` gets the pictures measured and their number. Raises InputError and its kinds for what cannot be used,
    FetchError for weights that are not here.
    """
    dataset = with_validation(open_dataset(Path(data).expanduser()), seed)
    start = load_base(base, architecture=arch, progress=progress)
    if not start.pretrained:
        raise WeightsError(f"expected a base with weights to measure, got {base!r} without: name a file of them")
    check_input_size(start.network, start.preprocessing)
    pictures = dataset.splits[TRAIN]
    chosen = np.random.default_rng(seed).permutation(len(pictures))[:SAMPLE]
    found = _normalised(pictures.take(np.sort(chosen)), start.preprocessing, told)
    try:
        evidence = measure(start.network, found, seed)
    except ValueError:
        raise DataError("expected readable pictures to measure, got none: replace the files") from None
    return decide(start.network, evidence, counts(pictures, dataset.classes))


def _normalised(
    pictures: Pictures, preprocessing: Preprocessing, told: Callable[[int, int], None]
) -> Iterator[tuple[Tensor, np.ndarray]]:
    done = 0
    for batch in batches(pictures, preprocessing, BATCH):
        done += len(batch.indices) + len(batch.failures)
        if len(batch.indices):
            with torch.inference_mode():
                yield normalise(batch.pixels, preprocessing), pictures.labels[batch.indices]
        told(done, len(pictures))
