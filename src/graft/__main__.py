"""Entry point of the command `graft`."""

import os
import sys

from graft.cli.app import main
from graft.cli.process import prepare_process


def run() -> None:
    """Run the command and exit at once.

    Everything is written and closed by then. Python's own shutdown, which takes libraries apart object by object, would
    add two thirds of a second to every command.
    """
    prepare_process()
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
        # The reader of the output is gone.
        code = code or 0
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    run()
