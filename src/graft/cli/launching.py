"""`graft train --processes N`: torchrun's agent in this process, and the same command in N others."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import NoReturn

import typer

from graft.cli.output import note
from graft.errors import GraftError, InputError
from graft.words import counted

# The variable with the file where the first process records the outcome, so that hopeless errors are not retried.
OUTCOME = "GRAFT_OUTCOME"
# The variable with the id of the launching process.
LAUNCHER = "GRAFT_LAUNCHER"
MOST_PROCESSES, MOST_RESTARTS = 1024, 1000
# The loggers of torch's agent, and the one that reports which process ended first.
AGENT = "torch.distributed.elastic"
ENDS = f"{AGENT}.multiprocessing.api"
# How often a process checks that its launcher still exists.
LOOK_SECONDS = 1.0


def launched() -> bool:
    """Return whether `launch` started this process."""
    return OUTCOME in os.environ


def begun_with(data: str, out: str | None) -> int | None:
    """Return how many processes the run to resume was begun with; None if torchrun started this one."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return None
    from graft.workflows.arguments import read_arguments
    from graft.workflows.run_folder import folder_to_resume

    place = None if out is None else Path(out).expanduser().absolute()
    return read_arguments(folder_to_resume(place, Path(data).expanduser())).processes


def launch(processes: int, max_restarts: int) -> NoReturn:
    """Run this process's command in `processes` others, restarted up to `max_restarts` times when one of them dies.

    torchrun's own agent starts and watches them. Raises GraftError or InputError as the command would.
    """
    _check(processes, max_restarts)
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # One sentence here replaces the agent's reports on ended processes. Each of its loggers has its own level.
    for name in (AGENT, *logging.root.manager.loggerDict):
        if name.startswith(AGENT):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    watched = logging.getLogger(ENDS)
    watched.handlers, watched.propagate = [_Restarts(max_restarts)], False
    watched.setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="graft-") as folder:
        outcome = Path(folder) / "outcome.json"
        os.environ |= {OUTCOME: str(outcome), LAUNCHER: str(os.getpid())}
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=max_restarts,
            # Without a folder of its own it leaves one behind.
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            # -P keeps the current folder off the module search path.
            elastic_launch(config, sys.executable)("-P", "-m", "graft", *sys.argv[1:])
        except ChildFailedError as error:
            if not outcome.is_file():
                raise _ended(error, processes, max_restarts) from None
        except SignalException as stop:
            # The first process has said how to resume.
            raise typer.Exit(128 + int(stop.sigval)) from None
        finally:
            del os.environ[OUTCOME], os.environ[LAUNCHER]
        if outcome.is_file():
            told = json.loads(outcome.read_text(encoding="utf-8"))
            raise (InputError if told["code"] == InputError.exit_code else GraftError)(told["sentence"])
    raise typer.Exit


def _check(processes: int, max_restarts: int) -> None:
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise InputError("expected --processes or torchrun, got both: leave one of them out")
    for option, value, least, most in (
        ("--processes", processes, 1, MOST_PROCESSES),
        ("--max-restarts", max_restarts, 0, MOST_RESTARTS),
    ):
        if not least <= value <= most:
            raise InputError(f"expected a number from {least} to {most:,} for {option}, got {value}: choose one")


class _Restarts(logging.Handler):
    """Reports which process died, and that all are restarted, up to `most` times."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most, self._done = most, 0

    def emit(self, record: logging.LogRecord) -> None:
        if not str(record.msg).startswith("failed (exitcode: %s) local_rank: %s") or self._done == self._most:
            return
        self._done += 1
        code, rank = (int(str(each)) for each in tuple(record.args or ())[:2])
        again = f"all restart and continue (restart {self._done} of {self._most})"
        note(f"process {rank} ended by {_how(code)}: {again}")


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _ended(error: object, processes: int, max_restarts: int) -> GraftError:
    failures = getattr(error, "failures", {})
    rank, failure = min(failures.items(), key=lambda each: each[1].timestamp)
    times = f" after {counted(max_restarts, 'restart')}" if max_restarts else ""
    return GraftError(
        f"expected {processes} processes to train to the end, got process {rank} ended by "
        f"{_how(failure.exitcode)}{times}: continue with `--resume RUN`, with any number of processes"
    )


def end_with(parent: int) -> None:
    """Stop this process as SIGTERM does once its launcher is gone: nothing else can stop it then."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=watch, name="parent", daemon=True).start()


@contextmanager
def taking_part() -> Iterator[None]:
    """Run the command as one of several processes: only the first reports, and `launch` prints what it has to say."""
    from graft.training.joining import follows
    from graft.training.processes import EndedByFirst, LostProcess

    if launched():
        end_with(int(os.environ[LAUNCHER]))
    try:
        yield
    except EndedByFirst:
        raise typer.Exit from None
    except LostProcess:
        if follows() or launched():
            raise typer.Exit(GraftError.exit_code) from None
        raise
    except GraftError as error:
        if follows() or not launched():
            raise
        told = {"sentence": str(error), "code": error.exit_code}
        Path(os.environ[OUTCOME]).write_text(json.dumps(told), encoding="utf-8")
        raise typer.Exit from None
