"""`graft train --processes`: how the processes are started, and how the command ends when they do."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from calling import graft

from graft.cli.launching import OUTCOME


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
    assert "got process 1 ended by signal SIGKILL after 1 restarts: go on with --resume" in done.stderr


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
