"""Work in a process forked from one that has already used PyTorch."""

import os
import sys


def _began_forked() -> bool:
    """Return whether `multiprocessing` forked this process before graft was imported.

    A process that it spawned anew says so in its command line.
    """
    multiprocessing = sys.modules.get("multiprocessing")
    started = any(word.startswith(("--multiprocessing-fork", "from multiprocessing.")) for word in sys.orig_argv)
    return multiprocessing is not None and multiprocessing.parent_process() is not None and not started


# The process that imported graft, and whether its parent had PyTorch threads.
PROCESS, BEGAN_FORKED = os.getpid(), "torch" in sys.modules and _began_forked()


def work_alone_when_forked() -> None:
    """In a forked process, limit PyTorch to one thread: it would wait forever for threads that only its parent has."""
    if (BEGAN_FORKED or os.getpid() != PROCESS) and "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)
