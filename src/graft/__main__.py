"""The command `graft`."""

import os
import sys

from graft.cli.app import main

# Read by OpenMP as torch loads it: threads that wait for each other sleep instead of spinning. On an idle machine that
# costs nothing that could be measured; with another program on one of two cores, spinning made the training of a small
# network take ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def run() -> None:
    """Run the command and leave at once.

    Everything is written and closed by then; taking the libraries apart object by object, as Python does at its end,
    would add two thirds of a second to every command.
    """
    code: object = 0
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
