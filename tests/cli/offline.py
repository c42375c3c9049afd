"""Commands in a process of their own that tells of every socket, with an empty home."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

GUARDED = """
import json
import sys

def guard(event, arguments):
    if event.startswith("socket."):
        print("GUARD", event, arguments, file=sys.stderr)

sys.addaudithook(guard)
from graft.cli.app import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["graft", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (words, end.code)
"""


def run_offline(commands: Sequence[Sequence[str]], folder: Path) -> str:
    """Run `graft` with each of the argument lists, in `folder`; what they printed.

    Fails where a command does, where one asks for a socket, and where anything is written to the home of the user. The
    folder gets the cache, and the empty home, beside what the commands write there.
    """
    home, trace = folder / "home", folder / "trace"
    home.mkdir()
    traced = ["strace", "-f", "--seccomp-bpf", "-e", "trace=socket,connect", "-o", str(trace)]
    done = subprocess.run(
        [*(traced if shutil.which("strace") else []), sys.executable, "-c", GUARDED, json.dumps(commands)],
        env={**os.environ, "HOME": str(home), "GRAFT_CACHE": str(folder / "cache")},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "GUARD" not in done.stderr
    if trace.exists():
        # Asking for the name of a user may look for a local daemon (AF_UNIX), which is no network.
        assert "AF_INET" not in trace.read_text()
        trace.unlink()
    assert not list(home.rglob("*"))
    return done.stdout
