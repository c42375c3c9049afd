"""Memory checks: work that does not fit is refused before it begins, or runs in smaller parts.

On a CPU a program that takes more memory than there is gets killed without a message, so the needs of images and steps
are estimated first. On a GPU torch reports that memory has run out, and the batch is halved.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from graft.accounting.memory import TrainingMemory, forward_memory, training_memory
from graft.errors import GraftError, InputError
from graft.features.engine import Precision
from graft.features.extraction import BATCH
from graft.images.preprocessing import Preprocessing
from graft.models.network import Network
from graft.training.recipe import ResolvedRecipe
from graft.transfer.streamed_head import bytes_in_memory, bytes_streamed
from graft.words import counted

# How torch reports a lack of memory where it has no exception of its own for it.
OUT_OF_MEMORY = ("out of memory", "CUDNN_STATUS_NOT_SUPPORTED", "CUDNN_STATUS_ALLOC_FAILED", "DefaultCPUAllocator")

# The size of activations relative to float32, which the estimates assume.
SHARE = {"float32": 1.0, "bfloat16": 0.5}

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Container:
    """The files with a container's memory limit and use, and the entries of `memory.stat` that count cached files."""

    folder: Path
    limit: str
    in_use: str
    of_files: tuple[str, str]


# Version 2 of cgroups, then version 1.
CONTAINERS = (
    Container(Path("/sys/fs/cgroup"), "memory.max", "memory.current", ("inactive_file", "active_file")),
    Container(
        Path("/sys/fs/cgroup/memory"),
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ("total_inactive_file", "total_active_file"),
    ),
)


def check_images_fit(network: Network, preprocessing: Preprocessing, precision: Precision = "float32") -> None:
    """Refuse images so large that a batch of them takes more memory than there is. Raises InputError.

    A size that the network cannot take at all is left to `graft.features.extraction.check_input_size`.
    """
    shape = (preprocessing.channels, preprocessing.size, preprocessing.size)
    try:
        needed = SHARE[precision] * forward_memory(network, shape, BATCH)
    except InputError:
        return
    free = free_memory()
    if free is not None and needed > free:
        raise InputError(
            f"expected {BATCH} images of {preprocessing.size} px to fit into the {_gib(free)} of free memory, got "
            f"images that take about {_gib(needed)} in {network.config.architecture}: lower --image-size"
        )


def step_memory(trunk: nn.Module, crown: nn.Module, input_shape: tuple[int, ...], batch_size: int) -> TrainingMemory:
    """Return what a training step on `batch_size` images holds in memory; a single image counts as two.

    Batch norm cannot normalise a single value per channel, and the loop's workaround is not part of the estimate.
    """
    return training_memory(trunk, crown, input_shape, max(2, batch_size))


def check_step_fits(
    crown: nn.Module, input_shape: tuple[int, ...], batch_size: int, optimizer: str, precision: Precision
) -> None:
    """Refuse a step on `batch_size` crown inputs that takes more memory than there is. Raises InputError."""
    memory = step_memory(nn.Sequential(), crown, input_shape, batch_size)
    needed = memory.peak("adamw" if optimizer == "adamw" else "momentum")
    needed -= round((1 - SHARE[precision]) * memory.activations)
    free = free_memory()
    if free is not None and needed > free:
        raise InputError(
            f"expected a training step to fit into the {_gib(free)} of free memory, got one on "
            f"{counted(batch_size, 'image')} that takes about {_gib(needed)}: lower --batch-size or --image-size, or "
            "choose a level that keeps more of the base"
        )


def note_on_streaming(count: int, width: int, classes: int) -> str | None:
    """Return a note that a head on features (count, width) will be solved in passes; None if memory holds them.

    Raises InputError if there is no room for that either.
    """
    needed, free = bytes_in_memory(count, width), free_memory()
    if free is None or needed <= free:
        return None
    streamed = bytes_streamed(count, width, classes)
    if streamed > free:
        raise InputError(
            f"expected {_gib(streamed)} of memory for a head of {counted(classes, 'class', 'classes')} on "
            f"{counted(count, 'image')}, got {_gib(free)} free: close other programs, or train on fewer images"
        )
    return (
        f"features of {counted(count, 'image')} and their head would take {_gib(needed)} of memory, of which "
        f"{_gib(free)} are free: the head is solved in passes over the cache, in {_gib(streamed)}"
    )


def check_in_memory(count: int, width: int) -> None:
    """Raise InputError if memory does not hold features (count, width) and a head for several labels.

    Such a head is never solved in passes, so this is checked before the features are computed.
    """
    needed, free = bytes_in_memory(count, width), free_memory()
    if free is not None and needed > free:
        raise InputError(
            f"expected {_gib(needed)} of memory for a head for several labels on {counted(count, 'image')}, got "
            f"{_gib(free)} free: close other programs, or train on fewer images"
        )


def free_memory() -> int | None:
    """Return the bytes that this process may still take on Linux; None where that is unknown."""
    try:
        facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(facts["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    for container in CONTAINERS:
        try:
            # The file says "max" when there is no limit.
            limit = int((container.folder / container.limit).read_text())
        except (OSError, ValueError):
            continue
        free = min(free, max(0, limit - _in_use(container)))
    return free


def _in_use(container: Container) -> int:
    """Return the bytes that a container cannot give back; 0 if it does not state its use.

    Files that were read stay in memory until their room is needed, and those read twice count as `active`. As in
    `MemAvailable`, neither kind counts here.
    """
    try:
        in_use = int((container.folder / container.in_use).read_text())
    except (OSError, ValueError):
        return 0
    with suppress(OSError, ValueError):
        facts = dict(line.split() for line in (container.folder / "memory.stat").read_text().splitlines())
        in_use -= sum(int(facts.get(name, 0)) for name in container.of_files)
    return max(0, in_use)


def _gib(number: float) -> str:
    return f"{number / 2**30:,.1f} GiB"


@dataclass(frozen=True)
class Batching:
    """How many images run at once, and how many such batches make one step."""

    batch_size: int
    batches_per_step: int


def as_memory_allows(recipe: ResolvedRecipe, attempt: Callable[[Batching], Outcome]) -> Outcome:
    """Return the result of `attempt` with whole batches or, when memory runs out, with the largest halves that fit.

    Raises GraftError when there is no room for a single image.
    """
    batch_size = recipe.batch_size
    while True:
        try:
            return attempt(Batching(batch_size, recipe.accumulate_steps * -(-recipe.batch_size // batch_size)))
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if batch_size == 1:
                raise GraftError(
                    "expected memory for a step on 1 image, got too little of it: lower --image-size, or choose a "
                    "level that keeps more of the base"
                ) from error
        batch_size //= 2


def out_of_memory(error: RuntimeError) -> bool:
    """Return whether torch ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)
