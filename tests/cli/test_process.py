"""What the command sets for its own process, and a program that imports graft does not get."""

import os
import platform
import subprocess
import sys

import pytest

# A freed block that a smaller one has cut off from the rest of the heap cannot be taken again until its neighbour is
# free too: it takes some rounds until no new pages are needed.
COUNT = """
import resource, torch
from graft.cli.process import keep_freed_memory
if {kept}:
    assert keep_freed_memory()
for _ in range(12):
    torch.ones(2**23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_memory_that_is_freed_is_taken_again_without_new_pages() -> None:
    faults = []
    for kept in (False, True):
        command = [sys.executable, "-c", COUNT.format(kept=kept)]
        faults.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert faults[1] < faults[0] / 10


COLLECTING = """
import gc
from graft.cli.process import at_work, prepare_process
usual = gc.get_threshold()
{first}
importing = gc.get_threshold()
with at_work(quiet=True):
    print(importing == usual, gc.get_threshold() == usual, gc.get_freeze_count() > 1000)
"""


@pytest.mark.parametrize(
    ("first", "printed"),
    [("prepare_process()", "False True True"), ("pass", "True True False")],
    ids=["command", "other"],
)
def test_a_command_looks_for_garbage_only_in_what_its_own_work_makes(first: str, printed: str) -> None:
    command = [sys.executable, "-c", COLLECTING.format(first=first)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == printed


MULTIPLYING = """
import time
from graft.cli.process import prepare_process
{first}
import numpy as np
square = np.ones((600, 600))
for _ in range(8):
    square @ square
    time.sleep(0.1)
print(time.process_time())
"""


def test_idle_threads_of_blas_do_not_spin_beside_the_other_work_of_a_command() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_THREAD_TIMEOUT"}
    spent = []
    for first in ("", "prepare_process()"):
        command = [sys.executable, "-c", MULTIPLYING.format(first=first)]
        threads = environment | {"OPENBLAS_NUM_THREADS": "2"}
        spent.append(float(subprocess.run(command, capture_output=True, check=True, env=threads).stdout))
    # Eight products are 40 ms of two cores.
    if spent[0] < 0.5:
        pytest.skip("NumPy's products do not leave threads spinning here")
    assert spent[1] < 0.6 * spent[0]
