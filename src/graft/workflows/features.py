"""Compute a base's activations for all images of a data set once, in one process or several, and keep them in the
cache.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from graft.data.dataset import Dataset
from graft.data.splitting import with_validation
from graft.data.table_options import TableOptions
from graft.errors import DataError, InputError
from graft.features.cache import Activations
from graft.features.engine import choose
from graft.features.extraction import activation_bytes, extract, output_shape
from graft.features.processes import asked_of_this, beside, sharing
from graft.files import cache_budget
from graft.given import text, whole_number, with_hints
from graft.progress import Reporter, reporting
from graft.torch_modes import in_own_modes
from graft.weights.packaged import DEFAULT_BASE
from graft.words import counted
from graft.workflows.prepare import (
    DATA_KINDS,
    BaseOptions,
    Data,
    DataOptions,
    Prepared,
    checked_base,
    checked_data,
    prepare,
)

MOST_PROCESSES = 256


@dataclass(frozen=True)
class Features:
    """Activations of the stages of `base` up to `cut` for the images of each split of `dataset`.

    The activations of a split, `graft.features.cache.Activations`, have `values` (n, …), `indices`, int64 (n,), the
    positions of their images in the split, and `failures`, which says why other images have none.
    """

    data: str
    base: str
    cut: str
    precision: str
    dataset: Dataset = field(repr=False)
    splits: dict[str, Activations] = field(repr=False)
    seconds: float = field(compare=False)

    def vectors(self, split: str) -> np.ndarray:
        """Return the activations of a split, float32 (n, D). Raises InputError for a split that does not exist."""
        if split not in self.splits:
            raise InputError(f"expected one of {', '.join(self.splits)}, got {split!r}: choose one of them")
        return np.asarray(self.splits[split].values.flatten(1).float().numpy())

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that `graft features --json` prints."""
        return {
            "data": self.data,
            "base": self.base,
            "cut": self.cut,
            "precision": self.precision,
            "splits": {
                name: {
                    "images": len(found.indices),
                    "shape": list(found.values.shape[1:]),
                    "bytes": found.values.nbytes,
                    "cached": found.cached,
                    "failed": {self.dataset.splits[name].name(index): why for index, why in found.failures.items()},
                }
                for name, found in self.splits.items()
            },
            "seconds": self.seconds,
        }


@with_hints(*DATA_KINDS, BaseOptions)
@in_own_modes
def features(
    data: Data,
    base: str | BaseOptions = DEFAULT_BASE,
    *,
    cut: str | None = None,
    processes: int = 1,
    share: bool = False,
    audit: bool = True,
    engine: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    reporter: Reporter | None = None,
    quiet: bool = False,
) -> Features:
    """Compute the activations of `base` for the images of `data`, in the splits that training uses with this `seed`.

    `cut` is the last stage that runs, by default the one before the head. With several `processes`, each computes part
    of the images on its share of the cores. With `share`, this process divides the work with others that are called in
    the same way, on this machine or on others with the same `GRAFT_CACHE`. Cached activations are not computed again.
    Raises InputError and its subclasses for unusable input, and for activations too large for the cache.
    """
    started = time.perf_counter()
    processes = whole_number(processes, "--processes", 1, MOST_PROCESSES, "the number of cores is usual")
    cut = None if cut is None else text(cut, "--cut")
    options = checked_data(data)
    if processes > 1 and isinstance(options.path, Dataset):
        raise InputError(
            f"expected the path of images with --processes {processes}, got images in memory: leave processes out, or "
            "write the images to a folder"
        )
    told_base = checked_base(base if isinstance(base, BaseOptions) else BaseOptions(base))
    with reporting(reporter, quiet) as told, ExitStack() as working:
        choice = choose(engine, precision)
        prepared = prepare(
            options, told_base, choice, audit=audit, splittable=False, multi_label=True, seed=seed, reporter=told
        )
        dataset = _as_trained(prepared, seed)
        network = prepared.start.network
        cut = cut or network.cuts[-2]
        trunk, _ = network.split(cut)
        trunk.eval()
        shape = output_shape(trunk, prepared.start.preprocessing)
        needed = activation_bytes(len(dataset), shape, choice.precision)
        size = f"{_gibibytes(needed)} for {counted(len(dataset), 'image')} at {cut}, {shape} each in {choice.precision}"
        if needed > cache_budget():
            raise InputError(
                f"expected activations that fit in the cache, which holds {_gibibytes(cache_budget())}, got {size}: "
                "choose a later --cut, or set GRAFT_CACHE_BYTES to more"
            )
        told.note(f"activations take {size}, and as much again while several processes write them")
        if processes > 1 or share:
            working.enter_context(sharing())
        if processes > 1:
            asked = {
                "data": asdict(options),
                "base": asdict(told_base),
                "cut": cut,
                "audit": audit,
                "engine": engine,
                "precision": precision,
                "seed": seed,
            }
            working.enter_context(beside(f"{__name__}:work_beside", asked, processes, told))
        found = extract(trunk, dataset.splits, prepared.start.preprocessing, choice, reporter=told)
    return Features(
        prepared.source, prepared.start.name, cut, choice.precision, dataset, found, time.perf_counter() - started
    )


def _as_trained(prepared: Prepared, seed: int) -> Dataset:
    """Return the dataset in the splits of a training run, or as given if it cannot be trained on."""
    try:
        return with_validation(prepared.dataset, seed)
    except DataError:
        return prepared.dataset


def work_beside() -> None:
    """Run as each of the other processes."""
    with asked_of_this() as asked:
        data = {**asked.pop("data")}
        options = DataOptions(**{**data, "table": TableOptions(**data["table"])})
        features(options, BaseOptions(**asked.pop("base")), share=True, quiet=True, **asked)


def _gibibytes(number: int) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.1f} MiB"
