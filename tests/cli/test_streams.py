"""Streams that are closed, full or no longer read, and signals: a sentence and an exit code, never a traceback."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

GRAFT = f"{sys.executable} -m graft"


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, shell=True, capture_output=True, text=True, env=os.environ, check=False)


def test_a_full_disk_behind_stdout_is_an_error_in_one_sentence() -> None:
    done = shell(f"{GRAFT} models --json > /dev/full")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1 and "No space left on device" in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_failure(closed: str) -> None:
    done = shell(f"{GRAFT} models {closed}")
    assert done.returncode == 0 and "Traceback" not in done.stderr


def test_a_file_that_is_opened_does_not_get_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    drawn = tmp_path / "lenet.svg"
    assert shell(f"{GRAFT} models lenet5 --diagram {drawn} >&- 2>&-").returncode == 0
    assert drawn.read_text(encoding="utf-8").startswith("<svg")


def test_a_reader_that_has_seen_enough_ends_the_command_quietly() -> None:
    done = shell(f"{GRAFT} models --json | head -n 1")
    assert done.stderr == "" and done.stdout.startswith("[")


STOPPED = """
import sys, time
import graft.workflows.demo
def slow(*arguments, **options):
    print("begun", file=sys.stderr, flush=True)
    time.sleep(60)
graft.workflows.demo.run_demo = slow
from graft.cli.app import main
sys.argv = ["graft", "demo", "--quiet"]
main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_cannot_be_resumed_says_so_when_it_is_stopped(number: int, code: int) -> None:
    # A child of a shell that ignores interrupts would ignore them too.
    restore = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED], stderr=subprocess.PIPE, text=True, preexec_fn=restore
    ) as process:
        assert process.stderr is not None and process.stderr.readline() == "begun\n"
        time.sleep(0.1)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors.strip() == "stopped; nothing was lost that was finished"


def test_a_pipeline_that_ends_early_succeeds() -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{GRAFT} models --json | head -c 1"], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"[", b"")


def test_letters_that_stdout_cannot_encode_are_written_as_numbers() -> None:
    done = shell(f"PYTHONIOENCODING=ascii {GRAFT} models")
    assert done.returncode == 0 and r"1\xd728\xd728" in done.stdout
