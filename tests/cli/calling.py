"""The command, called in this process, which has imported what it needs: the start of another takes seconds."""

import io
import os
import signal
import sys
from contextlib import chdir
from pathlib import Path
from subprocess import CompletedProcess
from unittest.mock import patch

from graft.cli.app import main


def graft(*arguments: object, stdin: str = "", cwd: Path | None = None, **variables: str) -> CompletedProcess[str]:
    """What `graft` with these arguments gives, as `subprocess.run` would tell it."""
    words = ["graft", *map(str, arguments)]
    streams = {name: io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for name in ("stdout", "stderr")}
    streams["stdin"] = io.TextIOWrapper(io.BytesIO(stdin.encode()), "utf-8")
    before = signal.getsignal(signal.SIGTERM)
    try:
        with patch.multiple(sys, argv=words, **streams), patch.dict(os.environ, variables), chdir(cwd or Path.cwd()):
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        signal.signal(signal.SIGTERM, before)
    out, error = (streams[name].buffer.getvalue().decode() for name in ("stdout", "stderr"))
    return CompletedProcess(words, code, out, error)
