"""Preparing images for training: features for a head, activations or pixels for a crown."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from graft.data.dataset import TRAIN, Images
from graft.data.loading import batches, decoded_once
from graft.features.cache import Activations
from graft.features.engine import Choice, precision_for
from graft.features.extraction import activation_bytes, extract, output_shape
from graft.features.rows import kept_rows
from graft.files import cache_budget
from graft.images.augmenting import STRENGTHS, View
from graft.models.cuts import ALL_STAGES, INPUT, LAST, HeadKind, head_over_all_after
from graft.models.network import Section, freeze
from graft.models.placing import on_device
from graft.training.inputs import ActivationInputs, ImageInputs, Inputs, PixelInputs, SomeInputs, view_of
from graft.training.task import Task

# Decoded images up to this size stay in memory between epochs.
PIXELS_IN_MEMORY_BYTES = 2 * 2**30
# The share of a limited time that making views may take. With few images, views would take longer than the training
# that uses them.
VIEWS_SHARE = 0.25
# With few images, the head may also see each at two more crops, one closer by a fifth and one of the whole shorter
# side, as long as that adds no more than this many views. The folds decide, set by set, whether it does
# (`training.heads`).
NEARER = 0.8
MOST_EXTRA_VIEWS = 1000


def more_crops(task: Task) -> tuple[float, ...]:
    """Return additional crops of the training images for the head: when the images are few and the crop leaves room."""
    preprocessing = task.preprocessing
    few = 2 * len(task.dataset.splits[TRAIN]) <= MOST_EXTRA_VIEWS
    room = preprocessing.resize_mode == "crop" and preprocessing.crop_fraction < 1
    return (NEARER * preprocessing.crop_fraction, 1.0) if few and room else ()


def as_answered(task: Task) -> Task:
    """Return the task in the precision that its classifier answers in: depthwise convolutions need a finer one."""
    return replace(task, choice=replace(task.choice, precision=precision_for(task.base.network, task.choice)))


def crown_inputs(
    task: Task, cut: str, name: str, images: Images, epochs: int, views: int | None = None
) -> tuple[Inputs, dict[int, str]]:
    """Return what the crown after `cut` is trained on, and the reasons why some images are missing from it.

    Activations at the cut are kept, or pixels for a cut before everything, in `views` views or in as many as room and
    time allow. What is too large to keep is read again in every epoch.
    """
    trunk, _ = task.base.network.split(cut)
    freeze(trunk)
    augmentation = task.recipe.augmentation() if name == TRAIN else STRENGTHS["none"]
    wanted = 1 if augmentation == STRENGTHS["none"] else max(1, min(epochs, task.recipe.views))
    number, size = task.preprocessing.channels, task.preprocessing.size
    if cut == INPUT:
        room, row_bytes = PIXELS_IN_MEMORY_BYTES, number * size**2
    else:
        room = cache_budget()
        row_bytes = activation_bytes(1, output_shape(trunk, task.preprocessing), task.choice.precision)
    kept = min(wanted, room // max(1, row_bytes * len(images)))
    kept = kept if views is None else min(kept, views)
    wanted_views = [view_of(augmentation, task.seed, number) for number in range(1, kept + 1)]
    if not kept:
        what = "images are decoded" if cut == INPUT else "the trunk runs"
        task.reporter.note(f"there is no room to keep activations of {name}: {what} again in every epoch")
        device = torch.device(task.choice.device)
        readable, failures, _ = _decode(task, name, images, [None], keep=False)
        inputs = ImageInputs(images, task.preprocessing, on_device(trunk, device), device, augmentation, task.seed)
        return SomeInputs(inputs, readable), failures
    images = decoded_once(images) if kept > 1 else images
    some = _in_time(None if views is not None else task.deadline, wanted_views)
    if cut == INPUT:
        parts = [_decode(task, name, images, each, keep=True) for each in some]
        readable, failures, _ = parts[0]
        pixels, shown = tuple(chain.from_iterable(part[2] for part in parts)), images.take(readable)
        return PixelInputs(pixels, shown.labels, task.preprocessing, shown.weights, task.choice.device), failures
    found: list[Activations] = []
    for each in some:
        named = {name if view is None else f"{name}, view {view.number}": view for view in each}
        step = f"activations of {name}"
        found += computed(task, trunk, dict.fromkeys(named, images), step, views=named).values()
    shown = images.take(found[0].indices)
    views_kept = tuple(each.values for each in found)
    return ActivationInputs(views_kept, shown.labels, shown.weights, task.choice.device), found[0].failures


def _in_time(deadline: float | None, views: Sequence[View | None]) -> Iterator[Sequence[View | None]]:
    """Yield the views in parts, for as long as the share of the time until `deadline` allows another part.

    Each view is expected to take as long as the slowest so far. The parts grow, because the first views may be cached
    and take no time.
    """
    if deadline is None:
        yield views
        return
    began, done, slowest = time.perf_counter(), 0, 0.0
    until, part = began + VIEWS_SHARE * (deadline - began), 1
    while done < len(views):
        started = time.perf_counter()
        yield views[done : done + part]
        now, done = time.perf_counter(), done + part
        slowest = max(slowest, (now - started) / part)
        part = min(4 * part, int((until - now) / max(slowest, 1e-9)))
        if part < 1:
            return


def _decode(
    task: Task, name: str, images: Images, views: Sequence[View | None], keep: bool
) -> tuple[np.ndarray, dict[int, str], tuple[Tensor, ...]]:
    """Return the indices of decodable images, the reasons for the others, and, with `keep`, every view's pixels."""
    failures: dict[int, str] = {}
    indices, kept, done = [np.empty(0, np.int64)], [], 0
    for number, view in enumerate(views):
        pixels = []
        for batch in batches(images, task.preprocessing, 32, view=view):
            if number == 0:
                failures |= batch.failures
                indices.append(batch.indices)
            if keep:
                pixels.append(batch.pixels)
            done += len(batch.indices) + len(batch.failures)
            task.reporter.step(f"decoding {name}", done, len(images) * len(views))
        kept += [torch.cat(pixels)] if keep else []
    return np.concatenate(indices), failures, tuple(kept)


