"""What becomes of a batch that memory has no room for."""

import pytest
import torch

from graft.errors import GraftError
from graft.training.memory import Batching, as_memory_allows, out_of_memory
from graft.training.recipe import Recipe


def too_large_for(most: int, tried: list[Batching]):
    def attempt(batching: Batching) -> str:
        tried.append(batching)
        if batching.batch_size > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return "fits"

    return attempt


def test_batches_are_halved_until_they_fit_and_steps_keep_their_size() -> None:
    tried: list[Batching] = []
    assert as_memory_allows(Recipe(batch_size=32, accumulate_steps=2).resolve(), too_large_for(8, tried)) == "fits"
    assert tried == [Batching(32, 2), Batching(16, 4), Batching(8, 8)]


def test_where_a_single_image_does_not_fit_it_is_said() -> None:
    tried: list[Batching] = []
    with pytest.raises(GraftError, match="expected memory for a step on 1 image, got too little of it: lower --image"):
        as_memory_allows(Recipe(batch_size=3).resolve(), too_large_for(0, tried))
    assert [each.batch_size for each in tried] == [3, 1]


def test_what_torch_says_of_memory_that_has_run_out_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(caught.value)
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."))
    assert out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed"))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"))
