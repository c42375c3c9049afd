"""Work in a process that was forked from one which has used PyTorch already."""

import os
import sys


def _began_forked() -> bool:
    """Whether `multiprocessing` forked this process before graft was imported; one that it started anew says so in its
    command line."""
    multiprocessing = sys.modules.get("multiprocessing")
    started = any(word.startswith(("--multiprocessing-fork", "from multiprocessing.")) for word in sys.orig_argv)
    return multiprocessing is not None and multiprocessing.parent_process() is not None and not started


# The process that graft was imported in, and whether that had a parent with threads of PyTorch.
PROCESS, BEGAN_FORKED = os.getpid(), "torch" in sys.modules and _began_forked()


def work_alone_when_forked() -> None:
    """In a forked process, let PyTorch compute with one thread: it would wait for ever for the others of its parent."""
    if (BEGAN_FORKED or os.getpid() != PROCESS) and "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)
