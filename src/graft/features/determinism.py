"""Work that gives the same bits on another day."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from graft.errors import GraftError
from graft.features.engine import Choice

# The memory that cuBLAS works in, as PyTorch's notes on randomness have it.
CUBLAS_WORKSPACE, WORKSPACE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"


@contextmanager
def repeatable(choice: Choice) -> Iterator[None]:
    """Compute in the block what the same block computes on another day, where `choice` is deterministic.

    That holds on the same kind of processor or accelerator, with the same versions of the libraries and the same number
    of threads, which `choice` records; random numbers are the caller's to seed. A choice that is not deterministic
    changes nothing. The settings are those of the process, and are put back. Raises GraftError where PyTorch has no
    deterministic way to compute something.
    """
    if not choice.deterministic:
        yield
        return
    from threadpoolctl import threadpool_limits

    with ExitStack() as put_back:
        put_back.callback(torch.set_num_threads, torch.get_num_threads())
        # Of the two ways to say it, the one that does not import PyTorch's compiler, which takes seconds.
        put_back.callback(torch.set_deterministic_debug_mode, torch.get_deterministic_debug_mode())
        put_back.callback(setattr, torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
        if CUBLAS_WORKSPACE not in os.environ:
            os.environ[CUBLAS_WORKSPACE] = WORKSPACE
            put_back.callback(os.environ.pop, CUBLAS_WORKSPACE)
        torch.set_num_threads(choice.threads)
        torch.set_deterministic_debug_mode("error")
        torch.backends.cudnn.benchmark = False
        # Those of numpy and scipy too.
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
