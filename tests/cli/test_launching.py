"""`graft train --processes`: how the processes are started, and how the command ends when they do."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from calling import graft

from graft.cli import app
from graft.cli.launching import ENDS, OUTCOME
from graft.workflows.arguments import Arguments, merged_arguments, read_arguments, write_arguments


class Agent:
    """In the place of torchrun's agent: keeps what it was asked for, and ends as told."""

    def __init__(self, end: Any = None) -> None:
        self.end = end

    def __call__(self, config: Any, program: str) -> Any:
        self.config = config

        def run(*arguments: str) -> None:
            self.arguments, self.outcome = arguments, Path(os.environ[OUTCOME])
            if isinstance(self.end, Exception):
                raise self.end
            if self.end is not None:
                self.outcome.write_text(json.dumps(self.end))

        return run


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Agent:
    found = Agent()
    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", found)
    return found


def test_the_same_command_runs_in_every_process(agent: Agent) -> None:
    done = graft("train", "letters", "--processes", 3, "--max-restarts", 2, "--level", "stages:1")
    assert done.returncode == 0 and done.stderr == ""
    assert (agent.config.nproc_per_node, agent.config.max_restarts) == (3, 2)
    assert agent.arguments[:4] == ("-P", "-m", "graft", "train")
    assert agent.arguments[-2:] == ("--level", "stages:1")
    # What torchrun's agent writes beside it goes with it.
    assert Path(agent.config.logs_specs.root_log_dir).is_relative_to(agent.outcome.parent)
    assert OUTCOME not in os.environ and not agent.outcome.parent.exists()


def test_what_cannot_be_repaired_is_said_once(agent: Agent) -> None:
    agent.end = {"sentence": "expected images, got none: give some", "code": 2}
    done = graft("train", "letters", "--processes", 2, "--max-restarts", 9)
    assert (done.returncode, done.stderr) == (2, "error: expected images, got none: give some\n")


def test_a_process_that_died_too_often_is_told_with_its_signal(agent: Agent) -> None:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

    failure = ProcessFailure(local_rank=1, pid=os.getpid(), exitcode=-signal.SIGKILL, error_file="none")
    agent.end = ChildFailedError("graft", {1: failure})
    done = graft("train", "letters", "--processes", 2, "--max-restarts", 1)
    assert done.returncode == 1
    assert "got process 1 ended by signal SIGKILL after 1 restart: continue with `--resume RUN`" in done.stderr


def test_each_restart_tells_which_process_died(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    graft("train", "letters", "--processes", 3, "--max-restarts", 2)
    for rank in (2, 0, 1):
        logging.getLogger(ENDS).error("failed (exitcode: %s) local_rank: %s (pid: %s) of binary: %s", -9, rank, 7, "x")
    told = "process {} ended by signal SIGKILL: all restart and continue (restart {} of 2)\n"
    # After the last restart, the end is told by the command itself.
    assert capsys.readouterr().err == told.format(2, 1) + told.format(0, 2)


def test_nothing_of_what_the_agent_says_itself_gets_through(agent: Agent) -> None:
    from torch.distributed.elastic.agent.server import api

    api.logger.setLevel(logging.WARNING)
    assert graft("train", "letters", "--processes", 2).returncode == 0
    assert not api.logger.isEnabledFor(logging.WARNING)


def test_a_process_ends_when_what_has_started_it_is_killed() -> None:
    trained = "import sys, time; from graft.cli.launching import end_with; end_with(int(sys.argv[1])); time.sleep(60)"
    agent = (
        f"import os, subprocess, sys; child = [sys.executable, '-c', {trained!r}, str(os.getpid())]; "
        "child = subprocess.Popen(child); print(child.pid, flush=True); child.wait()"
    )
    started = subprocess.Popen([sys.executable, "-c", agent], stdout=subprocess.PIPE)
    assert started.stdout is not None
    child = int(started.stdout.readline())
    with started:
        started.kill()
    until = time.monotonic() + 30
    while is_running(child) and time.monotonic() < until:
        time.sleep(0.1)
    assert not is_running(child)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_resumed_run_goes_on_with_as_many_processes_as_it_was_begun_with(agent: Agent, tmp_path: Path) -> None:
    write_arguments(tmp_path, Arguments("letters", processes=3))
    graft("train", tmp_path, "--resume")
    assert agent.config.nproc_per_node == 3
    graft("train", "letters", "--resume", "--out", tmp_path, "--processes", 2)
    assert agent.config.nproc_per_node == 2
    given = Arguments("letters", processes=2)
    assert merged_arguments(read_arguments(tmp_path), given, tmp_path).processes == 3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--processes", 0), "expected a number from 1 to 1,024 for --processes, got 0"),
        (("--processes", 2, "--max-restarts", -1), "expected a number from 0 to 1,000 for --max-restarts, got -1"),
        (("--checkpoint-every", "soon"), "expected a time such as 90s, 10m or 2h for --checkpoint-every, got 'soon'"),
    ],
)
def test_a_wrong_call_is_one_sentence(options: tuple[Any, ...], sentence: str) -> None:
    done = graft("train", "letters", *options)
    assert done.returncode == 2 and sentence in done.stderr


def test_torchrun_and_processes_are_one_too_many() -> None:
    done = graft("train", "letters", "--processes", 2, TORCHELASTIC_RUN_ID="one")
    assert done.returncode == 2 and "expected --processes or torchrun, got both" in done.stderr


@pytest.mark.parametrize(("rank", "said"), [(0, "stopped; all finished work is kept\n"), (1, "")])
def test_of_processes_that_are_stopped_the_first_speaks_for_all(
    rank: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "_run", stopped)
    monkeypatch.setattr(app, "prepare_streams", lambda: None)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("RANK", str(rank))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        app.main()
    signal.signal(signal.SIGTERM, before)
    assert end.value.code == 130 and capsys.readouterr().err == said
