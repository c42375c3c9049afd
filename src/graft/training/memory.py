"""Work that memory has no room for: refused before it begins, or run in smaller parts.

On a processor a program that takes more than there is gets killed without a word, so what images and steps take is
estimated first. On a GPU torch says that memory has run out, and the batch is halved.
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

# What torch says of memory that has run out, where it has no exception of its own for it.
OUT_OF_MEMORY = ("out of memory", "CUDNN_STATUS_NOT_SUPPORTED", "CUDNN_STATUS_ALLOC_FAILED", "DefaultCPUAllocator")

# Activations in bfloat16 take this part of what they take in float32, which is what is estimated.
SHARE = {"float32": 1.0, "bfloat16": 0.5}

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Container:
    """Where a container says how much memory it may take and has in use, and what of that `memory.stat` calls files
    that were read."""

    folder: Path
    limit: str
    in_use: str
    of_files: tuple[str, str]


# By the second version of cgroups, and by the first.
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

    A size that the network cannot take at all is for `graft.features.extraction.check_input_size` to refuse.
    """
    shape = (preprocessing.channels, preprocessing.size, preprocessing.size)
    try:
        needed = SHARE[precision] * forward_memory(network, shape, BATCH)
    except InputError:
        return
    free = free_memory()
    if free is not None and needed > free:
        raise InputError(
            f"expected {BATCH} images of {preprocessing.size} px to fit into the {_gib(free)} of memory that are free, "
            f"got images that take about {_gib(needed)} in {network.config.architecture}: lower --image-size"
        )


def step_memory(trunk: nn.Module, crown: nn.Module, input_shape: tuple[int, ...], batch_size: int) -> TrainingMemory:
    """What a training step on so many images holds in memory, counted for two where it has one.

    Batch norm normalises no single value per channel, and the loop's way around that is not in the count.
    """
    return training_memory(trunk, crown, input_shape, max(2, batch_size))


def check_step_fits(
    crown: nn.Module, input_shape: tuple[int, ...], batch_size: int, optimizer: str, precision: Precision
) -> None:
    """Refuse a step of so many crown inputs that takes more memory than there is. Raises InputError."""
    memory = step_memory(nn.Sequential(), crown, input_shape, batch_size)
    needed = memory.peak("adamw" if optimizer == "adamw" else "momentum")
    needed -= round((1 - SHARE[precision]) * memory.activations)
    free = free_memory()
    if free is not None and needed > free:
        raise InputError(
            f"expected a training step to fit into the {_gib(free)} of memory that are free, got one on "
            f"{counted(batch_size, 'image')} that takes about {_gib(needed)}: lower --batch-size or --image-size, or "
            "choose a level that keeps more of the base"
        )


def note_on_streaming(count: int, width: int, classes: int) -> str | None:
    """What is told of a head on features (count, width) that is to be solved in passes; None where memory holds them.

    Raises InputError where there is no room for that either.
    """
    needed, free = bytes_in_memory(count, width), free_memory()
    if free is None or needed <= free:
        return None
    streamed = bytes_streamed(count, width, classes)
    if streamed > free:
        raise InputError(
            f"expected {_gib(streamed)} of memory for a head of {counted(classes, 'class', 'classes')} on "
            f"{counted(count, 'image')}, got {_gib(free)} that are free: close other programs, or train on fewer images"
        )
    return (
        f"features of {counted(count, 'image')} and their head would take {_gib(needed)} of memory, of which "
        f"{_gib(free)} are free: the head is solved in passes over the cache, in {_gib(streamed)}"
    )


def check_in_memory(count: int, width: int) -> None:
    """Raise InputError where memory does not hold features (count, width) and a head for several labels.

    Such a head is not solved in passes, and it is known before the features are computed.
    """
    needed, free = bytes_in_memory(count, width), free_memory()
    if free is not None and needed > free:
        raise InputError(
            f"expected {_gib(needed)} of memory for a head for several labels on {counted(count, 'image')}, got "
            f"{_gib(free)} that are free: close other programs, or train on fewer images"
        )


def free_memory() -> int | None:
    """Bytes that this process may still take, where Linux tells; None elsewhere."""
    try:
        facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(facts["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    for container in CONTAINERS:
        try:
            # "max" where there is no limit.
            limit = int((container.folder / container.limit).read_text())
        except (OSError, ValueError):
            continue
        free = min(free, max(0, limit - _in_use(container)))
    return free


def _in_use(container: Container) -> int:
    """Bytes that a container cannot give back; 0 where it does not say what it has in use.

    Images that were read stay in memory until there is need of their room, those read twice as `active` files. As in
    `MemAvailable`, neither kind counts.
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
    """What `attempt` returns with whole batches, or where memory runs out with the largest halves of them that fit.

    Raises GraftError where there is no room for a single image.
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
    """Whether torch found no memory left for an operation."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)
