"""Run the trunk once: turn images into activations at the cut, or read them from the cache."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain, islice
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from graft.data.dataset import Images
from graft.data.loading import Batch, batches
from graft.errors import GraftError, InputError, WeightsError
from graft.features.cache import (
    DTYPES,
    Activations,
    as_bytes,
    entry_facts,
    entry_path,
    read_entry,
    section_digest,
)
from graft.features.engine import Choice, Engine, open_engine
from graft.features.rows import kept_rows
from graft.features.sharing import Work, compute_together, is_shared
from graft.files import cache_budget, keep, keeping
from graft.images.augmenting import View
from graft.images.preprocessing import Preprocessing
from graft.models.network import Network, Section
from graft.progress import NOBODY, Reporter

# Images passed to an engine at a time.
BATCH = 32
# Activations up to this total size are collected in memory.
IN_MEMORY_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Source:
    """What activations are computed from, and how."""

    section: Section
    images: Images
    preprocessing: Preprocessing
    choice: Choice
    view: View | None


def extract(
    section: Section,
    splits: Mapping[str, Images],
    preprocessing: Preprocessing,
    choice: Choice,
    *,
    crops: Mapping[str, float] | None = None,
    views: Mapping[str, View | None] | None = None,
    choices: Mapping[str, Choice] | None = None,
    use_cache: bool = True,
    step: str = "features",
    reporter: Reporter = NOBODY,
) -> dict[str, Activations]:
    """Return the activations of each split after `section`: values (n, …) in the precision of `choice`, all finite.

    `crops` gives splits a crop fraction of their own, `views` an augmentation, `choices` an engine or a precision.
    Activations computed before are read from the cache. Others are computed, decoding ahead of the engine, and cached
    as far as the budget allows. Without `use_cache`, the cache is neither read nor written. A full disk prevents
    caching, not the work. `reporter` receives progress as `step`, and notes on a cache that is damaged or cannot be
    written.

    Raises WeightsError for weights that are not finite, GraftError if finite weights give activations that are not.
    """
    sources = {
        name: Source(
            section,
            images,
            replace(preprocessing, crop_fraction=(crops or {}).get(name, preprocessing.crop_fraction)),
            (choices or {}).get(name, choice),
            (views or {}).get(name),
        )
        for name, images in splits.items()
    }
    total, before, results = sum(map(len, splits.values())), 0, dict[str, Activations]()
    # Hashing the weights of a section takes longer than looking an entry up.
    digest_of, stamps = cache(partial(_digest, section)), dict[int, tuple[str, ...]]()
    with closing(_Engines(list(sources.values()), preprocessing, reporter)) as engines:
        for name, source in sources.items():
            digest, images = digest_of(source.preprocessing, source.choice), source.images
            path = None
            if use_cache:
                path = entry_path(digest if source.view is None else f"{digest} {source.view}", images)
            rows = kept_rows() if source.view is None else None
            compute = partial(engines.compute, source, partial(_tell, reporter, step, before, total))
            if rows is not None:
                if id(images) not in stamps:
                    stamps[id(images)] = tuple(images.stamps())
                results[name] = rows.completed(digest, images, stamps[id(images)], compute)
            else:
                found = None if path is None else read_entry(path, reporter)
                results[name] = compute(images, path) if found is None else found
            before += len(images)
            reporter.step(step, before, total)
    return results


def _tell(reporter: Reporter, step: str, before: int, total: int, done: int) -> None:
    reporter.step(step, before + done, total)


class _Engines:
    """The engines of one section. While the first one is opened and runs, another thread opens those needed later.

    Opening an engine keeps one core busy for half a second.
    """

    def __init__(self, sources: Sequence[Source], preprocessing: Preprocessing, reporter: Reporter) -> None:
        self._sources, self._preprocessing, self._reporter = sources, preprocessing, reporter
        self._opened: dict[Choice, Engine] = {}
        self._later: dict[Choice, Future[Engine]] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._begun = False

    def compute(
        self, source: Source, tell: Callable[[int], None], images: Images, path: Path | None = None
    ) -> Activations:
        """Compute the activations of `images` as those of a source are, and cache them at `path`."""
        source = replace(source, images=images)
        decoding = _decoded(source, [range(len(images))])
        if not self._begun:
            _check_weights(source.section)
            self._begin(source)
            if path is None or not is_shared(path):
                decoding = _begun(decoding)
        return _compute(self._opened_for(source), source, decoding, path, self._reporter, tell)

    def _begin(self, first: Source) -> None:
        """Let another thread open the engines of the sources that have yet to be computed."""
        self._begun = True
        for each in self._sources:
            if (
                each.choice != first.choice
                and each.choice not in self._later
                and not is_kept(each.section, each.images, self._preprocessing, each.choice)
            ):
                self._later[each.choice] = self._pool.submit(self._open, each)

    def _opened_for(self, source: Source) -> Engine:
        """Return the engine of a source. Raises what `open_engine` raises."""
        if source.choice not in self._opened:
            later = self._later.get(source.choice)
            self._opened[source.choice] = self._open(source) if later is None else later.result()
        return self._opened[source.choice]

    def _open(self, source: Source) -> Engine:
        return open_engine(source.choice, source.section, self._preprocessing, self._reporter)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _digest(section: Section, preprocessing: Preprocessing, choice: Choice) -> str:
    return section_digest(section, preprocessing, choice.precision, choice.arithmetic)


def is_kept(section: Section, images: Images, preprocessing: Preprocessing, choice: Choice) -> bool:
    """Return whether the cache holds the activations of these images, so that nothing needs to be computed."""
    return entry_path(_digest(section, preprocessing, choice), images).is_file()


def activation_bytes(count: int, row_shape: tuple[int, ...], precision: str) -> int:
    """Return the bytes that the activations of `count` images take, in memory or in the cache."""
    return count * prod(row_shape) * DTYPES[precision].itemsize


def output_shape(section: Section, preprocessing: Preprocessing) -> tuple[int, ...]:
    """Return the shape of one image's activations, found by running the section on a blank image.

    A pass over meta tensors would compute nothing, but makes torch load its compiler, which takes longer.
    """
    device = next(iter(section.parameters()), torch.empty(0)).device
    blank = torch.zeros((1, preprocessing.channels, preprocessing.size, preprocessing.size), device=device)
    with torch.inference_mode():
        return tuple(section.eval()(blank).shape[1:])


def check_input_size(network: Network, preprocessing: Preprocessing) -> None:
    """Raise InputError if the network cannot take images of this size; its own size needs no check."""
    if network.input_size is not None and preprocessing.size == network.input_size[-1]:
        return
    whole, _ = network.split(network.cuts[-1])
    try:
        output_shape(whole, preprocessing)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"expected images of a size that {network.config.architecture} takes, got {preprocessing.size} px "
            f"({str(error).splitlines()[0]}): leave --image-size out or choose another"
        ) from None


def _compute(
    engine: Engine,
    source: Source,
    decoding: Generator[Batch, None, None],
    path: Path | None,
    reporter: Reporter,
    tell: Callable[[int], None],
) -> Activations:
    """Run the engine over all images, telling how many are done.

    Activations that fit in memory are collected there first, so that a full disk prevents only caching. Larger ones are
    written to disk as they are computed.
    """
    precision = source.choice.precision
    needed = activation_bytes(len(source.images), engine.output_shape, precision)
    if path is not None and len(source.images) and needed <= cache_budget() and is_shared(path):
        together = _compute_together(engine, source, path, needed, reporter, tell)
        if together is not None:
            return together
    outputs = _run(engine, source, decoding, tell)
    if needed > IN_MEMORY_BYTES and path is not None and needed <= cache_budget():
        return _written_to_disk(outputs, path, needed, engine.output_shape, precision, reporter)
    failures: dict[int, str] = {}
    parts, indices = [], [np.empty(0, np.int64)]
    with closing(outputs):
        for batch, values in outputs:
            failures.update(batch.failures)
            indices.append(batch.indices)
            parts.append(values)
    values = torch.cat(parts) if parts else torch.empty((0, *engine.output_shape), dtype=DTYPES[precision])
    if path is not None:
        keep(path, as_bytes(values), reporter, entry_facts(tuple(values.shape), precision, failures))
    return Activations(values, np.concatenate(indices), failures, cached=False)


def _written_to_disk(
    outputs: Generator[tuple[Batch, Tensor], None, None],
    path: Path,
    needed: int,
    row_shape: tuple[int, ...],
    precision: str,
    reporter: Reporter,
) -> Activations:
    failures: dict[int, str] = {}
    rows = 0
    try:
        with keeping(path, needed) as writer, closing(outputs):
            for batch, values in outputs:
                failures.update(batch.failures)
                writer.write(as_bytes(values))
                rows += len(values)
            writer.finish(entry_facts((rows, *row_shape), precision, failures))
    except OSError as error:
        raise _no_room(needed, path, error) from None
    return _just_written(path, reporter)


def _compute_together(
    engine: Engine, source: Source, path: Path, needed: int, reporter: Reporter, tell: Callable[[int], None]
) -> Activations | None:
    """Compute the activations with other processes; None if they cannot be written but fit in this one's memory."""
    work = Work.of(path, len(source.images), engine.output_shape, source.choice.precision, BATCH)

    def compute(ranges: Iterator[range]) -> Generator[tuple[Batch, Tensor], None, None]:
        return _run(engine, source, _decoded(source, ranges), lambda done: None)

    try:
        compute_together(work, compute, reporter, tell)
    except OSError as error:
        if needed > IN_MEMORY_BYTES:
            raise _no_room(2 * needed, path, error) from None
        reporter.note_once(
            f"the cache in {path.parent} cannot be written ({error.strerror or error}), so this process recomputes "
            "what others compute as well: free space there, or set GRAFT_CACHE to a folder that can be written"
        )
        return None
    return _just_written(path, reporter)