def frozen_features(
    task: Task, images: Images, kind: HeadKind = LAST, view: View | None = None
) -> tuple[np.ndarray, Images]:
    """Return the inputs of a head of this kind, float32 (1, n, D), for the images that can be decoded, and the images.

    The images are seen as they are, or in a `view`.
    """
    trunk = task.base.network.before_head(kind)
    found = computed(task, trunk, {TRAIN: images}, "features for the head", views={TRAIN: view})
    return np.stack([each.values.float().numpy() for each in found.values()]), images.take(found[TRAIN].indices)


def computed(
    task: Task,
    trunk: Section,
    splits: dict[str, Images],
    step: str,
    crops: dict[str, float] | None = None,
    views: dict[str, View | None] | None = None,
    choices: dict[str, Choice] | None = None,
) -> dict[str, Activations]:
    """Return the output of `trunk` for the images of each split; images in several splits are decoded once.

    `crops`, `views` and `choices` are what some splits have of their own, as for `extract`.
    """
    seen = Counter(map(id, splits.values()))
    shared = {id(images): decoded_once(images) for images in splits.values() if seen[id(images)] > 1}
    splits = {name: shared.get(id(images), images) for name, images in splits.items()}
    trunk, width = _of_all_stages(task, trunk)
    trunk.eval()
    found = extract(
        trunk,
        splits,
        task.preprocessing,
        task.choice,
        crops=crops,
        views=views,
        choices=choices,
        step=step,
        reporter=task.reporter,
    )
    return {name: replace(each, values=last_stages(each.values, width)) for name, each in found.items()}


def _of_all_stages(task: Task, trunk: Section) -> tuple[Section, int | None]:
    """Return a trunk over all stages whose vectors end in those of `trunk`, and how many numbers to take from the end.

    Every head over the stages after a cut thus shares one pass with the others, and so does a head over the last stage
    when both are compared or rows are kept. Otherwise return `trunk` itself and None.
    """
    network = task.base.network
    if trunk.stages != network.stages[:-1] or trunk.gathers == trunk.stages:
        return trunk, None
    if trunk.gathers:
        cut = network.cuts[network.stages.index(trunk.gathers[0])]
        return network.before_head(ALL_STAGES), sum(network.head_blocks(head_over_all_after(cut)))
    one_pass = task.raced or kept_rows() is not None
    if not one_pass or network.stages[-2].stride is not None:
        return trunk, None
    return network.before_head(ALL_STAGES), sum(network.head_blocks(LAST))


def last_stages(vectors: Tensor, width: int | None) -> Tensor:
    """Return the last `width` numbers of vectors (n, D) over all stages; without a width, all of them."""
    return vectors if width is None or vectors.ndim < 2 else vectors[:, -width:]
