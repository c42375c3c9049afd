"""A process forked from a program that has used PyTorch works, and does not wait for threads that it does not have."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from written_letters import write_letters

from graft.images.letters import CYRILLIC

PROGRAM = """
import multiprocessing, os, sys
import torch
data, out = sys.argv[1:]

def work(name):
    import graft
    run = graft.train(data, "latin_letters", "head", out=f"{out}/{name}", quiet=True)
    print(name, run.classes == ("\\u0416", "\\u0424"), torch.get_num_threads(), flush=True)

if __name__ == "__main__":
    torch.set_num_threads(2)
    torch.nn.functional.conv2d(torch.randn(4, 3, 64, 64), torch.randn(8, 3, 3, 3))
    # Where graft was not imported yet when the process was forked, and where it was.
    child = multiprocessing.get_context("fork").Process(target=work, args=("before",))
    child.start()
    child.join()
    import graft
    if os.fork() == 0:
        work("after")
        os._exit(0)
    os.wait()
    print("parent", torch.get_num_threads())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_trains_alone_whenever_graft_was_imported(tmp_path: Path) -> None:
    letters = write_letters(tmp_path / "letters", ("Ж", "Ф"), 12)
    assert {"Ж", "Ф"} <= set(CYRILLIC)
    command = [sys.executable, "-c", PROGRAM, str(letters), str(tmp_path)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert done.stdout.splitlines() == ["before True 1", "after True 1", "parent 2"], done.stderr
