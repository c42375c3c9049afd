"""What becomes of a batch that memory has no room for: it runs in parts, whose gradients make the same step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from graft.errors import GraftError
from graft.training.recipe import ResolvedRecipe

# What torch says of memory that has run out, where it has no exception of its own for it.
OUT_OF_MEMORY = ("out of memory", "CUDNN_STATUS_NOT_SUPPORTED", "CUDNN_STATUS_ALLOC_FAILED", "DefaultCPUAllocator")

Outcome = TypeVar("Outcome")


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
