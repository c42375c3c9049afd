"""The trunk run once: images to activations at the cut, from the cache where they are there."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import torch

from graft.data.dataset import Images
from graft.data.loading import batches
from graft.errors import GraftError, InputError
from graft.features.cache import DTYPES, Activations, entry_path, new_entry, read_entry, section_digest
from graft.features.engine import Choice, Engine, open_engine
from graft.files import cache_budget
from graft.images.augmenting import View
from graft.images.preprocessing import Preprocessing
from graft.models.network import Network, Section

# Told how many images of how many are done.
Progress = Callable[[int, int], None]

# Images handed to an engine at a time.
BATCH = 32
# Activations up to this size are collected in memory.
IN_MEMORY_BYTES = 2 * 2**30


def extract(
    section: Section,
    splits: Mapping[str, Images],
    preprocessing: Preprocessing,
    choice: Choice,
    *,
    crops: Mapping[str, float] | None = None,
    views: Mapping[str, View | None] | None = None,
    keep: bool = True,
    progress: Progress = lambda done, total: None,
) -> dict[str, Activations]:
    """What `section` makes of the images of each split: values (n, …) in the precision of `choice`.

    `crops` gives splits a crop fraction of their own, `views` an augmentation. Activations that were computed before
    are read from the cache; others are computed, decoding ahead of the engine, and kept there when `keep` is set and
    they fit in its budget. A disk that fills up costs the keeping, not the work.
    """
    total, before = sum(len(images) for images in splits.values()), 0
    engine: Engine | None = None
    own, results = preprocessing, {}
    for name, images in splits.items():
        preprocessing = replace(own, crop_fraction=(crops or {}).get(name, own.crop_fraction))
        digest = section_digest(section, preprocessing, choice.precision, choice.engine)
        view = (views or {}).get(name)
        path = entry_path(digest if view is None else f"{digest} {view}", images)
        found = read_entry(path) if keep else None
        if found is None:
            engine = engine or open_engine(choice, section, preprocessing)

            def tell(done: int, _: int, start: int = before) -> None:
                progress(start + done, total)

            found = _compute(engine, images, preprocessing, choice.precision, path if keep else None, tell, view)
        before += len(images)
        progress(before, total)
        results[name] = found
    return results


def activation_bytes(count: int, row_shape: tuple[int, ...], precision: str) -> int:
    """Bytes that the activations of `count` images take, in memory or in the cache."""
    return count * prod(row_shape) * DTYPES[precision].itemsize


def output_shape(section: Section, preprocessing: Preprocessing) -> tuple[int, ...]:
    """Shape of one image's activations, found by running the section on a blank one.

    A pass over meta tensors would compute nothing, but makes torch load its compiler, which takes longer.
    """
    device = next(iter(section.parameters()), torch.empty(0)).device
    blank = torch.zeros((1, preprocessing.channels, preprocessing.size, preprocessing.size), device=device)
    with torch.inference_mode():
        return tuple(section.eval()(blank).shape[1:])


def check_input_size(network: Network, preprocessing: Preprocessing) -> None:
    """Refuse a size of images that the network cannot take; its own needs no look. Raises InputError."""
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
    images: Images,
    preprocessing: Preprocessing,
    precision: str,
    path: Path | None,
    tell: Progress,
    view: View | None,
) -> Activations:
    """Run the engine over all images. What fits in memory is collected there first, so that a disk that fills up
    costs nothing but the keeping; what does not goes to disk as it comes."""
    needed = activation_bytes(len(images), engine.output_shape, precision)
    if needed > IN_MEMORY_BYTES and path is not None and needed <= cache_budget():
        return _compute_on_disk(engine, images, preprocessing, precision, path, needed, tell, view)
    failures: dict[int, str] = {}
    parts, indices, done = [], [], 0
    # Closed at once when something fails or is interrupted: the threads that decode end here.
    with closing(batches(images, preprocessing, BATCH, view=view)) as decoded:
        for batch, values in engine.run(decoded):
            failures.update(batch.failures)
            indices.append(batch.indices)
            parts.append(values)
            done += len(batch.indices) + len(batch.failures)
            tell(done, len(images))
    row_shape = engine.output_shape
    values = torch.cat(parts) if parts else torch.empty((0, *row_shape), dtype=DTYPES[precision])
    if path is not None and needed <= cache_budget():
        try:
            with new_entry(path, needed) as writer:
                writer.append(values)
                writer.finish(row_shape, precision, failures)
        except OSError:
            # A full or read-only disk: the activations are in memory, only the next run misses them.
            pass
    return Activations(values, np.concatenate(indices) if indices else np.empty(0, np.int64), failures, cached=False)


def _compute_on_disk(
    engine: Engine,
    images: Images,
    preprocessing: Preprocessing,
    precision: str,
    path: Path,
    needed: int,
    tell: Progress,
    view: View | None,
) -> Activations:
    failures: dict[int, str] = {}
    done = 0
    try:
        with new_entry(path, needed) as writer, closing(batches(images, preprocessing, BATCH, view=view)) as decoded:
            for batch, values in engine.run(decoded):
                failures.update(batch.failures)
                writer.append(values)
                done += len(batch.indices) + len(batch.failures)
                tell(done, len(images))
            writer.finish(engine.output_shape, precision, failures)
    except OSError as error:
        raise GraftError(
            f"expected room for {needed:,} bytes of activations in {path.parent}, got {error.strerror or error}: free "
            "some, point GRAFT_CACHE at another disk, or lower GRAFT_CACHE_BYTES to train without keeping them"
        ) from None
    found = read_entry(path)
    if found is None:
        raise GraftError(f"expected the activations just written to {path}, got none: is something else deleting them?")
    return replace(found, cached=False)
