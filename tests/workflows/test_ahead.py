"""What a command finds out about the images while torch is being imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from written_letters import write_letters

from graft.audit.auditing import look_over
from graft.data.opening import open_dataset
from graft.images import decoding
from graft.images.letters import LATIN
from graft.images.preprocessing import Preprocessing
from graft.progress import NOBODY
from graft.workflows.ahead import looking_ahead

# The block's waiting stands for the imports; marks are looked for last.
WAITING = """
import sys, time
from pathlib import Path
from graft.workflows.ahead import looking_ahead
started = time.monotonic()
with looking_ahead(sys.argv[1]):
    while not list(Path(sys.argv[2]).rglob("marks-*")) and time.monotonic() < started + float(sys.argv[3]):
        time.sleep(0.01)
"""

# A process without children has none to wait for.
ENDING = """
import os, sys
from graft.workflows.ahead import looked_ahead, looking_ahead
def children():
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
looked_ahead()
try:
    with looking_ahead(sys.argv[1]):
        assert children() is not None
        looked_ahead()
        assert children() is None
    with looking_ahead(sys.argv[1]):
        raise KeyError
except KeyError:
    assert children() is None
    print("nobody is left")
"""


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    return write_letters(tmp_path / "letters", LATIN[:3], 14)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def wait(*arguments: object) -> None:
    done = subprocess.run([sys.executable, "-c", WAITING, *map(str, arguments)], capture_output=True, check=True)
    assert not done.stdout and not done.stderr


def test_what_was_seen_ahead_is_not_looked_at_again(
    letters: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocessing = Preprocessing(28, (0.5,), (0.5,))
    monkeypatch.setenv("GRAFT_CACHE", str(cache.parent / "another"))
    alone = look_over(open_dataset(letters), preprocessing, NOBODY)
    monkeypatch.setenv("GRAFT_CACHE", str(cache))
    wait(letters, cache, 60)
    monkeypatch.setattr(decoding, "decode_with_facts", None)
    assert look_over(open_dataset(letters), preprocessing, NOBODY).findings == alone.findings


def test_it_ends_with_the_imports_and_says_nothing_of_what_it_cannot_read(letters: Path, cache: Path) -> None:
    wait(letters, cache, 0)
    next(letters.rglob("*.png")).write_bytes(b"nothing")
    (letters / "empty").mkdir()
    wait(letters, cache, 0)
    wait(cache.parent / "missing", cache, 0)
    assert look_over(open_dataset(letters), Preprocessing(28, (0.5,), (0.5,)), NOBODY).looks.reasons


def test_a_process_that_has_torch_already_or_one_of_several_is_not_forked(
    letters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fork", None)
    with looking_ahead(str(letters)):
        pass
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with looking_ahead(str(letters)):
        pass
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    with looking_ahead(str(letters / "letters.zip")):
        pass


def test_nobody_looks_ahead_once_that_is_over(letters: Path, cache: Path) -> None:
    done = subprocess.run([sys.executable, "-c", ENDING, str(letters)], capture_output=True, text=True)
    assert done.stdout == "nobody is left\n", done.stderr
