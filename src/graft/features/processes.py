"""Additional processes on this machine that share the work on activations with this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from graft.errors import GraftError
from graft.features.sharing import SHARE
from graft.progress import Reporter
from graft.words import in_options


@contextmanager
def sharing() -> Iterator[None]:
    """Share the work on activations in the block with other processes working on the same ones."""
    before = os.environ.get(SHARE)
    os.environ[SHARE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SHARE]
        else:
            os.environ[SHARE] = before


@contextmanager
def beside(function: str, asked: Mapping[str, Any], processes: int, reporter: Reporter) -> Iterator[None]:
    """Run other processes on the same work during the block, so that there are `processes` including this one.

    Each calls `function`, given as `module:name`, receives `asked` as JSON, shares the work on activations
    (`features.sharing`) and keeps to its share of the cores, where the system supports that.
    """
    module, name = function.split(":")
    command = [sys.executable, "-c", f"from {module} import {name}; {name}()"]
    environment = {**os.environ, SHARE: "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with ExitStack() as ended:
        cores = ended.enter_context(_on_some_cores(0, processes))
        others = []
        for number in range(1, processes):
            said = ended.enter_context(tempfile.TemporaryFile())
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=said, env=environment)
            assert process.stdin is not None
            with suppress(OSError):
                process.stdin.write(
                    json.dumps({**asked, "cores": _share_of(cores, number, processes)}).encode() + b"\n"
                )
                process.stdin.flush()
            others.append((process, said))
        try:
            yield
        except BaseException:
            for process, _ in others:
                process.kill()
            raise
        finally:
            for process, said in others:
                # They have nothing left to do once the entries exist; closing their stdin ends them in any case.
                assert process.stdin is not None
                with suppress(OSError):
                    process.stdin.close()
                if process.wait():
                    said.seek(0)
                    lines = said.read().decode(errors="replace").strip().splitlines() or ["nothing"]
                    reporter.note(
                        f"one of the processes ended early, and the others did its part; it said: {lines[-1]}"
                    )


@contextmanager
def asked_of_this() -> Iterator[dict[str, Any]]:
    """Yield the request to a process that `beside` started; the process ends with the block.

    It also ends when its stdin closes, as happens in any case when the process that started it ends.
    """
    asked = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    with _on_cores(asked.pop("cores")):
        try:
            yield asked
        except GraftError as error:
            # The process that started this one repeats the message in its own note.
            with in_options():
                sys.exit(str(error))
    os._exit(0)


def _end_with_stdin() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


@contextmanager
def _on_some_cores(number: int, processes: int) -> Iterator[list[int]]:
    """Keep this thread, and those it starts, to its share of the cores; yield all cores, or none if unknown."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    with _on_cores(_share_of(cores, number, processes)):
        yield cores


@contextmanager
def _on_cores(cores: list[int]) -> Iterator[None]:
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _share_of(cores: list[int], number: int, processes: int) -> list[int]:
    return cores[number::processes] or cores[number % len(cores) :][:1] if cores else []
