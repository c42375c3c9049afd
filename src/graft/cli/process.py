"""What the command sets for its own process, and a program that imports graft does not get.

How threads wait, how memory is handed out, and which libraries are silent holds for a whole process, so the rest of
graft leaves it alone. Nothing here imports torch, which reads the thread policy as it is loaded.
"""

import ctypes
import logging
import os
import sys
import warnings
from contextlib import suppress

# Names of glibc's parameters in malloc.h, and what they are set to: the largest values it takes.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
TRIM_THRESHOLD, MMAP_THRESHOLD = 2**31 - 1, 2**30


def prepare_process() -> None:
    """Make this process one of graft's own; a program that trains for long may call it before it imports torch."""
    wait_asleep()
    keep_freed_memory()
    silence_libraries()


def wait_asleep() -> None:
    """Let OpenMP's threads sleep while they wait for each other, unless the environment says otherwise.

    On an idle machine that costs nothing that could be measured; with another program on one of two cores, spinning
    made the training of a small network take ten times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def keep_freed_memory() -> bool:
    """Let glibc keep large blocks that are freed instead of giving them back; whether it does.

    A training step frees and takes the same activations again and again. As glibc is set, each of more than 32 MiB is
    mapped anew and its pages are cleared again, which was a third of the time of a MobileNetV2: an epoch of its crown
    after the stem takes 0.45 of the time without that, one of ResNet-50 0.9, for a quarter more memory at the peak.
    Other C libraries are left alone.
    """
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    return bool(library.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD) and library.mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD))


def silence_libraries() -> None:
    """Keep off stderr what libraries say there of damage that they pass over: what matters of it, graft says itself.

    None of it can be silenced for one thread or one file alone.
    """
    warnings.filterwarnings("ignore", module=r"(PIL|huggingface_hub)\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    os.environ.setdefault("HF_HUB_VERBOSITY", "critical")
    from PIL import Image

    with suppress(OSError, AttributeError):  # where libtiff is not a library of its own
        ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)
