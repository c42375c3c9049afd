"""Streams that are closed, full or no longer read, and signals: a sentence and an exit code, never a traceback."""

import errno
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from written_letters import write_letters

from graft.cli.app import main
from graft.images.letters import LATIN

GRAFT = f"{sys.executable} -m graft"


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, shell=True, capture_output=True, text=True, env=os.environ, check=False)


def test_a_full_disk_behind_stdout_is_an_error_in_one_sentence() -> None:
    done = shell(f"{GRAFT} models --json > /dev/full")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1 and "No space left on device" in done.stderr


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_letters(tmp_path_factory.mktemp("data") / "letters", LATIN[:2], 8)


COMMANDS = {
    "train": lambda run, letters, out: ("train", letters, "--base", "latin_letters", "--level", "head", "--out", out),
    "predict": lambda run, letters, out: ("predict", run, letters, letters / "none.png"),
    "evaluate": lambda run, letters, out: ("evaluate", run, letters),
    "audit": lambda run, letters, out: ("audit", letters),
}


@pytest.mark.parametrize("unwritable", ["full", "unread", "closed"])
@pytest.mark.parametrize("name", COMMANDS)
def test_what_cannot_be_told_on_stderr_costs_nothing_of_the_result(
    name: str, unwritable: str, latin_run: str, letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file that is no image: predictions are noted to lack one, and it is passed over elsewhere.
    (letters / "none.png").write_bytes(b"no image")
    monkeypatch.setattr("sys.argv", ["graft", *map(str, COMMANDS[name](latin_run, letters, tmp_path / "run"))])
    result = io.TextIOWrapper(io.BytesIO(), "utf-8")
    monkeypatch.setattr("sys.stdout", result)
    monkeypatch.setattr("sys.stderr", Unwritable(unwritable))
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code in (0, None)
    assert result.buffer.getvalue()
    assert name != "train" or (tmp_path / "run" / "result.json").is_file()


class Unwritable(io.StringIO):
    """A stream on a full disk, into a pipe that nobody reads, or that was closed."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def write(self, text: str) -> int:
        if self.how == "closed":
            raise ValueError("I/O operation on closed file")
        raise OSError(errno.ENOSPC if self.how == "full" else errno.EPIPE, "No space left on device")


def test_a_training_whose_result_cannot_be_printed_says_that_it_is_kept(letters: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = shell(f"{GRAFT} train {letters} --base latin_letters --level head --out {out} --quiet > /dev/full")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert (
        "expected to write the result to stdout, got No space left" in done.stderr
        and "files that were written are kept" in done.stderr
    )
    assert (out / "result.json").is_file()


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
    assert errors.strip() == "stopped; all finished work is kept"


def test_a_pipeline_that_ends_early_succeeds() -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{GRAFT} models --json | head -c 1"], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"[", b"")


def test_letters_that_stdout_cannot_encode_are_written_as_numbers() -> None:
    done = shell(f"PYTHONIOENCODING=ascii {GRAFT} models")
    assert done.returncode == 0 and r"1\xd728\xd728" in done.stdout
