"""Computation that gives the same bits on another day."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from graft.errors import GraftError
from graft.features.engine import Choice

# The workspace setting of cuBLAS from PyTorch's notes on reproducibility.
CUBLAS_WORKSPACE, WORKSPACE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"


@contextmanager
def repeatable(choice: Choice) -> Iterator[None]:
    """Make computation in the block repeatable to the bit on another day, if `choice` is deterministic.

    That holds on the same kind of processor or accelerator, with the same library versions and the same number of
    threads, which `choice` records; the caller seeds random numbers. A choice that is not deterministic changes
    nothing. The settings apply to the whole process and are restored afterwards. Raises GraftError if PyTorch has no
    deterministic implementation of an operation.
    """
    if not choice.deterministic:
        yield
        return
    from threadpoolctl import threadpool_limits

    with ExitStack() as put_back:
        put_back.callback(torch.set_num_threads, torch.get_num_threads())
        # Unlike `use_deterministic_algorithms`, this does not import PyTorch's compiler, which takes seconds.
        put_back.callback(torch.set_deterministic_debug_mode, torch.get_deterministic_debug_mode())
        put_back.callback(setattr, torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
        if CUBLAS_WORKSPACE not in os.environ:
            os.environ[CUBLAS_WORKSPACE] = WORKSPACE
            put_back.callback(os.environ.pop, CUBLAS_WORKSPACE)
        torch.set_num_threads(choice.threads)
        torch.set_deterministic_debug_mode("error")
        torch.backends.cudnn.benchmark = False
        # Covers the threads of NumPy and SciPy, too.
        put_back.enter_context(threadpool_limits(choice.threads))
        try:
            yield
        except RuntimeError as error:
            if "deterministic" not in str(error):
                raise
            raise GraftError(
                f"expected operations that PyTorch can repeat to the bit on {choice.device}, got one that it cannot "
                f"({str(error).split(',')[0]}): leave out --deterministic, or choose another network"
            ) from error
