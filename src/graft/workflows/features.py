"""What a base makes of all images of some data, computed once by one process or by several, and kept in the cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from graft.data.dataset import Dataset
from graft.data.splitting import with_validation
from graft.data.table_options import TableOptions
from graft.errors import DataError, GraftError, InputError
from graft.features.cache import Activations
from graft.features.engine import choose
from graft.features.extraction import activation_bytes, extract, output_shape
from graft.features.sharing import SHARE
from graft.files import cache_budget, write_aside
from graft.given import text, whole_number
from graft.progress import Reporter, reporting
from graft.weights.packaged import DEFAULT_BASE
from graft.words import counted
from graft.workflows.prepare import BaseOptions, Data, Prepared, checked_base, checked_data, prepare

MOST_PROCESSES = 256
# Rows of a table that are made at a time.
ROWS_PER_GROUP = 4096


@dataclass(frozen=True)
class Features:
    """What the stages of `base` up to `cut` make of the images of each split of `dataset`.

    The activations of a split, as `graft.features.cache.Activations`, have `values` (n, …) and `indices`, int64 (n,),
    the numbers of their images in the split; `failures` says why others have none.
    """

    data: str
    base: str
    cut: str
    precision: str
    dataset: Dataset = field(repr=False)
    splits: dict[str, Activations] = field(repr=False)
    seconds: float = field(compare=False)

    def vectors(self, split: str) -> np.ndarray:
        """Activations of a split, float32 (n, D). Raises InputError for a split that there is not."""
        if split not in self.splits:
            raise InputError(f"expected one of {', '.join(self.splits)}, got {split!r}: choose one of them")
        return np.asarray(self.splits[split].values.flatten(1).float().numpy())

    def to_dict(self) -> dict[str, Any]:
        """As `graft features --json` prints it."""
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
    """What `base` makes of the images of `data`, in the splits that a training has with this `seed`.

    `cut` is the last stage that runs, by default the one before the head. With several `processes` each computes a part
    of the images on its share of the cores; with `share` this process does so beside others, here or on machines that
    see the same `GRAFT_CACHE`, that are called in the same way. What is in the cache is not computed. Raises InputError
    and its kinds for what cannot be used, and for activations that the cache has no room for.
    """
    started = time.perf_counter()
    processes = whole_number(processes, "--processes", 1, MOST_PROCESSES, "the number of cores is usual")
    cut = None if cut is None else text(cut, "--cut")
    options = checked_data(data)
    if processes > 1 and isinstance(options.path, Dataset):
        raise InputError(
            f"expected the path of images with --processes {processes}, got images that are in this process: leave "
            "processes out, or write the images to a folder"
        )
    told_base = checked_base(base if isinstance(base, BaseOptions) else BaseOptions(base))
    with reporting(reporter, quiet) as told, ExitStack() as working:
        choice = choose(engine, precision)
        prepared = prepare(options, told_base, choice, audit=audit, splittable=False, seed=seed, reporter=told)
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
                f"expected activations that the cache has room for, which is {_gibibytes(cache_budget())}, got {size}: "
                "choose a later --cut, or set GRAFT_CACHE_BYTES to more"
            )
        told.note(f"activations take {size}, and as much again while several processes write them")
        if processes > 1 or share:
            working.enter_context(_environment(SHARE, "1"))
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
            working.enter_context(_beside(asked, processes, told))
        found = extract(trunk, dataset.splits, prepared.start.preprocessing, choice, reporter=told)
    return Features(
        prepared.source, prepared.start.name, cut, choice.precision, dataset, found, time.perf_counter() - started
    )


def write_vectors(found: Features, out: Path) -> int:
    """Write a row for each image to a Parquet file: split, path, label and features; how many rows. Raises OSError."""
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema(
        [
            *((name, pyarrow.string()) for name in ("split", "path", "label")),
            ("features", pyarrow.list_(pyarrow.float32())),
        ]
    )

    def write(file: IO[bytes]) -> None:
        with pyarrow.parquet.ParquetWriter(file, schema) as writer:
            for split, activations in found.splits.items():
                rows = iter(range(len(activations.indices)))
                while group := [*islice(rows, ROWS_PER_GROUP)]:
                    items = [found.dataset.item(split, int(activations.indices[row])) for row in group]
                    values = activations.values[group[0] : group[-1] + 1].flatten(1).float().numpy()
                    columns = [[split] * len(group), [item.name for item in items], [item.label for item in items]]
                    writer.write_table(pyarrow.table([*columns, list(values)], schema=schema))

    write_aside(out, write)
    return sum(len(each.indices) for each in found.splits.values())


def _as_trained(prepared: Prepared, seed: int) -> Dataset:
    """In the splits of a training, or as the data have them where they cannot be trained on."""
    try:
        return with_validation(prepared.dataset, seed)
    except DataError:
        return prepared.dataset


@contextmanager
def _beside(asked: dict[str, Any], processes: int, reporter: Reporter) -> Iterator[None]:
    """Other processes at the same work while the block runs, this one among them, each on its share of the cores."""
    command = [sys.executable, "-c", f"from {__name__} import work_beside; work_beside()"]
    environment = {**os.environ, SHARE: "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with ExitStack() as ended:
        cores = ended.enter_context(_on_some_cores(0, processes))
        others = []
        for number in range(1, processes):
            said = ended.enter_context(tempfile.TemporaryFile())
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=said, env=environment)
            assert process.stdin is not None
            with suppress(OSError):
                process.stdin.write(
                    json.dumps({**asked, "cores": _share_of(cores, number, processes)}).encode() + b"\n"
                )
                process.stdin.flush()
            others.append((process, said))
        try:
            yield
        except BaseException:
            for process, _ in others:
                process.kill()
            raise
        finally:
            for process, said in others:
                # They have nothing left to do once the entries are there; what they are told of ends them as well.
                assert process.stdin is not None
                with suppress(OSError):
                    process.stdin.close()
                if process.wait():
                    said.seek(0)
                    lines = said.read().decode(errors="replace").strip().splitlines() or ["nothing"]
                    reporter.note(
                        f"one of the processes ended early, and the others did its part; it said: {lines[-1]}"
                    )


def work_beside() -> None:
    """What a process does that `features` has started: read what is asked, and compute until all is there.

    It ends when its stdin does, which the end of the process that started it brings about in any case.
    """
    asked = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    with _on_cores(asked.pop("cores")):
        data = {**asked.pop("data")}
        options = {**data, "table": TableOptions(**data["table"])}
        from graft.workflows.prepare import DataOptions

        try:
            features(DataOptions(**options), BaseOptions(**asked.pop("base")), share=True, quiet=True, **asked)
        except GraftError as error:
            sys.exit(str(error))
    os._exit(0)


def _end_with_stdin() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _on_some_cores(number: int, processes: int) -> Iterator[list[int]]:
    """Keep this thread, and those it starts, to its share of the cores; gives all of them, where the system tells."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    with _on_cores(_share_of(cores, number, processes)):
        yield cores


@contextmanager
def _on_cores(cores: list[int]) -> Iterator[None]:
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _share_of(cores: list[int], number: int, processes: int) -> list[int]:
    return cores[number::processes] or cores[number % len(cores) :][:1] if cores else []


def _gibibytes(number: int) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.1f} MiB"
