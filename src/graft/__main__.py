"""The command `graft`."""

import ctypes
import logging
import os
import sys
import warnings
from contextlib import suppress

from graft.cli.app import main

# Read by OpenMP as torch loads it: threads that wait for each other sleep instead of spinning. On an idle machine that
# costs nothing that could be measured; with another program on one of two cores, spinning made the training of a small
# network take ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def silence_libraries() -> None:
    """Keep off stderr what libraries say there of damage that they pass over: what matters of it, graft says itself.

    This is for a process of graft's own. None of it can be silenced for one thread or one file alone, so the rest of
    graft leaves it as it is.
    """
    warnings.filterwarnings("ignore", module=r"(PIL|huggingface_hub)\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    os.environ.setdefault("HF_HUB_VERBOSITY", "critical")
    from PIL import Image

    with suppress(OSError, AttributeError):  # where libtiff is not a library of its own
        ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)


def run() -> None:
    """Run the command and leave at once.

    Everything is written and closed by then; taking the libraries apart object by object, as Python does at its end,
    would add two thirds of a second to every command.
    """
    code: object = 0
    silence_libraries()
    try:
        main()
    except SystemExit as end:
        code = end.code
    if isinstance(code, str):
        print(code, file=sys.stderr)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        # Whoever read the output is gone.
        code = code or 0
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    run()