def _no_room(needed: int, path: Path, error: OSError) -> GraftError:
    return GraftError(
        f"expected room for {needed:,} bytes of activations in {path.parent}, got {error.strerror or error}: free "
        "some, point GRAFT_CACHE at another disk, or lower GRAFT_CACHE_BYTES to train without keeping them"
    )


def _just_written(path: Path, reporter: Reporter) -> Activations:
    found = read_entry(path, reporter)
    if found is None:
        raise GraftError(
            f"expected the activations just written to {path}, got others or none: check the disk, and whether "
            "another program deletes files there"
        )
    return replace(found, cached=False)


def _run(
    engine: Engine, source: Source, decoding: Generator[Batch, None, None], tell: Callable[[int], None]
) -> Generator[tuple[Batch, Tensor], None, None]:
    """Yield every batch with its activations, all finite. Closing the generator releases the decoding threads."""
    done = 0
    with closing(decoding), closing(engine.run(decoding)) as computed:
        for batch, values in computed:
            if not _is_finite(values):
                raise _not_finite(values, batch, source)
            yield batch, values
            done += len(batch.indices) + len(batch.failures)
            tell(done)


def _decoded(source: Source, ranges: Iterable[range]) -> Generator[Batch, None, None]:
    for each in ranges:
        order = np.arange(each.start, each.stop)
        yield from batches(source.images, source.preprocessing, BATCH, order=order, view=source.view)


