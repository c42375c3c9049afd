"""Services in processes of their own, on free ports of this machine."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STAND_IN = Path(__file__).with_name("stand_in.py")
PATIENCE = 60
# A service whose workers are stand-ins, which start at once.
WITHOUT_MODEL = """
import sys
from graft.serving import pool
pool.COMMAND = (sys.executable, {stand_in!r})
from graft.cli.app import main
sys.argv = ["graft", *sys.argv[1:]]
main()
"""


@dataclass
class Served:
    """A service that answers at `url`; `told` is what it printed when it was ready."""

    url: str
    told: dict[str, Any]
    process: subprocess.Popen[str]
    log_file: Path

    def log(self) -> list[dict[str, Any]]:
        """The lines of the log."""
        return [json.loads(line) for line in self.log_file.read_text().splitlines()]

    def wait_for_log(self, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for the first matching line of the log, which is written after an answer."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            for line in self.log():
                if fits(line):
                    return line
            time.sleep(0.02)
        raise AssertionError("no line of the log fits")

    def workers(self) -> list[int]:
        """The worker processes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(number) for number in children.split()]


def client_of(served: Served, **options: Any) -> Any:
    """A client without certificates, which take longer to load than everything else."""
    import httpx

    return httpx.Client(base_url=served.url, verify=False, **options)


@contextmanager
def served(run: Path | str, *options: str, model: bool = True, **variables: str) -> Iterator[Served]:
    """`graft serve` while the block runs, with a model or with stand-ins for one."""
    script = ["-m", "graft"] if model else ["-c", WITHOUT_MODEL.format(stand_in=str(STAND_IN))]
    command = [sys.executable, *script, "serve", str(run), "--port", "0", "--json", *options]
    with tempfile.NamedTemporaryFile("w", suffix=".log") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **variables}
        )
        try:
            assert process.stdout is not None
            text = ""
            while line := process.stdout.readline():
                text += line
                if line == "}\n":
                    break
            assert text, Path(log.name).read_text()
            told = json.loads(text)
            yield Served(told["url"], told, process, Path(log.name))
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            process.stdout.close()
