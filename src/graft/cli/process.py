"""Process-wide settings that the command makes, and that a program importing graft does not get.

How threads wait, how memory is allocated, how often garbage is collected and which libraries are silent applies to a
whole process, so the rest of graft leaves it alone. Nothing here imports torch, which reads the thread policy as it is
loaded.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graft.progress import Reporter

# glibc's parameter numbers from malloc.h, and their values: the largest that glibc accepts.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
TRIM_THRESHOLD, MMAP_THRESHOLD = 2**31 - 1, 2**30

# The binary logarithm of the cycles for which an idle thread of OpenBLAS spins; by default 26. With 16, products take
# as long as with 26.
OPENBLAS_SPINS = "16"

# How many objects are made between two collections of garbage: Python's own numbers, and one for imports.
USUAL, WHILE_IMPORTING = gc.get_threshold(), 100_000


def prepare_process() -> None:
    """Apply all settings to this process; a program that trains for long may call it before it imports torch."""
    wait_asleep()
    keep_freed_memory()
    silence_libraries()
    gc.set_threshold(WHILE_IMPORTING)


@contextmanager
def at_work(quiet: bool = False) -> Iterator[Reporter]:
    """Report a command's work while the block runs, with everything `imported`; see `progress.reporting`."""
    from graft.progress import reporting

    imported()
    with reporting(quiet=quiet) as reporter:
        yield reporter


def imported() -> None:
    """Collect garbage as usual from here on, but leave out what there is so far; change nothing in other programs.

    What a command imports is a million objects that stay. Looking through them over and over while they come, and
    again during the work, took a sixth of the processor time of a short command.
    """
    if gc.get_threshold()[0] == WHILE_IMPORTING:
        gc.freeze()
        gc.set_threshold(*USUAL)


def wait_asleep() -> None:
    """Let the threads of OpenMP and OpenBLAS sleep while they wait for work, unless the environment says otherwise.

    On an idle machine this has no measurable cost. With another program on one of two cores, spinning made training a
    small network take ten times as long. OpenBLAS's threads spin for 30 ms after each product, and once when they are
    started, while both cores have other work: half a second of a short command's twelve.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", OPENBLAS_SPINS)


def keep_freed_memory() -> bool:
    """Let glibc keep large freed blocks instead of returning them; return whether it does.

    A training step frees and allocates the same activations again and again. By default, glibc maps each block of more
    than 32 MiB anew and clears its pages, which took a third of a MobileNetV2's time. Without that, an epoch of its
    crown after the stem takes 0.45 of the time and one of ResNet-50 0.9, for a quarter more peak memory. Other C
    libraries are left alone.
    """
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    return bool(library.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD) and library.mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD))


def silence_libraries() -> None:
    """Keep off stderr what libraries report about damage that they skip: graft itself reports what matters.

    These messages cannot be silenced for one thread or one file alone.
    """
    warnings.filterwarnings("ignore", module=r"(PIL|huggingface_hub)\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    os.environ.setdefault("HF_HUB_VERBOSITY", "critical")
    from PIL import Image

    with suppress(OSError, AttributeError):  # where libtiff is not a separate library
        ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)