def _begun(decoding: Generator[Batch, None, None]) -> Generator[Batch, None, None]:
    """Wait for the first batch; the next ones are decoded while an engine is opened, then all are yielded."""
    first = list(islice(decoding, 1))

    def all_of_them() -> Generator[Batch, None, None]:
        with closing(decoding):
            yield from chain(first, decoding)

    return all_of_them()


def _check_weights(section: Section) -> None:
    """Raise WeightsError for weights that are not finite: an engine may turn them into finite activations."""
    for name, tensor in section.state_dict().items():
        if not _is_finite(tensor):
            raise WeightsError(
                f"expected weights of finite numbers, got {name!r} of the base with NaN or infinity in it: fetch or "
                "convert the weights again, or use another base"
            )


def _is_finite(values: Tensor) -> bool:
    # The minimum and maximum propagate NaN; checking every value takes ten times as long.
    return not values.numel() or bool(torch.stack(values.aminmax()).isfinite().all())


def _not_finite(values: Tensor, batch: Batch, source: Source) -> GraftError:
    first = int(values.flatten(1).isfinite().all(1).logical_not().nonzero()[0])
    instead = "--precision float32" if source.choice.precision != "float32" else "--engine torch"
    if source.choice.engine == "torch" and source.choice.precision == "float32":
        instead = "another base"
    return GraftError(
        f"expected finite activations, got NaN or infinity for {source.images.name(int(batch.indices[first]))} from "
        f"{source.choice}: try {instead}, or leave the image out"
    )
